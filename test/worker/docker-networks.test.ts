// Which engine networks a task's container stands on, and what its resolv.conf and hosts say.

import { mkdtempSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { Attachment, Network } from '../../src/api/objects.ts'
import type { ContainerSpec, NetworkSpec, PortConfig } from '../../src/api/spec.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { ENDPOINT_SIBLINGS_KEY, portsOf, portsOption } from '../../src/overlay/driver-options.ts'
import { containerBody, NETWORK_COUNT_LABEL } from '../../src/worker/docker/container-body.ts'
import { EngineClient } from '../../src/worker/docker/engine-client.ts'
import { numbered } from '../../src/worker/docker/free-port.ts'
import { LocalNetworks } from '../../src/worker/docker/local-networks.ts'
import { observed } from '../../src/worker/docker/observed.ts'
import { containerNetworks, hostsFile, resolvConf, withSiblings } from '../../src/worker/docker/task-networks.ts'
import { META, makeOrder, makeTask } from './task-factory.ts'

const FACTS = {
  driver: 'swarmctl',
  dnsAddress: '169.254.77.53',
  egressSubnet: '100.96.0.0/16',
  egressGateway: '100.96.0.1',
}

function network(id: string, subnets: readonly (readonly [string, string])[], spec: NetworkSpec = {}): Network {
  const allocated = { vni: 4097, subnets: subnets.map(([subnet, gateway]) => ({ subnet, gateway, ipRange: '' })) }
  return { kind: 'network', id, meta: META, spec: { Name: `${id}-net`, ...spec }, allocated }
}

const NETWORKS = new Map(
  [
    network('ingress', [['100.64.0.0/11', '100.64.0.1']], { Ingress: true, Name: 'ingress' }),
    network('front', [['10.0.1.0/24', '10.0.1.1']]),
    network('dual', [
      ['10.0.2.0/24', '10.0.2.1'],
      ['fd00:2::/64', 'fd00:2::1'],
    ]),
    network('inner', [['10.0.3.0/24', '10.0.3.1']], { Internal: true }),
  ].map((one) => [one.id, one]),
)

const AT: Readonly<Record<string, Attachment>> = {
  ingress: { networkId: 'ingress', addresses: ['100.64.4.9/11'], aliases: [] },
  front: { networkId: 'front', addresses: ['10.0.1.9/24'], aliases: ['www'] },
  dual: { networkId: 'dual', addresses: ['10.0.2.9/24', 'fd00:2::9/64'], aliases: [] },
  inner: { networkId: 'inner', addresses: ['10.0.3.9/24'], aliases: [] },
}

interface Wishes {
  readonly ports?: readonly PortConfig[]
  readonly predefined?: string
  readonly spec?: ContainerSpec
}

function orderOf(names: readonly string[], { ports, predefined, spec }: Wishes = {}) {
  const Networks = [...names.filter((name) => name !== 'ingress'), ...(predefined ? [predefined] : [])]
  const task = {
    ...makeTask({
      id: 'a',
      ...(ports && { ports }),
      spec: { ContainerSpec: { Image: 'x', ...spec }, Networks: Networks.map((Target) => ({ Target })) },
    }),
    attachments: names.flatMap((name) => AT[name] ?? []),
  }
  return { ...makeOrder(task), networks: NETWORKS }
}

const plan = (names: readonly string[], wishes?: Wishes) => containerNetworks(orderOf(names, wishes), FACTS)
const HOST_PORT: PortConfig = { Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'host' }

t.test(
  'a task on a network of the cluster has a fixed address there, and goes out by the egress network',
  async (t) => {
    t.strictSame(plan(['front']), {
      networks: [
        {
          id: 'front',
          name: 'front-net',
          driver: 'swarmctl',
          subnets: [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1' }],
          options: { 'io.swarmctl.network.id': 'front', 'io.swarmctl.network.vni': '4097' },
        },
        {
          id: 'egress',
          name: 'swarmctl_egress',
          driver: 'swarmctl',
          subnets: [{ subnet: '100.96.0.0/16', gateway: '100.96.0.1' }],
          options: {
            'io.swarmctl.network.id': 'egress',
            'io.swarmctl.network.vni': '0',
            'io.swarmctl.network.gateway': 'true',
          },
        },
      ],
      endpoints: [
        ['front-net', { IPAMConfig: { IPv4Address: '10.0.1.9' }, Aliases: ['www'] }],
        ['swarmctl_egress', {}],
      ],
      nameServer: '169.254.77.53',
      addresses: ['10.0.1.9'],
      ports: [],
    })
    t.strictSame(plan(['dual'])?.endpoints[0]?.[1], {
      IPAMConfig: { IPv4Address: '10.0.2.9', IPv6Address: 'fd00:2::9' },
    })
    t.equal(plan([]), undefined, 'on no network of the cluster')
  },
)

t.test(
  "a task that publishes ports stands on its node's block of the ingress network, which is its way out",
  async (t) => {
    const given = plan(['ingress', 'front'])
    t.strictSame(
      given?.endpoints.map(([name]) => name),
      ['front-net', 'ingress'],
    )
    t.match(given?.networks[0], {
      name: 'ingress',
      subnets: [{ subnet: '100.64.4.0/23', gateway: '100.64.4.1' }],
      options: { 'io.swarmctl.network.gateway': 'true' },
    })
    t.strictSame(given?.addresses, ['10.0.1.9'], 'its name is not that of its gateway address')
    t.strictSame(plan(['ingress'])?.addresses, ['100.64.4.9'], 'unless it has no other')
  },
)

t.test('a task on internal networks only has no way out, and asks the gateway for names', async (t) => {
  const given = plan(['inner'])
  t.strictSame([given?.endpoints.map(([name]) => name), given?.nameServer], [['inner-net'], '10.0.3.1'])
  t.strictSame(
    plan(['inner'], { ports: [HOST_PORT] })?.endpoints.map(([name]) => name),
    ['inner-net'],
  )
  t.equal(plan(['inner', 'front'])?.nameServer, FACTS.dnsAddress)
})

t.test('a host-mode port is bound on those of its addresses that this node has', async (t) => {
  const order = orderOf(['front'], { ports: [HOST_PORT] })
  const bound = (addresses: string) => {
    const serviceLabels = { 'io.swarmctl.publish.8080/tcp': addresses }
    const body = containerBody(
      { ...order, task: { ...order.task, serviceLabels } },
      {
        spec: { Image: 'x' },
        files: [],
        dockerSocket: undefined,
        hostAddresses: [
          { device: 'lo', address: '127.0.0.1' },
          { device: 'eth0', address: '10.1.2.3' },
          { device: 'eth0', address: 'fd00::5' },
          { device: 'eth0', address: 'fe80::5' },
        ],
      },
    )
    return (body.HostConfig as { PortBindings: object }).PortBindings
  }
  const on = (...addresses: string[]) => ({ '80/tcp': addresses.map((HostIp) => ({ HostIp, HostPort: '8080' })) })
  t.strictSame(bound('127.0.0.1'), on('127.0.0.1'))
  t.strictSame(bound('10.1.0.0/16, 10.9.9.9, 127.0.0.5'), on('10.1.2.3', '127.0.0.5'))
  t.strictSame(bound('eth0'), on('10.1.2.3', 'fd00::5'))
  t.throws(() => bound('10.9.9.9,eth7'), {
    code: 'TASK_FAILED',
    message: 'published port 8080/tcp is for 10.9.9.9, eth7, which this node does not have',
  })
  t.same(await numbered([HOST_PORT], { 'io.swarmctl.publish.8080/tcp': '127.0.0.1,10.0.0.0/8' }), [
    { protocol: 'tcp', published: 8080, target: 80, addresses: ['127.0.0.1', '10.0.0.0/8'] },
  ])
  const ports = [
    { protocol: 'tcp', published: 8080, target: 80, addresses: ['127.0.0.1', 'fd00::/8'] },
    { protocol: 'udp', published: 53, target: 53 },
  ] as const
  t.equal(portsOption(ports), 'tcp/8080/80@127.0.0.1;fd00::/8,udp/53/53')
  t.strictSame(portsOf(portsOption(ports)), ports)
})

t.test('host-mode ports come in by a bridge of the engine', async (t) => {
  const given = plan(['front'], { ports: [HOST_PORT] })
  t.strictSame(
    [given?.endpoints.map(([name]) => name), given?.nameServer],
    [['front-net', 'swarmctl_ports'], '10.0.1.1'],
  )
  t.match(given?.networks[1], { id: 'ports', driver: undefined })
})

t.test(
  'host-mode ports of a task that has its gateway on the ingress network are told to the driver there',
  async (t) => {
    const ports = [{ protocol: 'tcp', published: 8080, target: 80 }] as const
    const order = orderOf(['ingress', 'front'], { ports: [HOST_PORT] })
    const given = containerNetworks(order, FACTS, ports)
    t.strictSame(
      given?.endpoints.map(([name, { DriverOpts }]) => [name, DriverOpts]),
      [
        ['front-net', undefined],
        ['ingress', { 'io.swarmctl.ports': 'tcp/8080/80' }],
      ],
    )
    const body = containerBody(order, {
      spec: { Image: 'x' },
      files: [],
      dockerSocket: undefined,
      networks: { endpoints: {}, count: 0, ports, skipResolver: false },
    })
    t.match(body, { Labels: { 'io.swarmctl.ports': 'tcp/8080/80' }, ExposedPorts: { '80/tcp': {} } })
    t.notHas(body.HostConfig, { PortBindings: Object }, 'the engine is not to hold the port')
    t.strictSame(observed(inspectedWith({ 'io.swarmctl.ports': 'tcp/8080/80,udp/53/53' })).ports, [
      HOST_PORT,
      { Protocol: 'udp', TargetPort: 53, PublishedPort: 53, PublishMode: 'host' },
    ])
  },
)

const inspectedWith = (Labels: Readonly<Record<string, string>>) => ({
  Id: 'c',
  State: { Status: 'running', Pid: 1, ExitCode: 0, Error: '' },
  Config: { Labels, Tty: false },
  NetworkSettings: {},
})

t.test('a port without a number gets one that is free', async (t) => {
  const [tcp, udp, given] = await numbered([
    { TargetPort: 80, PublishMode: 'host' },
    { Protocol: 'udp', TargetPort: 53, PublishMode: 'host' },
    HOST_PORT,
  ])
  t.ok(tcp !== undefined && tcp.published > 1023 && udp !== undefined && udp.published > 1023)
  t.strictSame(given, { protocol: 'tcp', published: 8080, target: 80 })
})

t.test('name servers of its own are told to the driver on each of its networks', async (t) => {
  const given = plan(['front', 'dual'], { spec: { DNSConfig: { Nameservers: ['9.9.9.9', '1.1.1.1'] } } })
  t.strictSame(
    given?.endpoints.map(([, { DriverOpts }]) => DriverOpts),
    Array.from({ length: 3 }, () => ({ 'io.swarmctl.dns': '9.9.9.9,1.1.1.1' })),
  )
})

t.test("the engine's own networks exclude the cluster's where Docker excludes them", async (t) => {
  t.throws(() => plan(['front'], { predefined: 'host' }), { code: 'TASK_FAILED', message: /^conflicting options/ })
  t.throws(() => plan(['front'], { predefined: 'none' }), { message: /in private \(none\) mode/ })
  t.strictSame(
    plan(['front'], { predefined: 'bridge' })?.endpoints.map(([name]) => name),
    ['front-net', 'bridge'],
  )
})

t.test('a network that this node has not been told of is waited for', async (t) => {
  t.throws(() => containerNetworks({ ...orderOf(['front']), networks: new Map() }, FACTS), {
    code: 'NETWORK_NOT_ASSIGNED',
    retryable: true,
  })
})

t.test('a container whose networks are connected one by one says how many it is to have', async (t) => {
  const order = orderOf(['front'])
  const body = (endpoints: object) =>
    containerBody(order, {
      spec: { Image: 'x' },
      files: [],
      dockerSocket: undefined,
      networks: { endpoints: { ...endpoints }, count: 2, skipResolver: false },
    })
  const one = body({ 'front-net': {} })
  t.match(one, { NetworkingConfig: { EndpointsConfig: { 'front-net': {} } }, HostConfig: { NetworkMode: 'front-net' } })
  t.match(one, { Labels: { [NETWORK_COUNT_LABEL]: '2' } })
  t.notHas(body({ 'front-net': {}, other: {} }), { Labels: { [NETWORK_COUNT_LABEL]: String } })
})

t.test("an older engine's own resolver is kept out of the container, before the task's own options", async (t) => {
  const body = (skipResolver: boolean, Options: readonly string[]) =>
    containerBody(orderOf(['front']), {
      spec: { Image: 'x', DNSConfig: { Options: [...Options] } },
      files: [],
      dockerSocket: undefined,
      networks: { endpoints: { 'front-net': {} }, count: 1, skipResolver },
    }).HostConfig as { readonly DnsOptions?: readonly string[] }
  t.strictSame(body(true, ['ndots:3']).DnsOptions, ['ndots:', 'ndots:3'])
  t.strictSame(body(false, ['ndots:3']).DnsOptions, ['ndots:3'])
  t.equal(body(false, []).DnsOptions, undefined)
})

t.test("resolv.conf has the node's search domains and options where the task asks for none", async (t) => {
  const host = 'nameserver 1.1.1.1\nsearch old.example\noptions ndots:5 edns0\nsearch lan example.com\n'
  const none = { search: [], options: [] }
  t.equal(resolvConf('10.0.1.1', none, host), 'nameserver 10.0.1.1\nsearch lan example.com\noptions edns0 ndots:0\n')
  t.equal(
    resolvConf('10.0.1.1', { search: ['a.b'], options: ['ndots:2'] }, host),
    'nameserver 10.0.1.1\nsearch a.b\noptions ndots:2\n',
  )
  t.equal(resolvConf('10.0.1.1', { search: ['.'], options: [] }, ''), 'nameserver 10.0.1.1\noptions ndots:0\n')
})

t.test(
  'hosts names the container by its addresses on the networks of the cluster, and what was asked for',
  async (t) => {
    const file = hostsFile(['db:10.9.9.9', 'six:fd00::1'], ['10.0.1.9', 'fd00:2::9'], 'web.example.com')
    t.match(file, /^127\.0\.0\.1\tlocalhost\n/)
    t.ok(
      file.endsWith('10.9.9.9\tdb\nfd00::1\tsix\n10.0.1.9\tweb.example.com web\nfd00:2::9\tweb.example.com web\n'),
      file,
    )
  },
)

interface EngineNetworkBody {
  readonly Name: string
  readonly Driver: string
  readonly IPAM: unknown
  readonly Labels: unknown
}

/** An engine that keeps networks and does nothing else. */
async function networksOn(t: Test, apiVersion: string) {
  const networks = new Map<string, EngineNetworkBody>()
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const name = new URL(request.url ?? '/', 'http://engine').pathname.split('/').pop() ?? ''
    if (name === 'version') {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ ApiVersion: apiVersion, MinAPIVersion: '1.24' }))
      return
    }
    const isThere = networks.has(name)
    if (request.method === 'DELETE') networks.delete(name)
    if (request.method !== 'POST') {
      const list = [...networks.values()].map((one) => ({ ...one, Id: one.Name }))
      response.writeHead(request.method === 'GET' ? 200 : isThere ? 204 : 404, { 'content-type': 'application/json' })
      response.end(request.method === 'GET' ? JSON.stringify(list) : '')
      return
    }
    const body = (await json(request)) as EngineNetworkBody
    const status = networks.has(body.Name) ? 409 : 201
    if (status === 201) networks.set(body.Name, body)
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(status === 201 ? { Id: body.Name } : { message: 'already exists' }))
  }
  const engine = createServer((request, response) => void answer(request, response))
  const socketPath = join(mkdtempSync(join(tmpdir(), 'engine-')), 's')
  await new Promise<void>((resolve) => engine.listen(socketPath, resolve))
  t.teardown(() => engine.close())
  const client = new EngineClient(`unix://${socketPath}`)
  t.teardown(() => client.close())
  return { networks, parts: new LocalNetworks(client, { clock: new SystemClock(), log: silentLog }) }
}

t.test('older engines’ driver is told how many links a container gets from it', async (t) => {
  const counts = (names: readonly string[], wishes?: Wishes) =>
    withSiblings(plan(names, wishes)!).map(([name, { DriverOpts }]) => [name, DriverOpts?.[ENDPOINT_SIBLINGS_KEY]])
  t.strictSame(counts(['front']), [
    ['front-net', '2'],
    ['swarmctl_egress', '2'],
  ])
  t.strictSame(counts(['inner']), [['inner-net', undefined]])
  t.strictSame(counts(['front'], { ports: [HOST_PORT] }), [
    ['front-net', undefined],
    ['swarmctl_ports', undefined],
  ])
})

t.test('a part of a network whose block of addresses is another one now is made anew', async (t) => {
  const { networks, parts } = await networksOn(t, '1.44')
  const block = (octet: number) => ({
    id: 'ingress',
    name: 'ingress',
    driver: 'swarmctl',
    subnets: [{ subnet: `100.64.${octet}.0/23`, gateway: `100.64.${octet}.1` }],
    options: {},
  })
  for (const octet of [2, 4]) {
    await parts.hold('task', [block(octet)])
    t.match(networks.get('ingress'), { IPAM: { Config: [{ Subnet: `100.64.${octet}.0/23` }] } })
  }
})

t.test('a network without IPv4 is made so where the engine can, and refused where it cannot', async (t) => {
  const six = {
    id: 'six',
    name: 'six',
    driver: 'swarmctl',
    subnets: [{ subnet: 'fd00:6::/64', gateway: '' }],
    options: {},
  }
  const both = { ...six, name: 'both', subnets: [...six.subnets, { subnet: '10.0.6.0/24', gateway: '' }] }
  const able = await networksOn(t, '1.48')
  await able.parts.hold('task', [six, both])
  t.match(able.networks.get('six'), { EnableIPv4: false, EnableIPv6: true })
  t.notOk('EnableIPv4' in (able.networks.get('both') ?? {}))
  const old = await networksOn(t, '1.41')
  await t.rejects(old.parts.hold('task', [six]), {
    code: 'TASK_FAILED',
    message: "network six has no IPv4 subnet: it needs a Docker Engine with API 1.48 or later: this node's has 1.41",
  })
  await old.parts.hold('task', [both])
  t.same([...old.networks.keys()], ['both'])
})

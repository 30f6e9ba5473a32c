// /networks of the cluster, as Docker's API shows and refuses them.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import { parsePruneTime } from '../../src/daemon/api/prune-time.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { Allocator } from '../../src/manager/allocator/allocator.ts'
import { ask, standInEngine } from '../support/api-client.ts'
import { ApiCluster, NODE_ID } from '../support/api-cluster.ts'
import { aTask, statusOf } from '../support/objects.ts'

async function serveSwarm(test: Pick<typeof t, 'teardown' | 'equal'>) {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-networks-'))
  const engine = await standInEngine(join(folder, 'engine.sock'))
  const cluster = new ApiCluster()
  const clock = new SystemClock()
  const address = { kind: 'unix', path: engine.path } as const
  const { random } = cluster
  const server = new ApiServer({ cluster, engine: address, clock, random, log: silentLog, version: '1.2.3' })
  const socket = join(folder, 'swarmd.sock')
  await server.listen({ kind: 'unix', path: socket })
  test.teardown(async () => {
    await server.close()
    await engine.close()
    rmSync(folder, { recursive: true })
  })
  const call = (method: string, path: string, body?: unknown) =>
    ask(socket, method, path, body === undefined ? {} : { body })
  test.equal((await call('POST', '/swarm/init', { ListenAddr: '127.0.0.1:2377' })).status, 200)
  cluster.addIngress()
  const create = (Name: string, more: object = {}) =>
    call('POST', '/networks/create', { Name, Driver: 'overlay', ...more })
  return { call, cluster, create, engine, allocate: () => allocate(cluster) }
}

/** What the leader's loop would do now. */
function allocate(cluster: ApiCluster): void {
  const allocator = new Allocator()
  const context = { nowMs: Date.parse('2026-02-01T00:00:00Z'), random: new SeededRandom(1) }
  for (const key of allocator.start(cluster.store)) {
    for (let look = 0; key !== undefined && look < 3; look++) {
      for (const transaction of allocator.reconcile(cluster.store, key, context).transactions)
        cluster.apply(transaction)
      allocator.settled(key, cluster.store)
    }
  }
}

t.test('an overlay network is shown as Docker shows it', async (t) => {
  const { call, create } = await serveSwarm(t)
  t.equal((await create('plain')).status, 201)
  t.match((await call('GET', '/networks/plain')).json, {
    Name: 'plain',
    Scope: 'swarm',
    Driver: 'overlay',
    EnableIPv4: true,
    EnableIPv6: false,
    IPAM: { Driver: 'default', Options: null, Config: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.0.1' }] },
    Attachable: false,
    Ingress: false,
    Internal: false,
    Containers: null,
    Options: { 'com.docker.network.driver.overlay.vxlanid_list': '4097' },
    Labels: {},
  })
  const AuxiliaryAddresses = { router: '10.8.0.9' }
  const Config = [
    { Subnet: '10.8.0.0/16', IPRange: '10.8.3.0/24', Gateway: '10.8.0.5', AuxiliaryAddresses },
    { Subnet: 'fd00:8::/64' },
  ]
  const Options = { encrypted: '', 'com.docker.network.driver.mtu': '1400' }
  const flags = { EnableIPv6: true, Internal: true, Attachable: true, Labels: { a: 'b' } }
  t.equal((await create('full', { ...flags, IPAM: { Config }, Options })).status, 201)
  t.match((await call('GET', '/networks/full')).json, {
    ...flags,
    IPAM: { Config: [Config[0], { Subnet: 'fd00:8::/64', Gateway: 'fd00:8::1' }] },
    Options: { ...Options, 'com.docker.network.driver.overlay.vxlanid_list': '4098' },
  })
  t.match((await call('GET', '/networks/ingress')).json, {
    Ingress: true,
    IPAM: { Config: [{ Subnet: '100.64.0.0/11', Gateway: '100.64.0.1' }] },
    Options: { 'com.docker.network.driver.overlay.vxlanid_list': '4096' },
  })
})

t.test('what makes no network is refused, and nothing has changed', async (t) => {
  const { create, cluster } = await serveSwarm(t)
  const vxlan = 'com.docker.network.driver.overlay.vxlanid_list'
  const ipam = (...Config: readonly object[]) => ({ IPAM: { Config } })
  const cases: readonly (readonly [object, number, RegExp])[] = [
    [
      ipam({ Subnet: '10.0.0/24' }),
      400,
      /^rpc error: code = InvalidArgument desc = ipam configuration: invalid subnet 10.0.0\/24$/,
    ],
    [ipam({}), 400, /ipam configuration: invalid subnet $/],
    [
      ipam({ Subnet: '10.1.0.0/24', IPRange: '10.2.0.0/25' }),
      400,
      /subnet 10.1.0.0\/24 does not contain range 10.2.0.0\/25/,
    ],
    [
      ipam({ Subnet: '10.1.0.0/24', Gateway: '10.2.0.1' }),
      400,
      /subnet 10.1.0.0\/24 does not contain gateway 10.2.0.1/,
    ],
    [
      ipam({ Subnet: '10.1.0.0/24', AuxiliaryAddresses: { a: '10.2.0.1' } }),
      400,
      /does not contain aux-address 10.2.0.1/,
    ],
    [
      ipam({ Subnet: '10.1.0.0/16' }, { Subnet: '10.1.3.0/24' }),
      400,
      /multiple overlapping subnet configuration is not supported/,
    ],
    [ipam({ Subnet: '100.65.0.0/16' }), 403, /^Pool overlaps with other one on this address space: .* network ingress/],
    [{ Options: { [vxlan]: '4096' } }, 403, /requested vxlan id 4096 is in use by network ingress/],
    [{ Options: { [vxlan]: 'x' } }, 400, /invalid vxlan id value "x" passed/],
    [
      { Options: { 'com.docker.network.driver.mtu': 'x' } },
      400,
      /failed to parse x: strconv.Atoi: parsing "x": invalid syntax/,
    ],
    [{ Options: { 'com.docker.network.driver.mtu': '-1' } }, 400, /invalid MTU value: -1/],
    [{ Options: { foo: 'bar' } }, 400, /unknown option "foo"/],
    [{ Ingress: true }, 409, /ingress network \(ingress0\) is already present/],
    [{ Ingress: true, Attachable: true }, 400, /ingress network cannot be attachable/],
  ]
  for (const [body, status, message] of cases) {
    t.match(await create('bad', body), { status, message }, JSON.stringify(body))
  }
  t.match(await create('INGRESS'), { status: 409, message: 'network with name INGRESS already exists' })
  t.equal(cluster.store.count('network'), 1)
})

const publishing = {
  Name: 'web',
  TaskTemplate: { ContainerSpec: { Image: 'nginx' }, Networks: [{ Target: 'front', Aliases: ['www'] }] },
  EndpointSpec: { Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080 }] },
}

t.test('services show their virtual addresses, tasks their own, and the network both', async (t) => {
  const { call, create, cluster, allocate } = await serveSwarm(t)
  const { Id: front } = (await create('front')).json as { Id: string }
  const { ID: id } = (await call('POST', '/services/create', publishing)).json as { ID: string }
  const service = cluster.store.get('service', id)!
  const spec = service.spec.TaskTemplate ?? {}
  cluster.apply([{ kind: 'create', object: aTask('t1', id, { spec, serviceName: 'web', nodeId: NODE_ID }) }])
  allocate()
  cluster.apply([{ kind: 'task-status', taskId: 't1', status: statusOf('running') }])
  t.match((await call('GET', '/services/web')).json, {
    Endpoint: {
      Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080 }],
      VirtualIPs: [
        { NetworkID: 'ingress0', Addr: '100.64.0.2/11' },
        { NetworkID: front, Addr: '10.0.0.2/24' },
      ],
    },
  })
  t.match((await call('GET', '/tasks/t1')).json, {
    NetworksAttachments: [
      {
        Network: {
          ID: 'ingress0',
          Spec: {
            Name: 'ingress',
            DriverConfiguration: {},
            Ingress: true,
            IPAMOptions: { Driver: {} },
            Scope: 'swarm',
          },
          DriverState: { Name: 'overlay' },
        },
      },
      {
        Network: {
          ID: front,
          Spec: { Name: 'front' },
          DriverState: { Name: 'overlay', Options: { 'com.docker.network.driver.overlay.vxlanid_list': '4097' } },
          IPAMOptions: { Configs: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.0.1' }] },
        },
        Addresses: ['10.0.0.3/24'],
      },
    ],
  })
  const plain = (await call('GET', '/networks/front')).json as object
  t.match(plain, { Peers: [{ Name: NODE_ID.slice(0, 12), IP: '127.0.0.1' }] })
  t.notOk('Services' in plain)
  t.match((await call('GET', '/networks/front?verbose=true')).json, {
    Services: {
      web: {
        VIP: '10.0.0.2',
        Ports: ['Target: 80, Publish: 8080'],
        Tasks: [{ Name: 'web.1.t1', EndpointIP: '10.0.0.3', Info: { 'Host IP': '127.0.0.1' } }],
      },
    },
  })
  t.match(await call('DELETE', '/networks/front'), {
    status: 400,
    message: `rpc error: code = FailedPrecondition desc = network ${front} is in use by service ${id}`,
  })
  t.match(await call('DELETE', '/networks/ingress'), {
    status: 400,
    message: `rpc error: code = FailedPrecondition desc = ingress network cannot be removed because service ${id} depends on it`,
  })
  t.equal((await call('DELETE', '/services/web')).status, 200)
  t.match(await call('DELETE', '/networks/front'), { status: 400, message: /is in use by task t1/ })
})

t.test('a network that goes while a service for it is being made is missed', async (t) => {
  const { call, create, cluster } = await serveSwarm(t)
  const { Id: id } = (await create('front')).json as { Id: string }
  cluster.beforeApply = () => {
    cluster.beforeApply = () => {}
    cluster.apply([{ kind: 'remove', objectKind: 'network', id }])
  }
  t.match(await call('POST', '/services/create', publishing), { status: 404, message: 'network front not found' })
  t.equal(cluster.store.count('service'), 0)
})

t.test('the ingress network can be replaced', async (t) => {
  const { call, create, cluster } = await serveSwarm(t)
  t.equal((await call('DELETE', '/networks/ingress')).status, 204)
  const { EndpointSpec } = publishing
  const service = { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'nginx' } }, EndpointSpec }
  t.match(await call('POST', '/services/create', service), {
    status: 400,
    message:
      'rpc error: code = FailedPrecondition desc = service needs ingress network, but no ingress network is present',
  })
  const IPAM = { Config: [{ Subnet: '10.11.0.0/16', Gateway: '10.11.0.2' }] }
  t.equal((await create('mine', { Ingress: true, IPAM })).status, 201)
  t.match(cluster.store.ingressNetwork(), { spec: { Name: 'mine' }, allocated: { vni: 4096 } })
  t.equal((await call('POST', '/services/create', service)).status, 201)
})

t.test('prune removes what nobody uses, here and in the cluster, but never the ingress network', async (t) => {
  const { call, create, cluster, engine } = await serveSwarm(t)
  await create('front')
  await create('spare', { Labels: { keep: 'no' } })
  await create('kept', { Labels: { keep: 'yes' } })
  await call('POST', '/services/create', publishing)
  const filters = encodeURIComponent(JSON.stringify({ 'label!': ['keep=yes'] }))
  t.match(await call('POST', `/networks/prune?filters=${filters}`), {
    status: 200,
    json: { NetworksDeleted: ['spare'] },
  })
  t.match(engine.seen.at(-1), /^POST \/v1.41\/networks\/prune/, 'the engine was asked as well')
  t.same(new Set(cluster.store.list('network').map(({ spec }) => spec.Name)), new Set(['front', 'ingress', 'kept']))
  t.match((await call('POST', '/networks/prune?filters={"until":["2000-01-01"]}')).json, { NetworksDeleted: null })
  t.match((await call('POST', '/networks/prune')).json, { NetworksDeleted: ['kept'] })
})

t.test('the time of a prune is a Unix time, a date or a duration', async (t) => {
  const now = Date.parse('2026-01-02T00:00:00Z')
  t.equal(parsePruneTime('1h30m', now), now - 90 * 60_000)
  t.equal(parsePruneTime('1000.5', now), 1_000_500)
  t.equal(parsePruneTime('2026-01-01T00:00:00Z', now), now - 24 * 3_600_000)
  t.throws(() => parsePruneTime('yesterday', now), { code: 'INVALID_PARAMETER' })
})

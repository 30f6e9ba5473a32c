// Networks of the cluster as Docker's clients see them, on a manager and on a worker: containers, networks and events, plain
// containers on attachable networks, host-mode ports, names that clash, and what is refused.

import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { fetchFrom, type Inside, insideOf, pings } from './support/inside.ts'
import { ask, askOn } from './support/outside.ts'

const WAIT_MS = 120_000
const cluster = await freshCluster(t, { workers: ['n2', 'n3'] })
const { lab } = cluster
const [n1, n2] = [lab.host('n1'), lab.host('n2')]
const count = lab.hosts.length

const network = (name: string, ...flags: string[]): Promise<string> =>
  cluster.docker(n1, 'network', 'create', '-d', 'overlay', ...flags, name)
const removeService = (...services: string[]): Promise<string> => cluster.docker(n1, 'service', 'rm', ...services)

/** A task on each node. */
async function global(name: string, ...flags: string[]): Promise<readonly Inside[]> {
  const create = ['service', 'create', '-d', '--no-resolve-image', '--name', name, '--mode', 'global']
  await cluster.docker(n1, ...create, ...flags)
  return cluster.waitFor(
    `${name} runs everywhere`,
    async () => {
      const found = await insideOf(cluster, name)
      return found.length === count && found
    },
    WAIT_MS,
  )
}

function on(host: LabHost, list: readonly Inside[]): Inside {
  const found = list.find((one) => one.host.name === host.name)
  if (!found) throw new Error(`nothing runs on ${host.name}`)
  return found
}

interface ShownContainer {
  readonly HostConfig: { readonly NetworkMode: string }
  readonly Mounts: readonly unknown[]
  readonly NetworkSettings: {
    readonly Networks: Readonly<Record<string, { readonly NetworkID: string; readonly IPAddress: string }>>
  }
}

interface ShownNetwork {
  readonly Id: string
  readonly Driver: string
  readonly Scope: string
  readonly Containers: Readonly<Record<string, { readonly Name: string; readonly IPv4Address: string }>> | null
}

const inspect = (host: LabHost, id: string) =>
  cluster.api<ShownContainer>(host, 'GET', `/containers/${encodeURIComponent(id)}/json`)
const inspectNetwork = (host: LabHost, id: string) => cluster.api<ShownNetwork>(host, 'GET', `/networks/${id}`)

/** Names of the engine's own networks that swarmd has made. */
async function parts(host: LabHost): Promise<readonly string[]> {
  const listed = await host.docker(['network', 'ls', '-f', 'label=io.swarmctl.network.id', '--format', '{{.Name}}'], {
    to: 'engine',
  })
  return listed.stdout.split('\n').filter(Boolean).sort()
}

/** As soon as the container's program listens. */
const answerOf = (host: LabHost, port: number) =>
  cluster.waitFor(`${host.name}:${port} answers`, () => ask(lab, host.address, port), WAIT_MS)

async function failure(host: LabHost, ...args: string[]): Promise<string> {
  const { code, stderr } = await cluster.tryDocker(host, args, { timeoutMs: 60_000 })
  return code === 0 ? 'it succeeded' : stderr
}

t.test('tasks, networks and events are shown as Docker shows them in a swarm', async (t) => {
  const id = (await network('oa-front')).trim()
  const since = String(Date.now() / 1000 - 1)
  const tasks = await global('oa-web', '--network', 'oa-front', '--publish', '7401:8080', 'hello:1')
  for (const { host, containerId, taskId } of tasks) {
    const shown = await inspect(host, containerId)
    const networks = shown.NetworkSettings.Networks
    t.same(Object.keys(networks).sort(), ['ingress', 'oa-front'], host.name)
    t.equal(networks['oa-front']?.NetworkID, id)
    t.equal(shown.HostConfig.NetworkMode, 'default')
    t.same(shown.Mounts, [])
    const task = await cluster.api<{ NetworksAttachments: { Network: { ID: string }; Addresses: string[] }[] }>(
      n1,
      'GET',
      `/tasks/${taskId}`,
    )
    const attachment = task.NetworksAttachments.find(({ Network }) => Network.ID === id)
    t.equal(attachment?.Addresses[0], `${networks['oa-front']?.IPAddress}/24`)
    const part = await inspectNetwork(host, 'oa-front')
    t.match(part, { Id: id, Driver: 'overlay', Scope: 'swarm' })
    t.same(Object.keys(part.Containers ?? {}), [containerId])
    t.match(await cluster.docker(host, 'ps', '-q', '--no-trunc', '--filter', `network=${id}`), containerId)
    const listed = (await cluster.docker(host, 'network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}')).split(
      '\n',
    )
    t.equal(listed.filter((line) => line.startsWith('oa-front ')).join(), 'oa-front overlay swarm')
    t.notOk(listed.some((line) => line.startsWith('swarmctl_')))
    const until = String(Date.now() / 1000)
    const events = await cluster.docker(host, 'events', '--since', since, '--until', until, '--filter', 'type=network')
    const connects = events.split('\n').filter((line) => line.includes(containerId))
    t.match(
      connects.find((line) => line.includes('name=oa-front')),
      new RegExp(`network connect ${id} .*type=overlay`),
    )
    t.notMatch(events, /swarmctl/)
  }
  const verbose = await cluster.docker(n1, 'network', 'inspect', '--verbose', 'oa-front')
  const [{ Services: services }] = JSON.parse(verbose) as [
    { Services: Record<string, { VIP: string; Tasks: { Name: string; EndpointID: string; Info: object }[] }> },
  ]
  t.equal(services['oa-web']?.Tasks.length, count)
  t.ok(services['oa-web']?.Tasks.some(({ EndpointID }) => /^[0-9a-f]{64}$/.test(EndpointID)))
  t.match(await failure(n1, 'network', 'rm', 'oa-front'), /network \w+ is in use by service/)
  t.match(await failure(n2, 'network', 'rm', 'oa-front'), /This node is not a swarm manager/)
  await removeService('oa-web')
  await cluster.waitFor('the network goes', () => cluster.docker(n1, 'network', 'rm', 'oa-front'), WAIT_MS)
  for (const host of lab.hosts)
    await cluster.waitFor(
      `${host.name}'s parts go with the last container`,
      async () => !(await parts(host)).includes('oa-front'),
      WAIT_MS,
    )
})

t.test("a task's resolv.conf and hosts are those of its networks", async (t) => {
  await network('oa-names')
  await network('oa-inner', '--internal')
  const dns = ['--dns', '9.9.9.9', '--dns-search', 'lan.example', '--dns-option', 'timeout:3', '--host', 'db:10.9.9.9']
  const named = await global('oa-named', '--network', 'oa-names', '--hostname', 'web.example', ...dns, 'hello:1')
  const inner = await global('oa-hidden', '--network', 'oa-inner', 'hello:1')
  const file = async (inside: Inside, path: string) => (await inside.exec('cat', path)).stdout
  const one = on(n2, named)
  t.equal(
    await file(one, '/etc/resolv.conf'),
    'nameserver 169.254.77.53\nsearch lan.example\noptions timeout:3 ndots:0\n',
  )
  const { IPAddress: address } = (await inspect(n2, one.containerId)).NetworkSettings.Networks['oa-names'] ?? {}
  const hosts = (await file(one, '/etc/hosts')).split('\n')
  t.ok(hosts.includes('10.9.9.9\tdb'), hosts.join())
  t.same(
    hosts.filter((line) => /\bweb\.example\b/.test(line)),
    [`${address}\tweb.example web`],
  )
  const gateway = (await inspectNetwork(n1, 'oa-inner')) as ShownNetwork & { IPAM: { Config: { Gateway: string }[] } }
  t.match(await file(on(n2, inner), '/etc/resolv.conf'), `nameserver ${gateway.IPAM.Config[0]?.Gateway}\n`)
  t.notMatch((await on(n2, inner).exec('ip', 'route')).stdout, /default/, 'no way out of an internal network')
  await removeService('oa-named', 'oa-hidden')
})

t.test('host-mode ports are published beside overlay networks', async (t) => {
  await network('oa-ports')
  const port = 'published=7402,target=8080,mode=host'
  const tasks = await global('oa-hosted', '--network', 'oa-ports', '--publish', port, 'hello:1')
  for (const { host, containerId } of tasks) {
    const answer = await answerOf(host, 7402)
    t.equal(answer.hostname, containerId.slice(0, 12))
    t.equal(answer.client, lab.clientAddress, 'the client is known by its address')
  }
  t.match(await cluster.docker(n1, 'service', 'ps', 'oa-hosted', '--format', '{{.Ports}}'), /\*:7402->8080\/tcp/)
  const answer = await cluster.waitFor('its name', () => fetchFrom(on(n1, tasks), 'oa-hosted'), WAIT_MS)
  t.not(answer.hostname, '', 'and its names resolve')
  await removeService('oa-hosted')
  const both = await global('oa-both', ...['--network', 'oa-ports', '--publish', '7403:8080'], ...OWN_PORTS, 'hello:1')
  for (const { host, containerId, taskId } of both) {
    const { Status } = await cluster.api<{ Status: { PortStatus: { Ports: { PublishedPort: number }[] } } }>(
      n1,
      'GET',
      `/tasks/${taskId}`,
    )
    const published = Status.PortStatus.Ports.map(({ PublishedPort }) => PublishedPort)
    t.equal(published.length, 2)
    t.ok(published.includes(7404))
    for (const port of published) {
      const own = await answerOf(host, port)
      t.equal(own.hostname, containerId.slice(0, 12), `${host.name}:${port} leads to its own task`)
      t.equal(own.client, lab.clientAddress)
    }
    t.match(await cluster.docker(host, 'ps', '--format', '{{.Ports}}'), '0.0.0.0:7404->8080/tcp')
    t.match(await failure(host, 'run', '--rm', '-p', '7404:80', 'hello:1'), /address already in use|already allocated/)
  }
  t.ok((await answerOf(n1, 7403)).hostname, 'beside the port that every node has')
  await removeService('oa-both')
})

t.test(
  'ports are open on the addresses that they are published on, and a service has the address that it asks for',
  async (t) => {
    const create = (name: string, ...flags: string[]) =>
      cluster.swarmctl(n1, ...['service', 'create', '-d', '--no-resolve-image', '--name', name], ...flags)
    const hostPort = (published: number) => `published=${published},target=8080,mode=host,host-ip=127.0.0.1`
    await network('oa-own', '--subnet', '10.45.0.0/24')
    await Promise.all([
      create(
        'oa-local',
        ...['--mode', 'global', '--network', 'name=oa-own,ip=10.45.0.77', '-p', '127.0.0.1:7405:8080'],
        ...['-p', `${n2.address}:7406:8080`, '-p', hostPort(7407), 'hello:1'],
      ),
      create('oa-bridged', '--mode', 'global', '-p', hostPort(7408), 'hello:1'),
      create('oa-never', '--label', 'io.swarmctl.pull-policy=never', '--restart-condition', 'none', 'absent:9'),
    ])
    const [tasks] = await Promise.all(
      ['oa-local', 'oa-bridged'].map((name) =>
        cluster.waitFor(
          `${name} runs everywhere`,
          async () => {
            const found = await insideOf(cluster, name)
            return found.length === count && found
          },
          WAIT_MS,
        ),
      ),
    )
    const byLoopback = (host: LabHost, port: number) =>
      cluster.waitFor(
        `${host.name} answers at 127.0.0.1:${port}`,
        () => askOn(host, `http://127.0.0.1:${port}/`),
        WAIT_MS,
      )
    for (const { host, containerId } of tasks ?? []) {
      t.ok((await byLoopback(host, 7405)).hostname)
      t.equal((await byLoopback(host, 7407)).hostname, containerId.slice(0, 12), 'its own')
      t.ok((await byLoopback(host, 7408)).hostname)
      for (const port of [7405, 7407, 7408]) {
        await t.rejects(
          ask(lab, host.address, port),
          /refused|Failed to connect/,
          `${host.name} refuses others at ${port}`,
        )
        await t.rejects(askOn(host, `http://${host.address}:${port}/`), /refused|Failed to connect/, 'and itself')
      }
      t.match((await host.exec(['ss', '-Hltn', 'sport = :7405'])).stdout, / 127\.0\.0\.1:7405 /)
    }
    t.ok((await answerOf(n2, 7406)).hostname, 'an address that one node has')
    await t.rejects(ask(lab, n1.address, 7406), /refused|Failed to connect/)
    const status = async () =>
      (await cluster.api<{ Status: { Message?: string } }>(n1, 'GET', '/nodes/n1')).Status.Message
    const told = await cluster.waitFor('n1 says that it has not', async () => (await status()) ?? '', WAIT_MS)
    t.match(told, `published port 7406/tcp is for ${n2.address}, which this node does not have`)

    t.match(
      await cluster.swarmctl(n1, 'service', 'ls', '--format', '{{.Ports}}'),
      `${n2.address}:7406->8080/tcp, 127.0.0.1:7405->8080/tcp`,
    )
    t.match(
      await cluster.swarmctl(n1, 'service', 'ps', 'oa-bridged', '--format', '{{.Ports}}'),
      '127.0.0.1:7408->8080/tcp',
    )
    t.match(await cluster.docker(n1, 'ps', '--format', '{{.Ports}}'), '127.0.0.1:7407->8080/tcp')

    const [inside] = tasks ?? []
    t.ok(inside && (await fetchFrom(inside, '10.45.0.77')).hostname, 'by its own address')
    const [{ Services: services }] = JSON.parse(await cluster.docker(n1, 'network', 'inspect', '-v', 'oa-own')) as [
      { Services: Record<string, { VIP: string }> },
    ]
    t.equal(services['oa-local']?.VIP, '10.45.0.77')
    const taken = await n1.swarmctl(['service', 'create', '-d', '--network', 'name=oa-own,ip=10.45.0.77', 'hello:1'])
    t.match(taken.stderr, 'address 10.45.0.77 of network oa-own is in use by service oa-local')

    const label = 'io.swarmctl.publish.7405/tcp'
    await cluster.docker(n1, 'service', 'update', '-d', '--label-add', `${label}=${n1.address}`, 'oa-local')
    t.ok((await answerOf(n1, 7405)).hostname, 'moved to another address, without a new task')
    t.same(
      (await insideOf(cluster, 'oa-local')).map(({ taskId }) => taskId),
      tasks?.map(({ taskId }) => taskId),
    )
    await t.rejects(askOn(n1, 'http://127.0.0.1:7405/'), /refused|Failed to connect/)
    await cluster.docker(n1, 'service', 'update', '-d', '--label-rm', label, 'oa-local')
    t.ok((await answerOf(n2, 7405)).hostname, 'and to every one')

    const never = ['service', 'ps', '--no-trunc', '--format', '{{.CurrentState}} {{.Error}}', 'oa-never']
    const said = await cluster.waitFor(
      'the task fails',
      async () => {
        const shown = await cluster.docker(n1, ...never)
        return shown.startsWith('Rejected') && shown
      },
      WAIT_MS,
    )
    t.match(said, /No such image: absent:9/)
    await removeService('oa-local', 'oa-bridged', 'oa-never')
  },
)

t.test("a task whose network's name its node's engine has for another one fails, and says so", async (t) => {
  await n2.docker(['network', 'create', 'oa-clash'], { to: 'engine' })
  await network('oa-clash')
  await cluster.docker(
    n1,
    ...['service', 'create', '-d', '--no-resolve-image', '--name', 'oa-clashing', '--mode', 'global'],
    ...['--network', 'oa-clash', 'hello:1'],
  )
  const said = await cluster.waitFor(
    'the task on n2 is rejected',
    async () => {
      const format = '{{.Node}}: {{.Error}}'
      const shown = await cluster.docker(n1, 'service', 'ps', '--no-trunc', '--format', format, 'oa-clashing')
      return shown.split('\n').find((line) => line.startsWith(`${n2.name}: `) && line.includes('oa-clash'))
    },
    WAIT_MS,
  )
  t.match(said, /network with name oa-clash already exists/)
  await cluster.waitFor(
    'it runs where the name is free',
    async () => (await insideOf(cluster, 'oa-clashing')).length === count - 1,
    WAIT_MS,
  )
  await removeService('oa-clashing')
  await n2.docker(['network', 'rm', 'oa-clash'], { to: 'engine' })
})

t.test("services use the engine's own networks by name", async (t) => {
  const host = await global('oa-host', '--network', 'host', 'hello:1')
  t.equal((await inspect(n2, on(n2, host).containerId)).HostConfig.NetworkMode, 'host')
  await removeService('oa-host')
  const none = await global('oa-none', '--network', 'none', 'hello:1')
  t.notMatch((await on(n2, none).exec('ip', 'address')).stdout, /eth0/)
  await removeService('oa-none')
})

t.test('plain containers have places on attachable networks, and give them back', async (t) => {
  const id = (await network('oa-open', '--attachable', '--subnet', '10.44.0.0/24')).trim()
  await network('oa-closed')
  const tasks = await global('oa-peer', '--network', 'oa-open', 'hello:1')
  const run = (host: LabHost, ...args: string[]) => cluster.docker(host, 'run', '-d', '--network', 'oa-open', ...args)
  const first = (
    await run(n2, '--name', 'oa-plain', '--network-alias', 'oa-alias', '--hostname', 'oa-hostname', 'hello:1')
  ).trim()
  const second = (await run(n1, '--ip', '10.44.0.200', 'hello:1')).trim()
  const { NetworkID, IPAddress } = (await inspect(n2, first)).NetworkSettings.Networks['oa-open'] ?? {}
  t.equal(NetworkID, id)
  t.match(IPAddress, /^10\.44\.0\./)
  t.equal((await inspect(n1, second)).NetworkSettings.Networks['oa-open']?.IPAddress, '10.44.0.200')
  for (const name of ['oa-plain', 'oa-alias', 'oa-hostname']) {
    const got = await cluster.waitFor(`${name} answers a task`, () => fetchFrom(on(n1, tasks), name), WAIT_MS)
    t.equal(got.hostname, 'oa-hostname')
  }
  t.ok(await pings(on(n2, tasks), '10.44.0.200'))
  const asked = await n2.docker(['exec', first, 'node', '-e', ASK, 'oa-peer'], { timeoutMs: 30_000 })
  t.match(asked.stdout, /hostname=/, `a plain container finds services: ${asked.stderr}`)

  const later = (await cluster.docker(n2, 'run', '-d', '--name', 'oa-later', 'hello:1')).trim()
  await cluster.docker(n2, 'network', 'connect', '--ip', '10.44.0.201', 'oa-open', 'oa-later')
  t.ok(await pings(on(n1, tasks), '10.44.0.201'))
  await cluster.docker(n2, 'network', 'disconnect', 'oa-open', 'oa-later')
  await cluster.waitFor(
    'the address of a container that was disconnected is free',
    () =>
      cluster.docker(n1, 'run', '-d', '--name', 'oa-again', '--network', 'oa-open', '--ip', '10.44.0.201', 'hello:1'),
    WAIT_MS,
  )

  t.match(
    await failure(n2, 'run', '--network', 'oa-closed', 'hello:1'),
    'Could not attach to network oa-closed: rpc error: code = PermissionDenied desc = network oa-closed not manually attachable',
  )
  t.match(await failure(n2, 'run', '--network', 'oa-nowhere', 'hello:1'), /network oa-nowhere not found/)
  t.match(
    await failure(n2, 'run', '--network', 'oa-open', '--ip', '10.45.0.9', 'hello:1'),
    /Invalid address 10.45.0.9: It does not belong to any of this network's subnets/,
  )
  t.match(await failure(n1, 'network', 'rm', 'oa-open'), /is in use by/)

  await removeService('oa-peer')
  await cluster.docker(n2, 'rm', '-f', first, later)
  await cluster.docker(n1, 'rm', '-f', second, 'oa-again')
  await cluster.waitFor(
    'the network goes when all have left',
    () => cluster.docker(n1, 'network', 'rm', 'oa-open'),
    WAIT_MS,
  )
})

const OWN_PORTS = ['published=7404,target=8080,mode=host', 'target=8080,mode=host'].flatMap((port) => [
  '--publish',
  port,
])

const ASK = `
  require('http').get({ host: process.argv[1], port: 8080, agent: false, timeout: 3000 }, (r) => r.pipe(process.stdout))
    .on('error', (e) => { console.error(e.message); process.exit(1) })
`

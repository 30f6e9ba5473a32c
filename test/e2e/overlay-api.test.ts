// Networks of the cluster as Docker's clients see them, on a manager and on a worker: containers, networks and events, plain
// containers on attachable networks, host-mode ports, names that clash, and what is refused.

import t from 'tap'
import type { LabHost } from '../../lab/lab-host.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { fetchFrom, type Inside, insideOf, pings } from './support/inside.ts'
import { ask } from './support/outside.ts'

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

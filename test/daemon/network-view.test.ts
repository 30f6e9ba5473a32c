// What the engine says of containers, networks and events, shown as Docker shows it in a swarm; on a stand-in for an engine
// that has parts of the cluster's networks.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import type { NetworkPart } from '../../src/daemon/api/network-parts.ts'
import { shownContainer } from '../../src/daemon/api/network-view.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { ask } from '../support/api-client.ts'
import { ApiCluster } from '../support/api-cluster.ts'

const FRONT = 'f'.repeat(25)
const id = (letter: string) => letter.repeat(64)
const LABEL = 'io.swarmctl.network.id'
const part = (Id: string, Name: string, clusterId: string) => ({
  Id,
  Name,
  Scope: 'local',
  Driver: 'swarmctl',
  IPAM: { Driver: 'swarmctl', Options: {}, Config: [{ Subnet: '10.0.1.0/24', Gateway: '10.0.1.1' }] },
  Containers: { [id('c')]: { Name: 'web.1.task1', EndpointID: id('e'), IPv4Address: '10.0.1.9/24' } },
  Options: { [LABEL]: clusterId, 'io.swarmctl.network.vni': '4097' },
  Labels: { [LABEL]: clusterId },
})
const NETWORKS = [
  { Id: id('b'), Name: 'bridge', Scope: 'local', Driver: 'bridge', Labels: {} },
  part(id('1'), 'front', FRONT),
  part(id('2'), 'swarmctl_egress', 'egress'),
]
const TASK_LABELS = { 'com.docker.swarm.task.id': 'task1', 'io.swarmctl.networks': '2', mine: 'x' }
const FILES = { Type: 'bind', Source: '/run/swarmd/task-files/task1/resolv.conf', Destination: '/etc/resolv.conf' }
const DATA = { Type: 'volume', Source: 'data', Destination: '/data' }
const ENDPOINTS = {
  front: { NetworkID: id('1'), IPAddress: '10.0.1.9', DriverOpts: { 'io.swarmctl.dns': '9.9.9.9' } },
  swarmctl_egress: { NetworkID: id('2'), IPAddress: '100.96.0.5' },
}
const INSPECTED = {
  Id: id('c'),
  Mounts: [FILES, DATA],
  Config: { Labels: TASK_LABELS },
  HostConfig: { NetworkMode: 'front', Mounts: [FILES], DnsOptions: ['ndots:', 'timeout:1'] },
  NetworkSettings: { Ports: {}, Networks: ENDPOINTS },
}
const LISTED = [
  {
    Id: id('c'),
    Labels: TASK_LABELS,
    HostConfig: { NetworkMode: 'front' },
    Mounts: [FILES, DATA],
    NetworkSettings: { Networks: ENDPOINTS },
  },
  { Id: id('d'), Labels: {}, NetworkSettings: { Networks: { bridge: { NetworkID: id('b') } } } },
]
const event = (Action: string, networkId: string, name: string, at: number) => ({
  Type: 'network',
  Action,
  Actor: { ID: networkId, Attributes: { container: id('c'), name, type: 'swarmctl' } },
  scope: 'local',
  time: at,
  timeNano: at * 1e9,
})
const EVENTS = [
  event('create', id('1'), 'front', 1),
  event('connect', id('1'), 'front', 2),
  event('connect', id('2'), 'swarmctl_egress', 3),
  { Type: 'container', Action: 'start', Actor: { ID: id('c'), Attributes: TASK_LABELS }, time: 4, timeNano: 4e9 },
  event('connect', id('b'), 'bridge', 5),
]

async function serve(test: Pick<typeof t, 'teardown'>) {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-view-'))
  const seen: string[] = []
  const engine = createServer((request, response) => {
    const [path = '', search = ''] = (request.url ?? '').split('?')
    const name = path.replace(/^\/v1\.\d+/, '')
    const json = (value: unknown) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    if (name === '/_ping') return response.end('OK')
    if (name === '/version') return json({ ApiVersion: '1.41', MinAPIVersion: '1.12', Version: '20.10.24' })
    seen.push(`${request.method} ${name} ${new URLSearchParams(search).get('filters') ?? ''}`)
    if (name === '/networks') return json(NETWORKS)
    const [, network] = /^\/networks\/(\w+)$/.exec(name) ?? []
    const found = NETWORKS.find(({ Id, Name }) => network === Id || network === Name)
    if (found) return json(found)
    if (name === '/networks/prune') return json({ NetworksDeleted: ['old'] })
    if (name === '/containers/json') return json(LISTED)
    if (name === '/containers/c1/json') return json(INSPECTED)
    if (name === '/events') return response.end(EVENTS.map((each) => `${JSON.stringify(each)}\n`).join(''))
    return response.writeHead(404, { 'content-type': 'application/json' }).end('{"message":"no such thing"}')
  })
  engine.listen(join(folder, 'engine.sock'))
  await once(engine, 'listening')
  const cluster = new ApiCluster()
  const address = { kind: 'unix', path: join(folder, 'engine.sock') } as const
  const options = { clock: new SystemClock(), random: cluster.random, log: silentLog, version: '1.2.3' }
  const server = new ApiServer({ cluster, engine: address, ...options })
  const socket = join(folder, 'swarmd.sock')
  await server.listen({ kind: 'unix', path: socket })
  test.teardown(async () => {
    await server.close()
    engine.close()
    rmSync(folder, { recursive: true })
  })
  cluster.current = { kind: 'worker', nodeId: 'n1', nodeAddress: '127.0.0.1', managers: [] }
  return { seen, call: (method: string, path: string) => ask(socket, method, path) }
}

t.test("containers are shown on the cluster's networks, without what only the node needs", async (t) => {
  const { call } = await serve(t)
  t.same((await call('GET', '/containers/c1/json')).json, {
    Id: id('c'),
    Mounts: [DATA],
    Config: { Labels: { 'com.docker.swarm.task.id': 'task1', mine: 'x' } },
    HostConfig: { NetworkMode: 'default', Mounts: [], DnsOptions: ['timeout:1'] },
    NetworkSettings: {
      Ports: {},
      Networks: { front: { NetworkID: FRONT, IPAddress: '10.0.1.9', DriverOpts: null } },
    },
  })
  const [task, plain] = (await call('GET', '/containers/json')).json as readonly unknown[]
  t.match(task, { NetworkSettings: { Networks: { front: { NetworkID: FRONT } } }, Mounts: [DATA] })
  t.notMatch(task, { NetworkSettings: { Networks: { swarmctl_egress: {} } } })
  t.same(plain, LISTED[1])
})

t.test("host-mode ports that the node's own data plane publishes are shown as the engine shows its own", async (t) => {
  const Labels = { ...TASK_LABELS, 'io.swarmctl.ports': 'tcp/8080/80,tcp/8081/80' }
  const names = { parts: new Map<string, NetworkPart>(), idOf: () => '' }
  const inspected = { ...INSPECTED, Config: { Labels }, State: { Running: true } }
  t.match(shownContainer(inspected, names), {
    Config: { Labels: { mine: 'x' } },
    NetworkSettings: { Ports: { '80/tcp': [{ HostPort: '8080' }, { HostPort: '8081' }] } },
  })
  const [listed] = LISTED
  t.match(shownContainer({ ...listed, Labels, Ports: [], State: 'running' }, names), {
    Ports: [
      { PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
      { PrivatePort: 80, PublicPort: 8081, Type: 'tcp' },
    ],
  })
  t.match(shownContainer({ ...listed, Labels, Ports: [], State: 'exited' }, names), { Ports: [] })
})

t.test("a filter by a cluster network's id is the engine's own id to the engine", async (t) => {
  const { call, seen } = await serve(t)
  await call(
    'GET',
    `/containers/json?filters=${encodeURIComponent(JSON.stringify({ label: { a: true }, network: { [FRONT]: true, back: true } }))}`,
  )
  t.ok(
    seen.includes(`GET /containers/json {"label":{"a":true},"network":{"${id('1')}":true,"back":true}}`),
    seen.join('\n'),
  )
})

t.test('a worker shows its parts of cluster networks as overlays, and nothing that is hidden', async (t) => {
  const { call, seen } = await serve(t)
  const shown = (await call('GET', '/networks')).json as readonly { Name: string }[]
  t.match(shown, [{ Id: FRONT, Name: 'front', Driver: 'overlay', Scope: 'swarm', Labels: {} }, { Name: 'bridge' }])
  t.equal(shown.length, 2)
  t.match((await call('GET', `/networks/${FRONT.slice(0, 12)}`)).json, {
    Id: FRONT,
    Driver: 'overlay',
    IPAM: { Driver: 'default', Config: [{ Subnet: '10.0.1.0/24' }] },
    Options: { 'com.docker.network.driver.overlay.vxlanid_list': '4097' },
    Containers: { [id('c')]: { IPv4Address: '10.0.1.9/24' } },
  })
  t.match(await call('GET', '/networks/swarmctl_egress'), { status: 404, message: 'network swarmctl_egress not found' })
  t.match(await call('DELETE', '/networks/front'), { status: 503, message: /This node is not a swarm manager/ })
  t.same((await call('POST', '/networks/prune')).json, { NetworksDeleted: ['old'] })
  t.equal(seen.at(-1), `POST /networks/prune {"label!":["${LABEL}"]}`)
})

t.test('events tell of the networks of the cluster, and not of how a node carries them', async (t) => {
  const { call } = await serve(t)
  const lines = (await call('GET', '/events?until=10')).text.trim().split('\n')
  const told = lines.map((line): unknown => JSON.parse(line))
  t.equal(told.length, 3)
  t.match(told, [
    { Action: 'connect', Actor: { ID: FRONT, Attributes: { name: 'front', type: 'overlay' } } },
    { Type: 'container', Actor: { Attributes: { mine: 'x' } } },
    { Action: 'connect', Actor: { ID: id('b'), Attributes: { name: 'bridge' } } },
  ])
  t.notMatch(told[1], { Actor: { Attributes: { 'io.swarmctl.networks': '2' } } })
})

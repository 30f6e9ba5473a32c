// Metrics and readiness, of a real manager on a real socket.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ClusterState } from '../../src/daemon/api/cluster-access.ts'
import { Engine } from '../../src/daemon/api/engine.ts'
import type { DiskState } from '../../src/daemon/disk/disk-watch.ts'
import { MetricsServer } from '../../src/daemon/metrics/metrics-server.ts'
import type { NodeFacts, Sample } from '../../src/daemon/metrics/node-facts.ts'
import { readinessOf } from '../../src/daemon/metrics/readiness.ts'
import { Sampler } from '../../src/daemon/metrics/sampler.ts'
import { parseOptions } from '../../src/daemon/options.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { Histogram } from '../../src/lib/histogram.ts'
import { createLog, silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import type { Manager } from '../../src/manager/manager.ts'
import type { DataPlaneStatistics } from '../../src/overlay/client.ts'
import { startManager } from '../manager/support/one-manager.ts'
import { SimulatedDisk } from '../sim/disk.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { standInEngine } from '../support/api-client.ts'
import { aNetwork, aNode, aService, aTask, statusOf } from '../support/objects.ts'

const STATISTICS: DataPlaneStatistics = {
  repairs: 3,
  kernel: { masquerades: 5, isolatedPackets: 7, spoofedPackets: 11, guardedPackets: 13 },
  problems: [],
}

const DISK: DiskState = {
  spaces: [{ path: '/var/lib/docker', device: 1, freeBytes: 1_000, sizeBytes: 50_000 }],
  pressure: [{ Path: '/var/lib/docker', FreeBytes: 1_000, SizeBytes: 50_000 }],
  manager: { kind: 'low', path: '/var/lib/swarmd', freeBytes: 500, wantedBytes: 2_000, isStalled: false },
}

const INACTIVE: NodeFacts = { state: { kind: 'inactive' }, membership: undefined, reads: new Histogram() }

async function serve(test: Pick<typeof t, 'teardown'>, facts: () => NodeFacts, plane = async () => STATISTICS) {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-metrics-'))
  const stand = await standInEngine(join(folder, 'engine.sock'))
  const clock = new SystemClock()
  const engine = new Engine({ kind: 'unix', path: stand.path }, clock)
  const sampler = new Sampler({
    facts,
    engine,
    dataPlane: plane,
    dataRoot: folder,
    disk: () => DISK,
    clock,
    answerWithinMs: 200,
  })
  const server = new MetricsServer({ sampler, log: silentLog })
  const port = await server.listen('127.0.0.1', 0)
  test.teardown(async () => {
    await server.close()
    rmSync(folder, { recursive: true })
  })
  let engineRuns = true
  const stopEngine = async () => {
    if (engineRuns) await stand.close()
    engineRuns = false
  }
  test.teardown(stopEngine)
  return { ask: (path: string) => fetchText(port, path), stopEngine }
}

async function fetchText(port: number, path: string) {
  const [incoming] = (await once(get({ host: '127.0.0.1', port, path }), 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of incoming.setEncoding('utf8')) text += String(chunk)
  return { status: incoming.statusCode, text, type: incoming.headers['content-type'] }
}

function factsOf(manager: Manager): NodeFacts {
  const state: ClusterState = {
    kind: 'manager',
    nodeId: manager.nodeId,
    nodeAddress: '127.0.0.1',
    isLeader: manager.isLeader,
    leader: manager.leader(),
    view: manager.store,
    proposer: manager.proposer,
    subscribe: (listener) => manager.store.subscribe(listener),
    reachability: (id) => manager.reachability(id),
  }
  const membership = {
    nodeId: manager.nodeId,
    clusterId: 'c1',
    certificateExpiresMs: new SystemClock().wallMs() + 86_400_000,
    hasSession: true,
    heartbeats: new Histogram(),
    cleanedUp: { images: 3, containers: 1 },
    manager: { metrics: manager.metrics(), raft: manager.status() },
  }
  return { state, membership, reads: new Histogram() }
}

async function leader() {
  const clock = new VirtualClock()
  const disk = new SimulatedDisk({ clock, random: new SeededRandom(2) })
  return { clock, ...(await startManager(clock, disk, {})) }
}

/** Values by name and labels, as they stand in the text. */
function valuesIn(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
}

t.test('a leader shows Swarm’s metrics under Swarm’s names, and its own', async (t) => {
  const { clock, manager, write, stop } = await leader()
  await write(20, 'a')
  const again = aService('a0', { spec: { Name: 'other' } })
  await t.rejects(clock.wait(manager.proposer.propose([{ kind: 'create', object: again }]), 1_000, 'a conflict'))
  const task = aTask('t1', 'a1', { status: statusOf('new'), nodeId: 'n1' })
  await clock.wait(manager.proposer.propose([{ kind: 'create', object: task }]), 1_000, 'a task')
  await clock.advance(3_000)
  const status = statusOf('running', { timestamp: '2030-01-01T00:00:00.000000000Z' })
  const running = [{ kind: 'task-status', taskId: 't1', status }] as const
  await clock.wait(manager.proposer.propose(running), 1_000, 'its start')
  await clock.wait(manager.proposer.propose([{ kind: 'create', object: aNode('n2') }]), 1_000, 'a node')

  const { ask } = await serve(t, () => factsOf(manager))
  const { status: answered, text, type } = await ask('/metrics')
  t.equal(answered, 200)
  t.match(type, 'text/plain; version=0.0.4')
  const values = valuesIn(text)
  const is = (name: string, value: number) => t.equal(values.get(name), value, name)
  is('swarm_node_info{swarm_id="c1",node_id="n1"}', 1)
  is('swarm_node_manager', 1)
  is('swarm_manager_leader', 1)
  is('swarm_manager_services_total', manager.store.count('service'))
  is('swarm_manager_nodes{state="down"}', manager.store.list('node').filter((n) => n.status.state === 'down').length)
  const states = [...values].filter(([name]) => name.startsWith('swarm_manager_tasks_total'))
  t.equal(states.length, 14, 'every state is shown, also those of no task')
  t.equal(
    states.reduce((sum, [, count]) => sum + count, 0),
    manager.store.count('task'),
  )
  is('swarm_dispatcher_scheduling_delay_seconds_count', 1)
  is('swarm_dispatcher_scheduling_delay_seconds_bucket{le="2.5"}', 0)
  is('swarm_dispatcher_scheduling_delay_seconds_bucket{le="5"}', 1)
  is('swarm_dispatcher_scheduling_delay_seconds_bucket{le="+Inf"}', 1)
  for (const name of ['swarm_raft_transaction_latency', 'swarm_store_batch_latency', 'swarm_store_write_tx_latency']) {
    t.ok((values.get(`${name}_seconds_count`) ?? 0) > 20, name)
  }
  is('swarmctl_proposals_total{outcome="EXISTS"}', 1)
  t.ok((values.get('swarmctl_proposal_conflicts_total') ?? 0) >= 1)
  t.ok((values.get('swarmctl_raft_fsync_latency_seconds_count') ?? 0) > 0)
  is('swarmctl_raft_has_leader', 1)
  is('swarmctl_raft_members{kind="voter"}', 1)
  t.ok(values.has('swarmctl_loop_queued{loop="scheduler"}'), 'each loop of the leader has its depth')
  is('swarmctl_data_plane_repairs_total', 3)
  is('swarmctl_data_plane_masqueraded_connections_total', 5)
  is('swarmctl_data_plane_dropped_packets_total{reason="spoofed"}', 11)
  const expiry = values.get('swarmctl_certificate_expiry_seconds') ?? 0
  t.ok(expiry > 86_000 && expiry <= 86_400)
  t.ok((values.get('swarmctl_data_root_free_bytes') ?? 0) > 0)
  is('swarmctl_disk_free_bytes{path="/var/lib/docker"}', 1_000)
  is('swarmctl_disk_pressure', 1)
  is('swarmctl_writes_refused', 1)
  is('swarmctl_cleaned_up_total{kind="image"}', 3)
  t.ok(values.has('swarmctl_event_loop_delay_p99_seconds'))
  await stop()
})

t.test('how full each network is, of what the allocator gives', async (t) => {
  const { clock, manager, stop } = await leader()
  const allocated = {
    vni: 5000,
    subnets: [{ subnet: '10.5.0.0/29', gateway: '10.5.0.1', ipRange: '', auxiliary: {} }],
  }
  const network = aNetwork('net1', { spec: { Name: 'small' }, allocated })
  await clock.wait(manager.proposer.propose([{ kind: 'create', object: network }]), 1_000, 'a network')
  const spec = {
    Name: 'web',
    Mode: { Replicated: { Replicas: 2 } },
    TaskTemplate: { ContainerSpec: { Image: 'x' }, Networks: [{ Target: 'net1' }] },
  }
  await clock.wait(manager.proposer.propose([{ kind: 'create', object: aService('s1', { spec }) }]), 1_000, 'a service')
  const values = async () => valuesIn((await ask('/metrics')).text)
  const { ask } = await serve(t, () => factsOf(manager))
  await clock.until(() => manager.metrics().addresses.some(({ used }) => used >= 3), 10_000, 'addresses')
  const found = await values()
  t.equal(found.get('swarmctl_network_addresses_used{network="small",subnet="10.5.0.0/29"}'), 3, 'a VIP and two tasks')
  t.equal(found.get('swarmctl_network_addresses_usable{network="small",subnet="10.5.0.0/29"}'), 5)
  await stop()
})

t.test('a node outside of a swarm shows nothing that it does not know', async (t) => {
  const { ask } = await serve(t, () => INACTIVE)
  const values = valuesIn((await ask('/metrics')).text)
  t.equal(values.get('swarm_node_manager'), 0)
  for (const name of values.keys()) t.notMatch(name, /^swarm_(manager_(nodes|tasks|services)|raft|store)|certificate/)
})

t.test('/healthz and /readyz', async (t) => {
  const { manager, stop } = await leader()
  const { ask, stopEngine } = await serve(t, () => factsOf(manager))
  t.match(await ask('/healthz'), { status: 200, text: '{"status":"ok"}\n' })
  t.match(await ask('/readyz'), { status: 200, text: '{"status":"ready"}\n' })
  t.equal((await ask('/else')).status, 404)
  await stopEngine()
  const unready = await ask('/readyz')
  t.equal(unready.status, 503)
  t.match(JSON.parse(unready.text), { status: 'not ready', reasons: [/^engine: Cannot connect to the Docker daemon/] })
  t.equal((await ask('/healthz')).status, 200, 'the process lives')
  t.equal(valuesIn((await ask('/metrics')).text).get('swarmctl_ready'), 0)
  await stop()
})

t.test('what hangs makes a scrape late, not missing', async (t) => {
  const { ask } = await serve(
    t,
    () => INACTIVE,
    () => new Promise(() => {}),
  )
  const values = valuesIn((await ask('/metrics')).text)
  t.equal(values.get('swarmctl_data_plane_up'), 0)
  t.equal(values.get('swarmctl_engine_up'), 1)
})

t.test('why a node is not ready', async (t) => {
  const { manager, stop } = await leader()
  const leading: Sample = {
    ...factsOf(manager),
    wallMs: 0,
    engine: { kind: 'up', value: { version: '1' } },
    dataPlane: { kind: 'up', value: STATISTICS },
    disk: DISK,
    diskBytes: { free: 1, size: 1 },
  }
  await stop()
  t.same(readinessOf(leading), { ready: true, reasons: [] })
  const reasons = (over: Partial<Sample>) => readinessOf({ ...leading, ...over }).reasons
  const member = leading.membership!
  const raft = member.manager!.raft!
  const following: ClusterState = { ...(leading.state as Extract<ClusterState, { kind: 'manager' }>), isLeader: false }
  const withRaft = (over: Partial<typeof raft> | undefined) => ({
    state: following,
    membership: { ...member, manager: { ...member.manager!, raft: over && { ...raft, ...over } } },
  })
  t.same(reasons(withRaft({ leader: undefined })), ['manager: the managers have no leader'])
  t.same(reasons(withRaft({ applied: 5, commit: 9 })), ['manager: applied 5 of 9 committed entries'])
  t.same(reasons(withRaft(undefined)), ['manager: the state is being recovered from disk'])
  const worker: ClusterState = { kind: 'worker', nodeId: 'w', nodeAddress: '127.0.0.1', managers: [] }
  t.same(reasons({ state: worker, membership: { ...member, manager: undefined } }), [])
  t.same(reasons({ state: worker, membership: { ...member, hasSession: false } }), [
    'worker: no manager has this node’s session',
  ])
  t.same(reasons({ dataPlane: { kind: 'down', reason: 'gone' } }), ['data plane: gone'])
  const problem = (code: string) => ({ code, message: `it is ${code}`, subject: '' })
  const problems = [problem('PORT_IN_USE'), problem('DATA_PLANE_FAILED')]
  t.same(
    reasons({ dataPlane: { kind: 'up', value: { ...STATISTICS, problems } } }),
    ['data plane: it is DATA_PLANE_FAILED'],
    'a port that the host has in use makes no node unready',
  )
})

t.test('flags: where metrics are served, and how the log is written', async (t) => {
  const parse = async (...argv: string[]) => parseOptions(argv, '1')
  t.equal((await parse()).metricsAddress, undefined, 'off unless it is asked for')
  t.same((await parse('--metrics-addr', '127.0.0.1:9323')).metricsAddress, { host: '127.0.0.1', port: 9323 })
  t.same((await parse('--metrics-addr=[::1]:9323')).metricsAddress, { host: '::1', port: 9323 })
  t.same((await parse('--metrics-addr', ':9323')).metricsAddress, { host: '0.0.0.0', port: 9323 })
  for (const wrong of ['9323', '127.0.0.1', 'a:b', '1.2.3.4:70000', 'http://a:1']) {
    await t.rejects(
      parse('--metrics-addr', wrong),
      new CodedError('INVALID_FLAG', `invalid value "${wrong}" for flag --metrics-addr: expected address:port`),
    )
  }
  t.equal((await parse()).logFormat, 'json')
  t.equal((await parse('--log-format=text')).logFormat, 'text')
  await t.rejects(parse('--log-format=xml'), { code: 'INVALID_FLAG' })
})

t.test('the log as text is one line an event, and keeps the secrets that JSON keeps', async (t) => {
  const lines: string[] = []
  const log = createLog({
    level: 'info',
    format: 'text',
    destination: { write: (line: string) => void lines.push(line) },
  })
  log.info({ nodeId: 'n1', reason: 'two\nlines', count: 2, token: 'SWMTKN-1-x' }, 'task assigned')
  t.equal(lines.length, 1)
  t.match(
    lines[0],
    /^\d{4}-\d\d-\d\dT[\d:.]+Z INFO {2}task assigned {2}nodeId=n1 {2}reason="two\\nlines" {2}count=2 {2}token=\S+\n$/,
  )
  t.notMatch(lines[0], 'SWMTKN')
})

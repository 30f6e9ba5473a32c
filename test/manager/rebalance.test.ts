// Rebalancing: which moves are worth it (pure), how they are carried out without a loss, over elections and failures, and the
// setting that begins it when a node joins or returns.

import t, { type Test } from 'tap'
import {
  clusterSettingProblem,
  REBALANCE_AFTER_LABEL,
  REBALANCE_AT_ONCE_LABEL,
  REBALANCE_LABEL,
  rebalanceSettings,
} from '../../src/api/cluster-settings.ts'
import type { Rebalance, Task } from '../../src/api/objects.ts'
import type { RebalancePlanJson, RebalanceRequestJson } from '../../src/api/rebalance.ts'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import type { ControlContext } from '../../src/manager/control/context.ts'
import {
  beginRebalance,
  planRebalance,
  rebalanceOrder,
  rebalancePlanJson,
  rebalanceStatus,
  stopRebalance,
} from '../../src/manager/control/rebalance.ts'
import { why } from '../../src/manager/control/why.ts'
import { whySubject } from '../../src/manager/control/why-subject.ts'
import { Balance } from '../../src/manager/orchestrator/rebalance-moves.ts'
import type { ServiceMoves } from '../../src/manager/orchestrator/rebalance-plan.ts'
import { ClusterMap } from '../../src/manager/scheduler/cluster-map.ts'
import { nanos, replicatedSpec, SmallCluster, withImage } from './support/small-cluster.ts'

const MONITOR_MS = 500

function spec(replicas: number, over: ServiceSpec = {}, image = 'ok'): ServiceSpec {
  return replicatedSpec(replicas, { image, UpdateConfig: { Parallelism: 1, Monitor: nanos(MONITOR_MS) }, ...over })
}

function contextOf(cluster: SmallCluster): ControlContext {
  const { store: view, log: proposer, clock } = cluster
  return { view, proposer, clock, random: new SeededRandom(9), objectId: '' }
}

/** As `POST /swarmd/rebalance`. */
async function rebalance(cluster: SmallCluster, request: RebalanceRequestJson = {}): Promise<RebalancePlanJson> {
  const { store } = cluster
  const order = rebalanceOrder(store, request)
  const map = new ClusterMap()
  for (const _ of map.build(store)) void _
  const planned: ServiceMoves[] = []
  for (const one of planRebalance(store, map, order, cluster.clock.wallMs())) if (one) planned.push(one)
  const begun = request.DryRun
    ? []
    : await cluster.clock.wait(beginRebalance(contextOf(cluster), order, planned), 5_000, 'the beginning')
  return rebalancePlanJson(store, planned, order, begun)
}

const runOf = (cluster: SmallCluster, id = 'web'): Rebalance | undefined => cluster.service(id).rebalance

function untilOver(cluster: SmallCluster, id = 'web', limitMs = 400_000): Promise<void> {
  return cluster.until(
    () => runOf(cluster, id) !== undefined && runOf(cluster, id)?.state !== 'running',
    `the end of the run of ${id}`,
    limitMs,
  )
}

/** Running tasks of a service on each node, by name of the node. */
function spread(cluster: SmallCluster, id = 'web'): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const { id: node } of cluster.store.list('node')) counts[node] = 0
  for (const task of cluster.running(id)) counts[task.nodeId] = (counts[task.nodeId] ?? 0) + 1
  return counts
}

/** Follows from here on: least that ran, most moves at once over all services. */
function watch(cluster: SmallCluster, ids: readonly string[]) {
  const seen = { leastRunning: Number.POSITIVE_INFINITY, mostMoves: 0, mostLive: 0 }
  cluster.store.subscribe(() => {
    const tasks = ids.flatMap((id) => cluster.tasks(id))
    const moves = tasks.filter((task) => task.origin?.kind === 'move' && task.desiredState !== 'shutdown')
    const starting = moves.filter((task) => task.status.state !== 'running' && task.status.state !== 'failed').length
    seen.mostMoves = Math.max(seen.mostMoves, starting)
    for (const id of ids) seen.leastRunning = Math.min(seen.leastRunning, cluster.running(id).length)
    seen.mostLive = Math.max(seen.mostLive, tasks.filter((task) => task.desiredState === 'running').length)
  })
  return seen
}

/** Two nodes with all tasks, a third one that has just come. */
async function crowded(replicas: number, over: ServiceSpec = {}, image = 'ok', seed = 1): Promise<SmallCluster> {
  const cluster = await SmallCluster.start({ nodes: 2, seed })
  await cluster.create('web', spec(replicas, over, image))
  await cluster.untilRunning('web', replicas)
  await cluster.addNode('n3')
  await cluster.clock.advance(50)
  return cluster
}

// ---- which moves ----

t.test(
  'a plan moves from the fullest nodes to the emptiest until they differ by one, and changes nothing',
  async (t) => {
    const cluster = await crowded(9)
    const before = cluster.store.index
    const plan = await rebalance(cluster, { Services: ['web'], DryRun: true })
    t.equal(cluster.store.index, before)
    t.match(plan, { Services: 1, AtOnce: 1, Excluded: [], Begun: [] })
    t.equal(plan.Moves.length, 3)
    t.same(new Set(plan.Moves.map(({ To }) => To.ID)), new Set(['n3']))
    t.equal(new Set(plan.Moves.map(({ TaskID }) => TaskID)).size, 3)
    t.match(plan.Moves[0], {
      Service: 'web',
      Task: /^web\.\d$/,
      From: { ID: 'n1', Hostname: 'n1' },
      Order: 'start-first',
      Reason: 'n1 has 5 tasks of the service, n3 none',
    })
    await cluster.stop()
  },
)

t.test('what was thought through leaves no trace on what is known of the nodes', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  await cluster.create('web', replicatedSpec(6))
  await cluster.untilRunning('web', 6)
  await cluster.addNode('n4')
  const map = new ClusterMap()
  for (const _ of map.build(cluster.store)) void _
  const loads = () => [...map.nodes()].map((info) => [info.node.id, info.active, info.activeOf('web')])
  const before = loads()
  const balance = new Balance(map, [])
  const request = { onto: [], isEncrypted: () => false, nowMs: cluster.clock.wallMs() }
  const move = balance.next({ ...request, tasks: cluster.running('web') })!
  balance.begin(move)
  t.notSame(loads(), before)
  balance.release()
  t.same(loads(), before)
  t.match(new Balance(map, []).next({ ...request, tasks: cluster.running('web') }), { toNodeId: move.toNodeId })
  await cluster.stop()
})

t.test('nodes that differ by one are even: nothing is moved to and fro', async (t) => {
  const cluster = await crowded(3)
  // 2, 1, 0: one move; then 1, 1, 1.
  t.equal((await rebalance(cluster, { DryRun: true })).Moves.length, 1)
  await cluster.create('alone', spec(1))
  await cluster.untilRunning('alone', 1)
  t.same(spread(cluster, 'alone'), { n1: 0, n2: 0, n3: 1 })
  t.same((await rebalance(cluster, { Services: ['alone'], DryRun: true })).Moves, [])
  await cluster.stop()
})

t.test('services of one replica are spread by how many tasks a node has in all', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  for (let n = 1; n <= 6; n++) await cluster.create(`s${n}`, spec(1))
  for (let n = 1; n <= 6; n++) await cluster.untilRunning(`s${n}`, 1)
  await cluster.addNode('n2')
  const plan = await rebalance(cluster, { DryRun: true })
  t.equal(plan.Moves.length, 3)
  t.equal(plan.Moves[0]?.Reason, 'n1 has 6 tasks in all, n2 none')
  const one = await rebalance(cluster, { Services: ['s4'], DryRun: true })
  t.match(one.Moves, [{ Service: 's4' }], 'of one service only that one')
  await cluster.stop()
})

t.test(
  'the rules of the scheduler hold: constraints, resources, host ports, replicas per node, failures',
  async (t) => {
    const cluster = await SmallCluster.start({ nodes: 1 })
    const Placement = { Constraints: ['node.labels.disk==ssd'] }
    await cluster.changeNode('n1', ({ spec }) => ({ spec: { ...spec, Labels: { disk: 'ssd' } } }))
    await cluster.create('picky', spec(4, { TaskTemplate: { ...withImage({}, 'ok'), Placement } }))
    const Resources = { Reservations: { NanoCPUs: 1e9 } }
    await cluster.create('large', spec(4, { TaskTemplate: { ...withImage({}, 'ok'), Resources } }))
    await cluster.untilRunning('picky', 4)
    await cluster.untilRunning('large', 4)
    await cluster.addNode('n2', { description: { Hostname: 'n2', Platform: {}, Resources: { NanoCPUs: 1e9 } } })
    const moves = (await rebalance(cluster, { DryRun: true })).Moves
    t.equal(moves.filter(({ Service }) => Service === 'picky').length, 0)
    t.equal(moves.filter(({ Service }) => Service === 'large').length, 1, 'there is room for one')
    await cluster.setAvailability('n2', 'pause')
    t.same((await rebalance(cluster, { DryRun: true })).Moves, [])
    await cluster.stop()
  },
)

t.test('placement preferences come first: a new zone gets its share', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  const label = (id: string, zone: string) =>
    cluster.changeNode(id, ({ spec }) => ({ spec: { ...spec, Labels: { zone } } }))
  for (const id of ['n1', 'n2']) await label(id, 'a')
  await label('n3', 'b')
  const Preferences = [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }]
  await cluster.create('web', spec(6, { TaskTemplate: { ...withImage({}, 'ok'), Placement: { Preferences } } }))
  await cluster.untilRunning('web', 6)
  t.same(spread(cluster), { n1: 2, n2: 1, n3: 3 })
  t.same((await rebalance(cluster, { DryRun: true })).Moves, [], 'n3 has most because zone b is small')
  await cluster.addNode('n4')
  await label('n4', 'c')
  const plan = await rebalance(cluster)
  t.match(plan.Moves[0], {
    From: { ID: 'n3' },
    To: { ID: 'n4' },
    Reason: 'node.labels.zone=b has 3 tasks of the service, node.labels.zone=c none',
  })
  await untilOver(cluster)
  t.same(spread(cluster), { n1: 1, n2: 1, n3: 2, n4: 2 })
  await cluster.stop()
})

t.test('what is not to be moved says why', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const mounted = (mount: object) =>
    spec(2, { TaskTemplate: { ContainerSpec: { Image: 'ok', Mounts: [{ Target: '/d', ...mount }] } } })
  await cluster.create('global', spec(0, { Mode: { Global: {} } }))
  await cluster.create('job', spec(0, { Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 0 } } }))
  await cluster.create('db', mounted({ Type: 'volume', Source: 'data' }))
  await cluster.create('bound', mounted({ Type: 'bind', Source: '/srv' }))
  await cluster.create(
    'nfs',
    mounted({ Type: 'volume', Source: 'x', VolumeOptions: { DriverConfig: { Name: 'nfs' } } }),
  )
  await cluster.create('memory', mounted({ Type: 'tmpfs' }))
  await cluster.create('half', spec(2, {}, 'broken'))
  for (const id of ['db', 'bound', 'nfs', 'memory']) await cluster.untilRunning(id, 2)
  const reasons = ({ Excluded }: RebalancePlanJson) =>
    Object.fromEntries(Excluded.map((one) => [one.Service, one.Reason]))
  t.same(reasons(await rebalance(cluster, { DryRun: true })), {
    global: 'it is global: it has a task on every node',
    job: 'it is a job',
    db: 'its tasks have data on their nodes (volume data), which would stay behind: see --volumes',
    bound: 'its tasks have data on their nodes (bind /srv), which would stay behind: see --volumes',
    half: '0 of 2 replicas run',
  })
  t.same(Object.keys(reasons(await rebalance(cluster, { DryRun: true, Volumes: true }))), ['global', 'half', 'job'])
  await cluster.setImage('memory', 'ok:start=60000')
  await cluster.untilUpdate('memory', 'updating')
  t.equal(reasons(await rebalance(cluster, { Services: ['memory'], DryRun: true })).memory, 'it is being updated')
  await cluster.stop()
})

t.test('bad requests are refused in words', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.setAvailability('n2', 'drain')
  const refuses = (request: RebalanceRequestJson, pattern: RegExp) => t.rejects(rebalance(cluster, request), pattern)
  await refuses({ Services: ['nothing'] }, /service nothing not found/)
  await refuses({ Nodes: ['n9'] }, /node n9 not found/)
  await refuses({ Nodes: ['n2'] }, /node n2 takes no tasks: its availability is drain/)
  await refuses({ AtOnce: 101 }, /invalid number of moves at once 101: must be 1 to 100/)
  await cluster.create('web', spec(1))
  await t.rejects(stopRebalance(contextOf(cluster), 'web'), /service web is not being rebalanced/)
  await cluster.stop()
})

// ---- how they are made ----

t.test('one move after the other: the new task runs before the old one goes, and is watched', async (t) => {
  const cluster = await crowded(9)
  const seen = watch(cluster, ['web'])
  const begunAt = cluster.clock.nowMs()
  t.same((await rebalance(cluster)).Begun, ['web'])
  t.match(runOf(cluster), { state: 'running', planned: 3, begun: 0, atOnce: 1, cause: 'a user asked for it' })
  await cluster.until(() => cluster.running('web').some((task) => task.origin?.kind === 'move'), 'a first move')
  t.match(rebalanceStatus(cluster.store, [cluster.service('web')], cluster.clock.wallMs()), [
    { Service: 'web', State: 'running', Planned: 3, Done: 0, UnderWay: [{ From: { ID: 'n1' }, To: { ID: 'n3' } }] },
  ])
  await untilOver(cluster)
  t.ok(cluster.clock.nowMs() - begunAt > 3 * MONITOR_MS, 'each move was watched for the monitor period')
  t.match(runOf(cluster), { state: 'completed', begun: 3, message: '' })
  t.same(spread(cluster), { n1: 3, n2: 3, n3: 3 })
  t.same(seen, { leastRunning: 9, mostMoves: 1, mostLive: 10 })
  const moved = cluster.running('web').find((task) => task.origin?.kind === 'move')!
  t.same((await rebalance(cluster)).Begun, [], 'it is even now')
  const told = why(cluster.store, whySubject(cluster.store, moved.id), undefined, {
    nowMs: cluster.clock.wallMs(),
    limit: 20,
  })
  t.match(told.Because.join('\n'), /made to take over from task \S+: n\d has \d tasks of the service, n3/)
  t.match(
    told.History.map(({ By, What }) => `${By}: ${What}`).join('\n'),
    /stopped: task \S+ takes over \(rebalancing\)/,
  )
  await cluster.stop()
})

t.test('as many at a time as may be, over all services', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  for (const id of ['a', 'b', 'c']) await cluster.create(id, spec(6))
  for (const id of ['a', 'b', 'c']) await cluster.untilRunning(id, 6)
  await cluster.addNode('n2')
  const seen = watch(cluster, ['a', 'b', 'c'])
  t.same((await rebalance(cluster, { AtOnce: 4 })).Begun, ['a', 'b', 'c'])
  for (const id of ['a', 'b', 'c']) await untilOver(cluster, id)
  t.match(seen, { leastRunning: 6, mostMoves: 4 })
  for (const id of ['a', 'b', 'c']) t.same(spread(cluster, id), { n1: 3, n2: 3 })
  await cluster.stop()
})

t.test('an explicit stop-first, and a volume that both tasks might write, are obeyed', async (t) => {
  const UpdateConfig = { Order: 'stop-first' as const, Monitor: nanos(MONITOR_MS) }
  const Mounts = [
    { Type: 'volume' as const, Source: 'x', Target: '/d', VolumeOptions: { DriverConfig: { Name: 'nfs' } } },
  ]
  const shared = { TaskTemplate: { ContainerSpec: { Image: 'ok', Mounts } } }
  for (const over of [{ UpdateConfig }, shared]) {
    const cluster = await crowded(6, over)
    const seen = watch(cluster, ['web'])
    let together = 0
    cluster.store.subscribe(() => {
      const bySlot = cluster.tasks('web').filter((task) => ['starting', 'running'].includes(task.status.state))
      together = Math.max(together, bySlot.length)
    })
    t.match((await rebalance(cluster)).Moves, [{ Order: 'stop-first' }, { Order: 'stop-first' }])
    await untilOver(cluster)
    t.match(seen, { leastRunning: 5, mostMoves: 1 })
    t.equal(together, 6, 'never two in one slot')
    t.same(spread(cluster), { n1: 2, n2: 2, n3: 2 })
    await cluster.stop()
  }
})

t.test('a host-mode port moves start-first: the other node has one of its own', async (t) => {
  const Ports = [{ TargetPort: 80, PublishedPort: 80, PublishMode: 'host' as const, Protocol: 'tcp' as const }]
  const cluster = await SmallCluster.start({ nodes: 3 })
  for (let n = 1; n <= 4; n++)
    await cluster.create(
      `busy${n}`,
      spec(1, { TaskTemplate: { ...withImage({}, 'ok'), Placement: { Constraints: ['node.id==n1'] } } }),
    )
  await cluster.setAvailability('n3', 'drain')
  await cluster.setAvailability('n2', 'drain')
  await cluster.create('web', spec(1, { EndpointSpec: { Ports } }))
  await cluster.untilRunning('web', 1)
  for (let n = 1; n <= 4; n++) await cluster.untilRunning(`busy${n}`, 1)
  await cluster.setAvailability('n2', 'active')
  const seen = watch(cluster, ['web'])
  t.match((await rebalance(cluster, { Services: ['web'] })).Moves, [{ Order: 'start-first', To: { ID: 'n2' } }])
  await untilOver(cluster)
  t.match(seen, { leastRunning: 1 })
  t.same(spread(cluster), { n1: 0, n2: 1, n3: 0 })
  await cluster.stop()
})

t.test('a run onto a node moves nothing between others', async (t) => {
  const cluster = await crowded(8)
  await cluster.addNode('n4')
  const plan = await rebalance(cluster, { Nodes: ['n4'] })
  t.same(new Set(plan.Moves.map(({ To }) => To.ID)), new Set(['n4']))
  await untilOver(cluster)
  t.match(spread(cluster), { n3: 0 })
  t.ok((spread(cluster).n4 ?? 0) >= 2)
  await cluster.stop()
})

t.test('a new task that fails ends the run; the old one has never stopped', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', spec(6))
  await cluster.untilRunning('web', 6)
  const before = cluster.running('web').map(({ id }) => id)
  await cluster.addNode('n3')
  // Tasks fail on the new node only: the worker there is told another image.
  cluster.failOn('n3')
  const seen = watch(cluster, ['web'])
  await rebalance(cluster)
  await untilOver(cluster)
  t.match(runOf(cluster), {
    state: 'stopped',
    begun: 1,
    message: /^task \S+ \(web\.\d\) failed on its new node: task: non-zero exit \(1\)$/,
  })
  await cluster.clock.advance(20_000)
  t.same(
    cluster.running('web').map(({ id }) => id),
    before,
  )
  t.equal(seen.leastRunning, 6)
  t.equal(cluster.tasks('web').filter((task) => task.origin?.kind === 'move').length, 1, 'it is not tried again')
  await cluster.stop()
})

t.test('stopping a run takes back what is under way', async (t) => {
  const cluster = await crowded(6, {}, 'ok:start=30000')
  const before = cluster.running('web').map(({ id }) => id)
  await rebalance(cluster, { AtOnce: 2 })
  await cluster.until(
    () => cluster.tasks('web').filter((task) => task.origin?.kind === 'move').length === 2,
    'two moves',
  )
  await cluster.clock.advance(1_000)
  t.match(await rebalance(cluster, { DryRun: true }), {
    Excluded: [{ Service: 'web', Reason: 'it is being rebalanced already' }],
  })
  await cluster.clock.wait(stopRebalance(contextOf(cluster), 'web'), 1_000, 'the stop')
  await cluster.clock.advance(40_000)
  t.match(runOf(cluster), { state: 'stopped', message: 'a user stopped it' })
  t.same(
    cluster.running('web').map(({ id }) => id),
    before,
  )
  t.equal(cluster.tasks('web').filter((task) => task.desiredState === 'running').length, 6)
  await cluster.stop()
})

t.test('an update ends the run and goes its own way', async (t) => {
  const cluster = await crowded(6, {}, 'ok:start=3000')
  await rebalance(cluster, { AtOnce: 2 })
  await cluster.until(() => cluster.tasks('web').some((task) => task.origin?.kind === 'move'), 'a move')
  await cluster.setImage('web', 'ok:v=2')
  await untilOver(cluster)
  t.match(runOf(cluster), { state: 'stopped', message: 'it is being updated' })
  await cluster.untilUpdate('web', 'completed')
  t.equal(cluster.running('web').length, 6)
  await cluster.stop()
})

t.test('a node that is drained, or dies, in the middle costs nothing but the move', async (t) => {
  for (const [what, happens] of [
    ['drained', (cluster: SmallCluster, id: string) => cluster.setAvailability(id, 'drain')],
    ['dead', (cluster: SmallCluster, id: string) => cluster.takeDown(id)],
  ] as const) {
    for (const nodeId of ['n1', 'n3']) {
      const cluster = await crowded(6, {}, 'ok:start=2000')
      await rebalance(cluster)
      await cluster.until(() => cluster.tasks('web').some((task) => task.status.state === 'starting'), 'a move')
      await happens(cluster, nodeId)
      await untilOver(cluster)
      await cluster.untilRunning('web', 6)
      t.equal(cluster.running('web').filter((task) => task.nodeId === nodeId).length, 0, `${what}: ${nodeId}`)
      t.equal(cluster.tasks('web').filter((task) => task.desiredState === 'running').length, 6)
      await cluster.stop()
    }
  }
})

t.test('elections in the middle of a run: every replica stays, and it is finished', async (t) => {
  for (let seed = 1; seed <= 12; seed++) {
    const cluster = await crowded(9, {}, 'ok:start=700', seed)
    const seen = watch(cluster, ['web'])
    await rebalance(cluster, { AtOnce: 2 })
    for (let n = 0; n < 5; n++) {
      await cluster.clock.advance(200 + seed * 37)
      cluster.elect()
    }
    await untilOver(cluster)
    t.match(runOf(cluster), { state: 'completed', begun: 3 }, `seed ${seed}`)
    t.same(spread(cluster), { n1: 3, n2: 3, n3: 3 })
    t.equal(seen.leastRunning, 9)
    t.ok(seen.mostMoves <= 2)
    await cluster.stop()
  }
})

t.test('a service that is not whole is waited for, and given up after five minutes', async (t) => {
  const cluster = await crowded(6, {}, 'ok')
  await rebalance(cluster)
  await cluster.until(() => cluster.running('web').some((task) => task.origin?.kind === 'move'), 'a move')
  for (const id of ['n1', 'n2', 'n3']) cluster.failOn(id)
  await cluster.kill(cluster.running('web').find((task) => task.nodeId === 'n1')!)
  await cluster.until(() => (runOf(cluster)?.waitsSince ?? '') !== '', 'waiting')
  t.match(rebalanceStatus(cluster.store, [cluster.service('web')], cluster.clock.wallMs()), [
    { Message: '5 of 6 replicas run' },
  ])
  await untilOver(cluster)
  t.match(runOf(cluster), { state: 'stopped', message: '5 of 6 replicas run, for 5 minutes' })
  await cluster.stop()
})

t.test('a move that never comes to run is given up', async (t) => {
  const cluster = await crowded(6)
  cluster.stallOn('n3')
  await rebalance(cluster)
  await untilOver(cluster)
  t.match(runOf(cluster), { state: 'stopped', message: /^task \S+ \(web\.\d\) is still assigned after 5 minutes$/ })
  t.equal(cluster.running('web').length, 6)
  await cluster.stop()
})

// ---- when a node comes ----

async function onJoin(nodes: number, labels: Readonly<Record<string, string>> = { [REBALANCE_LABEL]: 'on-join' }) {
  return SmallCluster.start({ nodes, cluster: { spec: { Name: 'default', Labels: labels } } })
}

const moved = (cluster: SmallCluster): readonly Task[] =>
  cluster.tasks('web').filter((task) => task.origin?.kind === 'move')

t.test('with the setting on-join a node that joins gets its share half a minute later', async (t) => {
  const cluster = await onJoin(2)
  await cluster.create('web', spec(6))
  await cluster.untilRunning('web', 6)
  await cluster.addNode('n3', { description: {}, status: { state: 'unknown', message: '', address: '' } })
  await cluster.clock.advance(5_000)
  const description = { Hostname: 'n3', Platform: { OS: 'linux', Architecture: 'x86_64' } }
  await cluster.changeNode('n3', () => ({ description, status: { state: 'ready', message: '', address: '' } }))
  await cluster.clock.advance(29_000)
  t.same(moved(cluster), [], 'not at once')
  await untilOver(cluster)
  t.match(runOf(cluster), { state: 'completed', cause: 'node n3 has come', onto: ['n3'], planned: 2 })
  t.same(spread(cluster), { n1: 2, n2: 2, n3: 2 })
  t.equal(cluster.store.get('node', 'n3')?.rebalanceDue, undefined)
  await cluster.stop()
})

t.test('so does one that was down or drained, over elections too; without the setting none does', async (t) => {
  for (const [labels, share] of [
    [{ [REBALANCE_LABEL]: 'on-join', [REBALANCE_AT_ONCE_LABEL]: '3' }, 3],
    [{}, 0],
  ] as const) {
    for (const how of ['down', 'drain'] as const) {
      const cluster = await onJoin(2, labels)
      await cluster.create('web', spec(6))
      await cluster.untilRunning('web', 6)
      if (how === 'down') await cluster.takeDown('n2')
      else await cluster.setAvailability('n2', 'drain')
      await cluster.clock.advance(5_000)
      cluster.elect()
      if (how === 'down') await cluster.bringBack('n2')
      else await cluster.setAvailability('n2', 'active')
      cluster.elect()
      await cluster.clock.advance(20_000)
      cluster.elect()
      await cluster.clock.advance(8_000)
      t.same(moved(cluster), [])
      await cluster.clock.advance(30_000)
      t.equal(spread(cluster).n2, share, `${how}, ${JSON.stringify(labels)}`)
      t.equal(cluster.running('web').length, 6)
      await cluster.stop()
    }
  }
})

t.test('a node that does not stay gets nothing, and an election alone is no return', async (t) => {
  const cluster = await onJoin(2)
  await cluster.create('web', spec(6))
  await cluster.untilRunning('web', 6)
  await cluster.takeDown('n2')
  await cluster.untilRunning('web', 6)
  for (let n = 0; n < 3; n++) {
    await cluster.bringBack('n2')
    await cluster.clock.advance(25_000)
    await cluster.takeDown('n2')
    await cluster.clock.advance(5_000)
  }
  t.same(moved(cluster), [])
  await cluster.addNode('n3')
  await cluster.clock.advance(60_000)
  t.same(moved(cluster), [], 'it was here, as far as anybody knows')
  for (const state of ['unknown', 'ready'] as const) {
    await cluster.changeNode('n3', ({ status }) => ({ status: { ...status, state } }))
    await cluster.clock.advance(1_000)
  }
  await cluster.clock.advance(60_000)
  t.same(moved(cluster), [])
  await cluster.stop()
})

t.test('a second node that comes meanwhile is not forgotten', async (t) => {
  const cluster = await onJoin(1)
  await cluster.create('web', spec(12, {}, 'ok:start=3000'))
  await cluster.untilRunning('web', 12)
  for (const id of ['n2', 'n3']) {
    await cluster.addNode(id, { status: { state: 'down', message: '', address: '' } })
    await cluster.clock.advance(1_000)
    await cluster.bringBack(id)
    await cluster.clock.advance(10_000)
  }
  await untilOver(cluster)
  t.same(spread(cluster), { n1: 4, n2: 4, n3: 4 })
  t.match(runOf(cluster), { onto: ['n2', 'n3'], state: 'completed' })
  await cluster.stop()
})

t.test('the settings are checked, and read with what is wrong taken for absent', (t: Test) => {
  t.same(rebalanceSettings(undefined), { onJoin: false, afterMs: 30_000, atOnce: 1 })
  t.same(rebalanceSettings({ Labels: { [REBALANCE_LABEL]: 'on-join', [REBALANCE_AT_ONCE_LABEL]: '7' } }), {
    onJoin: true,
    afterMs: 30_000,
    atOnce: 7,
  })
  t.equal(rebalanceSettings({ Labels: { [REBALANCE_AT_ONCE_LABEL]: '0' } }).atOnce, 1)
  t.match(clusterSettingProblem({ [REBALANCE_LABEL]: 'on' }), /invalid value "on": must be off or on-join/)
  t.equal(rebalanceSettings({ Labels: { [REBALANCE_AFTER_LABEL]: '2s' } }).afterMs, 2_000)
  t.match(clusterSettingProblem({ [REBALANCE_AFTER_LABEL]: 'soon' }), /invalid value "soon": must be a duration/)
  t.match(clusterSettingProblem({ [REBALANCE_AT_ONCE_LABEL]: '101' }), /must be a number from 1 to 100/)
  t.end()
})

// Orchestration from a spec to running tasks and back: swarm-behaviour.md, "Tasks", "Update, rollback, restart", "Scheduling".

import t from 'tap'
import { formatTime } from '../../src/lib/clock.ts'
import { MAX_NODE_NUMBER, nextNodeNumber } from '../../src/manager/allocator/node-number.ts'
import { findPortConflict } from '../../src/manager/allocator/ports.ts'
import { encodeNode } from '../../src/manager/control/render.ts'
import { holdsAddresses } from '../../src/manager/store/indexes.ts'
import { aNetwork } from '../support/objects.ts'
import { imageOf, nanos, replicatedSpec, SmallCluster } from './support/small-cluster.ts'

function counts(values: Iterable<string>): Readonly<Record<string, number>> {
  const result: Record<string, number> = {}
  for (const value of values) result[value] = (result[value] ?? 0) + 1
  return result
}

t.test('a replicated service gets its slots, spread over the nodes', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  await cluster.create('web', replicatedSpec(6))
  await cluster.untilRunning('web', 6)
  t.same(
    cluster
      .running('web')
      .map((task) => task.slot)
      .sort((a, b) => a - b),
    [1, 2, 3, 4, 5, 6],
  )
  t.same(counts(cluster.running('web').map((task) => task.nodeId)), { n1: 2, n2: 2, n3: 2 })
  t.equal(cluster.log.refused, 0, 'no proposal fought another')
  const [task] = cluster.running('web')
  t.match(task, { serviceName: 'web', origin: { kind: 'replica' }, desiredState: 'running' })
  await cluster.stop()
})

t.test('a task that gets neither addresses nor ports has a node after two entries, others after three', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.write([{ kind: 'create', object: aNetwork('net', { spec: { Name: 'net' } }) }])
  const port = (PublishedPort: number) => ({ EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort }] } })
  const networks = { ContainerSpec: { Image: 'ok' }, Networks: [{ Target: 'net' }] }
  const ways = async (id: string): Promise<string> => {
    await cluster.untilRunning(id, 1)
    const states = cluster.events.flatMap(({ new: task }) =>
      task?.kind === 'task' && task.serviceId === id ? [task.status.state] : [],
    )
    return [...new Set(states.slice(0, states.indexOf('assigned')))].join()
  }
  await cluster.create('plain', replicatedSpec(1))
  t.equal(await ways('plain'), 'pending')
  t.match(cluster.running('plain')[0], { attachments: [], endpoint: { ports: [] } })
  await cluster.create('attached', replicatedSpec(1, { TaskTemplate: networks }))
  t.equal(await ways('attached'), 'new,pending')
  await cluster.create('published', replicatedSpec(1, port(8080)))
  t.equal(await ways('published'), 'new,pending')
  t.equal(cluster.log.refused, 0)
  await cluster.stop()
})

t.test('scaling up fills the lowest free slots, scaling down keeps the nodes even and leaves no history', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(4))
  await cluster.untilRunning('web', 4)
  await cluster.scale('web', 2)
  await cluster.until(() => cluster.tasks('web').length === 2, 'two tasks left')
  t.same(counts(cluster.running('web').map((task) => task.nodeId)), { n1: 1, n2: 1 })
  await cluster.scale('web', 5)
  await cluster.untilRunning('web', 5)
  t.same(
    cluster
      .running('web')
      .map((task) => task.slot)
      .sort((a, b) => a - b),
    [1, 2, 3, 4, 5],
  )
  await cluster.stop()
})

t.test('a number of replicas that no cluster can run is worked on bit by bit and can be taken back', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(2_000_000_000, { image: 'ok:start=3600000:stop=100' }))
  await cluster.until(() => cluster.tasks('web').length >= 1_000, 'tasks on their way')
  await cluster.clock.advance(5_000)
  t.equal(cluster.tasks('web').length, 1_000, 'no more are made before some of them run')
  await cluster.scale('web', 2)
  await cluster.until(() => cluster.tasks('web').length === 2, 'two tasks left')
  await cluster.stop()
})

t.test('scaling down takes the slots that do not run first', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const reservation = { Resources: { Reservations: { NanoCPUs: 2e9 } } }
  await cluster.create('web', replicatedSpec(3, { TaskTemplate: { ContainerSpec: { Image: 'ok' }, ...reservation } }))
  await cluster.untilRunning('web', 2)
  const runners = cluster.running('web').map((task) => task.id)
  await cluster.scale('web', 2)
  await cluster.until(() => cluster.tasks('web').length === 2, 'the waiting task gone')
  t.same(
    cluster.running('web').map((task) => task.id),
    runners,
  )
  await cluster.stop()
})

t.test('scaling down keeps a slot that runs rather than a lower one that waits for its restart', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const RestartPolicy = { Delay: nanos(60_000) }
  await cluster.create('web', replicatedSpec(2, { TaskTemplate: { ContainerSpec: { Image: 'ok' }, RestartPolicy } }))
  await cluster.untilRunning('web', 2)
  const first = cluster.running('web').find((task) => task.slot === 1)!
  const status = { ...first.status, state: 'failed' as const }
  await cluster.write([{ kind: 'task-status', taskId: first.id, status }])
  await cluster.until(() => cluster.tasks('web').some((task) => task.status.state === 'ready'), 'a successor')
  await cluster.scale('web', 1)
  await cluster.until(() => cluster.tasks('web').length === 1, 'one task')
  t.match(cluster.running('web'), [{ slot: 2 }])
  await cluster.stop()
})

t.test('a task that fits nowhere says why, and is placed once a node changes', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const Placement = { Constraints: ['node.labels.disk==ssd'] }
  await cluster.setAvailability('n2', 'pause')
  await cluster.create('db', replicatedSpec(1, { TaskTemplate: { ContainerSpec: { Image: 'ok' }, Placement } }))
  await cluster.until(() => Boolean(cluster.tasks('db')[0]?.status.error), 'an explanation')
  t.match(cluster.tasks('db')[0], {
    status: {
      state: 'pending',
      message: 'pending task scheduling',
      error: 'no suitable node (1 node not available for new tasks; scheduling constraints not satisfied on 1 node)',
    },
  })
  await cluster.changeNode('n1', (node) => ({ spec: { ...node.spec, Labels: { disk: 'ssd' } } }))
  await cluster.untilRunning('db', 1)
  t.match(cluster.running('db')[0], { nodeId: 'n1', status: { error: '' } })
  await cluster.stop()
})

t.test('what reserves resources waits until a task ends', async () => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const spec = (replicas: number) =>
    replicatedSpec(replicas, {
      TaskTemplate: { ContainerSpec: { Image: 'ok' }, Resources: { Reservations: { MemoryBytes: 3e9 } } },
    })
  await cluster.create('a', spec(2))
  await cluster.untilRunning('a', 2)
  await cluster.create('b', spec(1))
  const error = 'no suitable node (insufficient resources on 1 node)'
  await cluster.until(() => cluster.tasks('b')[0]?.status.error === error, 'an explanation')
  await cluster.scale('a', 1)
  await cluster.untilRunning('b', 1)
  await cluster.stop()
})

t.test('a failed task is replaced in its slot after the delay', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const RestartPolicy = { Delay: nanos(2_000) }
  await cluster.create(
    'web',
    replicatedSpec(1, { TaskTemplate: { ContainerSpec: { Image: 'crash=300' }, RestartPolicy } }),
  )
  await cluster.until(() => cluster.tasks('web').some((task) => task.status.state === 'failed'), 'a failure')
  const failedAt = cluster.clock.nowMs()
  await cluster.until(() => cluster.tasks('web').length === 2, 'a successor', 100)
  const [failed, successor] = cluster.tasks('web').toSorted((a, b) => (a.meta.createdAt < b.meta.createdAt ? -1 : 1))
  t.match(failed, { desiredState: 'shutdown', slot: 1 })
  t.match(successor, { desiredState: 'ready', slot: 1, origin: { kind: 'restart', predecessorId: failed!.id } })
  await cluster.until(() => cluster.store.get('task', successor!.id)?.desiredState === 'running', 'its start')
  const waited = cluster.clock.nowMs() - failedAt
  t.ok(waited >= 2_000 && waited < 2_050, `it waited ${waited} ms`)
  await cluster.stop()
})

t.test(
  'a clock that is set ends waits early at most; it never holds them up until its time comes round again',
  async (t) => {
    const hourMs = 3_600_000
    for (const [what, jumpMs, elects] of [
      ['an hour back', -hourMs, false],
      ['an hour back, by another leader', -hourMs, true],
      ['an hour ahead', hourMs, false],
    ] as const) {
      const cluster = await SmallCluster.start({ nodes: 1 })
      const RestartPolicy = { Delay: nanos(5_000) }
      const spec = (Image: string) => replicatedSpec(1, { TaskTemplate: { ContainerSpec: { Image }, RestartPolicy } })
      await cluster.create('web', spec('crash=300'))
      const UpdateConfig = { Parallelism: 1, Delay: nanos(5_000), Monitor: nanos(5_000) }
      await cluster.create('updated', { ...replicatedSpec(2, { image: 'ok:v=1' }), UpdateConfig })
      await cluster.untilRunning('updated', 2)
      await cluster.setImage('updated', 'ok:v=2')
      await cluster.until(() => cluster.running('updated').some((task) => task.settledAt !== undefined), 'a first slot')
      await cluster.until(() => cluster.tasks('web').some((task) => task.desiredState === 'ready'), 'a successor')
      const [first, second] = cluster.tasks('web').toSorted((a, b) => (a.meta.createdAt < b.meta.createdAt ? -1 : 1))
      cluster.clock.setAhead(jumpMs)
      if (elects) cluster.elect()
      const jumpedMs = cluster.clock.nowMs()
      const isRunning = (id: string | undefined) => cluster.store.get('task', id ?? '')?.desiredState === 'running'
      await cluster.until(() => isRunning(second?.id), `${what}: the start of the successor of ${first?.id}`, 5_100)
      await cluster.untilUpdate('updated', 'completed')
      const tookMs = cluster.clock.nowMs() - jumpedMs
      t.ok(tookMs < 12_000, `${what}: the update took ${tookMs} ms more`)
      await cluster.stop()
    }
  },
)

t.test('the condition of a restart policy decides what an exit means', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const spec = (Image: string, Condition: 'none' | 'on-failure' | 'any') =>
    replicatedSpec(1, { TaskTemplate: { ContainerSpec: { Image }, RestartPolicy: { Condition, Delay: nanos(100) } } })
  await cluster.create('never', spec('crash=100', 'none'))
  await cluster.create('failing', spec('crash=100', 'on-failure'))
  await cluster.create('succeeding', spec('exit=100', 'on-failure'))
  await cluster.create('always', spec('exit=100', 'any'))
  await cluster.clock.advance(5_000)
  t.equal(cluster.tasks('never').length, 1)
  t.equal(cluster.tasks('succeeding').length, 1)
  t.equal(cluster.tasks('failing').length, 5, 'with the history limit')
  t.equal(cluster.tasks('always').length, 5)
  await cluster.stop()
})

t.test('after max-attempts restarts a slot rests, until the spec changes; a window forgets', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const spec = (RestartPolicy: object) =>
    replicatedSpec(1, { TaskTemplate: { ContainerSpec: { Image: 'crash=100' }, RestartPolicy } })
  await cluster.create('three', spec({ Delay: nanos(100), MaxAttempts: 3 }))
  await cluster.create('window', spec({ Delay: nanos(1_000), MaxAttempts: 2, Window: nanos(2_000) }))
  await cluster.clock.advance(10_000)
  t.equal(cluster.tasks('three').length, 4, 'the first and three restarts')
  t.ok(cluster.tasks('three').every((task) => task.status.state === 'failed' && task.desiredState === 'shutdown'))
  t.ok(
    cluster.tasks('window').some((task) => task.desiredState !== 'shutdown'),
    'still being restarted',
  )
  cluster.elect()
  await cluster.clock.advance(5_000)
  t.equal(cluster.tasks('three').length, 4, 'the next leader knows')
  await cluster.setImage('three', 'ok')
  await cluster.untilRunning('three', 1, 'ok')
  await cluster.stop()
})

t.test('an image that is missing does not spin: each attempt waits for its delay', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const RestartPolicy = { Delay: nanos(1_000) }
  await cluster.create(
    'web',
    replicatedSpec(1, { TaskTemplate: { ContainerSpec: { Image: 'missing' }, RestartPolicy } }),
  )
  await cluster.clock.advance(10_500)
  const made = cluster.events.filter((event) => event.kind === 'create' && event.objectKind === 'task').length
  t.ok(made >= 4 && made <= 7, `${made} tasks in 10 s, after 1, 1, 2, 4 and 8 s`)
  t.equal(cluster.tasks('web')[0]?.status.error, 'No such image: missing')
  await cluster.stop()
})

t.test('a node that goes down loses its tasks at once; its ghosts are stopped when it returns', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  await cluster.create('web', replicatedSpec(3, { TaskTemplate: { ContainerSpec: { Image: 'ok' } } }))
  await cluster.untilRunning('web', 3)
  const lost = cluster.running('web').find((task) => task.nodeId === 'n1')!
  await cluster.takeDown('n1')
  const downAt = cluster.clock.nowMs()
  await cluster.until(
    () => cluster.running('web').filter((task) => task.nodeId !== 'n1').length === 3,
    'three elsewhere',
  )
  t.ok(cluster.clock.nowMs() - downAt < 500, 'without the default delay of 5 s')
  t.match(cluster.store.get('task', lost.id), { desiredState: 'shutdown', status: { state: 'running' } })
  await cluster.bringBack('n1')
  await cluster.until(() => cluster.store.get('task', lost.id)?.status.state === 'shutdown', 'the ghost stopped')
  t.equal(cluster.running('web').length, 3)
  await cluster.stop()
})

t.test('nothing moves from a node whose state is unknown', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(2))
  await cluster.untilRunning('web', 2)
  const before = cluster.running('web').map((task) => task.id)
  await cluster.changeNode('n1', (node) => ({ status: { ...node.status, state: 'unknown' } }))
  cluster.elect()
  await cluster.clock.advance(20_000)
  t.same(
    cluster.running('web').map((task) => task.id),
    before,
  )
  await cluster.stop()
})

t.test('drain moves tasks; pause keeps them and gives nothing new', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  await cluster.create('web', replicatedSpec(3))
  await cluster.untilRunning('web', 3)
  await cluster.setAvailability('n2', 'pause')
  await cluster.setAvailability('n1', 'drain')
  await cluster.until(() => counts(cluster.running('web').map((task) => task.nodeId)).n3 === 2, 'n1 emptied')
  t.same(counts(cluster.running('web').map((task) => task.nodeId)), { n2: 1, n3: 2 })
  await cluster.stop()
})

t.test('an assignment that crosses a drain on its way is moved all the same', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  await cluster.addNode('n0', { spec: { Role: 'worker', Availability: 'active' } })
  const target = cluster.store.get('node', 'n0')!
  let drained = false
  cluster.store.subscribe((events) => {
    if (drained || !events.some(({ new: task }) => task?.kind === 'task' && task.status.state === 'pending')) return
    drained = true
    const object = { ...target, spec: { ...target.spec, Availability: 'drain' as const } }
    void cluster.log.propose([{ kind: 'update', object, expectedVersion: target.meta.version }])
  })
  await cluster.create('web', replicatedSpec(2))
  await cluster.until(() => cluster.tasks('web').some((task) => task.nodeId === 'n0'), 'the crossing')
  t.equal(cluster.store.get('node', 'n0')?.spec.Availability, 'drain', 'the drain came first')
  await cluster.until(() => cluster.running('web').filter((task) => task.nodeId === 'n1').length === 2, 'the move')
  await cluster.stop()
})

t.test('drain of a start-first service moves before it stops', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(2, { UpdateConfig: { Order: 'start-first', Parallelism: 1 } }))
  await cluster.untilRunning('web', 2)
  let least = 2
  cluster.store.subscribe(() => {
    least = Math.min(least, cluster.running('web').length)
  })
  await cluster.setAvailability('n1', 'drain')
  await cluster.until(() => counts(cluster.running('web').map((task) => task.nodeId)).n2 === 2, 'n1 emptied')
  await cluster.clock.advance(1_000)
  t.equal(least, 2)
  t.equal(cluster.running('web').length, 2)
  t.equal(cluster.service('web').updateStatus, undefined, 'it is not an update')
  await cluster.stop()
})

t.test('a removed node orphans its tasks, and they run elsewhere', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(2))
  await cluster.create('agent', { ...replicatedSpec(1), Mode: { Global: {} } })
  await cluster.until(() => cluster.running('web').length + cluster.running('agent').length === 4, 'all running')
  const lost = cluster.running('web').find((task) => task.nodeId === 'n1')!
  await cluster.write([{ kind: 'remove', objectKind: 'node', id: 'n1' }])
  await cluster.until(() => cluster.running('web').filter((task) => task.nodeId === 'n2').length === 2, 'two on n2')
  t.match(cluster.store.get('task', lost.id)?.status, {
    state: 'orphaned',
    message: 'Task belonged to a node that has been deleted',
  })
  await cluster.until(() => cluster.tasks('agent').length === 1, 'the global task of the node gone')
  await cluster.stop()
})

t.test('after a day down a node has orphans, which is counted from when it went down, over elections', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(2))
  await cluster.untilRunning('web', 2)
  const lost = cluster.running('web').find((task) => task.nodeId === 'n1')!
  await cluster.takeDown('n1')
  await cluster.clock.advance(13 * 3_600_000)
  t.equal(cluster.store.get('task', lost.id)?.status.state, 'running')
  cluster.elect()
  await cluster.clock.advance(11 * 3_600_000 + 1_000)
  t.equal(cluster.store.get('task', lost.id)?.status.state, 'orphaned')
  await cluster.stop()
})

t.test('a global service follows the nodes that meet its constraints', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  const Placement = { Constraints: ['node.hostname != n3'] }
  const spec = replicatedSpec(1, {
    TaskTemplate: { ContainerSpec: { Image: 'ok' }, Placement, RestartPolicy: { Delay: 0 } },
  })
  await cluster.create('agent', { ...spec, Mode: { Global: {} } })
  await cluster.untilRunning('agent', 2)
  t.same(
    cluster
      .running('agent')
      .map((task) => `${task.nodeId} ${task.slot}`)
      .sort(),
    ['n1 0', 'n2 0'],
  )
  t.equal(cluster.running('agent')[0]?.origin?.kind, 'node')
  await cluster.addNode('n4')
  await cluster.untilRunning('agent', 3)
  await cluster.setAvailability('n2', 'drain')
  await cluster.untilRunning('agent', 2)
  await cluster.setAvailability('n2', 'active')
  await cluster.untilRunning('agent', 3)
  await cluster.setAvailability('n1', 'pause')
  await cluster.clock.advance(1_000)
  t.equal(cluster.running('agent').length, 3, 'a paused node keeps what it has')
  await cluster.changeNode('n4', (node) => ({ description: { ...node.description, Hostname: 'n3' } }))
  await cluster.untilRunning('agent', 2)
  await cluster.stop()
})

t.test('a global task whose node can not take it says so and runs once it can', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const Resources = { Reservations: { MemoryBytes: 16e9 } }
  await cluster.create('agent', { TaskTemplate: { ContainerSpec: { Image: 'ok' }, Resources }, Mode: { Global: {} } })
  await cluster.until(() => Boolean(cluster.tasks('agent')[0]?.status.error), 'an explanation')
  t.match(cluster.tasks('agent')[0], {
    nodeId: 'n1',
    status: { state: 'pending', error: 'insufficient resources on 1 node' },
  })
  await cluster.changeNode('n1', (node) => ({
    description: { ...node.description, Resources: { NanoCPUs: 4e9, MemoryBytes: 32e9 } },
  }))
  await cluster.untilRunning('agent', 1)
  await cluster.stop()
})

t.test('a removed service takes its tasks along, those that never started too', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(4, { image: 'stop=3000' }))
  await cluster.create('nowhere', replicatedSpec(3, { TaskTemplate: { Placement: { Constraints: ['node.id==x1'] } } }))
  await cluster.untilRunning('web', 4)
  await cluster.write([
    { kind: 'remove', objectKind: 'service', id: 'web' },
    { kind: 'remove', objectKind: 'service', id: 'nowhere' },
  ])
  await cluster.clock.advance(1_000)
  t.equal(cluster.tasks('nowhere').length, 0)
  t.same(counts(cluster.tasks('web').map((task) => task.desiredState)), { remove: 4 })
  cluster.elect()
  await cluster.until(() => cluster.store.count('task') === 0, 'no task left', 10_000)
  await cluster.stop()
})

t.test('a service removed while its leader dies takes its tasks along all the same', async () => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  await cluster.create('web', replicatedSpec(10))
  const removed = cluster.log.propose([{ kind: 'remove', objectKind: 'service', id: 'web' }])
  await cluster.clock.wait(removed, 1_000)
  cluster.elect()
  await cluster.until(() => cluster.store.count('task') === 0, 'no task left')
  await cluster.stop()
})

t.test('history keeps as many tasks of a slot as the cluster says', async (t) => {
  const cluster = await SmallCluster.start({ cluster: { spec: { Orchestration: { TaskHistoryRetentionLimit: 2 } } } })
  await cluster.create('web', replicatedSpec(1, { image: 'crash=100' }))
  await cluster.clock.advance(10_000)
  t.equal(cluster.tasks('web').length, 2)
  await cluster.stop()
})

t.test('a task that rests by its policy stays, even where no history is kept', async (t) => {
  const cluster = await SmallCluster.start({ cluster: { spec: { Orchestration: { TaskHistoryRetentionLimit: 0 } } } })
  const TaskTemplate = { ContainerSpec: { Image: 'exit=100' }, RestartPolicy: { Condition: 'none' as const } }
  await cluster.create('once', replicatedSpec(1, { TaskTemplate }))
  await cluster.clock.advance(5_000)
  t.match(cluster.tasks('once'), [{ status: { state: 'complete' } }])
  t.equal(cluster.events.filter(({ kind, objectKind }) => kind === 'create' && objectKind === 'task').length, 1)
  await cluster.stop()
})

t.test('ports for two services at once are two ports, without a refusal', async (t) => {
  const cluster = await SmallCluster.start()
  const spec = { ...replicatedSpec(0), EndpointSpec: { Ports: [{ TargetPort: 80 }] } }
  await Promise.all([cluster.create('a', spec), cluster.create('b', spec)])
  const ports = () => ['a', 'b'].map((id) => cluster.service(id).endpoint?.ports[0]?.PublishedPort)
  await cluster.until(() => ports().every((port) => port !== undefined), 'ports')
  t.same(new Set(ports()), new Set([30_000, 30_001]))
  t.equal(cluster.log.refused, 0)
  await cluster.stop()
})

t.test('published ports: asked for, chosen from 30000, kept, freed, and refused with a word', async (t) => {
  const cluster = await SmallCluster.start()
  const ports = (...Ports: readonly object[]) => ({ ...replicatedSpec(1), EndpointSpec: { Ports } })
  await cluster.create('a', ports({ TargetPort: 80, PublishedPort: 30_000 }, { TargetPort: 81 }))
  await cluster.create('b', ports({ TargetPort: 80 }, { TargetPort: 53, Protocol: 'udp' }))
  await cluster.untilRunning('a', 1)
  await cluster.untilRunning('b', 1)
  const published = (id: string) => cluster.service(id).endpoint?.ports.map((port) => port.PublishedPort)
  t.same(published('a'), [30_000, 30_001])
  t.same(published('b'), [30_002, 30_000], 'each protocol has its own numbers')
  t.same(
    cluster.running('b')[0]?.endpoint?.ports.map((port) => port.PublishedPort),
    [30_002, 30_000],
  )
  await cluster.update('b', (spec) => ({ ...spec, EndpointSpec: { Ports: [{ TargetPort: 80 }, { TargetPort: 90 }] } }))
  await cluster.until(
    () => published('b')?.length === 2 && cluster.service('b').endpoint?.ports[1]?.TargetPort === 90,
    'ports',
  )
  t.same(published('b'), [30_002, 30_003], 'a number stays with its target port')
  await t.rejects(cluster.create('c', ports({ TargetPort: 1, PublishedPort: 30_001 })), { code: 'PORT_CONFLICT' })
  await cluster.stop()
})

t.test('the API can ask beforehand whose port it is, and hears it in the words of Swarm', async (t) => {
  const cluster = await SmallCluster.start()
  const endpoint = (PublishMode: 'ingress' | 'host', PublishedPort: number) => ({
    Ports: [{ TargetPort: 80, PublishedPort, PublishMode }],
  })
  await cluster.create('a', { ...replicatedSpec(0), EndpointSpec: endpoint('ingress', 8080) })
  await cluster.create('b', { ...replicatedSpec(0), EndpointSpec: endpoint('host', 9090) })
  const ask = (mode: 'ingress' | 'host', port: number, self = '') =>
    findPortConflict(cluster.store, self, endpoint(mode, port))
  t.equal(ask('ingress', 8080), "port '8080' is already in use by service 'a' (a) as an ingress port")
  t.equal(ask('host', 8080), "port '8080' is already in use by service 'a' (a) as a host-published port")
  t.equal(ask('ingress', 9090), "port '9090' is already in use by service 'b' (b) as an ingress port")
  t.equal(ask('host', 9090), undefined, 'the scheduler keeps these apart')
  t.equal(ask('ingress', 8080, 'a'), undefined)
  t.equal(findPortConflict(cluster.store, '', undefined), undefined)
  await cluster.stop()
})

t.test('node numbers go up, and are used again only when all have been', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 0 })
  t.equal(nextNodeNumber(cluster.store), 1)
  await cluster.addNode('a', { number: 1 })
  await cluster.addNode('b', { number: 7 })
  t.equal(nextNodeNumber(cluster.store), 8)
  await cluster.addNode('c', { number: MAX_NODE_NUMBER })
  t.equal(nextNodeNumber(cluster.store), 2)
  await cluster.stop()
})

t.test('a service that can not have its ports says so, and gets them when they are free', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  // All numbers but one are taken, by services that ask for them.
  const taken = Array.from({ length: 2_767 }, (_, at) => ({ TargetPort: at + 1, PublishedPort: 30_000 + at }))
  await cluster.create('hog', { ...replicatedSpec(0), EndpointSpec: { Ports: taken } })
  await cluster.create('a', { ...replicatedSpec(1), EndpointSpec: { Ports: [{ TargetPort: 80 }] } })
  await cluster.untilRunning('a', 1)
  await cluster.create('b', { ...replicatedSpec(1), EndpointSpec: { Ports: [{ TargetPort: 80 }] } })
  const message = 'no free tcp port left between 30000 and 32767'
  await cluster.until(() => cluster.tasks('b')[0]?.status.error === message, 'an explanation')
  t.match(cluster.service('b').problem, { source: 'allocator', code: 'PORTS_EXHAUSTED', message })
  await cluster.create('c', { ...replicatedSpec(1), EndpointSpec: { Ports: [{ TargetPort: 80 }] } })
  await cluster.until(() => cluster.service('c').problem !== undefined, 'its problem')
  await cluster.update('c', ({ EndpointSpec: _, ...rest }) => rest)
  await cluster.untilRunning('c', 1)
  t.equal(cluster.service('c').problem, undefined, 'who wants no port any more has no problem either')
  await cluster.write([{ kind: 'remove', objectKind: 'service', id: 'a' }])
  await cluster.untilRunning('b', 1)
  t.equal(cluster.service('b').problem, undefined)
  t.equal(cluster.service('b').endpoint?.ports[0]?.PublishedPort, 32_767)
  await cluster.stop()
})

t.test('host-mode ports keep tasks on different nodes', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const EndpointSpec = { Ports: [{ TargetPort: 80, PublishedPort: 8080, PublishMode: 'host' as const }] }
  await cluster.create('web', { ...replicatedSpec(3), EndpointSpec })
  await cluster.untilRunning('web', 2)
  t.same(counts(cluster.running('web').map((task) => task.nodeId)), { n1: 1, n2: 1 })
  const waiting = cluster.tasks('web').find((task) => task.nodeId === '')
  t.equal(waiting?.status.error, 'no suitable node (host-mode port already in use on 2 nodes)')
  await cluster.stop()
})

t.test('a node that no longer meets a constraint is left by the task', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const label = (value: string) => (node: { spec: object }) => ({ spec: { ...node.spec, Labels: { zone: value } } })
  await cluster.changeNode('n1', label('a'))
  const TaskTemplate = { ContainerSpec: { Image: 'ok' }, Placement: { Constraints: ['node.labels.zone==a'] } }
  await cluster.create(
    'web',
    replicatedSpec(1, { TaskTemplate: { ...TaskTemplate, RestartPolicy: { Delay: nanos(10) } } }),
  )
  await cluster.untilRunning('web', 1)
  const first = cluster.running('web')[0]!
  await cluster.changeNode('n2', label('a'))
  await cluster.changeNode('n1', label('b'))
  await cluster.until(() => cluster.running('web')[0]?.nodeId === 'n2', 'the move')
  t.match(cluster.store.get('task', first.id)?.status, {
    state: 'rejected',
    message: 'task rejected by constraint enforcer',
    error: 'assigned node no longer meets constraints',
  })
  await cluster.stop()
})

t.test(
  'a task with an end point that no longer belongs on its node keeps its address until it has stopped',
  async (t) => {
    const cluster = await SmallCluster.start({ nodes: 2 })
    const label = (value: string) => (node: { spec: object }) => ({ spec: { ...node.spec, Labels: { zone: value } } })
    const subnets = [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1', ipRange: '' }]
    await cluster.write([{ kind: 'create', object: aNetwork('net1', { allocated: { vni: 4096, subnets } }) }])
    await cluster.changeNode('n1', label('a'))
    const Placement = { Constraints: ['node.labels.zone==a'] }
    const TaskTemplate = { ContainerSpec: { Image: 'ok:stop=3000' }, Networks: [{ Target: 'net1' }], Placement }
    await cluster.create('web', replicatedSpec(1, { TaskTemplate }))
    await cluster.untilRunning('web', 1)
    const first = cluster.running('web')[0]!
    await cluster.changeNode('n2', label('a'))
    await cluster.changeNode('n1', label('b'))
    await cluster.clock.advance(1_000)
    t.match(cluster.store.get('task', first.id), { desiredState: 'shutdown', status: { state: 'running' } })
    await cluster.until(() => cluster.store.get('task', first.id)?.status.state === 'shutdown', 'its end')
    await cluster.until(() => cluster.running('web')[0]?.nodeId === 'n2', 'the move')
    await cluster.stop()
  },
)

t.test('a replicated job completes as often as asked, so many at a time, and runs again on --force', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const Mode = { ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 5 } }
  const jobStatus = { iteration: 0, lastExecution: formatTime(0) }
  let most = 0
  cluster.store.subscribe(() => {
    const active = cluster
      .tasks('job')
      .filter((task) => task.desiredState === 'complete' && task.status.state !== 'complete')
    most = Math.max(most, active.length)
  })
  await cluster.create('job', { ...replicatedSpec(1, { image: 'exit=100' }), Mode }, { jobStatus })
  const completed = (iteration: number) =>
    cluster.tasks('job').filter((task) => task.status.state === 'complete' && task.jobIteration === iteration)
  await cluster.until(() => completed(0).length === 5, 'five completions')
  await cluster.clock.advance(5_000)
  t.equal(completed(0).length, 5)
  t.equal(most, 2)
  t.same(
    completed(0)
      .map((task) => task.slot)
      .sort((a, b) => a - b),
    [1, 2, 3, 4, 5],
  )
  await cluster.update('job', (spec) => ({ ...spec, TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 } }))
  await cluster.until(() => completed(1).length === 5, 'five more')
  t.equal(completed(0).length, 0, 'the first iteration is gone')
  t.equal(cluster.service('job').updateStatus, undefined)
  await cluster.stop()
})

t.test('a failing job is tried again within its policy, and no more', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 1 })
  const RestartPolicy = { Delay: nanos(100), MaxAttempts: 2 }
  const Mode = { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 1 } }
  await cluster.create('job', { TaskTemplate: { ContainerSpec: { Image: 'crash=50' }, RestartPolicy }, Mode })
  await cluster.clock.advance(20_000)
  t.equal(cluster.tasks('job').length, 3)
  t.ok(cluster.tasks('job').every((task) => task.status.state === 'failed'))
  await cluster.stop()
})

t.test('a global job runs once on every node, also on one that joins later', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const spec = { ...replicatedSpec(1, { image: 'exit=100' }), Mode: { GlobalJob: {} } }
  await cluster.create('job', spec)
  const completed = () =>
    cluster
      .tasks('job')
      .filter((task) => task.status.state === 'complete')
      .map((task) => task.nodeId)
  await cluster.until(() => completed().length === 2, 'two completions')
  await cluster.addNode('n3')
  await cluster.until(() => completed().length === 3, 'a third one')
  await cluster.clock.advance(5_000)
  t.same(completed().sort(), ['n1', 'n2', 'n3'])
  await cluster.stop()
})

t.test('five hundred tasks that come and go on one /24 use an address again as late as can be', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 3 })
  const subnets = [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1', ipRange: '' }]
  await cluster.write([{ kind: 'create', object: aNetwork('net1', { allocated: { vni: 4096, subnets } }) }])
  const given: string[] = []
  cluster.store.subscribe((events) => {
    for (const { old, new: next } of events) {
      if (next?.kind !== 'task' || (old?.kind === 'task' && old.attachments.length > 0)) continue
      given.push(...next.attachments.flatMap(({ addresses }) => addresses))
    }
  })
  const TaskTemplate = { ContainerSpec: { Image: 'ok:start=20' }, Networks: [{ Target: 'net1' }] }
  await cluster.create(
    'web',
    replicatedSpec(20, { TaskTemplate, UpdateConfig: { Parallelism: 10, Monitor: nanos(50) } }),
  )
  await cluster.untilRunning('web', 20)
  for (let round = 1; given.length < 520; round++) {
    if (round % 7 === 0) cluster.elect()
    await cluster.setImage('web', `ok:start=20:v=${round}`)
    await cluster.untilRunning('web', 20, `ok:start=20:v=${round}`)
    await cluster.untilUpdate('web', 'completed')
  }
  const latest = new Map<string, number>()
  let nearest = Number.POSITIVE_INFINITY
  for (const [at, address] of given.entries()) {
    nearest = Math.min(nearest, at - (latest.get(address) ?? Number.NEGATIVE_INFINITY))
    latest.set(address, at)
  }
  // 253 addresses, of which the service has one and 40 tasks at most some at any time.
  t.ok(nearest >= 200, `the soonest was used again after ${nearest} others`)
  t.equal(cluster.store.tasksUsingNetwork('net1').filter(holdsAddresses).length, 20)
  await cluster.stop()
})

t.test('a published port that a host has in use is told of on the service, which runs on', async (t) => {
  const cluster = await SmallCluster.start({ nodes: 2 })
  const Ports = [{ Protocol: 'tcp' as const, TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' as const }]
  await cluster.create('web', replicatedSpec(1, { EndpointSpec: { Ports } }))
  await cluster.untilRunning('web', 1)
  const dataPath = { port: 4789, mtu: 1500, encryptionKeys: [], encryptionProblem: '', routes: [] }
  const message = 'published port 8080/tcp is in use on this node by nginx (7); this node does not serve it'
  const problems = [{ code: 'PORT_IN_USE', message, subject: '8080/tcp' }]
  await cluster.changeNode('n2', () => ({ dataPath: { ...dataPath, problems } }))
  await cluster.until(() => cluster.service('web').problem !== undefined, 'the note')
  t.match(cluster.service('web').problem, {
    code: 'PORT_IN_USE',
    message: 'node n2: published port 8080/tcp is in use on this node by nginx (7); this node does not serve it',
  })
  const shown = JSON.parse(
    encodeNode(cluster.store.get('node', 'n2')!, { leaderId: '', reachability: () => 'unknown' }),
  )
  t.equal(shown.Status.Message, message)
  t.equal(cluster.running('web').length, 1)
  await cluster.changeNode('n2', () => ({ dataPath: { ...dataPath, problems: [] } }))
  await cluster.until(() => cluster.service('web').problem === undefined, 'its end')

  const absent = { code: 'ADDRESS_NOT_HERE', message: 'published port 8080/tcp is for 10.9.9.9', subject: '8080/tcp' }
  await cluster.changeNode('n1', () => ({ dataPath: { ...dataPath, problems: [absent] } }))
  await cluster.clock.advance(2000)
  t.equal(cluster.service('web').problem, undefined, 'that one node has not the address of another is as it should be')
  await cluster.changeNode('n2', () => ({ dataPath: { ...dataPath, problems: [absent] } }))
  await cluster.until(() => cluster.service('web').problem !== undefined, 'the note that none has it')
  t.match(cluster.service('web').problem, {
    code: 'ADDRESS_NOT_HERE',
    message: /^published port 8080\/tcp is served nowhere/,
  })
  await cluster.changeNode('n1', () => ({ dataPath: { ...dataPath, problems: [] } }))
  await cluster.until(() => cluster.service('web').problem === undefined, 'its end')
  await cluster.stop()
})

t.test('elections at any moment of a deployment end in the same state', async (t) => {
  for (let seed = 1; seed <= 12; seed++) {
    const cluster = await SmallCluster.start({ nodes: 4, seed })
    await cluster.create('web', replicatedSpec(20))
    await cluster.create('agent', { ...replicatedSpec(1), Mode: { Global: {} } })
    for (let n = 0; n < 8; n++) {
      await cluster.clock.advance(seed)
      cluster.elect()
    }
    await cluster.until(
      () => cluster.running('web').length === 20 && cluster.running('agent').length === 4,
      `seed ${seed}`,
    )
    await cluster.clock.advance(10_000)
    t.equal(cluster.tasks('web').length, 20, `seed ${seed}: nothing twice`)
    t.same(counts(cluster.running('web').map((task) => task.nodeId)), { n1: 5, n2: 5, n3: 5, n4: 5 }, `seed ${seed}`)
    t.ok(cluster.running('web').every((task) => imageOf(task) === 'ok'))
    await cluster.stop()
  }
})

// Rolling updates and rollbacks: swarm-behaviour.md, "Update, rollback, restart". Everything that an update has to remember is
// in the store, so each scenario may change its leader at any moment.

import t from 'tap'
import type { ServiceSpec, UpdateConfig } from '../../src/api/spec.ts'
import { serviceWarnings } from '../../src/manager/control/service-warnings.ts'
import { imageOf, nanos, replicatedSpec, SmallCluster, withImage } from './support/small-cluster.ts'

const MONITOR_MS = 1_000

function spec(replicas: number, UpdateConfig: UpdateConfig = {}, over: ServiceSpec = {}): ServiceSpec {
  const config = { Parallelism: 1, Monitor: nanos(MONITOR_MS), ...UpdateConfig }
  const RollbackConfig = { Parallelism: 1, Monitor: nanos(MONITOR_MS) }
  return replicatedSpec(replicas, { UpdateConfig: config, RollbackConfig, image: 'ok:v=1', ...over })
}

interface Watch {
  /** most slots that were under way at once */
  mostUpdating: number
  leastRunning: number
  states: string[]
}

/** Follows a service from here on. */
function watch(cluster: SmallCluster, id: string): Watch {
  const seen: Watch = { mostUpdating: 0, leastRunning: Number.POSITIVE_INFINITY, states: [] }
  cluster.store.subscribe(() => {
    const tasks = cluster.tasks(id)
    const made = tasks.filter((task) => task.origin?.kind === 'update' && task.desiredState !== 'shutdown')
    const underWay = made.filter((task) => !['running', 'failed', 'rejected', 'complete'].includes(task.status.state))
    seen.mostUpdating = Math.max(seen.mostUpdating, underWay.length)
    seen.leastRunning = Math.min(seen.leastRunning, cluster.running(id).length)
    const state = cluster.service(id).updateStatus?.State ?? ''
    if (seen.states.at(-1) !== state) seen.states.push(state)
  })
  return seen
}

async function started(replicas: number, config: UpdateConfig = {}, over: ServiceSpec = {}, nodes = 3, seed = 1) {
  const cluster = await SmallCluster.start({ nodes, seed })
  await cluster.create('web', spec(replicas, config, over))
  await cluster.untilRunning('web', cluster.service('web').spec.Mode?.Global ? nodes : replicas)
  return cluster
}

t.test('stop-first replaces one slot after the other and watches a last monitor period', async (t) => {
  const cluster = await started(4)
  const seen = watch(cluster, 'web')
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilUpdate('web', 'updating')
  t.match(cluster.service('web').updateStatus, { Message: 'update in progress', StartedAt: /^2026-/ })
  await cluster.untilRunning('web', 4, 'ok:v=2')
  const doneAt = cluster.clock.nowMs()
  await cluster.untilUpdate('web', 'completed')
  t.match(cluster.service('web').updateStatus, { Message: 'update completed', CompletedAt: /^2026-/ })
  const watched = cluster.clock.nowMs() - doneAt
  t.ok(watched >= MONITOR_MS && watched < MONITOR_MS + 50, `watched ${watched} ms more`)
  t.match(seen, { mostUpdating: 1, leastRunning: 3, states: ['', 'updating', 'completed'] })
  const updates = cluster.running('web').filter((task) => task.origin?.kind === 'update')
  t.equal(updates.length, 4)
  await cluster.stop()
})

t.test('parallelism counts slots; 0 is all of them', async (t) => {
  const two = await started(6, { Parallelism: 2 })
  const seenTwo = watch(two, 'web')
  await two.setImage('web', 'ok:v=2')
  await two.untilUpdate('web', 'completed')
  t.match(seenTwo, { mostUpdating: 2, leastRunning: 4 })
  await two.stop()
  const all = await started(6, { Parallelism: 0 })
  const seenAll = watch(all, 'web')
  await all.setImage('web', 'ok:v=2')
  await all.untilUpdate('web', 'completed')
  t.match(seenAll, { mostUpdating: 6, leastRunning: 0 })
  await all.stop()
})

t.test('start-first runs the new task before it stops the old one', async (t) => {
  const cluster = await started(3, { Order: 'start-first' })
  const seen = watch(cluster, 'web')
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilUpdate('web', 'completed')
  t.match(seen, { mostUpdating: 1, leastRunning: 3 })
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=2').length, 3)
  await cluster.stop()
})

t.test('start-first keeps no task of an older update that never came to run', async (t) => {
  const cluster = await started(2, { Order: 'start-first', Parallelism: 0 })
  for (const version of [2, 3, 4]) {
    await cluster.update('web', (spec) => ({
      ...spec,
      TaskTemplate: {
        ...withImage(spec.TaskTemplate, `ok:v=${version}`),
        Placement: { Constraints: ['node.labels.place==nowhere'] },
      },
    }))
    await cluster.clock.advance(2_000)
  }
  const live = cluster.tasks('web').filter((task) => task.desiredState === 'running')
  t.same(live.map(imageOf).sort(), ['ok:v=1', 'ok:v=1', 'ok:v=4', 'ok:v=4'], 'what runs, and what is to follow it')
  await cluster.stop()
})

t.test('start-first tries a slot once, and keeps what runs where the new task has failed for good', async (t) => {
  for (const Mode of [{ Replicated: { Replicas: 2 } }, { Global: {} }]) {
    for (const policy of [{ Condition: 'none' as const }, { MaxAttempts: 1 }]) {
      const RestartPolicy = { Delay: nanos(1_000), ...policy }
      const cluster = await started(
        2,
        { Order: 'start-first', FailureAction: 'continue', Parallelism: 0 },
        { Mode, TaskTemplate: { ContainerSpec: { Image: 'ok:v=1' }, RestartPolicy } },
        2,
      )
      await cluster.setImage('web', 'broken')
      await cluster.untilUpdate('web', 'completed')
      await cluster.clock.advance(30_000)
      const made = cluster.events.filter(
        ({ kind, new: task }) => kind === 'create' && task?.kind === 'task' && imageOf(task) === 'broken',
      )
      t.equal(made.length, 'MaxAttempts' in policy ? 4 : 2, `${Object.keys(Mode)} ${JSON.stringify(policy)}`)
      t.same(cluster.running('web').map(imageOf), ['ok:v=1', 'ok:v=1'])
      await cluster.setImage('web', 'ok:v=3')
      await cluster.untilUpdate('web', 'completed')
      t.same(cluster.running('web').map(imageOf), ['ok:v=3', 'ok:v=3'])
      await cluster.stop()
    }
  }
})

t.test('start-first makes no successor of the old task when the new one is there already', async (t) => {
  const cluster = await started(1, { Order: 'start-first' }, { TaskTemplate: withImage({}, 'ok:crash=20000') })
  await cluster.clock.advance(10_000)
  await cluster.setImage('web', 'ok:v=2:start=15000')
  await cluster.untilUpdate('web', 'completed')
  t.same(
    cluster.tasks('web').filter((task) => task.origin?.kind === 'restart'),
    [],
  )
  t.equal(cluster.running('web').length, 1)
  await cluster.stop()
})

t.test('what an overtaken start-first left runs once, though the run that came after it is paused', async (t) => {
  const cluster = await started(2, { Order: 'start-first' })
  await cluster.setImage('web', 'ok:v=2:start=3000')
  const starting = () => cluster.tasks('web').filter((task) => imageOf(task) === 'ok:v=2:start=3000')
  await cluster.until(() => starting().length === 2, 'the new task of the second slot')
  // The next run begins with the first slot, fails there and pauses.
  await cluster.setImage('web', 'broken')
  await cluster.untilUpdate('web', 'paused')
  await cluster.clock.advance(10_000)
  const inSlot = cluster.running('web').filter((task) => task.slot === 2)
  t.same(inSlot.map(imageOf), ['ok:v=2:start=3000'], 'the newer one of two')
  t.equal(cluster.running('web').length, 2)
  await cluster.stop()
})

t.test('start-first on a node that is paused meanwhile ends with one task there', async (t) => {
  const cluster = await started(0, { Order: 'start-first', Parallelism: 0 }, { Mode: { Global: {} } })
  await cluster.setImage('web', 'ok:v=2:start=3000')
  await cluster.clock.advance(1_000)
  await cluster.setAvailability('n1', 'pause')
  const there = () => cluster.running('web').filter((task) => task.nodeId === 'n1')
  await cluster.until(() => there().some((task) => imageOf(task) === 'ok:v=2:start=3000'), 'the new task')
  await cluster.clock.advance(1_000)
  t.equal(there().length, 1)
  await cluster.stop()
})

t.test('a delay follows each slot, and lengthens a shorter monitor', async (t) => {
  const cluster = await started(3, { Delay: nanos(5_000) })
  const begun = cluster.clock.nowMs()
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilUpdate('web', 'completed')
  const took = cluster.clock.nowMs() - begun
  // Two delays between three slots, then delay + 1 s of watching.
  t.ok(took > 16_000 && took < 18_500, `it took ${took} ms`)
  await cluster.stop()
})

t.test('what reports RUNNING late (a health check) is waited for', async (t) => {
  const cluster = await started(3)
  const seen = watch(cluster, 'web')
  await cluster.setImage('web', 'ok:start=20000')
  await cluster.untilUpdate('web', 'completed')
  t.match(seen, { mostUpdating: 1, leastRunning: 2 })
  t.ok(cluster.clock.nowMs() > 60_000)
  await cluster.stop()
})

t.test('a failing update pauses, and says because of which task', async (t) => {
  const cluster = await started(4)
  await cluster.setImage('web', 'broken')
  await cluster.untilUpdate('web', 'paused')
  const failed = cluster.tasks('web').find((task) => task.origin?.kind === 'update')!
  t.equal(
    cluster.service('web').updateStatus?.Message,
    `update paused due to failure or early termination of task ${failed.id}`,
  )
  await cluster.clock.advance(10_000)
  t.equal(cluster.running('web').length, 3, 'the other slots stay as they were')
  t.equal(cluster.service('web').updateStatus?.State, 'paused')
  await cluster.setImage('web', 'ok:v=3')
  await cluster.untilUpdate('web', 'completed')
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=3').length, 4)
  await cluster.stop()
})

t.test('a failure within the monitor counts, a later one does not', async (t) => {
  const early = await started(3)
  await early.setImage('web', 'crash=900')
  await early.untilUpdate('web', 'paused')
  await early.stop()
  const late = await started(6, { Monitor: nanos(100) })
  await late.setImage('web', 'crash=1000')
  await late.until(() => late.tasks('web').some((task) => task.status.state === 'failed'), 'a failure')
  t.equal(late.service('web').updateStatus?.State, 'updating')
  await late.untilUpdate('web', 'completed')
  await late.stop()
})

t.test('as many tasks may fail as the ratio allows', async (t) => {
  const cluster = await started(10, { MaxFailureRatio: 0.2, Parallelism: 1 })
  const states = watch(cluster, 'web').states
  await cluster.setImage('web', 'broken')
  await cluster.untilUpdate('web', 'paused')
  t.equal(cluster.service('web').updateProgress?.failedTaskIds.length, 3, 'two of ten are allowed')
  t.same(states, ['', 'updating', 'paused'])
  await cluster.stop()
})

t.test('with the action continue failures are not watched', async (t) => {
  const cluster = await started(3, { FailureAction: 'continue' })
  await cluster.setImage('web', 'broken')
  await cluster.untilUpdate('web', 'completed')
  t.equal(cluster.running('web').length, 0)
  await cluster.stop()
})

t.test('a failing update rolls itself back, and is done when all tasks run', async (t) => {
  const cluster = await started(5, { FailureAction: 'rollback' })
  const seen = watch(cluster, 'web')
  await cluster.setImage('web', 'crash=300')
  await cluster.untilUpdate('web', 'rollback_started')
  t.match(
    cluster.service('web').updateStatus?.Message,
    /^update rolled back due to failure or early termination of task \S{25}$/,
  )
  t.equal(cluster.service('web').previousSpec, undefined)
  const failedAt = cluster.clock.nowMs()
  await cluster.untilUpdate('web', 'rollback_completed')
  const took = cluster.clock.nowMs() - failedAt
  t.ok(took < MONITOR_MS + 2_000, `what failed is replaced at once, not after a restart's delay of 5 s: ${took} ms`)
  t.match(cluster.service('web').updateStatus, { Message: 'rollback completed', CompletedAt: /^2026-/ })
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=1').length, 5)
  t.same(seen.states, ['', 'updating', 'rollback_started', 'rollback_completed'])
  t.equal(seen.leastRunning, 3, 'the slot that failed, and the next one that was under way')
  await cluster.stop()
})

t.test('a rollback that fails pauses; it is never rolled back', async (t) => {
  const cluster = await SmallCluster.start()
  await cluster.create(
    'web',
    spec(3, { FailureAction: 'rollback' }, { TaskTemplate: { ContainerSpec: { Image: 'broken' } } }),
  )
  await cluster.clock.advance(2_000)
  await cluster.setImage('web', 'crash=200')
  await cluster.untilUpdate('web', 'rollback_started')
  await cluster.untilUpdate('web', 'rollback_paused')
  t.match(
    cluster.service('web').updateStatus?.Message,
    /^update paused due to failure or early termination of task \S{25}$/,
  )
  await cluster.stop()
})

t.test('a rollback to what does not run is not reported as completed', async (t) => {
  const cluster = await SmallCluster.start()
  const RollbackConfig = { Parallelism: 0, Monitor: nanos(100), FailureAction: 'continue' as const }
  const broken = { TaskTemplate: { ContainerSpec: { Image: 'broken' } }, RollbackConfig }
  await cluster.create('web', spec(2, { FailureAction: 'rollback' }, broken))
  await cluster.clock.advance(2_000)
  await cluster.setImage('web', 'crash=200')
  await cluster.untilUpdate('web', 'rollback_started')
  await cluster.clock.advance(60_000)
  t.equal(cluster.service('web').updateStatus?.State, 'rollback_started')
  await cluster.stop()
})

t.test(
  'a rollback hears of every task that fails in it, also of those that took over at once from failed ones',
  async (t) => {
    const cluster = await SmallCluster.start()
    const broken = { TaskTemplate: { ContainerSpec: { Image: 'broken' }, RestartPolicy: { Delay: nanos(5_000) } } }
    await cluster.create('web', spec(3, { FailureAction: 'rollback', Parallelism: 0 }, broken))
    await cluster.clock.advance(2_000)
    await cluster.setImage('web', 'missing')
    await cluster.untilUpdate('web', 'rollback_started')
    await cluster.untilUpdate('web', 'rollback_paused')
    const failed = cluster.service('web').updateProgress?.failedTaskIds ?? []
    t.ok(failed.length > 0)
    t.ok(
      cluster
        .tasks('web')
        .filter((task) => failed.includes(task.id))
        .every((task) => imageOf(task) === 'broken'),
    )
    await cluster.stop()
  },
)

t.test('a rollback runs again only what the update has replaced', async (t) => {
  const cluster = await SmallCluster.start()
  const once = {
    TaskTemplate: { ContainerSpec: { Image: 'exit=1500' }, RestartPolicy: { Condition: 'none' as const } },
  }
  await cluster.create('once', spec(4, { FailureAction: 'rollback' }, once))
  await cluster.until(() => cluster.tasks('once').every((task) => task.status.state === 'complete'), 'the end of all')
  await cluster.setImage('once', 'broken')
  await cluster.untilUpdate('once', 'rollback_completed')
  await cluster.clock.advance(10_000)
  const made = (image: string) =>
    cluster.events.filter(
      ({ kind, new: task }) => kind === 'create' && task?.kind === 'task' && imageOf(task) === image,
    )
  t.equal(made('broken').length, 1)
  t.equal(made('exit=1500').length, 5, 'four at first, and the one that the update had replaced')
  await cluster.stop()
})

t.test('without a previous spec to go to, a failing update pauses', async () => {
  const cluster = await started(2, { FailureAction: 'rollback' })
  await cluster.setImage('web', 'broken')
  await cluster.changeService('web', () => ({ previousSpec: undefined }))
  await cluster.untilUpdate('web', 'paused')
  await cluster.stop()
})

t.test('a manual rollback follows the rollback config', async (t) => {
  const cluster = await started(4)
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilUpdate('web', 'completed')
  await cluster.changeService('web', (service) => ({
    spec: { ...service.previousSpec!, RollbackConfig: { Parallelism: 2, Monitor: nanos(100) } },
    specVersion: service.previousSpecVersion!,
    previousSpec: service.spec,
    previousSpecVersion: service.specVersion,
    updateStatus: { State: 'rollback_started', Message: 'manually requested rollback', StartedAt: '' },
  }))
  const seen = watch(cluster, 'web')
  await cluster.untilUpdate('web', 'rollback_completed')
  t.match(seen, { mostUpdating: 2, leastRunning: 2 })
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=1').length, 4)
  await cluster.stop()
})

t.test('a new spec during an update takes over; what is new already stays', async (t) => {
  const cluster = await started(6)
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilRunning('web', 3, 'ok:v=2')
  await cluster.setImage('web', 'ok:v=3')
  await cluster.untilUpdate('web', 'completed')
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=3').length, 6)
  await cluster.scale('web', 8)
  await cluster.untilRunning('web', 8, 'ok:v=3')
  await cluster.clock.advance(2_000)
  t.equal(cluster.service('web').updateStatus, undefined, 'scaling alone is no update')
  await cluster.stop()
})

t.test('scaling in the middle of an update does both', async (t) => {
  const cluster = await started(6)
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilRunning('web', 2, 'ok:v=2')
  await cluster.scale('web', 4)
  await cluster.until(() => cluster.service('web').updateStatus?.State === 'completed', 'the end')
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=2').length, 4)
  await cluster.clock.advance(1_000)
  t.equal(cluster.running('web').length, 4)
  await cluster.stop()
})

t.test('only what matters restarts tasks', async (t) => {
  const cluster = await started(2)
  const before = cluster.running('web').map((task) => task.id)
  await cluster.update('web', (old) => ({ ...old, Labels: { team: 'a' } }))
  await cluster.clock.advance(2_000)
  // A constraint that the nodes of the tasks meet, and fields that clients write as empty.
  await cluster.update('web', (old) => ({
    ...old,
    TaskTemplate: {
      ...old.TaskTemplate,
      Placement: { Constraints: ['node.platform.os==linux'] },
      ForceUpdate: 0,
      Networks: [],
    },
  }))
  await cluster.clock.advance(2_000)
  t.same(
    cluster.running('web').map((task) => task.id),
    before,
  )
  t.equal(cluster.service('web').updateStatus, undefined)
  await cluster.update('web', (old) => ({ ...old, TaskTemplate: { ...old.TaskTemplate, ForceUpdate: 1 } }))
  await cluster.untilUpdate('web', 'completed')
  t.notSame(
    cluster.running('web').map((task) => task.id),
    before,
    '--force restarts all',
  )
  const forced = cluster.running('web').map((task) => task.id)
  await cluster.update('web', (old) => ({ ...old, EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8080 }] } }))
  await cluster.untilUpdate('web', 'completed')
  t.notSame(
    cluster.running('web').map((task) => task.id),
    forced,
    'ports do',
  )
  t.equal(cluster.running('web')[0]?.endpoint?.ports[0]?.PublishedPort, 8080)
  await cluster.stop()
})

t.test('a constraint that a node no longer meets moves only the tasks of that node', async (t) => {
  const cluster = await started(2, {}, {}, 2)
  const stays = cluster.running('web').find((task) => task.nodeId === 'n1')!
  await cluster.update('web', (old) => ({
    ...old,
    TaskTemplate: { ...old.TaskTemplate, Placement: { Constraints: ['node.id==n1'] } },
  }))
  await cluster.untilUpdate('web', 'completed')
  t.same(
    cluster.running('web').map((task) => task.nodeId),
    ['n1', 'n1'],
  )
  t.ok(cluster.running('web').some((task) => task.id === stays.id))
  await cluster.stop()
})

t.test('a global service is updated node by node; a node that was paused catches up without a word', async (t) => {
  const cluster = await started(0, {}, { Mode: { Global: {} } })
  await cluster.setAvailability('n3', 'pause')
  const seen = watch(cluster, 'web')
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilUpdate('web', 'completed')
  t.match(seen, { mostUpdating: 1, leastRunning: 2 })
  t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=1').length, 1)
  await cluster.setAvailability('n3', 'active')
  await cluster.untilRunning('web', 3, 'ok:v=2')
  t.equal(cluster.service('web').updateStatus?.State, 'completed')
  await cluster.stop()
})

t.test('a slot whose task rests by policy is updated too', async () => {
  const cluster = await SmallCluster.start()
  const RestartPolicy = { Condition: 'none' as const }
  await cluster.create('once', spec(2, {}, { TaskTemplate: { ContainerSpec: { Image: 'exit=100' }, RestartPolicy } }))
  await cluster.until(() => cluster.tasks('once').every((task) => task.status.state === 'complete'), 'the end of both')
  await cluster.update('once', (old) => ({ ...old, TaskTemplate: withImage(old.TaskTemplate, 'ok') }))
  await cluster.untilRunning('once', 2, 'ok')
  await cluster.stop()
})

t.test('a node that is lost in the middle of an update does not count as its failure', async (t) => {
  const cluster = await started(6, { FailureAction: 'rollback' })
  await cluster.setImage('web', 'ok:v=2:start=3000')
  await cluster.untilRunning('web', 2, 'ok:v=2:start=3000')
  await cluster.until(() => cluster.tasks('web').some((task) => task.status.state === 'starting'), 'a start')
  const starting = cluster.tasks('web').find((task) => task.status.state === 'starting')!
  await cluster.takeDown(starting.nodeId)
  await cluster.untilUpdate('web', 'completed')
  t.equal(cluster.running('web').filter((task) => imageOf(task) !== 'ok:v=1').length >= 6, true)
  await cluster.stop()
})

t.test(
  'an update goes on over elections: every slot once, never too many at a time, failures remembered',
  async (t) => {
    for (let seed = 1; seed <= 15; seed++) {
      const cluster = await started(8, { Parallelism: 2 }, {}, 3, seed)
      const seen = watch(cluster, 'web')
      await cluster.setImage('web', 'ok:v=2')
      for (let n = 0; n < 5; n++) {
        await cluster.clock.advance(150 + seed * 13)
        cluster.elect()
      }
      await cluster.untilUpdate('web', 'completed')
      const made = cluster.events.filter(
        ({ kind, new: task }) => kind === 'create' && task?.kind === 'task' && task.origin?.kind === 'update',
      )
      t.equal(made.length, 8, `seed ${seed}: one new task a slot`)
      t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=2').length, 8, `seed ${seed}`)
      t.ok(seen.leastRunning >= 6 && seen.mostUpdating <= 2, `seed ${seed}: two at a time`)
      t.same(seen.states, ['', 'updating', 'completed'], `seed ${seed}`)
      await cluster.stop()
    }
  },
)

t.test('an update waits for the successor of a task that lost its node before it ran', async (t) => {
  const cluster = await started(2, {}, {}, 3)
  await cluster.setImage('web', 'ok:start=3000')
  await cluster.until(() => cluster.tasks('web').some((task) => task.status.state === 'starting'), 'a start')
  const starting = cluster.tasks('web').find((task) => task.status.state === 'starting')!
  t.equal(cluster.running('web').filter((task) => task.nodeId === starting.nodeId).length, 0)
  await cluster.takeDown(starting.nodeId)
  const seen = watch(cluster, 'web')
  await cluster.untilUpdate('web', 'completed')
  t.equal(seen.leastRunning, 1)
  await cluster.stop()
})

t.test('the successor of stop-first starts when its predecessor has stopped, or after a minute', async (t) => {
  for (const [stopMs, waitsMs] of [
    [3_000, 3_000],
    [90_000, 60_000],
  ] as const) {
    const cluster = await started(1, {}, { TaskTemplate: { ContainerSpec: { Image: `stop=${stopMs}` } } })
    await cluster.setImage('web', 'ok:v=2')
    await cluster.untilUpdate('web', 'updating')
    const from = cluster.clock.nowMs()
    const successor = () => cluster.tasks('web').find((task) => task.origin?.kind === 'update')
    await cluster.until(() => successor()?.status.state === 'ready', 'its preparation')
    t.ok(cluster.clock.nowMs() - from < 500, 'it prepares itself meanwhile')
    await cluster.until(() => successor()?.status.state === 'starting', 'its start')
    const waited = cluster.clock.nowMs() - from
    t.ok(waited >= waitsMs && waited < waitsMs + 200, `it waited ${waited} ms`)
    await cluster.stop()
  }
})

t.test('start-first keeps every replica over elections', async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const cluster = await started(4, { Order: 'start-first' }, {}, 3, seed)
    const seen = watch(cluster, 'web')
    await cluster.setImage('web', 'ok:v=2')
    for (let n = 0; n < 6; n++) {
      await cluster.clock.advance(70 + seed * 17)
      cluster.elect()
    }
    await cluster.untilUpdate('web', 'completed')
    t.equal(seen.leastRunning, 4, `seed ${seed}`)
    t.equal(cluster.running('web').length, 4, `seed ${seed}`)
    await cluster.stop()
  }
})

t.test('a failing update rolls back over elections, and the last monitor is not cut short by one', async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const cluster = await started(4, { FailureAction: 'rollback', MaxFailureRatio: 0.3 }, {}, 3, seed)
    await cluster.setImage('web', 'crash=300')
    for (let n = 0; n < 6; n++) {
      await cluster.clock.advance(100 + seed * 23)
      cluster.elect()
    }
    await cluster.untilUpdate('web', 'rollback_completed')
    t.equal(cluster.running('web').filter((task) => imageOf(task) === 'ok:v=1').length, 4, `seed ${seed}`)
    await cluster.stop()
  }
  const cluster = await started(2)
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilRunning('web', 2, 'ok:v=2')
  const doneAt = cluster.clock.nowMs()
  await cluster.clock.advance(500)
  cluster.elect()
  await cluster.untilUpdate('web', 'completed')
  const watched = cluster.clock.nowMs() - doneAt
  t.ok(watched >= MONITOR_MS && watched < MONITOR_MS + 50, `watched ${watched} ms`)
  await cluster.stop()
})

const DEADLINE = { 'io.swarmctl.update.progress-deadline': '10s' }

t.test(
  'a new task that does not run by the progress deadline fails the update, as its failure action says',
  async (t) => {
    const stuck = 'ok:v=2:start=3600000'
    const pausing = await started(3, { MaxFailureRatio: 1 }, { Labels: DEADLINE })
    await pausing.setImage('web', stuck)
    await pausing.untilUpdate('web', 'updating')
    const begunMs = pausing.clock.nowMs()
    await pausing.clock.advance(9_000)
    t.equal(pausing.service('web').updateStatus?.State, 'updating', 'it has time')
    pausing.elect()
    await pausing.untilUpdate('web', 'paused')
    const tookMs = pausing.clock.nowMs() - begunMs
    t.ok(tookMs >= 9_900 && tookMs < 10_500, `paused after ${tookMs} ms`)
    const late = pausing.tasks('web').find((task) => imageOf(task) === stuck)!
    const { updateStatus, updateProgress } = pausing.service('web')
    t.equal(updateStatus?.Message, `update paused as task ${late.id} did not run within 10s`)
    t.same(updateProgress?.failedTaskIds, [late.id])
    await pausing.setImage('web', 'ok:v=3')
    await pausing.untilUpdate('web', 'completed')
    t.equal(pausing.running('web').length, 3, 'the next update goes on, in the stuck slot too')
    await pausing.stop()

    const back = await started(3, { FailureAction: 'rollback', Order: 'start-first' }, { Labels: DEADLINE })
    const seen = watch(back, 'web')
    await back.setImage('web', stuck)
    await back.untilUpdate('web', 'rollback_completed')
    t.match(seen, { leastRunning: 3, states: ['', 'updating', 'rollback_started', 'rollback_completed'] })
    t.match(back.running('web').map(imageOf), ['ok:v=1', 'ok:v=1', 'ok:v=1'])
    await back.stop()

    const on = await started(2, { FailureAction: 'continue' }, { Labels: DEADLINE })
    await on.setImage('web', stuck)
    await on.untilUpdate('web', 'completed')
    t.equal(on.tasks('web').filter((task) => imageOf(task) === stuck).length, 2, 'every slot was tried')
    await on.stop()
  },
)

t.test('a monitor that ends before a health check can fail is warned of', (t) => {
  const Healthcheck = { Test: ['CMD', 'true'], Interval: nanos(2_000), Retries: 3, StartPeriod: nanos(4_000) }
  const warned = (config: UpdateConfig | undefined, check: object | undefined = Healthcheck) => {
    const ContainerSpec = { Image: 'ok', ...(check && { Healthcheck: check }) }
    return serviceWarnings({ TaskTemplate: { ContainerSpec }, ...(config && { UpdateConfig: config }) })
  }
  t.same(warned({ Monitor: nanos(9_000) }), [
    'the update monitor (9s) is shorter than what the health check takes to find a task unhealthy (10s: start period + ' +
      'interval × retries): one that turns unhealthy after the monitor does not stop the update; --update-monitor 10s would see it',
  ])
  t.match(warned({ Parallelism: 1 }), [/update monitor \(5s\)/], "Docker's default")
  t.match(warned({}, { Interval: nanos(10_000) }), [/30s: start period/], "of the image's check")
  t.same(warned({ Monitor: nanos(10_000) }), [])
  t.same(warned({ FailureAction: 'continue' }), [], 'failures are not watched')
  t.same(warned(undefined), [])
  t.same(warned({}, { Test: ['NONE'] }), [])
  t.same(warned({}, {}), [])
  t.same(serviceWarnings({ TaskTemplate: { ContainerSpec: { Healthcheck } }, RollbackConfig: {} }).length, 1)
  t.end()
})

t.test('without a progress deadline an update waits for its tasks as long as they take', async (t) => {
  for (const Labels of [{}, { 'io.swarmctl.update.progress-deadline': '0s' }]) {
    const cluster = await started(1, {}, { Labels })
    await cluster.setImage('web', 'ok:v=2:start=3600000')
    await cluster.clock.advance(3_000_000)
    t.equal(cluster.service('web').updateStatus?.State, 'updating')
    await cluster.stop()
  }
})

t.test('a start-first update that its own old tasks keep from every node says so, until there is room', async (t) => {
  const Ports = [{ TargetPort: 80, PublishedPort: 8080, PublishMode: 'host' as const }]
  const hosts = await started(2, { Order: 'start-first' }, { EndpointSpec: { Ports } }, 2)
  await hosts.setImage('web', 'ok:v=2')
  await hosts.until(() => hosts.service('web').problem !== undefined, 'a problem')
  const { problem } = hosts.service('web')
  t.equal(problem?.code, 'START_FIRST_BLOCKED')
  t.match(
    problem?.message,
    /new one of web\.\d runs, and of the 2 nodes that it may run on, 2 have an old task on host-mode port tcp\/8080; use the update order stop-first/,
  )
  hosts.elect()
  await hosts.clock.advance(5_000)
  t.same(hosts.service('web').problem, problem, 'said once, by any leader')
  await hosts.addNode('n3')
  await hosts.untilUpdate('web', 'completed')
  t.equal(hosts.service('web').problem, undefined)
  await hosts.stop()

  const limited = await started(2, { Order: 'start-first' }, {}, 2)
  await limited.update('web', (spec) => ({
    ...spec,
    TaskTemplate: { ...spec.TaskTemplate, Placement: { MaxReplicas: 1 } },
  }))
  await limited.setImage('web', 'ok:v=2')
  await limited.until(() => limited.service('web').problem !== undefined, 'a problem')
  t.match(
    limited.service('web').problem?.message,
    /of the 2 nodes that it may run on, 2 have the 1 that a node may have;/,
  )
  await limited.update('web', (spec) => ({ ...spec, UpdateConfig: { ...spec.UpdateConfig, Order: 'stop-first' } }))
  await limited.untilUpdate('web', 'completed')
  await limited.until(() => limited.service('web').problem === undefined, 'the end of the problem')
  await limited.stop()
})

t.test('a start-first update with room, or one that something else keeps waiting, is not called blocked', async (t) => {
  const Ports = [{ TargetPort: 80, PublishedPort: 8080, PublishMode: 'host' as const }]
  const cluster = await started(2, { Order: 'start-first' }, { EndpointSpec: { Ports } }, 3)
  const problems: string[] = []
  cluster.store.subscribe(() => problems.push(cluster.service('web').problem?.code ?? ''))
  await cluster.setImage('web', 'ok:v=2')
  await cluster.untilUpdate('web', 'completed')
  t.same(new Set(problems), new Set(['']))
  await cluster.update('web', (spec) => ({
    ...spec,
    TaskTemplate: { ...withImage(spec.TaskTemplate, 'ok:v=3'), Placement: { Constraints: ['node.labels.disk==ssd'] } },
  }))
  await cluster.clock.advance(5_000)
  t.match(cluster.service('web').updateStatus?.State, 'updating')
  t.same(new Set(problems), new Set(['']))
  await cluster.stop()
})

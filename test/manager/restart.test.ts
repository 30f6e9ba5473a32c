// Tasks that keep failing: swarm-behaviour.md, "Update, rollback, restart", where Docker's delay is fixed, and what we add to
// it. The count and the times are in the store, so a scenario may change its leader at any moment.

import t, { type Test } from 'tap'
import type { Task } from '../../src/api/objects.ts'
import { RESTART_MAX_DELAY_LABEL, restartMaxDelayMs, serviceLabelProblem } from '../../src/api/service-labels.ts'
import type { ServiceSpec, UpdateConfig } from '../../src/api/spec.ts'
import { formatTime, parseTime } from '../../src/lib/clock.ts'
import { encodeTask } from '../../src/manager/control/render.ts'
import { why } from '../../src/manager/control/why.ts'
import { whySubject } from '../../src/manager/control/why-subject.ts'
import { ordinal, restartDelayMs } from '../../src/manager/orchestrator/restart-backoff.ts'
import { aService, aTask } from '../support/objects.ts'
import { nanos, replicatedSpec, SmallCluster, withImage } from './support/small-cluster.ts'

type RestartPolicy = NonNullable<NonNullable<ServiceSpec['TaskTemplate']>['RestartPolicy']>

function failing(image: string, policy: RestartPolicy = {}, Labels: Readonly<Record<string, string>> = {}) {
  const RestartPolicy = { Delay: nanos(5_000), ...policy }
  return replicatedSpec(1, { TaskTemplate: { ...withImage({}, image), RestartPolicy }, Labels })
}

/** What each task of the slot waited from its making to its start, oldest first; the first one has no predecessor. */
function waits(cluster: SmallCluster, id: string): readonly number[] {
  const restarted = cluster.tasks(id).filter((task) => task.origin?.kind === 'restart')
  const sorted = restarted.toSorted((a, b) => (a.meta.createdAt < b.meta.createdAt ? -1 : 1))
  return sorted.map((task) => (parseTime(task.startAfter) - parseTime(task.meta.createdAt)) / 1_000)
}

const keepAll = { cluster: { spec: { Orchestration: { TaskHistoryRetentionLimit: -1 } } } }

/** The task that was made last. */
const last = (cluster: SmallCluster, id: string): Task =>
  cluster
    .tasks(id)
    .toSorted((a, b) => (a.meta.createdAt < b.meta.createdAt ? -1 : 1))
    .at(-1) ?? aTask('none', id)

function isBetween(t: Test, value: number | undefined, low: number, high: number): void {
  t.ok(value !== undefined && value >= low && value <= high, `${value} is from ${low} to ${high}`)
}

t.test(
  'the first two failures wait as with Docker, then the wait doubles up to five minutes, with jitter',
  async (t) => {
    const cluster = await SmallCluster.start(keepAll)
    await cluster.create('web', failing('broken'))
    await cluster.until(() => waits(cluster, 'web').length >= 10, 'ten restarts', 3_600_000)
    const [first, second, ...grown] = waits(cluster, 'web')
    t.same([first, second], [5, 5])
    for (const [at, full] of [10, 20, 40, 80, 160, 300, 300].entries()) isBetween(t, grown[at], full * 0.75, full)
    t.equal(
      new Set(grown.map((wait, at) => wait / Math.min(10 * 2 ** at, 300))).size,
      grown.length,
      'no two the same share',
    )
    await cluster.stop()
  },
)

t.test('a task says when it starts, and that it does so for the n-th failure', async (t) => {
  const cluster = await SmallCluster.start()
  await cluster.create('web', failing('broken'))
  await cluster.until(
    () => (last(cluster, 'web').failures ?? 0) === 2 && last(cluster, 'web').status.state === 'ready',
    'patience',
  )
  t.notMatch(encodeTask(cluster.store, last(cluster, 'web')), /"Err"/, "Docker's delay is nothing to tell of")
  await cluster.until(
    () => (last(cluster, 'web').failures ?? 0) === 5 && last(cluster, 'web').status.state === 'ready',
    'five',
  )
  const waiting = last(cluster, 'web')
  const startsAt = waiting.startAfter.replace(/\.\d+Z$/, 'Z')
  t.match(JSON.parse(encodeTask(cluster.store, waiting)), {
    DesiredState: 'ready',
    Status: { State: 'ready', Err: `next start at ${startsAt} (5th failure in a row)` },
  })
  const answer = why(cluster.store, whySubject(cluster.store, 'web.1'), undefined, {
    nowMs: cluster.clock.wallMs(),
    limit: 8,
  })
  t.match(answer.Because.join('\n'), `next start at ${startsAt} (5th failure in a row)`)
  t.match(answer.Waits, [
    { For: 'the start of web.1 (restart delay, 5th failure in a row)', Until: waiting.startAfter },
  ])
  await cluster.until(() => cluster.store.get('task', waiting.id)?.desiredState === 'running', 'its start')
  t.notMatch(encodeTask(cluster.store, cluster.store.get('task', waiting.id)!), /next start/)
  await cluster.stop()
})

t.test('a missing image is looked for less and less often', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('web', failing('missing'))
  await cluster.until(() => waits(cluster, 'web').length >= 6, 'six restarts', 600_000)
  isBetween(t, waits(cluster, 'web')[5], 60, 80)
  const made = cluster
    .tasks('web')
    .map((task) => parseTime(task.meta.createdAt))
    .sort((a, b) => a - b)
  isBetween(t, (made[6]! - made[5]!) / 1_000, 30, 41)
  const answer = why(cluster.store, whySubject(cluster.store, 'web.1'), undefined, {
    nowMs: cluster.clock.wallMs(),
    limit: 8,
  })
  await cluster.clock.advance(200)
  t.match(answer.Waits, [{ For: /restart delay, 6th failure in a row/ }])
  await cluster.stop()
})

t.test('a task that has run for a minute ends the row', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('web', failing('broken'))
  await cluster.until(() => (last(cluster, 'web').failures ?? 0) === 4, 'four failures')
  // Tasks of this slot behave from here on: they run for 59 s, then for 61 s.
  await cluster.setImage('web', 'crash=59000')
  await cluster.until(() => last(cluster, 'web').failures === 3, 'three short lives', 600_000)
  isBetween(t, waits(cluster, 'web').at(-1), 7.5, 10)
  const before = waits(cluster, 'web').length
  await cluster.setImage('web', 'crash=61000')
  await cluster.until(() => waits(cluster, 'web').length >= before + 3, 'three longer lives', 600_000)
  t.same(waits(cluster, 'web').slice(-3), [5, 5, 5])
  t.ok(
    cluster.tasks('web').some((task) => task.failures === 0),
    'the store says that one recovered',
  )
  await cluster.stop()
})

t.test('a new spec, or --force, starts at once and counts from zero', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('web', failing('broken'))
  await cluster.until(() => (last(cluster, 'web').failures ?? 0) === 7, 'seven failures', 900_000)
  await cluster.clock.advance(1_000)
  const before = cluster.clock.nowMs()
  await cluster.update('web', (spec) => ({ ...spec, TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 1 } }))
  await cluster.until(() => last(cluster, 'web').status.state === 'starting', 'a start')
  isBetween(t, cluster.clock.nowMs() - before, 0, 2_000)
  t.equal(last(cluster, 'web').failures, undefined)
  await cluster.until(() => last(cluster, 'web').origin?.kind === 'restart', 'the next restart')
  t.equal(waits(cluster, 'web').at(-1), 5)
  await cluster.stop()
})

t.test('the row of failures and the waiting go on over elections', async (t) => {
  const starts = async (elections: boolean): Promise<readonly number[]> => {
    const cluster = await SmallCluster.start({ ...keepAll, seed: 3 })
    await cluster.create('web', failing('broken'))
    while (waits(cluster, 'web').length < 7) {
      await cluster.clock.advance(1_700)
      if (elections) cluster.elect()
    }
    const task = last(cluster, 'web')
    await cluster.until(() => cluster.store.get('task', task.id)!.desiredState === 'running', 'its start', 600_000)
    const lateMs = cluster.clock.wallMs() - parseTime(task.startAfter)
    t.ok(lateMs >= 0 && lateMs < 50, `started ${lateMs} ms after its time`)
    const found = waits(cluster, 'web')
    await cluster.stop()
    return found
  }
  const steps = [5, 5, 10, 20, 40, 80, 160]
  for (const elections of [false, true]) {
    const found = await starts(elections)
    t.equal(found.length, steps.length)
    for (const [at, step] of steps.entries()) isBetween(t, found[at], step > 5 ? step * 0.75 : 5, step)
  }
})

t.test('no history has to be kept for it', async (t) => {
  const cluster = await SmallCluster.start({ cluster: { spec: { Orchestration: { TaskHistoryRetentionLimit: 0 } } } })
  await cluster.create('web', failing('broken'))
  await cluster.until(() => last(cluster, 'web').failures === 6, 'six failures', 600_000)
  t.ok(cluster.tasks('web').length <= 2)
  await cluster.stop()
})

t.test('counted attempts are exactly as with Swarm: the delay stays, and so does what a window holds', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('few', failing('broken', { MaxAttempts: 6 }))
  await cluster.create('windowed', failing('broken', { MaxAttempts: 5, Window: nanos(60_000) }))
  await cluster.clock.advance(180_000)
  t.same(waits(cluster, 'few'), [5, 5, 5, 5, 5, 5])
  t.same(waits(cluster, 'windowed'), [5, 5, 5, 5, 5], 'it gives up, which longer waits would have put off for ever')
  await cluster.stop()
})

t.test('who exits with 0 to be started again keeps the delay that was asked for', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('cron', failing('exit=100'))
  await cluster.until(() => waits(cluster, 'cron').length >= 8, 'eight runs')
  t.same(new Set(waits(cluster, 'cron')), new Set([5]))
  await cluster.stop()
})

t.test('a drained node moves a failing task at once, and forgets nothing', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('web', failing('broken'))
  await cluster.until(
    () => last(cluster, 'web').failures === 5 && last(cluster, 'web').status.state === 'ready',
    'five',
  )
  const task = last(cluster, 'web')
  await cluster.setAvailability(task.nodeId, 'drain')
  await cluster.until(() => last(cluster, 'web').id !== task.id, 'its successor')
  t.match(last(cluster, 'web'), { failures: 5, startAfter: '' })
  await cluster.stop()
})

t.test('the label limits the wait, also of who waits already; 0s is the fixed delay', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('fixed', failing('broken', {}, { [RESTART_MAX_DELAY_LABEL]: '0s' }))
  await cluster.create('web', failing('broken'))
  await cluster.until(() => last(cluster, 'web').failures === 7, 'seven failures', 600_000)
  t.same(new Set(waits(cluster, 'fixed')), new Set([5]))
  t.ok(waits(cluster, 'fixed').length > 20)
  const waiting = last(cluster, 'web')
  await cluster.update('web', (spec) => ({ ...spec, Labels: { [RESTART_MAX_DELAY_LABEL]: '20s' } }))
  await cluster.until(() => cluster.store.get('task', waiting.id)!.desiredState === 'running', 'its start')
  isBetween(t, cluster.clock.wallMs() - parseTime(waiting.meta.createdAt), 20_000, 20_100)
  await cluster.until(() => last(cluster, 'web').failures === 9, 'two more')
  isBetween(t, waits(cluster, 'web').at(-1), 15, 20)
  await cluster.stop()
})

t.test('the delay is never shorter than asked for, never longer than the limit, and a zero one grows too', (t) => {
  const delay = (Delay: number, failures: number, label?: string) => {
    const spec = { Labels: label === undefined ? {} : { [RESTART_MAX_DELAY_LABEL]: label } }
    const task = aTask('t', 's', { spec: { RestartPolicy: { Delay: nanos(Delay) } } })
    return [0, 0.999].map((fraction) => restartDelayMs(aService('s', { spec }), task, failures, fraction))
  }
  t.same(delay(0, 2), [0, 0])
  t.same(delay(0, 3), [2_000, 1_501])
  t.same(delay(600_000, 9), [600_000, 600_000], 'longer than the limit, as it was asked for')
  t.same(delay(5_000, 9, '1m'), [60_000, 45_015])
  t.same(delay(5_000, 2_000)[0], 300_000)
  t.same([1, 2, 3, 4, 11, 12, 13, 21, 102, 111].map(ordinal), [
    '1st',
    '2nd',
    '3rd',
    '4th',
    '11th',
    '12th',
    '13th',
    '21st',
    '102nd',
    '111th',
  ])
  t.equal(restartMaxDelayMs({ [RESTART_MAX_DELAY_LABEL]: 'soon' }), 300_000)
  t.match(serviceLabelProblem({ [RESTART_MAX_DELAY_LABEL]: 'soon' }), /invalid duration "soon"/)
  t.equal(serviceLabelProblem({ [RESTART_MAX_DELAY_LABEL]: '90s' }), undefined)
  t.end()
})

t.test('attempts in a window are counted whatever time it is on the worker', async (t) => {
  for (const workersAheadMs of [0, 3_600_000, -3_600_000]) {
    const cluster = await SmallCluster.start({ nodes: 1 })
    cluster.workersAheadMs = workersAheadMs
    const policy = { Delay: nanos(1_000), MaxAttempts: 2, Window: nanos(60_000) }
    await cluster.create('web', failing('crash=1000', policy))
    await cluster.clock.advance(20_000)
    const made = cluster.events.filter((event) => event.kind === 'create' && event.objectKind === 'task').length
    t.equal(made, 3, `the first and two more, ${workersAheadMs} ms ahead`)
    await cluster.create('slow', failing('crash=40000', policy))
    await cluster.clock.advance(200_000)
    const live = cluster.tasks('slow').filter((task) => task.desiredState !== 'shutdown')
    t.equal(live.length, 1, 'who fails less often than that goes on')
    await cluster.stop()
  }
})

t.test('of two tasks in a slot that fail before their time comes one has a successor', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('web', failing('missing'))
  await cluster.until(
    () => (last(cluster, 'web').failures ?? 0) === 3 && last(cluster, 'web').status.state === 'rejected',
    'three',
  )
  const twin = { ...last(cluster, 'web'), id: 'twin', startAfter: formatTime(cluster.clock.wallMs() + 20_000) }
  await cluster.write([{ kind: 'create', object: twin }])
  const live = () => cluster.tasks('web').filter((task) => task.desiredState !== 'shutdown')
  await cluster.clock.advance(100)
  await cluster.changeService('web', () => ({}))
  await cluster.until(() => live().length === 1, 'one of them', 1_000)
  t.not(live()[0]?.id, 'twin', 'the one whose time comes first')
  await cluster.clock.advance(120_000)
  t.equal(live().length, 1)
  await cluster.stop()
})

/** When each slot's containers were started, or could not be. */
function startsOf(cluster: SmallCluster, id: string): ReadonlyMap<string, readonly number[]> {
  const starts = new Map<string, number[]>()
  cluster.store.subscribe((events) => {
    for (const { old, new: task } of events) {
      if (task?.kind !== 'task' || task.serviceId !== id || old?.kind !== 'task') continue
      if (old.status.state === task.status.state || !['starting', 'rejected'].includes(task.status.state)) continue
      const slot = task.slot > 0 ? String(task.slot) : task.nodeId
      starts.set(slot, [...(starts.get(slot) ?? []), cluster.clock.nowMs()])
    }
  })
  return starts
}

t.test(
  'neither an update nor its rollback to what fails too has a slot start again and again without delay',
  async (t) => {
    const images = [
      ['broken', 'crash=200'],
      ['exit=100', 'missing'],
    ] as const
    const policies = [{ Condition: 'any' }, { Condition: 'none' }, { Condition: 'any', MaxAttempts: 2 }] as const
    const configs: readonly UpdateConfig[] = [
      { Parallelism: 0, Order: 'stop-first', FailureAction: 'pause' },
      { Parallelism: 1, Order: 'start-first', FailureAction: 'continue' },
    ]
    for (const [first, second] of images) {
      for (const policy of policies) {
        for (const config of configs) {
          for (const Mode of [{ Replicated: { Replicas: 3 } }, { Global: {} }]) {
            const what = JSON.stringify({ first, second, policy, config, Mode })
            const cluster = await SmallCluster.start(keepAll)
            const starts = startsOf(cluster, 'web')
            await cluster.create('web', {
              ...failing(first, policy),
              Mode,
              UpdateConfig: { ...config, Monitor: nanos(1_000), FailureAction: 'rollback' },
              RollbackConfig: { ...config, Monitor: nanos(1_000) },
            })
            await cluster.clock.advance(3_000)
            await cluster.setImage('web', second)
            await cluster.clock.advance(60_000)
            const early = [...starts.values()].map(
              (times) => times.filter((at, n) => n > 0 && at - times[n - 1]! < 4_900).length,
            )
            t.ok(Math.max(...early) <= 2, `once by each spec at most, but ${early}: ${what}`)
            if (policy.Condition === 'none') {
              const most = Math.max(...[...starts.values()].map((times) => times.length))
              t.ok(most <= 3, `the first, the update's and the rollback's, but ${most}: ${what}`)
            }
            await cluster.stop()
          }
        }
      }
    }
  },
)

t.test('a node that is lost with a failing task of another spec hands no failures on to the new one', async (t) => {
  const cluster = await SmallCluster.start(keepAll)
  await cluster.create('web', { ...failing('broken'), UpdateConfig: { Parallelism: 1, FailureAction: 'pause' } })
  await cluster.until(
    () => last(cluster, 'web').failures === 4 && last(cluster, 'web').status.state === 'ready',
    'four',
  )
  await cluster.takeDown(last(cluster, 'web').nodeId)
  const { previousSpec, ...service } = cluster.service('web')
  t.equal(previousSpec, undefined)
  // A spec that was paused at once: the supervisor alone follows it.
  await cluster.changeService('web', () => ({
    spec: { ...service.spec, TaskTemplate: withImage(service.spec.TaskTemplate, 'broken:v=2') },
    specVersion: 0,
    updateStatus: { State: 'paused', Message: '', StartedAt: '' },
  }))
  await cluster.until(() => last(cluster, 'web').spec.ContainerSpec?.Image === 'broken:v=2', 'a task of it')
  t.ok((last(cluster, 'web').failures ?? 0) <= 1)
  await cluster.stop()
})

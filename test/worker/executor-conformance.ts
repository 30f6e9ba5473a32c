// What every executor does, as facts: run on the simulated one by test/worker, on a real Docker Engine by test/e2e.

import type { Test } from 'tap'
import type { LogOptions } from '../../src/api/dispatcher.ts'
import type { Task, TaskStatus } from '../../src/api/objects.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { errorCode, errorMessage } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import type { Executor, ObservedContainer } from '../../src/worker/executor.ts'
import { TaskManager } from '../../src/worker/task-manager.ts'
import { makeOrder } from './task-factory.ts'

/** Tasks that behave alike on every executor. */
export type Fixture =
  | 'steady'
  | 'exits-0'
  | 'exits-3'
  | 'prints'
  | 'no-image'
  | 'start-fails'
  | 'turns-healthy'
  | 'turns-unhealthy'
  /** ignores the stop signal; its grace period is one second */
  | 'stubborn'
  | 'slow-pull'

export interface Workbench {
  readonly executor: Executor
  readonly clock: Clock
  /** A new task with an id of its own. */
  task(fixture: Fixture): Task
  /** Lets time pass until `condition` holds; fails after a generous while. */
  until(condition: () => boolean, what: string): Promise<void>
  wait<T>(promise: Promise<T>, what: string): Promise<T>
  elapse(durationMs: number): Promise<void>
}

const ALL: LogOptions = { follow: false, tail: undefined, since: '', until: '', stdout: true, stderr: true }

/** A watch that remembers what it was told. */
function watching(bench: Workbench) {
  const abort = new AbortController()
  const seen = new Map<string, ObservedContainer>()
  const gone = new Set<string>()
  let listed: readonly ObservedContainer[] | undefined
  const ended = bench.executor.watch(
    {
      onList: (containers) => {
        listed = containers
        for (const container of containers) seen.set(container.taskId, container)
      },
      onChange: (container) => seen.set(container.taskId, container),
      onGone: ({ taskId }) => gone.add(taskId),
      onLost: () => {},
    },
    abort.signal,
  )
  return {
    seen,
    gone,
    listed: () => listed,
    end: async () => {
      abort.abort()
      await bench.wait(ended, 'the end of the watch')
    },
  }
}

export async function executorConformance(t: Test, bench: Workbench): Promise<void> {
  const { executor } = bench
  const never = new AbortController().signal

  const prepare = (task: Task, signal = never) => executor.prepare(makeOrder(task), signal)
  const started = async (fixture: Fixture) => {
    const task = bench.task(fixture)
    const created = await bench.wait(prepare(task), 'prepare')
    return bench.wait(executor.start(created, never), 'start')
  }
  const rejection = async (promise: Promise<unknown>) => {
    const outcome = await bench.wait(
      promise.then(
        () => ({ code: undefined, message: 'it succeeded' }),
        (error: unknown) => ({ code: errorCode(error), message: errorMessage(error) }),
      ),
      'a failure',
    )
    return outcome
  }

  await t.test('a prepared container is there but not started, and preparing again finds it', async (t) => {
    const task = bench.task('steady')
    const created = await bench.wait(prepare(task), 'prepare')
    t.match(created, { taskId: task.id, state: 'created' })
    const again = await bench.wait(prepare(task), 'prepare again')
    t.equal(again.containerId, created.containerId)
    await bench.wait(executor.remove(created, never), 'remove')
  })

  await t.test('a started container runs with a pid; starting it again changes nothing', async (t) => {
    const running = await started('steady')
    t.equal(running.state, 'running')
    t.ok(running.pid > 0)
    const again = await bench.wait(executor.start(running, never), 'start again')
    t.equal(again.pid, running.pid)
    const stopped = await bench.wait(executor.stop(running, never), 'stop')
    t.match(stopped, { state: 'exited', exitCode: 0 })
    await bench.wait(executor.remove(running, never), 'remove')
    t.equal(await bench.wait(executor.stop(running, never), 'stop'), undefined, 'it is gone')
    await bench.wait(executor.remove(running, never), 'removing what is gone')
  })

  await t.test('a watch lists what is there, then tells ends and removals', async (t) => {
    const before = await started('steady')
    const watch = watching(bench)
    await bench.until(() => watch.listed() !== undefined, 'the list')
    t.match(
      watch.listed()?.find(({ taskId }) => taskId === before.taskId),
      { state: 'running', pid: before.pid },
    )
    const ending = await started('exits-3')
    await bench.until(() => watch.seen.get(ending.taskId)?.state === 'exited', 'an end')
    t.equal(watch.seen.get(ending.taskId)?.exitCode, 3)
    await bench.wait(executor.remove(before, never), 'removing a running container')
    await bench.until(() => watch.gone.has(before.taskId), 'a removal')
    await bench.wait(executor.remove(ending, never), 'remove')
    await watch.end()
  })

  await t.test('an image that is nowhere fails the task with its name', async (t) => {
    const task = bench.task('no-image')
    const { code, message } = await rejection(prepare(task))
    t.equal(code, 'TASK_FAILED')
    t.equal(message, `No such image: ${task.spec.ContainerSpec?.Image}`)
  })

  await t.test('a start that fails says why', async (t) => {
    const created = await bench.wait(prepare(bench.task('start-fails')), 'prepare')
    const { code, message } = await rejection(executor.start(created, never))
    t.equal(code, 'TASK_FAILED')
    t.match(message, /^starting container failed: .+/)
    await bench.wait(executor.remove(created, never), 'remove')
  })

  await t.test('health is told when it changes', async (t) => {
    const watch = watching(bench)
    await bench.until(() => watch.listed() !== undefined, 'the list')
    const [good, bad] = [await started('turns-healthy'), await started('turns-unhealthy')]
    await bench.until(() => watch.seen.get(good.taskId)?.health === 'healthy', 'healthy')
    await bench.until(() => watch.seen.get(bad.taskId)?.health === 'unhealthy', 'unhealthy')
    for (const container of [good, bad]) await bench.wait(executor.remove(container, never), 'remove')
    await watch.end()
    t.pass()
  })

  await t.test('who ignores the stop signal is killed after the grace period', async (t) => {
    const stopped = await bench.wait(executor.stop(await started('stubborn'), never), 'stop')
    t.match(stopped, { state: 'exited', exitCode: 137 })
    await bench.wait(executor.remove(stopped!, never), 'remove')
  })

  await t.test('logs are multiplexed, with timestamps, and a followed log ends with its container', async (t) => {
    const running = await started('prints')
    const read = async (options: LogOptions) => {
      const chunks: Uint8Array[] = []
      for await (const chunk of executor.logs(running, options, never)) chunks.push(chunk)
      return Buffer.concat(chunks)
    }
    const all = await bench.wait(read({ ...ALL, follow: true }), 'the end of a followed log')
    t.equal(all[0], 1, 'stdout')
    t.match(all.subarray(8).toString(), /^\d{4}-\d\d-\d\dT[\d:.]+Z one\n/)
    const last = await bench.wait(read({ ...ALL, tail: 1 }), 'a log')
    t.notMatch(last.toString(), / one\n/)
    t.match(last.toString(), / two\n/)
    await bench.wait(executor.remove(running, never), 'remove')
  })

  await t.test('a prepare that waits for its image can be aborted', async (t) => {
    const abort = new AbortController()
    let ended = false
    const outcome = prepare(bench.task('slow-pull'), abort.signal).finally(() => {
      ended = true
    })
    outcome.catch(() => {}) // looked at below
    await bench.elapse(200)
    t.notOk(ended, 'the pull is under way')
    abort.abort()
    t.equal((await rejection(outcome)).code, 'STEP_ABORTED')
  })

  await t.test('a task manager takes tasks through their lives', async (t) => {
    const reports = new Map<string, TaskStatus[]>()
    const manager = new TaskManager({
      executor,
      clock: bench.clock,
      random: new SeededRandom(1),
      log: silentLog,
      order: (task) => makeOrder(task),
      onStatus: (task, status) => reports.set(task.id, [...(reports.get(task.id) ?? []), status]),
    })
    const abort = new AbortController()
    const watch = executor.watch(manager, abort.signal)
    const assign = (fixture: Fixture) => {
      const task = bench.task(fixture)
      manager.assign(task)
      return task
    }
    const reached = (task: Task, state: TaskStatus['state']) =>
      bench.until(() => manager.status(task.id)?.state === state, `${task.id} ${state}`)
    const line = (task: Task) => (reports.get(task.id) ?? []).map(({ state, message }) => `${state}: ${message}`)
    const last = (task: Task) => manager.status(task.id)

    const steady = assign('steady')
    await reached(steady, 'running')
    t.strictSame(line(steady), [
      'accepted: accepted',
      'preparing: preparing',
      'ready: prepared',
      'starting: starting',
      'running: started',
    ])
    t.ok(last(steady)?.container?.ContainerID)
    t.ok((last(steady)?.container?.PID ?? 0) > 0)

    const done = assign('exits-0')
    await reached(done, 'complete')
    t.match(last(done), { message: 'finished', error: '' })
    const failed = assign('exits-3')
    await reached(failed, 'failed')
    t.match(last(failed), { error: 'task: non-zero exit (3)', container: { ExitCode: 3 } })
    const rejected = assign('no-image')
    await reached(rejected, 'rejected')
    t.match(last(rejected), { message: 'preparing', error: /^No such image: / })
    const unstarted = assign('start-fails')
    await reached(unstarted, 'failed')
    t.match(last(unstarted), { message: 'starting', error: /^starting container failed: / })

    const healthy = assign('turns-healthy')
    await reached(healthy, 'starting')
    await reached(healthy, 'running')
    const sick = assign('turns-unhealthy')
    await reached(sick, 'failed')
    t.match(last(sick)?.error, /^(task: non-zero exit \(\d+\): )?dockerexec: unhealthy container$/)
    t.equal(manager.container(sick.id)?.state, 'exited', 'it was stopped')

    const waiting = bench.task('steady')
    manager.assign({ ...waiting, desiredState: 'ready' })
    await reached(waiting, 'ready')
    t.equal(manager.container(waiting.id)?.state, 'created', 'it is not started before managers want it to run')
    manager.assign(waiting)
    await reached(waiting, 'running')
    manager.assign({ ...waiting, desiredState: 'shutdown' })
    await reached(waiting, 'shutdown')
    t.equal(last(waiting)?.message, 'shutdown')

    for (const id of manager.taskIds()) manager.unassign(id)
    await bench.until(() => manager.taskIds().size === 0, 'all tasks removed')
    abort.abort()
    await bench.wait(watch, 'the end of the watch')
    await manager.close()
    const after = watching(bench)
    await bench.until(() => after.listed() !== undefined, 'the list')
    t.strictSame(after.listed(), [], 'no container is left')
    await after.end()
  })
}

// The life of a task as facts of one pure function.

import fc from 'fast-check'
import t from 'tap'
import type { TaskStatus } from '../../src/api/objects.ts'
import { compareTaskStates, isTerminal, TASK_STATES, type TaskState } from '../../src/api/spec.ts'
import type { ObservedContainer } from '../../src/worker/executor.ts'
import { failure, nextStep, type TaskView } from '../../src/worker/next-step.ts'

const container = (over: Partial<ObservedContainer> = {}): ObservedContainer => ({
  taskId: 't1',
  containerId: 'c1',
  state: 'running',
  pid: 1,
  exitCode: 0,
  error: '',
  health: 'none',
  ports: [],
  ...over,
})

const status = (state: TaskState, message = ''): TaskStatus => ({
  state,
  timestamp: '',
  message,
  error: '',
  container: undefined,
  ports: [],
})

const view = (state: TaskState, over: Partial<TaskView> = {}): TaskView => ({
  assigned: true,
  desired: 'running',
  status: status(state),
  container: 'absent',
  dependencies: 'present',
  unhealthy: false,
  drain: 'none',
  ...over,
})

const report = (state: TaskState, message: string, error = '') => ({ kind: 'report', state, message, error })

t.test('a task goes its way to RUNNING in Swarm’s words', async (t) => {
  t.strictSame(nextStep(view('assigned')), report('accepted', 'accepted'))
  t.strictSame(nextStep(view('accepted')), report('preparing', 'preparing'))
  t.strictSame(nextStep(view('preparing')), { kind: 'prepare' })
  const created = container({ state: 'created' })
  t.strictSame(nextStep(view('preparing', { container: created })), report('ready', 'prepared'))
  t.strictSame(nextStep(view('ready', { container: created, desired: 'ready' })), { kind: 'rest' })
  t.strictSame(nextStep(view('ready', { container: created })), report('starting', 'starting'))
  t.strictSame(nextStep(view('starting', { container: created })), { kind: 'start', container: created })
  t.strictSame(nextStep(view('starting', { container: container() })), report('running', 'started'))
  t.strictSame(nextStep(view('running', { container: container() })), { kind: 'rest' })
})

t.test('a container with a health check is STARTING until healthy, and stopped whenever unhealthy', async (t) => {
  const of = (health: ObservedContainer['health']) => container({ health })
  t.strictSame(nextStep(view('starting', { container: of('starting') })), { kind: 'rest' })
  t.strictSame(nextStep(view('starting', { container: of('healthy') })), report('running', 'started'))
  for (const state of ['starting', 'running'] as const)
    t.match(nextStep(view(state, { container: of('unhealthy') })), { kind: 'stop', why: 'unhealthy' })
  const killed = container({ state: 'exited', exitCode: 137 })
  t.match(
    nextStep(view('running', { container: killed, unhealthy: true })),
    report('failed', '', 'task: non-zero exit (137): dockerexec: unhealthy container'),
  )
  const polite = container({ state: 'exited' })
  t.match(nextStep(view('running', { container: polite, unhealthy: true })), {
    state: 'failed',
    error: 'dockerexec: unhealthy container',
  })
})

t.test('an end is COMPLETE, or FAILED with the exit code and the engine’s word', async (t) => {
  const exited = (exitCode: number, error = '') => container({ state: 'exited', exitCode, error })
  t.strictSame(nextStep(view('running', { container: exited(0) })), report('complete', 'finished'))
  t.match(nextStep(view('running', { container: exited(1) })), { state: 'failed', error: 'task: non-zero exit (1)' })
  t.match(nextStep(view('running', { container: exited(1, 'out of luck') })), {
    error: 'task: non-zero exit (1): out of luck',
  })
  t.match(nextStep(view('running')), { state: 'failed', error: 'dockerexec: container destroyed' })
})

t.test('what fails before its start is REJECTED, afterwards FAILED; the message stays', async (t) => {
  t.match(failure(status('preparing', 'preparing'), 'No such image: x'), { state: 'rejected', message: 'preparing' })
  t.match(failure(status('starting', 'starting'), 'boom'), { state: 'failed', message: 'starting', error: 'boom' })
})

t.test('a task that is not wanted is stopped, and removed only when nobody names it', async (t) => {
  const running = container()
  const exited = container({ state: 'exited' })
  for (const desired of ['shutdown', 'remove'] as const) {
    t.match(nextStep(view('running', { desired, container: running })), { kind: 'stop', why: 'wanted' })
    t.strictSame(nextStep(view('running', { desired, container: exited })), report('shutdown', 'shutdown'))
    t.strictSame(nextStep(view('shutdown', { desired, container: exited })), { kind: 'rest' })
  }
  t.match(nextStep(view('running', { assigned: false, container: running })), { kind: 'stop' })
  t.match(nextStep(view('running', { assigned: false, container: exited })), { kind: 'remove' })
  t.strictSame(nextStep(view('running', { assigned: false })), { kind: 'forget' })
})

t.test('a task that ended, or was given up by its managers, has no running container', async (t) => {
  for (const state of ['orphaned', 'failed', 'shutdown'] as const)
    t.match(nextStep(view(state, { container: container() })), { kind: 'stop' })
})

t.test('without an answer of the engine nothing is done to containers', async (t) => {
  for (const state of Object.keys(TASK_STATES) as TaskState[])
    for (const assigned of [true, false]) {
      const step = nextStep(view(state, { container: 'unknown', assigned }))
      t.ok(step.kind === 'rest' || (step.kind === 'report' && compareTaskStates(step.state, 'starting') <= 0), state)
    }
})

const isRise = (state: TaskState, now: TaskView) => compareTaskStates(state, now.status.state) > 0

t.test('a task with an end point drains before it is stopped, and says so', async (t) => {
  const running = container()
  const due = { drain: 'due', desired: 'shutdown', container: running } as const
  t.strictSame(nextStep(view('running', due)), report('running', 'draining'))
  const draining = { ...view('running', due), status: status('running', 'draining') }
  t.strictSame(nextStep(draining), { kind: 'drain' })
  t.match(nextStep({ ...draining, drain: 'none' }), { kind: 'stop', why: 'wanted' })
  const superseded = { ...view('running', due), assigned: false }
  t.strictSame(
    nextStep(superseded),
    { kind: 'drain' },
    'also when managers name it no more: this node may still send to it',
  )
  t.match(nextStep({ ...superseded, drain: 'none' }), { kind: 'stop' })
  for (const over of [{ container: container({ health: 'unhealthy' }) }, { status: status('starting') }])
    t.match(nextStep({ ...draining, ...over }), { kind: 'stop' })
  t.strictSame(nextStep({ ...draining, container: container({ state: 'exited' }) }), report('shutdown', 'shutdown'))
})

t.test('from wherever a worker is restarted, a task comes to rest, and its state only rises', async (t) => {
  const anyView = fc.record({
    assigned: fc.boolean(),
    desired: fc.constantFrom<TaskState>('ready', 'running', 'complete', 'shutdown', 'remove'),
    state: fc.constantFrom(...(Object.keys(TASK_STATES) as TaskState[])),
    container: fc.oneof(
      fc.constantFrom('absent' as const, 'unknown' as const),
      fc.record({
        state: fc.constantFrom('created' as const, 'running' as const, 'exited' as const),
        health: fc.constantFrom('none' as const, 'starting' as const, 'healthy' as const, 'unhealthy' as const),
        exitCode: fc.constantFrom(0, 1, 137),
      }),
    ),
    dependencies: fc.constantFrom('present' as const, 'missing' as const),
    drain: fc.constantFrom('none' as const, 'due' as const),
    stepsFail: fc.boolean(),
  })
  fc.assert(
    fc.property(anyView, ({ state, container: seen, stepsFail, ...rest }) => {
      let now: TaskView = view(state, { ...rest, container: typeof seen === 'string' ? seen : container(seen) })
      for (let steps = 0; steps < 20; steps++) {
        const step = nextStep(now)
        switch (step.kind) {
          case 'rest':
          case 'forget': {
            if (now.container === 'unknown' || step.kind === 'forget') return true
            // At rest: running what is wanted to run, or ended and not running.
            const runs = typeof now.container === 'object' && now.container.state === 'running'
            return isTerminal(now.status.state) ? !runs : compareTaskStates(now.desired, 'complete') <= 0
          }
          case 'report':
            // That it drains is no other state, and is said once.
            if (step.message === 'draining' ? now.status.message === 'draining' : !isRise(step.state, now)) return false
            now = { ...now, status: status(step.state, step.message) }
            break
          case 'drain':
            if (now.drain === 'none') return false
            now = { ...now, drain: 'none' }
            break
          case 'prepare':
            if (stepsFail) now = { ...now, status: status('rejected') }
            else now = { ...now, container: container({ state: 'created' }) }
            break
          case 'start':
            if (stepsFail) now = { ...now, status: status('failed') }
            else now = { ...now, container: container() }
            break
          case 'stop':
            now = {
              ...now,
              container: container({ state: 'exited', exitCode: 143 }),
              unhealthy: step.why === 'unhealthy',
            }
            break
          case 'remove':
            now = { ...now, container: 'absent' }
            break
        }
      }
      return false
    }),
    { numRuns: 2_000, seed: 42 },
  )
  t.pass()
})

// The life of a task as one pure decision: what its managers want, what was reported of it and what the engine shows
// give the next step. Start-up, change and retry all come through here. Messages and errors are Swarm's.

import type { TaskStatus } from '../api/objects.ts'
import { compareTaskStates, isTerminal, type TaskState } from '../api/spec.ts'
import type { ObservedContainer } from './executor.ts'

export interface TaskView {
  /** Managers still name the task; if not, it goes as gently as a stop, and its container with it. */
  readonly assigned: boolean
  readonly desired: TaskState
  readonly status: TaskStatus
  /** unknown: the engine has not been asked yet, or does not answer. */
  readonly container: ObservedContainer | 'absent' | 'unknown'
  /** Whether the secrets, configs and networks that the task names are at hand. */
  readonly dependencies: 'present' | 'missing'
  /** The container was told to stop because its health check failed. */
  readonly unhealthy: boolean
  /** `due`: it has an end point, whose connections are to end before the stop signal. */
  readonly drain: 'none' | 'due'
}

export type Step =
  /** Nothing until something changes. */
  | { readonly kind: 'rest' }
  /** A new status; with an error, the task has failed. */
  | { readonly kind: 'report'; readonly state: TaskState; readonly message: string; readonly error: string }
  | { readonly kind: 'prepare' }
  | { readonly kind: 'start'; readonly container: ObservedContainer }
  /** Wait until its end point is withdrawn everywhere and its connections have ended, or long enough. */
  | { readonly kind: 'drain' }
  | { readonly kind: 'stop'; readonly container: ObservedContainer; readonly why: 'wanted' | 'unhealthy' }
  | { readonly kind: 'remove'; readonly container: ObservedContainer }
  /** Nothing of the task is left: drop it. */
  | { readonly kind: 'forget' }

const REST: Step = { kind: 'rest' }
const DRAINING = 'draining'
export const UNHEALTHY = 'dockerexec: unhealthy container'
const DESTROYED = 'dockerexec: container destroyed'

export function nextStep(view: TaskView): Step {
  const { container, status, desired } = view
  if (!view.assigned) {
    if (container === 'unknown') return REST
    if (container === 'absent') return { kind: 'forget' }
    if (container.state !== 'running') return { kind: 'remove', container }
    const serves = view.drain === 'due' && status.state === 'running' && container.health !== 'unhealthy'
    return serves ? { kind: 'drain' } : stop(container)
  }
  const running = typeof container === 'object' && container.state === 'running'
  if (isTerminal(status.state)) return running ? stop(container) : REST
  if (compareTaskStates(desired, 'complete') > 0) {
    if (container === 'unknown') return REST
    if (!running) return report('shutdown', 'shutdown')
    if (view.drain === 'none' || status.state !== 'running' || container.health === 'unhealthy') return stop(container)
    return status.message === DRAINING ? { kind: 'drain' } : report('running', DRAINING)
  }
  switch (status.state) {
    case 'new':
    case 'pending':
    case 'assigned':
      return report('accepted', 'accepted')
    case 'accepted':
      return report('preparing', 'preparing')
    case 'preparing':
      if (container === 'unknown') return REST
      if (container !== 'absent') return report('ready', 'prepared')
      return view.dependencies === 'present' ? { kind: 'prepare' } : REST
    case 'ready':
      return compareTaskStates(desired, 'ready') > 0 ? report('starting', 'starting') : REST
    case 'starting':
      return whileStarting(view)
    case 'running':
      return whileRunning(view)
    case 'complete':
    case 'shutdown':
    case 'failed':
    case 'rejected':
    case 'remove':
    case 'orphaned':
      return REST // it has ended: answered above
  }
}

/** What becomes of a task whose step failed for good: REJECTED before its start, FAILED after; the message stays. */
export function failure(status: TaskStatus, error: string): Step & { kind: 'report' } {
  const state = compareTaskStates(status.state, 'starting') < 0 ? 'rejected' : 'failed'
  return { kind: 'report', state, message: status.message, error }
}

function whileStarting(view: TaskView): Step {
  const { container } = view
  if (container === 'unknown') return REST
  if (container === 'absent') return failure(view.status, DESTROYED)
  switch (container.state) {
    case 'created':
      return { kind: 'start', container }
    case 'running':
      if (container.health === 'starting') return REST
      if (container.health === 'unhealthy') return { kind: 'stop', container, why: 'unhealthy' }
      return report('running', 'started')
    case 'exited': {
      const error = exitError(container, view.unhealthy)
      return error === '' ? report('running', 'started') : failure(view.status, error)
    }
  }
}

function whileRunning(view: TaskView): Step {
  const { container } = view
  if (container === 'unknown') return REST
  if (container === 'absent') return failure(view.status, DESTROYED)
  switch (container.state) {
    case 'created':
      return { kind: 'start', container }
    case 'running':
      return container.health === 'unhealthy' ? { kind: 'stop', container, why: 'unhealthy' } : REST
    case 'exited': {
      const error = exitError(container, view.unhealthy)
      return error === '' ? report('complete', 'finished') : failure(view.status, error)
    }
  }
}

function exitError(container: ObservedContainer, unhealthy: boolean): string {
  const cause = unhealthy ? UNHEALTHY : container.error
  if (container.exitCode === 0) return cause
  return `task: non-zero exit (${container.exitCode})${cause === '' ? '' : `: ${cause}`}`
}

function stop(container: ObservedContainer): Step {
  return { kind: 'stop', container, why: 'wanted' }
}

function report(state: TaskState, message: string): Step {
  return { kind: 'report', state, message, error: '' }
}

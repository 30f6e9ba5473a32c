// Why a task is as it is: its state, what it waits for, what follows once it has ended, and the history of its slot.

import type { Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { WhyJson, WhyWaitJson } from '../../api/why.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { backoffText, isBackingOff, ordinal, startsAtMs } from '../orchestrator/restart-backoff.ts'
import { shouldRestart } from '../orchestrator/restart-policy.ts'
import { STOP_TIMEOUT_MS } from '../orchestrator/restart-supervisor.ts'
import { isJob, restartSettings } from '../orchestrator/service-settings.ts'
import { hasEnded, isDown, isLive, isRunning, mayRun } from '../orchestrator/slots.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import type { StoreView } from '../store/types.ts'
import {
  hostname,
  newestEvents,
  placementText,
  slotName,
  successorOf,
  taskEvents,
  type WhyOptions,
  whyMade,
  whyStopped,
} from './why-history.ts'
import { awaitsNode, placementOf, placementSummary } from './why-placement.ts'

export function whyTask(view: StoreView, task: Task, map: ClusterMap | undefined, options: WhyOptions): WhyJson {
  const service = view.get('service', task.serviceId)
  const slot = slotTasks(view, task)
  const placement = map && awaitsNode(task) ? placementOf(view, [task], map) : undefined
  const waits = taskWaits(view, task, options.nowMs)
  const because = [
    ...(placement ? [placementSummary(placement)] : []),
    ...present(view, task),
    ...(hasEnded(task) ? [afterEnd(view, service, task, slot)] : []),
    `${whyMade(view, task)}`,
    ...(task.placement ? [placementText(view, task)] : []),
    ...(service?.problem ? [`the service has a problem: ${service.problem.message}`] : []),
  ]
  return {
    Kind: 'task',
    ID: task.id,
    Name: slotName(view, task),
    Now: nowText(view, task),
    Because: because,
    Waits: waits,
    ...(placement ? { Placement: placement } : {}),
    History: newestEvents(
      slot.flatMap((one) => taskEvents(view, one)),
      options.limit,
    ),
  }
}

export function slotTasks(view: StoreView, task: Task): readonly Task[] {
  if (task.slot > 0) return view.tasksOfSlot(task.serviceId, task.slot)
  if (!task.nodeId) return [task]
  return view.tasksOfNode(task.nodeId).filter((one) => one.serviceId === task.serviceId)
}

function nowText(view: StoreView, task: Task): string {
  const { state, error, timestamp } = task.status
  const where = task.nodeId ? ` on node ${hostname(view, task.nodeId)}` : ''
  const wanted = isLive(task) ? '' : `, to be ${task.desiredState === 'remove' ? 'removed' : 'stopped'}`
  return `${state}${where} since ${timestamp}${hasEnded(task) ? '' : wanted}${error ? `: ${error}` : ''}`
}

/** What keeps a task that has not ended from going on. */
function present(view: StoreView, task: Task): readonly string[] {
  if (hasEnded(task)) return []
  if (!isLive(task)) return [`told to stop: ${whyStopped(view, task)}`]
  const node = view.get('node', task.nodeId)
  const { state, message } = task.status
  if (state === 'new') return ['addresses and ports are still to be given to it']
  if (task.nodeId && isDown(node)) return [`node ${hostname(view, task.nodeId)} is down: what it last said may be old`]
  const before = compareTaskStates(state, 'running') < 0 && compareTaskStates(state, 'assigned') >= 0
  if (before && task.desiredState === 'ready') return [waitText(view, task)]
  if (state === 'starting' && task.spec.ContainerSpec?.Healthcheck?.Test?.length) {
    return ['it counts as running once its health check says so']
  }
  return before ? [`node ${hostname(view, task.nodeId)} is at it: ${message || state}`] : []
}

function waitText(view: StoreView, task: Task): string {
  if (task.startAfter) {
    const backoff = backoffText(view.get('service', task.serviceId), task)
    return backoff || `it starts when the restart delay is over: ${task.startAfter}`
  }
  const stopping = slotTasks(view, task).find((one) => one.id !== task.id && !isLive(one) && mayRun(one))
  return stopping ? `it starts when task ${stopping.id} has stopped` : 'it starts when the one before it has stopped'
}

export function taskWaits(view: StoreView, task: Task, nowMs: number): readonly WhyWaitJson[] {
  if (task.desiredState !== 'ready') return []
  const For = `the start of ${slotName(view, task)}`
  const delayMs = startsAtMs(view.get('service', task.serviceId), task)
  const inRow = isBackingOff(task) ? `, ${ordinal(task.failures ?? 0)} failure in a row` : ''
  if (delayMs > nowMs) return [{ For: `${For} (restart delay${inRow})`, Until: formatTime(delayMs) }]
  if (hasEnded(task)) return []
  const stopMs = parseTime(task.meta.createdAt) + STOP_TIMEOUT_MS
  if (stopMs <= nowMs) return []
  return [{ For: `${For} (the task before it stops, or this time passes)`, Until: formatTime(stopMs) }]
}

/** Who follows a task that has ended, or why nobody does. */
function afterEnd(view: StoreView, service: Service | undefined, task: Task, slot: readonly Task[]): string {
  const successor = successorOf(view, task)
  if (successor) return `task ${successor.id} took over from it`
  if (!service) return 'nobody follows: its service was removed'
  const other = slot.find(isRunning)
  if (other) return `task ${other.id} runs in its place`
  if (task.desiredState === 'remove') return `nobody follows: ${whyStopped(view, task)}`
  if (isJob(service.spec) && task.status.state === 'complete') return 'nobody follows: the job has done it'
  if (shouldRestart(service, task, slot)) return 'the restart supervisor is about to replace it'
  return `nobody follows: ${restText(task)}`
}

/** Why the restart policy lets the slot rest. */
export function restText(task: Task): string {
  const { condition, maxAttempts, windowMs } = restartSettings(task.spec)
  if (condition === 'none') return 'the restart condition is none'
  if (condition === 'on-failure' && task.status.state === 'complete') {
    return 'it ended without failure, and the restart condition is on-failure'
  }
  const within = windowMs > 0 ? ` within ${windowMs / 1000} s` : ''
  return `the restart policy allows ${maxAttempts} ${maxAttempts === 1 ? 'restart' : 'restarts'}${within}, and they are used up`
}

// Replaces tasks that ended or lost their node, lets successors go on to RUNNING when their time has come, and takes note of
// those that run well after their predecessors had kept failing.

import type { Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { endOfWait, isFromTheFuture } from '../loop/waits.ts'
import { failuresWith, RECOVERED_AFTER_MS, restartDelayMs, startsAtMs } from './restart-backoff.ts'
import { shouldRestart } from './restart-policy.ts'
import type { ServicePlan } from './service-plan.ts'
import { currentUpdateSettings, isGlobal, isJob } from './service-settings.ts'
import { hasEnded, isDown, isInvalidNode, isRunning, mayRun, type Slot } from './slots.ts'
import { runOf } from './update-run.ts'

/** A successor waits no longer than this for its predecessor to stop. */
export const STOP_TIMEOUT_MS = 60_000

/** @returns whether the plan now changes something in the slot, which then needs no other attention in this look */
export function superviseSlot(plan: ServicePlan, slot: Slot): boolean {
  let changed = false
  let succeeded = false
  const delayed: Task[] = []
  for (const task of slot.live) {
    const { done, ended, lostNode } = conditionOf(plan, task)
    if (done) continue
    if (!ended && !lostNode) {
      if (task.desiredState === 'ready') changed = startWhenDue(plan, slot, task) || changed
      else changed = recover(plan, task) || changed
    } else if (!ended && movesFirst(plan, slot, task)) {
      changed = moveFirst(plan, slot, task) || changed
    } else if (ended && !lostNode && isDelayed(plan, task)) {
      // It failed even before its time came (no such image, say): the delay still counts.
      delayed.push(task)
    } else {
      // Of two that an update had left in the slot one goes on: a successor would be a second task for good.
      if (succeeded || slot.live.some((other) => other !== task && standsInFor(plan, other))) {
        plan.add(...plan.stop(task, 'shutdown'))
      } else {
        // The run that begins with this look counts the slot among those that it is for: its successor is made in the next one.
        if (plan.isDirty(task) && runOf(plan.service).kind === 'beginning') continue
        succeeded = restart(plan, slot, task, lostNode)
      }
      changed = true
    }
  }
  return waitForOne(plan, slot, delayed, succeeded) || changed
}

/** Of several that failed before their time, or one beside a task that goes on, no more than one is to have a successor. */
function waitForOne(plan: ServicePlan, slot: Slot, delayed: readonly Task[], succeeded: boolean): boolean {
  const atMs = (task: Task) => startsAtMs(plan.service, task)
  const [next, ...others] = delayed.filter((task) => !plan.isDirty(task)).toSorted((a, b) => atMs(a) - atMs(b))
  const isTaken = succeeded || slot.live.some((one) => standsInFor(plan, one))
  const superfluous = isTaken && next ? [next, ...others] : others
  for (const task of superfluous) plan.add(...plan.stop(task, 'shutdown'))
  for (const task of delayed) if (!superfluous.includes(task)) plan.lookAgainAt(atMs(task))
  return superfluous.length > 0
}

/** It is what a successor would be. */
function standsInFor(plan: ServicePlan, task: Task): boolean {
  const { done, ended, lostNode } = conditionOf(plan, task)
  return !done && !ended && !lostNode && !plan.isDirty(task)
}

interface Condition {
  /** a job's task that did what it was for */
  readonly done: boolean
  readonly ended: boolean
  readonly lostNode: boolean
}

function conditionOf(plan: ServicePlan, task: Task): Condition {
  const done = isJob(plan.service.spec) && task.status.state === 'complete'
  return { done, ended: hasEnded(task), lostNode: task.nodeId !== '' && isInvalidNode(plan.node(task.nodeId)) }
}

function isDelayed(plan: ServicePlan, task: Task): boolean {
  return task.desiredState === 'ready' && isAhead(plan, task) && startsAtMs(plan.service, task) > plan.nowMs
}

/** @returns whether the task counts as well again from now on */
function recover(plan: ServicePlan, task: Task): boolean {
  if (!task.failures || !isRunning(task)) return false
  const atMs = endOfWait(parseTime(task.meta.updatedAt), RECOVERED_AFTER_MS, plan.nowMs)
  if (atMs > plan.nowMs) {
    plan.lookAgainAt(atMs)
    return false
  }
  plan.add(plan.update(task, { failures: 0 }))
  return true
}

/** Its start has a time, by a clock that has not been set back since. */
function isAhead(plan: ServicePlan, task: Task): boolean {
  return task.startAfter !== '' && !isFromTheFuture(parseTime(task.meta.createdAt), plan.nowMs)
}

/**
 * The first start by another spec is no restart: what failed by the one before says nothing of it, and a rollback is not to wait
 * for the delay of the tasks that it was for. Who fails by that spec too waits, since its successor is a restart.
 * @returns whether the task gets a successor
 */
function restart(plan: ServicePlan, slot: Slot, task: Task, lostNode: boolean): boolean {
  const stop = plan.stop(task, 'shutdown')
  if (!shouldRestart(plan.service, task, slot.tasks)) {
    plan.add(...stop)
    return false
  }
  const afresh = plan.isDirty(task)
  const failures = afresh ? 0 : lostNode ? (task.failures ?? 0) : failuresWith(task)
  const delayMs = lostNode || afresh ? 0 : restartDelayMs(plan.service, task, failures, plan.fraction())
  const startsAtOnce = delayMs === 0 && (hasEnded(task) || !isStopping(plan, task))
  const startAfter = delayMs > 0 ? formatTime(plan.nowMs + delayMs) : ''
  const successor = plan.create({
    slot: slot.slot,
    nodeId: isGlobal(plan.service.spec) ? task.nodeId : '',
    desiredState: startsAtOnce ? plan.runningState : 'ready',
    startAfter,
    failures,
    origin: {
      kind: 'restart',
      predecessorId: task.id,
      ...inherited(plan, task, lostNode),
      detail: reasonOf(plan, task, lostNode),
    },
  })
  plan.add(successor, ...stop)
  if (!startsAtOnce) plan.lookAgainAt(delayMs > 0 ? plan.nowMs + delayMs : plan.nowMs + STOP_TIMEOUT_MS)
  return true
}

/**
 * The updater waits for the successor of a task that lost its node before it had settled. The first task of a slot by the spec of
 * the run that is under way counts as one of that run, also where the one before it had ended before the run came to its slot.
 */
function inherited(plan: ServicePlan, task: Task, lostNode: boolean): { readonly updateId?: string } {
  if (plan.isDirty(task)) {
    const run = runOf(plan.service)
    return run.kind === 'running' && run.id !== undefined ? { updateId: run.id } : {}
  }
  const updateId = task.origin?.updateId
  return lostNode && updateId !== undefined && task.settledAt === undefined ? { updateId } : {}
}

function reasonOf(plan: ServicePlan, task: Task, lostNode: boolean): string {
  if (lostNode) {
    const node = plan.node(task.nodeId)
    return `node ${task.nodeId} ${node ? (isDown(node) ? 'is down' : 'is drained') : 'was removed'}`
  }
  return `task ${task.id} ${task.status.state}${task.status.error ? `: ${task.status.error}` : ''}`
}

/** Told to stop, and running on a node that can say when it has. */
function isStopping(plan: ServicePlan, task: Task): boolean {
  return mayRun(task) && !isDown(plan.node(task.nodeId))
}

/** READY → RUNNING: after its delay, and when the tasks before it have stopped or had a minute to do so. */
function startWhenDue(plan: ServicePlan, slot: Slot, task: Task): boolean {
  const { nowMs } = plan
  const afterMs = startsAtMs(plan.service, task)
  if (isAhead(plan, task) && afterMs > nowMs) {
    plan.lookAgainAt(afterMs)
    return false
  }
  const blocked = slot.tasks.some((one) => compareTaskStates(one.desiredState, 'complete') > 0 && isStopping(plan, one))
  const deadlineMs = endOfWait(parseTime(task.meta.createdAt), STOP_TIMEOUT_MS, nowMs)
  if (blocked && deadlineMs > nowMs) {
    plan.lookAgainAt(deadlineMs)
    return false
  }
  plan.add(plan.update(task, { desiredState: plan.runningState }))
  return true
}

/** Draining a node obeys the update order: with start-first the successor runs before the task stops. */
function movesFirst(plan: ServicePlan, slot: Slot, task: Task): boolean {
  const { service } = plan
  if (slot.nodeId !== '' || isJob(service.spec) || isDown(plan.node(task.nodeId))) return false
  return currentUpdateSettings(service).order === 'start-first' && shouldRestart(service, task, slot.tasks)
}

function moveFirst(plan: ServicePlan, slot: Slot, task: Task): boolean {
  const successors = slot.live.filter((one) => one.nodeId === '' || !isInvalidNode(plan.node(one.nodeId)))
  if (successors.some(isRunning)) {
    plan.add(...plan.stop(task, 'shutdown'))
    return true
  }
  if (successors.length > 0) return false
  const origin = {
    kind: 'restart',
    predecessorId: task.id,
    ...inherited(plan, task, true),
    detail: reasonOf(plan, task, true),
  } as const
  const failures = plan.isDirty(task) ? 0 : (task.failures ?? 0)
  const request = { slot: slot.slot, nodeId: '', desiredState: plan.runningState, failures, origin }
  plan.add(plan.create(request), { kind: 'check', objectKind: 'task', id: task.id, expectedVersion: task.meta.version })
  return true
}

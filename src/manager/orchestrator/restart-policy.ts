// The restart policy: whether a task that ended, or lost its node, gets a successor. Its history is the tasks of the slot in
// the store, so every leader comes to the same answer.

import type { Service, Task } from '../../api/objects.ts'
import { parseTime } from '../../lib/clock.ts'
import { isJob, restartSettings } from './service-settings.ts'
import { newest, type Slot } from './slots.ts'

export function shouldRestart(service: Service, task: Task, slotTasks: readonly Task[]): boolean {
  const { condition, maxAttempts, windowMs } = restartSettings(task.spec)
  if (condition === 'none') return false
  const succeeded = task.status.state === 'complete'
  // A job's completed task is done: `any` acts as `on-failure`.
  if (succeeded && (condition === 'on-failure' || isJob(service.spec))) return false
  if (maxAttempts === 0) return true
  const restarts = slotTasks.filter((one) => one.specVersion === task.specVersion && one.origin?.kind === 'restart')
  if (windowMs === 0) return restarts.length < maxAttempts
  const endedMs = endOf(task)
  const recent = restarts.filter((one) => {
    const madeMs = parseTime(one.meta.createdAt)
    return madeMs > endedMs - windowMs && madeMs < endedMs
  })
  return recent.length < maxAttempts
}

/**
 * By its worker's clock where that agrees with the managers', whose times it is compared with: a task ends after it was made, and
 * before its end is in the store. Else when the store last heard of it.
 */
function endOf({ status, meta }: Task): number {
  const [endedMs, storedMs] = [parseTime(status.timestamp), parseTime(meta.updatedAt)]
  return endedMs > parseTime(meta.createdAt) && endedMs < storedMs ? endedMs : storedMs
}

/**
 * The tasks that stand for the slot: those that are not told to stop, or the last one where the policy lets it rest (so
 * that an update reaches it too). Empty: the slot is vacant.
 */
export function standingTasks(service: Service, slot: Slot): readonly Task[] {
  if (slot.live.length > 0) return slot.live
  const last = newest(slot.tasks)
  if (!last || last.desiredState === 'remove') return []
  return shouldRestart(service, last, slot.tasks) ? [] : [last]
}

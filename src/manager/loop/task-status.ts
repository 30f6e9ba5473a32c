// Observed states that managers write: before a worker has the task, and where no worker will ever report.

import type { Task, TaskStatus } from '../../api/objects.ts'
import { compareTaskStates, type TaskState } from '../../api/spec.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'

/** The task's next status. Where the state stays the same its time is later, since `apply` takes the newer of equals. */
export function statusAfter(
  task: Task,
  next: { readonly state: TaskState; readonly message: string; readonly error?: string },
  nowMs: number,
): TaskStatus {
  const { status } = task
  const beforeMs = parseTime(status.timestamp)
  const sameState = compareTaskStates(next.state, status.state) === 0
  const atMs = sameState && beforeMs >= nowMs ? beforeMs + 1 : nowMs
  const { state, message, error = '' } = next
  return { ...status, state, message, error, timestamp: formatTime(atMs) }
}

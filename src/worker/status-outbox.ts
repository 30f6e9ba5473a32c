// Statuses on their way to the managers: the newest of each task, at most one batch unacknowledged, everything kept
// until it is. While a batch is under way the next one fills, so that load makes batches and quiet makes none wait.

import type { WorkerMessage } from '../api/dispatcher.ts'
import type { TaskStatus } from '../api/objects.ts'

export type StatusMessage = Extract<WorkerMessage, { kind: 'status' }>

/** As the dispatcher's messages bound it. */
export const STATUS_BATCH_MAX = 500

export class StatusOutbox {
  readonly #pending = new Map<string, TaskStatus>()
  #underway: StatusMessage | undefined
  #sequence = 0

  add(taskId: string, status: TaskStatus): void {
    this.#pending.delete(taskId)
    this.#pending.set(taskId, status)
  }

  /** Nobody wants to hear of the task any more. */
  drop(taskId: string): void {
    this.#pending.delete(taskId)
  }

  /** The next batch; undefined when there is none, or while one is under way. */
  take(): StatusMessage | undefined {
    if (this.#underway || this.#pending.size === 0) return undefined
    const updates: { taskId: string; status: TaskStatus }[] = []
    for (const [taskId, status] of this.#pending) {
      if (updates.length === STATUS_BATCH_MAX) break
      updates.push({ taskId, status })
    }
    for (const { taskId } of updates) this.#pending.delete(taskId)
    this.#underway = { kind: 'status', sequence: ++this.#sequence, updates }
    return this.#underway
  }

  /** Answers whether it was the batch under way. */
  acknowledge(sequence: number): boolean {
    if (this.#underway?.sequence !== sequence) return false
    this.#underway = undefined
    return true
  }

  /** The batch under way may be lost (its session ended, or nobody answered): it waits again, under newer statuses. */
  requeue(): void {
    const lost = this.#underway
    this.#underway = undefined
    for (const { taskId, status } of lost?.updates ?? [])
      if (!this.#pending.has(taskId)) this.#pending.set(taskId, status)
  }
}

// Statuses on their way to the managers: the newest of each task, at most one batch unacknowledged, everything kept
// until it is. While a batch is under way the next one fills, so that load makes batches and quiet makes none wait. A state that
// another one follows soon is only told if it lasts: each that is told costs an entry on every manager.

import type { WorkerMessage } from '../api/dispatcher.ts'
import type { TaskStatus } from '../api/objects.ts'
import type { TaskState } from '../api/spec.ts'

export type StatusMessage = Extract<WorkerMessage, { kind: 'status' }>

/** As the dispatcher's messages bound it. */
export const STATUS_BATCH_MAX = 500

/** Nobody waits for these: a task is on its way. (Managers wait for READY, where it rests.) */
const PASSING: ReadonlySet<TaskState> = new Set(['accepted', 'preparing', 'starting'])
/** So long a passing state has to last: an engine at rest creates and starts a container in less. */
const PASSING_MS = 500

interface Pending {
  readonly status: TaskStatus
  readonly dueMs: number
}

export class StatusOutbox {
  readonly #pending = new Map<string, Pending>()
  #underway: StatusMessage | undefined
  #sequence = 0

  /** @returns when it is to leave, if nothing newer takes its place */
  add(taskId: string, status: TaskStatus, nowMs: number): number {
    const isPassing = PASSING.has(status.state) && status.error === ''
    const dueMs = isPassing ? nowMs + PASSING_MS : nowMs
    this.#pending.delete(taskId)
    this.#pending.set(taskId, { status, dueMs })
    return dueMs
  }

  /** When there is something to take. */
  get nextDueMs(): number | undefined {
    let next: number | undefined
    for (const { dueMs } of this.#pending.values()) if (next === undefined || dueMs < next) next = dueMs
    return next
  }

  /** Nobody wants to hear of the task any more. */
  drop(taskId: string): void {
    this.#pending.delete(taskId)
  }

  /** The next batch of what is due by then; undefined when there is none, or while one is under way. */
  take(nowMs: number): StatusMessage | undefined {
    if (this.#underway) return undefined
    const updates: { taskId: string; status: TaskStatus }[] = []
    for (const [taskId, { status, dueMs }] of this.#pending) {
      if (updates.length === STATUS_BATCH_MAX) break
      if (dueMs <= nowMs) updates.push({ taskId, status })
    }
    if (updates.length === 0) return undefined
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
      if (!this.#pending.has(taskId)) this.#pending.set(taskId, { status, dueMs: 0 })
  }
}

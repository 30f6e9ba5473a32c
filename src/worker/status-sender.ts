// Sends what the outbox holds over whichever session stands: gathered for a moment, one batch at a time, again where nobody
// has acknowledged it.

import type { TaskStatus } from '../api/objects.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import { type StatusMessage, StatusOutbox } from './status-outbox.ts'

const ACK_TIMEOUT_MS = 5_000
/** How long statuses gather before a batch leaves, when none is under way. */
const GATHER_MS = 2

export class StatusSender {
  readonly #clock: Clock
  readonly #outbox = new StatusOutbox()
  #send: ((message: StatusMessage) => void) | undefined
  #gathering: { readonly timer: Timer; readonly atMs: number } | undefined
  #waiting: Timer | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  sessionBegan(send: (message: StatusMessage) => void): void {
    this.#send = send
    this.flushAll()
  }

  sessionEnded(): void {
    this.#send = undefined
    this.#outbox.requeue()
  }

  add(taskId: string, status: TaskStatus): void {
    const nowMs = this.#clock.nowMs()
    this.#flushAt(Math.max(this.#outbox.add(taskId, status, nowMs), nowMs + GATHER_MS))
  }

  /** Nobody wants to hear of the task any more. */
  drop(taskId: string): void {
    this.#outbox.drop(taskId)
  }

  acknowledged(sequence: number): void {
    if (!this.#outbox.acknowledge(sequence)) return
    this.#waiting?.cancel()
    this.#flush(this.#clock.nowMs())
  }

  /** What there is leaves now, also what may soon be out of date, if a session stands and nothing is under way. */
  flushAll(): void {
    this.#flush(Number.POSITIVE_INFINITY)
  }

  #flushAt(atMs: number): void {
    if (this.#gathering && this.#gathering.atMs <= atMs) return
    this.#gathering?.timer.cancel()
    const timer = this.#clock.setTimer(Math.max(atMs - this.#clock.nowMs(), GATHER_MS), () => {
      this.#gathering = undefined
      this.#flush(this.#clock.nowMs())
    })
    this.#gathering = { timer, atMs }
  }

  #flush(upToMs: number): void {
    const batch = this.#send && this.#outbox.take(upToMs)
    const nextMs = this.#send && this.#outbox.nextDueMs
    // What is due already waits for the batch under way, which ends with a flush of its own.
    if (nextMs !== undefined && nextMs > this.#clock.nowMs()) this.#flushAt(nextMs)
    if (!batch) return
    this.#send?.(batch)
    this.#waiting?.cancel()
    this.#waiting = this.#clock.setTimer(ACK_TIMEOUT_MS, () => {
      this.#outbox.requeue()
      this.flushAll()
    })
  }

  close(): void {
    this.#gathering?.timer.cancel()
    this.#waiting?.cancel()
  }
}

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
  #gathering: Timer | undefined
  #waiting: Timer | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  sessionBegan(send: (message: StatusMessage) => void): void {
    this.#send = send
    this.flush()
  }

  sessionEnded(): void {
    this.#send = undefined
    this.#outbox.requeue()
  }

  add(taskId: string, status: TaskStatus): void {
    this.#outbox.add(taskId, status)
    this.#gathering ??= this.#clock.setTimer(GATHER_MS, () => {
      this.#gathering = undefined
      this.flush()
    })
  }

  /** Nobody wants to hear of the task any more. */
  drop(taskId: string): void {
    this.#outbox.drop(taskId)
  }

  acknowledged(sequence: number): void {
    if (!this.#outbox.acknowledge(sequence)) return
    this.#waiting?.cancel()
    this.flush()
  }

  /** What there is leaves now, if a session stands and nothing is under way. */
  flush(): void {
    const batch = this.#send && this.#outbox.take()
    if (!batch) return
    this.#send?.(batch)
    this.#waiting?.cancel()
    this.#waiting = this.#clock.setTimer(ACK_TIMEOUT_MS, () => {
      this.#outbox.requeue()
      this.flush()
    })
  }

  close(): void {
    this.#gathering?.cancel()
    this.#waiting?.cancel()
  }
}

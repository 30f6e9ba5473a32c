// The leader's loops share a thread with Raft, so together they may work only a few milliseconds before the event loop gets
// its turn. A loop asks for a turn, works while there is time, and queues up again behind the others.

import type { Clock } from '../../lib/clock.ts'

/** What all loops together use of one turn of the event loop; one reconcile may overrun it, by a few milliseconds. */
const SLICE_MS = 8

export class TurnBudget {
  readonly #clock: Clock
  readonly #waiting: (() => void)[] = []
  #openedMs: number | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Resolves when the caller may work until `hasTime` says no. Turns are granted in the order of asking. */
  async turn(): Promise<void> {
    if (this.#waiting.length === 0 && this.hasTime()) return
    await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  hasTime(): boolean {
    if (this.#openedMs === undefined) {
      this.#openedMs = this.#clock.nowMs()
      this.#clock.setTimer(0, () => this.#next())
    }
    return this.#clock.nowMs() - this.#openedMs < SLICE_MS
  }

  #next(): void {
    this.#openedMs = undefined
    const granted = this.#waiting.shift()
    if (!granted) return
    this.hasTime()
    granted()
  }
}

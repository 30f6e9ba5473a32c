// Time of the simulator. Timers fire in the order of their time and, at one time, of their making; after each one,
// everything that it set in motion (promises, microtasks, next ticks) settles before the next fires. So one seed gives
// one run, whatever the machine does meanwhile.

import type { Clock, Timer } from '../../src/lib/clock.ts'

interface Pending {
  readonly atMs: number
  readonly order: number
  readonly fire: () => void
  cancelled: boolean
}

/** 2026-01-01T00:00:00Z: simulated runs show plausible dates, the same ones each time. */
const WALL_ORIGIN_MS = 1_767_225_600_000

export class VirtualClock implements Clock {
  #nowMs = 0
  #setMs = 0
  #made = 0
  /** A binary heap by (atMs, order). */
  readonly #heap: Pending[] = []

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return WALL_ORIGIN_MS + Math.floor(this.#nowMs) + this.#setMs
  }

  /** Somebody sets the clock ahead, or back. */
  setAhead(byMs: number): void {
    this.#setMs += byMs
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const pending: Pending = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      order: this.#made++,
      fire,
      cancelled: false,
    }
    this.#push(pending)
    return {
      cancel: () => {
        pending.cancelled = true
      },
    }
  }

  /** The time of the next timer; undefined when nothing waits. */
  nextMs(): number | undefined {
    while (this.#heap[0]?.cancelled) this.#pop()
    return this.#heap[0]?.atMs
  }

  /** Lets everything that is ready to run do so; no time passes. */
  settle(): Promise<void> {
    // An immediate runs when the queues of microtasks and next ticks are empty. Nothing in a simulation does real I/O,
    // so nothing else can run in between.
    return new Promise((resolve) => setImmediate(resolve))
  }

  /** Fires the next timer and settles; false when none waits (until `limitMs`). */
  async step(limitMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    await this.settle()
    return this.#fireNext(limitMs)
  }

  /** Runs `durationMs` of virtual time, also when nothing happens in it. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs
    await this.settle()
    while (await this.#fireNext(endMs)) {}
    this.#nowMs = endMs
  }

  /**
   * Steps until `condition` holds; looks after each step.
   * @throws {Error} when it does not within `limitMs` of virtual time.
   */
  async until(condition: () => boolean, limitMs: number, what = 'a condition'): Promise<void> {
    const endMs = this.#nowMs + limitMs
    await this.settle()
    while (!condition()) {
      if (!(await this.#fireNext(endMs)))
        throw new Error(`${what} did not come true within ${limitMs} ms of virtual time`)
    }
  }

  /**
   * Steps until `promise` has settled and returns its outcome.
   * @throws {Error} as `until`, or what the promise rejects with.
   */
  async wait<T>(promise: Promise<T>, limitMs: number, what = 'a promise'): Promise<T> {
    let settled = false
    const done = () => {
      settled = true
    }
    promise.then(done, done)
    await this.until(() => settled, limitMs, what)
    return promise
  }

  async #fireNext(limitMs: number): Promise<boolean> {
    const nextMs = this.nextMs()
    if (nextMs === undefined || nextMs > limitMs) return false
    this.#nowMs = nextMs
    this.#pop().fire()
    await this.settle()
    return true
  }

  #push(pending: Pending): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(pending)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!before(pending, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = pending
  }

  #pop(): Pending {
    const heap = this.#heap
    const first = heap[0]!
    const last = heap.pop()!
    if (heap.length > 0) {
      let at = 0
      for (;;) {
        let child = 2 * at + 1
        if (child >= heap.length) break
        if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
        if (!before(heap[child]!, last)) break
        heap[at] = heap[child]!
        at = child
      }
      heap[at] = last
    }
    return first
  }
}

function before(a: Pending, b: Pending): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** One node's view of the time: its clock runs `rate` times as fast as the true one and is `offsetMs` ahead. */
export class DriftingClock implements Clock {
  readonly #clock: Clock
  readonly #rate: number
  readonly #offsetMs: number

  constructor(clock: Clock, options: { readonly rate?: number; readonly offsetMs?: number }) {
    this.#clock = clock
    this.#rate = options.rate ?? 1
    this.#offsetMs = options.offsetMs ?? 0
  }

  nowMs(): number {
    return this.#clock.nowMs() * this.#rate + this.#offsetMs
  }

  wallMs(): number {
    return this.#clock.wallMs() + this.#offsetMs
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    return this.#clock.setTimer(delayMs / this.#rate, fire)
  }
}

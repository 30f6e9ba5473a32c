// The core simulator's time: a queue of events, each of which runs to its end before the next. Synchronous, unlike
// virtual-clock.ts, so that a run of a minute of virtual time takes milliseconds.

interface Event {
  readonly atMs: number
  readonly order: number
  readonly fire: () => void
}

export class EventQueue {
  /** A binary heap by (atMs, order): events of one time fire in the order of their making. */
  readonly #heap: Event[] = []
  #order = 0
  #nowMs = 0

  get nowMs(): number {
    return this.#nowMs
  }

  after(delayMs: number, fire: () => void): void {
    const event = { atMs: this.#nowMs + delayMs, order: this.#order++, fire }
    let at = this.#heap.length
    this.#heap.push(event)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!before(event, this.#heap[parent]!)) break
      this.#heap[at] = this.#heap[parent]!
      at = parent
    }
    this.#heap[at] = event
  }

  /** Fires the next event; false when none is left before `limitMs`. */
  step(limitMs: number): boolean {
    const event = this.#heap[0]
    if (event === undefined || event.atMs > limitMs) return false
    this.#pop()
    this.#nowMs = event.atMs
    event.fire()
    return true
  }

  #pop(): void {
    const last = this.#heap.pop()!
    const heap = this.#heap
    if (heap.length === 0) return
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
}

function before(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

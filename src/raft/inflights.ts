// The window of appends under way to one follower, bounded by their number and by their bytes.

interface Inflight {
  readonly lastIndex: number
  readonly sizeBytes: number
}

export class Inflights {
  readonly #maxCount: number
  readonly #maxBytes: number
  /** By rising index; the first `#start` of them are answered. */
  #queue: Inflight[] = []
  #start = 0
  #sizeBytes = 0

  constructor(maxCount: number, maxBytes: number) {
    this.#maxCount = maxCount
    this.#maxBytes = maxBytes
  }

  get full(): boolean {
    return this.#queue.length - this.#start >= this.#maxCount || this.#sizeBytes >= this.#maxBytes
  }

  get count(): number {
    return this.#queue.length - this.#start
  }

  add(lastIndex: number, sizeBytes: number): void {
    this.#queue.push({ lastIndex, sizeBytes })
    this.#sizeBytes += sizeBytes
  }

  /** An answer for `index` answers everything before it too. */
  freeTo(index: number): void {
    while (this.#start < this.#queue.length && this.#queue[this.#start]!.lastIndex <= index) {
      this.#sizeBytes -= this.#queue[this.#start]!.sizeBytes
      this.#start++
    }
    if (this.#start > 64 && this.#start * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#start)
      this.#start = 0
    }
  }

  clear(): void {
    this.#queue = []
    this.#start = 0
    this.#sizeBytes = 0
  }
}

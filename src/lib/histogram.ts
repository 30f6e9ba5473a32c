// Durations counted into buckets: a plain object that costs a comparison or a dozen on the hot path. Whoever exports metrics reads it.

/** Upper bounds in milliseconds: those of Docker's own histograms, and two below for what a local disk or one node takes. */
export const LATENCY_BUCKETS_MS: readonly number[] = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000]

export class Histogram {
  /** Upper bounds of the buckets, in milliseconds; one more bucket holds the rest. */
  readonly boundsMs: readonly number[]
  /** One for each bound and one for all above; not cumulative. */
  readonly counts: number[]
  count = 0
  sumMs = 0
  maxMs = 0

  constructor(boundsMs: readonly number[] = LATENCY_BUCKETS_MS) {
    this.boundsMs = boundsMs
    this.counts = new Array<number>(boundsMs.length + 1).fill(0)
  }

  observe(durationMs: number): void {
    const { boundsMs, counts } = this
    let at = 0
    while (at < boundsMs.length && durationMs > boundsMs[at]!) at++
    counts[at] = counts[at]! + 1
    this.count++
    this.sumMs += durationMs
    this.maxMs = Math.max(this.maxMs, durationMs)
  }
}

// How late the event loop is: what every other duration of this process is made worse by.

import { monitorEventLoopDelay } from 'node:perf_hooks'

/** How often the loop is looked at; delays shorter than this go unseen now and then, the longest ones never. */
const RESOLUTION_MS = 10

export interface LoopDelay {
  readonly p99Ms: number
  readonly maxMs: number
}

export class LoopDelayMonitor {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })

  constructor() {
    this.#histogram.enable()
  }

  /** Since the last call. */
  take(): LoopDelay {
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS)
    const { count, max } = this.#histogram
    const delay =
      count === 0 ? { p99Ms: 0, maxMs: 0 } : { p99Ms: late(this.#histogram.percentile(99)), maxMs: late(max) }
    this.#histogram.reset()
    return delay
  }

  close(): void {
    this.#histogram.disable()
  }
}

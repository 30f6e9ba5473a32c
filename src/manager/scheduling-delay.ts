// How long tasks take from their making until they run: Swarm's `swarm_dispatcher_scheduling_delay_seconds`.

import { parseTime } from '../lib/clock.ts'
import { Histogram } from '../lib/histogram.ts'
import type { StoreEvent } from './store/types.ts'

/** Containers take longer than writes. */
const BUCKETS_MS: readonly number[] = [25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000]

export class SchedulingDelay {
  readonly histogram = new Histogram(BUCKETS_MS)

  /** Called within `apply`, for the entries that are applied while this manager leads. */
  observe(events: readonly StoreEvent[]): void {
    for (const { old, new: next } of events) {
      if (next?.kind !== 'task' || old?.kind !== 'task') continue
      if (next.status.state !== 'running' || old.status.state === 'running') continue
      const delayMs = parseTime(next.meta.updatedAt) - parseTime(next.meta.createdAt)
      if (delayMs >= 0) this.histogram.observe(delayMs)
    }
  }
}

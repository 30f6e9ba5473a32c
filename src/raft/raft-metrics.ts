// Counters of one RaftNode, as a plain object that whoever exports metrics reads.

/** Upper bounds of the buckets, in milliseconds; one more bucket holds the rest. */
export const SYNC_BUCKETS_MS: readonly number[] = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

export interface Histogram {
  /** One for each of SYNC_BUCKETS_MS and one for all above; not cumulative. */
  readonly counts: number[]
  count: number
  sumMs: number
  maxMs: number
}

/** All counters rise from 0 since the start of the process, except where it says `now`. */
export interface RaftMetrics {
  appendedEntries: number
  appliedEntries: number
  /** Durable writes: many entries may share one. */
  readonly sync: Histogram
  syncedRecords: number
  proposals: number
  proposalsRefused: number
  /** Elections that this node started. */
  campaigns: number
  /** Changes of the leader that this node has seen. */
  leaderChanges: number
  snapshotsTaken: number
  snapshotsSent: number
  snapshotsReceived: number
  messagesSent: number
  messagesReceived: number
  /** The longest uninterrupted time of applying entries. */
  maxApplySliceMs: number
}

export function newRaftMetrics(): RaftMetrics {
  return {
    appendedEntries: 0,
    appliedEntries: 0,
    sync: { counts: new Array<number>(SYNC_BUCKETS_MS.length + 1).fill(0), count: 0, sumMs: 0, maxMs: 0 },
    syncedRecords: 0,
    proposals: 0,
    proposalsRefused: 0,
    campaigns: 0,
    leaderChanges: 0,
    snapshotsTaken: 0,
    snapshotsSent: 0,
    snapshotsReceived: 0,
    messagesSent: 0,
    messagesReceived: 0,
    maxApplySliceMs: 0,
  }
}

export function observe(histogram: Histogram, durationMs: number): void {
  const bucket = SYNC_BUCKETS_MS.findIndex((bound) => durationMs <= bound)
  const at = bucket === -1 ? SYNC_BUCKETS_MS.length : bucket
  histogram.counts[at] = histogram.counts[at]! + 1
  histogram.count++
  histogram.sumMs += durationMs
  histogram.maxMs = Math.max(histogram.maxMs, durationMs)
}

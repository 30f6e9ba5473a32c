// Counters of one RaftNode, as a plain object that whoever exports metrics reads.

import { Histogram } from '../lib/histogram.ts'

/** Upper bounds in milliseconds. */
const SYNC_BUCKETS_MS: readonly number[] = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]

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
  /** From the first byte of a snapshot until it is durable. */
  readonly snapshot: Histogram
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
    sync: new Histogram(SYNC_BUCKETS_MS),
    syncedRecords: 0,
    proposals: 0,
    proposalsRefused: 0,
    campaigns: 0,
    leaderChanges: 0,
    snapshotsTaken: 0,
    snapshot: new Histogram(),
    snapshotsSent: 0,
    snapshotsReceived: 0,
    messagesSent: 0,
    messagesReceived: 0,
    maxApplySliceMs: 0,
  }
}

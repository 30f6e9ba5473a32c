// What goes into the core and comes out of it: its options, the Ready batches that its driver performs, and its status.

import type { Random } from '../lib/random.ts'
import type { SafetyRules } from './rules.ts'
import type {
  ConfState,
  Entry,
  HardState,
  Message,
  ProgressState,
  RaftId,
  RefusalCode,
  Role,
  SnapshotMeta,
  StoredState,
} from './types.ts'

/** The core knows no time: all durations are numbers of `tick()` calls. */
export interface CoreLimits {
  /** A follower campaigns after a random silence in [electionTicks, 2 * electionTicks). */
  readonly electionTicks: number
  readonly heartbeatTicks: number
  /** Entries of one append message; one entry always fits. */
  readonly maxMessageBytes: number
  /** Appends under way to one follower. */
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
  /** What a leader holds uncommitted before it refuses proposals with RAFT_BACKPRESSURE. */
  readonly maxUncommittedBytes: number
  /** Committed entries in one Ready, so that applying them stays a short slice. */
  readonly maxReadyBytes: number
  /** Reads and forwarded proposals that wait for an answer, each. */
  readonly maxPendingRequests: number
  /**
   * That an entry is committed goes with the next append or heartbeat, or when the driver says so (`tellCommit`); else in a
   * message of its own, at once.
   */
  readonly commitNewsWaits: boolean
}

export interface CoreOptions {
  readonly id: RaftId
  readonly random: Random
  readonly stored: StoredState
  /** Default: DEFAULT_LIMITS, made for a tick of 100 ms. */
  readonly limits?: Partial<CoreLimits>
  /** Default: SAFETY_RULES. Only tests give others. */
  readonly rules?: SafetyRules
}

/** What became of a proposal, by the id that its proposer gave. `appended` is not yet `committed`: watch the index. */
export type ProposalResult =
  | { readonly kind: 'appended'; readonly requestId: number; readonly index: number; readonly term: number }
  | { readonly kind: 'refused'; readonly requestId: number; readonly code: RefusalCode }

/** `confirmed`: the read is linearizable once `index` is applied. */
export type ReadResult =
  | { readonly kind: 'confirmed'; readonly requestId: number; readonly index: number }
  | { readonly kind: 'refused'; readonly requestId: number; readonly code: RefusalCode }

export interface SoftState {
  readonly role: Role
  readonly term: number
  /** Empty while none is known. */
  readonly leader: RaftId | ''
}

/**
 * One batch of work for the driver. Batches may overlap (the next one may be taken while this one is being written), but
 * are written and applied in the order of `seq`.
 *
 * 1. Send `messages` at once, in parallel with the write (dissertation §10.2.1).
 * 2. If `mustPersist`: write `snapshot` (its state was already received; the log before and after it goes), then
 *    `hardState`, then `entries` (from `entries[0].index` on they replace what is there), atomically and synced; then
 *    send `messagesAfterPersist` and call `core.persisted(seq)`. It may be a batch without writes: it still waits its turn.
 * 3. Apply `snapshot` and then `committed`, in order; after each slice call `core.applied(index)`.
 *    They may be applied before this batch is written: only entries that an earlier batch made durable are in it.
 *    A snapshot's state is only to be loaded, and `applied` called for it, once this batch is written.
 *    A config entry is applied by the core itself; the driver only counts it as applied.
 *
 * An install-snapshot message that was stepped shows up in `snapshot` only if it is needed; else its state is dropped.
 */
export interface Ready {
  /** From 1, without gaps. */
  readonly seq: number
  readonly mustPersist: boolean
  readonly hardState: HardState | undefined
  readonly snapshot: SnapshotMeta | undefined
  readonly entries: readonly Entry[]
  readonly messages: readonly Message[]
  readonly messagesAfterPersist: readonly Message[]
  readonly committed: readonly Entry[]
  readonly proposals: readonly ProposalResult[]
  readonly reads: readonly ReadResult[]
  /** Set when it changed. */
  readonly softState: SoftState | undefined
  /** The configuration in force, with every member's address, when it changed. */
  readonly conf: ConfState | undefined
}

export interface PeerStatus {
  readonly id: RaftId
  readonly state: ProgressState
  readonly match: number
  readonly next: number
  readonly recentlyActive: boolean
}

export interface CoreStatus extends SoftState {
  readonly id: RaftId
  readonly vote: RaftId | ''
  /**
   * This member was removed and knows it, and the others can do without it: it may stop. (Before that they may need its
   * vote, though it is no longer in `conf`.)
   */
  readonly retired: boolean
  readonly commit: number
  readonly applied: number
  readonly firstIndex: number
  readonly lastIndex: number
  /** Bytes of the entries kept in memory, that is since the last compaction. */
  readonly logBytes: number
  readonly conf: ConfState
  /** Where a leadership transfer under way goes to, else empty. */
  readonly transferee: RaftId | ''
  /** On a leader: the others. */
  readonly peers: readonly PeerStatus[]
}

export const DEFAULT_LIMITS: CoreLimits = {
  electionTicks: 10,
  heartbeatTicks: 2,
  maxMessageBytes: 1024 * 1024,
  maxInflightMessages: 256,
  maxInflightBytes: 8 * 1024 * 1024,
  maxUncommittedBytes: 32 * 1024 * 1024,
  maxReadyBytes: 1024 * 1024,
  maxPendingRequests: 16_384,
  commitNewsWaits: false,
}

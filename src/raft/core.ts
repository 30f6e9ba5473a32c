// INTERFACE FIRST: bodies follow within minutes. The deterministic Raft core; it never reads storage (the log since the last compaction is in memory),
// so its driver compacts by entries (10,000, 500 kept) or by bytes (status().logBytes), whichever comes first.

import type { CoreOptions, CoreStatus, Ready } from './core-types.ts'
import type { ConfChange, ConfState, Message, RaftId, RefusalCode, SnapshotMeta, StoredState } from './types.ts'

/** What a member that joins an existing cluster starts from. */
export const EMPTY_STATE: StoredState = {
  hardState: { term: 0, vote: '', commit: 0 },
  snapshot: { index: 0, term: 0, conf: { voters: [], learners: [], outgoing: [], learnersNext: [], members: [] } },
  entries: [],
}

/** What a new cluster's first member starts from: an (empty) snapshot at index 1, term 1, so that joiners always get a snapshot first. To be persisted before the core is made. */
export declare function bootstrapState(conf: ConfState): StoredState

export declare class RaftCore {
  constructor(options: CoreOptions)

  tick(): void
  step(message: Message): void

  /** Outcome in Ready.proposals. Followers forward. `requestId`s of one core must rise. */
  propose(data: Uint8Array, requestId: number): void
  /** Only on the leader (RAFT_NOT_LEADER else). Returns where it was appended: committed and in force once applied there. */
  proposeConfChange(change: ConfChange): { readonly kind: 'appended'; readonly index: number; readonly term: number } | { readonly kind: 'refused'; readonly code: RefusalCode }
  /** Outcome in Ready.reads; lost messages leave it without one, so the driver gives it a deadline. */
  readIndex(requestId: number): void
  /** Undefined: under way (status().transferee), given up after electionTicks. */
  transferLeadership(to: RaftId): RefusalCode | undefined

  /** The connection to the leader closed and a reconnect was refused: its lease on this member's vote ends now. */
  leaderLost(leader: RaftId): void
  /** Starts a pre-vote now (the driver calls it after its jitter, if status().leader is still ''). No-op on leaders and learners. */
  campaignNow(): void

  /** A message to `peer` was dropped or its connection closed. */
  reportUnreachable(peer: RaftId): void
  /** The stream announced by an install-snapshot message ended. */
  reportSnapshot(peer: RaftId, ok: boolean): void

  /** The next batch, already accepted by this call; undefined if there is nothing to do. Call after every input, in a loop until undefined. */
  ready(): Ready | undefined
  /** Ready `seq` (with mustPersist) and all before it are durable. */
  persisted(seq: number): void
  /** Everything up to `index` is in the state machine. */
  applied(index: number): void

  /** Meta for a snapshot of the state machine as it is now (at the last applied index). Take the view of the state in the same turn. */
  snapshotMeta(): SnapshotMeta
  /** A snapshot is durable: entries before `firstKept` may go from memory (storage's own copy is the driver's). */
  compact(snapshot: SnapshotMeta, firstKept: number): void

  status(): CoreStatus
}

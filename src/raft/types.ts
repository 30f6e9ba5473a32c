// The words of the consensus core: what it stores, what it says to its peers and what it asks its driver to do.
// Names follow the Raft dissertation (Ongaro 2014) and its common implementations.

/** Id of one incarnation of a member; opaque to Raft, never reused after a removal. */
export type RaftId = string

export type EntryKind = 'normal' | 'config'

/** `data` is opaque for a normal entry (empty for a new leader's first), an encoded ConfChange for `config`. */
export interface Entry {
  readonly term: number
  readonly index: number
  readonly kind: EntryKind
  readonly data: Uint8Array
}

export const MAX_ENTRY_BYTES = 1024 * 1024

/** Durable per-node state: written before any message that depends on it leaves. */
export interface HardState {
  readonly term: number
  readonly vote: RaftId | ''
  readonly commit: number
}

/** A member's address book entry; it travels with membership changes, so that every member can dial every other. */
export interface Member {
  readonly id: RaftId
  /** `host:port` of the control port; may change through an `update` change. */
  readonly address: string
}

/** Who takes part. `outgoing` is not empty only within a joint configuration (dissertation §4.3). */
export interface ConfState {
  readonly voters: readonly RaftId[]
  readonly learners: readonly RaftId[]
  readonly outgoing: readonly RaftId[]
  /** Voters of the old configuration that become learners when the joint one is left. */
  readonly learnersNext: readonly RaftId[]
  /** Address book of all of the above. */
  readonly members: readonly Member[]
}

export type ConfChangeStep =
  | { readonly kind: 'add-voter'; readonly member: Member }
  | { readonly kind: 'add-learner'; readonly member: Member }
  | { readonly kind: 'remove'; readonly id: RaftId }
  | { readonly kind: 'update'; readonly member: Member }

/** One step changes the membership at once; several go through a joint configuration which the leader leaves by itself. */
export interface ConfChange {
  readonly steps: readonly ConfChangeStep[]
}

export interface SnapshotMeta {
  readonly index: number
  readonly term: number
  readonly conf: ConfState
}

/**
 * All that a member has on disk when it starts. Entries have no gap between them nor after the snapshot; some may lie
 * before its index (kept for slow followers). A cluster's first member starts from `bootstrapState`, one that joins from
 * `EMPTY_STATE`: it gets its first configuration in a snapshot.
 */
export interface StoredState {
  readonly hardState: HardState
  readonly snapshot: SnapshotMeta
  readonly entries: readonly Entry[]
}

/**
 * Why the core refused a request. Of these only BACKPRESSURE, CONF_PENDING and TRANSFER pass by themselves on the same
 * leader; ENTRY_TOO_LARGE and CONF_INVALID never do; after the others the request may be tried again elsewhere.
 * On a proposal LEADER_CHANGED and NO_ANSWER mean that its fate is unknown, every other code that it was not appended.
 */
export type RefusalCode =
  | 'RAFT_NO_LEADER'
  | 'RAFT_NOT_LEADER'
  | 'RAFT_LEADER_CHANGED'
  | 'RAFT_NO_ANSWER'
  | 'RAFT_BACKPRESSURE'
  | 'RAFT_TRANSFER'
  | 'RAFT_ENTRY_TOO_LARGE'
  | 'RAFT_CONF_PENDING'
  | 'RAFT_CONF_INVALID'
  | 'RAFT_NOT_A_VOTER'

/** How the core replicates to one peer (dissertation §10.2.1; probe: one message in flight until it answers). */
export type ProgressState = 'probe' | 'replicate' | 'snapshot'

export type Role = 'follower' | 'pre-candidate' | 'candidate' | 'leader'

interface Envelope {
  readonly from: RaftId
  readonly to: RaftId
  readonly term: number
}

/** Every message between peers. Snapshots' contents do not travel here: see `InstallSnapshot`. */
export type Message = Envelope &
  (
    | {
        readonly kind: 'append'
        readonly prevIndex: number
        readonly prevTerm: number
        readonly entries: readonly Entry[]
        readonly commit: number
      }
    /** `index`: the last one that matches, or, rejecting, the `prevIndex` that was refused; the hint is the follower's best guess of where logs agree. */
    | {
        readonly kind: 'append-reply'
        readonly index: number
        readonly reject: boolean
        readonly hintIndex: number
        readonly hintTerm: number
      }
    | { readonly kind: 'heartbeat'; readonly commit: number; readonly readContext: number }
    | { readonly kind: 'heartbeat-reply'; readonly readContext: number }
    | {
        readonly kind: 'vote'
        readonly pre: boolean
        readonly lastIndex: number
        readonly lastTerm: number
        readonly transfer: boolean
      }
    | { readonly kind: 'vote-reply'; readonly pre: boolean; readonly granted: boolean }
    /** Announces a snapshot; the driver streams its chunks beside it and steps the message at the receiver when all are there. */
    | { readonly kind: 'install-snapshot'; readonly meta: SnapshotMeta }
    | { readonly kind: 'timeout-now' }
    /** `session` names one run of the sender's process: ids of requests are unique and rise only within it. */
    | {
        readonly kind: 'propose'
        readonly session: number
        readonly requestIds: readonly number[]
        readonly proposals: readonly Uint8Array[]
      }
    /** Appended at `index` and the following ones in the reply's term, or (`code` not empty) refused, all of them. */
    | {
        readonly kind: 'propose-reply'
        readonly session: number
        readonly requestIds: readonly number[]
        readonly index: number
        readonly code: RefusalCode | ''
      }
    | { readonly kind: 'read-index'; readonly session: number; readonly requestIds: readonly number[] }
    | {
        readonly kind: 'read-index-reply'
        readonly session: number
        readonly requestIds: readonly number[]
        readonly index: number
        readonly code: RefusalCode | ''
      }
  )

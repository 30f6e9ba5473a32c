// What RaftNode needs and gives: its options with their defaults, the state machine it drives, its status and events.

import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import type { CoreLimits } from './core-types.ts'
import type { RaftStorage } from './raft-storage.ts'
import type { RaftTransport } from './transport.ts'
import { type ConfState, MAX_ENTRY_BYTES, type ProgressState, type RaftId, type Role } from './types.ts'

export interface StateMachine<Result> {
  /**
   * Executes a committed entry: called once for each, in their order, on every member. Synchronous and total: whatever
   * the entry says, it answers; a throw stops the node.
   */
  apply(entry: { readonly index: number; readonly term: number; readonly data: Uint8Array }): Result
  /**
   * Called between two entries: takes a view of the state at once; encoding it happens while the result is iterated, in
   * slices of at most 20 ms and chunks of at most 1 MiB. Entries are applied meanwhile. Chunks reach `restore` as they are.
   */
  snapshot(): AsyncIterable<Uint8Array>
  /** Replaces the whole state by that of a snapshot; nothing is applied until it resolves. A throw stops the node. */
  restore(chunks: AsyncIterable<Uint8Array>): Promise<void>
}

export interface RaftConfig {
  /** Length of a tick; the core's durations are numbers of ticks. With the defaults a silence of 1–2 s starts an election. */
  readonly tickMs: number
  /** A snapshot is made after this many entries, or `snapshotLogBytes` of them. */
  readonly snapshotInterval: number
  readonly snapshotLogBytes: number
  /** Entries before a snapshot that stay for slow followers, as long as they have at most `keepBytes`. */
  readonly keepEntries: number
  readonly keepBytes: number
  /** Applying entries leaves the event loop to others after this time. */
  readonly applySliceMs: number
  /** After this a proposal or read without an outcome is given up. */
  readonly requestTimeoutMs: number
  /** Proposals that have no outcome yet; more are refused with PROPOSAL_QUEUE_FULL. Bounds what one turn may have to write. */
  readonly maxPendingProposals: number
  /** So long the news that an entry is committed waits for the next append; 0: it does not. Reads do not wait for it. */
  readonly commitNewsMs: number
  /** When the leader's process has ended: wait a random time in [min, max] before a pre-vote. */
  readonly leaderLossJitterMs: readonly [min: number, max: number]
  readonly limits: Partial<CoreLimits>
}

export const DEFAULT_RAFT_CONFIG: RaftConfig = {
  tickMs: 100,
  snapshotInterval: 10_000,
  snapshotLogBytes: 64 * 1024 * 1024,
  keepEntries: 500,
  keepBytes: 8 * 1024 * 1024,
  applySliceMs: 10,
  requestTimeoutMs: 10_000,
  maxPendingProposals: 4_096,
  commitNewsMs: 10,
  leaderLossJitterMs: [10, 60],
  limits: {},
}

/** The data of a proposal; an entry is this and a short envelope. */
export const MAX_PROPOSAL_BYTES = MAX_ENTRY_BYTES - 64

export interface RaftNodeOptions<Result> {
  readonly id: RaftId
  /** Belongs to the node from now on: it opens and closes it. */
  readonly storage: RaftStorage
  readonly stateMachine: StateMachine<Result>
  /** Belongs to the node from now on: it starts and closes it. */
  readonly transport: RaftTransport
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Default: DEFAULT_RAFT_CONFIG. */
  readonly config?: Partial<RaftConfig>
}

export interface PeerProgress {
  readonly id: RaftId
  readonly state: ProgressState
  /** The last entry known to be in the peer's log. */
  readonly match: number
  readonly recentActive: boolean
}

export interface RaftNodeStatus {
  readonly id: RaftId
  readonly role: Role
  readonly term: number
  readonly leader: RaftId | undefined
  readonly leaderAddress: string | undefined
  /** Set while this node leads as its last `leadership` event said. */
  readonly leadsInTerm: number | undefined
  readonly commit: number
  readonly applied: number
  readonly firstIndex: number
  readonly lastIndex: number
  readonly conf: ConfState
  /** On a leader: the other members. */
  readonly peers: readonly PeerProgress[]
}

export type RaftNodeEvent =
  /**
   * `isLeader`: the first entry of `term` is applied here, so this node's state machine is complete and its proposals
   * in this term are accepted; or that has ended.
   */
  | { readonly kind: 'leadership'; readonly isLeader: boolean; readonly term: number }
  /** Who is known to lead, as for redirecting clients; it may be gone already. */
  | {
      readonly kind: 'leader'
      readonly leader: RaftId | undefined
      readonly address: string | undefined
      readonly term: number
    }
  | { readonly kind: 'membership'; readonly conf: ConfState }
  /** This node is no longer a member: its removal was applied here. */
  | { readonly kind: 'removed' }
  /** `by` does not talk to this node any more, as after a removal that this node has not heard of. */
  | { readonly kind: 'forbidden'; readonly by: RaftId }

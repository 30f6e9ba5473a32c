// The rules on which Raft's safety rests, each a small pure function in one place. They are handed to the core, so that
// the tests can break one at a time and prove that the simulator's checkers notice.

import type { VoterSets } from './quorum.ts'
import type { ConfState, RaftId } from './types.ts'

export interface SafetyRules {
  /** A member votes for at most one candidate a term (paper §5.2). */
  mayVote(votedFor: RaftId | '', candidate: RaftId): boolean
  /** A leader commits by counting only entries of its own term (paper §5.4.2). */
  mayCommit(entryTerm: number, currentTerm: number): boolean
  /** A leader counts itself only for what it has synced (dissertation §10.2.1). */
  ownMatch(durableIndex: number, lastIndex: number): number
  /** A snapshot never replaces newer state (paper §7). */
  mayRestore(snapshotIndex: number, commitIndex: number): boolean
  /** Only members of the configuration in force count, in both halves of a joint one (paper §6). */
  voterSets(conf: ConfState): VoterSets
}

export const SAFETY_RULES: SafetyRules = {
  mayVote: (votedFor, candidate) => votedFor === '' || votedFor === candidate,
  mayCommit: (entryTerm, currentTerm) => entryTerm === currentTerm,
  ownMatch: (durableIndex) => durableIndex,
  mayRestore: (snapshotIndex, commitIndex) => snapshotIndex > commitIndex,
  voterSets: (conf) => conf,
}

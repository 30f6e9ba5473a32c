// Majorities, and pairs of them: in a joint configuration both halves must agree (dissertation §4.3).

import type { RaftId } from './types.ts'

/** Whose answers count. `outgoing` is empty outside a joint configuration. */
export interface VoterSets {
  readonly voters: readonly RaftId[]
  readonly outgoing: readonly RaftId[]
}

export type VoteResult = 'won' | 'lost' | 'pending'

/** The highest value that a quorum of both halves has reached; Infinity where nobody votes. */
export function quorumValue(sets: VoterSets, reached: (id: RaftId) => number): number {
  return Math.min(majorityValue(sets.voters, reached), majorityValue(sets.outgoing, reached))
}

/** Whether a quorum of both halves satisfies `test`. */
export function hasQuorum(sets: VoterSets, test: (id: RaftId) => boolean): boolean {
  return quorumValue(sets, (id) => (test(id) ? 1 : 0)) >= 1
}

/** The state of a ballot: `votes` holds the answers so far. Votes of others than the voters do not count. */
export function voteResult(sets: VoterSets, votes: ReadonlyMap<RaftId, boolean>): VoteResult {
  if (hasQuorum(sets, (id) => votes.get(id) === true)) return 'won'
  return hasQuorum(sets, (id) => votes.get(id) !== false) ? 'pending' : 'lost'
}

export function isVoter(sets: VoterSets, id: RaftId): boolean {
  return sets.voters.includes(id) || sets.outgoing.includes(id)
}

/** Every voter once, in the order of the configuration. */
export function allVoters(sets: VoterSets): readonly RaftId[] {
  return [...new Set([...sets.voters, ...sets.outgoing])]
}

function majorityValue(voters: readonly RaftId[], reached: (id: RaftId) => number): number {
  if (voters.length === 0) return Infinity
  const values = voters.map(reached).sort((a, b) => b - a)
  return values[Math.floor(values.length / 2)]!
}

// Both sides of an election: when to campaign and how the votes stand, and whom to give one's own (paper §5.2, §5.4.1;
// dissertation §4.2.3 on disruptive members, §9.6 on PreVote).

import type { CoreContext } from './context.ts'
import { type VoteResult, voteResult } from './quorum.ts'
import type { Message, RaftId } from './types.ts'

type VoteRequest = Extract<Message, { readonly kind: 'vote' }>

export class Election {
  readonly #context: CoreContext
  readonly #votes = new Map<RaftId, boolean>()
  /** Ticks since the leader was heard of, the campaign began or the vote was given. */
  #elapsed = 0
  #timeoutTicks = 0

  constructor(context: CoreContext) {
    this.#context = context
    this.reset()
  }

  /** Starts to wait anew, for another random time: ties break sooner or later (paper §5.2). */
  reset(): void {
    const { random, limits } = this.#context
    this.#elapsed = 0
    this.#timeoutTicks = limits.electionTicks + random.below(limits.electionTicks)
  }

  /** The leader is alive. */
  heardLeader(): void {
    this.#elapsed = 0
  }

  /** Returns whether it is time to campaign. */
  tick(): boolean {
    this.#elapsed++
    if (this.#elapsed < this.#timeoutTicks) return false
    this.reset()
    return true
  }

  /** A member that heard of its leader within the shortest election timeout takes no part in replacing it. */
  get leaseHolds(): boolean {
    return this.#elapsed < this.#context.limits.electionTicks
  }

  /** Asks everyone. The caller has set the term and the vote for a real election; a pre-vote only asks about the next term. */
  ask(pre: boolean, transfer: boolean): void {
    this.#votes.clear()
    const { id, log, outbox, membership, ballot } = this.#context
    const body = { kind: 'vote', pre, lastIndex: log.lastIndex, lastTerm: log.lastTerm, transfer } as const
    for (const voter of membership.voters()) {
      if (voter === id) continue
      // A real candidate's request waits for the disk: after a crash it must not ask twice in a term with another log.
      if (pre) outbox.send(voter, body, ballot.term + 1)
      else outbox.sendAfterPersist(voter, body)
    }
  }

  record(voter: RaftId, granted: boolean): VoteResult {
    if (!this.#votes.has(voter)) this.#votes.set(voter, granted)
    return voteResult(this.#context.membership.sets, this.#votes)
  }

  /** Answers a request of the present term, or a pre-vote's of a later one. `leader`: whom this member follows in its term. */
  answer(request: VoteRequest, leader: RaftId | ''): void {
    const { ballot, log, outbox, rules } = this.#context
    const free = request.pre
      ? request.term > ballot.term
      : rules.mayVote(ballot.vote, request.from) && (leader === '' || leader === request.from)
    if (!free || !log.isUpToDate(request.lastIndex, request.lastTerm)) {
      outbox.send(request.from, { kind: 'vote-reply', pre: request.pre, granted: false })
    } else if (request.pre) {
      outbox.send(request.from, { kind: 'vote-reply', pre: true, granted: true }, request.term)
    } else {
      ballot.cast(request.from)
      this.#elapsed = 0
      outbox.sendAfterPersist(request.from, { kind: 'vote-reply', pre: false, granted: true })
    }
  }
}

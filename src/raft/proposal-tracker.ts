// The proposals of this node that have no outcome yet, and how each comes to one: by its entry, by another entry in its
// place, or by the end of the term in which it could have been appended.

import { CodedError } from '../lib/errors.ts'
import type { ProposalResult } from './core-types.ts'
import type { RaftId, RefusalCode } from './types.ts'

interface Pending<Result> {
  readonly resolve: (result: Result) => void
  readonly reject: (error: CodedError) => void
  readonly deadlineMs: number
  /** Set for one that may only be appended by this node as leader of that term. */
  readonly asLeaderIn: number | undefined
  /** The term in which it was handed over; an entry of a later one proves that it came too late. */
  term: number
  index: number | undefined
}

export class ProposalTracker<Result> {
  readonly #pending = new Map<number, Pending<Result>>()
  readonly #byIndex = new Map<number, number>()
  /** Of the last entry that was seen here. */
  #appliedTerm = 0

  get size(): number {
    return this.#pending.size
  }

  add(
    requestId: number,
    proposal: { readonly term: number; readonly asLeaderIn: number | undefined; readonly deadlineMs: number },
  ): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#pending.set(requestId, { ...proposal, resolve, reject, index: undefined })
    })
  }

  /** What the core says became of it. */
  report(result: ProposalResult, leader: RaftId | undefined): void {
    const pending = this.#pending.get(result.requestId)
    if (!pending) return
    if (result.kind === 'refused') {
      // Its fate shows when an entry of a later term arrives, or at the deadline.
      const unsettled = result.code === 'RAFT_LEADER_CHANGED' || result.code === 'RAFT_NO_ANSWER'
      if (!unsettled || pending.asLeaderIn !== undefined)
        this.#reject(result.requestId, pending, refusal(result.code, leader))
      return
    }
    pending.index = result.index
    pending.term = result.term
    this.#byIndex.set(result.index, result.requestId)
    if (result.term < this.#appliedTerm) this.#reject(result.requestId, pending, dropped())
  }

  /** An entry was applied; `requestId` is set if this node proposed it. */
  applied(entry: { readonly index: number; readonly term: number }, requestId?: number, result?: Result): void {
    if (entry.term > this.#appliedTerm) this.#termBegins(entry.term, requestId)
    const expected = this.#byIndex.get(entry.index)
    if (expected !== undefined && expected !== requestId) {
      const pending = this.#pending.get(expected)
      if (pending) this.#reject(expected, pending, dropped())
    }
    if (requestId === undefined) return
    const pending = this.#pending.get(requestId)
    if (!pending) return
    this.#forget(requestId, pending)
    pending.resolve(result as Result)
  }

  /** The state machine took the state of a snapshot: the results of entries up to `index` were not seen here. */
  restored(index: number, term: number): void {
    for (const [requestId, pending] of this.#pending)
      if (pending.index === undefined ? pending.term < term : pending.index <= index)
        this.#reject(requestId, pending, unknown('its result is in a snapshot'))
    this.#appliedTerm = Math.max(this.#appliedTerm, term)
  }

  /** This node leads no more: who must be leader for its proposal waits no longer. */
  leadershipLost(): void {
    for (const [requestId, pending] of this.#pending)
      if (pending.asLeaderIn !== undefined)
        this.#reject(requestId, pending, unknown('this manager is no longer the leader'))
  }

  expire(nowMs: number): void {
    for (const [requestId, pending] of this.#pending) {
      // In the order of their making, and all wait equally long.
      if (pending.deadlineMs > nowMs) return
      this.#reject(requestId, pending, unknown('no quorum of managers answered in time'))
    }
  }

  close(error: CodedError): void {
    for (const pending of this.#pending.values()) pending.reject(error)
    this.#pending.clear()
    this.#byIndex.clear()
  }

  /** Terms only rise along the log: what an earlier one could still have brought is here, or never comes. */
  #termBegins(term: number, requestId: number | undefined): void {
    this.#appliedTerm = term
    for (const [id, pending] of this.#pending) {
      if (id === requestId || pending.term >= term) continue
      // One without an index was sent to a leader that never answered: it may still arrive at the new one.
      this.#reject(id, pending, pending.index === undefined ? unknown('the leader changed') : dropped())
    }
  }

  #reject(requestId: number, pending: Pending<Result>, error: CodedError): void {
    this.#forget(requestId, pending)
    pending.reject(error)
  }

  #forget(requestId: number, pending: Pending<Result>): void {
    this.#pending.delete(requestId)
    if (pending.index !== undefined && this.#byIndex.get(pending.index) === requestId)
      this.#byIndex.delete(pending.index)
  }
}

/** Certainly not applied, now or later. */
export function dropped(): CodedError {
  return new CodedError('PROPOSAL_DROPPED', 'the proposal was not applied: the leader changed', { retryable: true })
}

export function unknown(why: string): CodedError {
  return new CodedError('PROPOSAL_UNKNOWN', `it is unknown whether the proposal was or will be applied: ${why}`)
}

export function noLeader(): CodedError {
  return new CodedError(
    'NO_LEADER',
    'The swarm does not have a leader. It’s possible that too few managers are online.',
    { retryable: true },
  )
}

export function notLeader(leader: RaftId | undefined): CodedError {
  return new CodedError('NOT_LEADER', 'this manager is not the leader', {
    retryable: true,
    details: leader === undefined ? {} : { leader },
  })
}

/** The core's refusals in the codes of this folder's callers. */
export function refusal(code: RefusalCode, leader: RaftId | undefined): CodedError {
  switch (code) {
    case 'RAFT_NO_LEADER':
      return noLeader()
    case 'RAFT_NOT_LEADER':
    case 'RAFT_NOT_A_VOTER':
      return notLeader(leader)
    case 'RAFT_LEADER_CHANGED':
    case 'RAFT_NO_ANSWER':
      return unknown('the leader changed')
    case 'RAFT_BACKPRESSURE':
      return queueFull()
    case 'RAFT_TRANSFER':
      return new CodedError('PROPOSAL_DROPPED', 'the leader is handing over to another manager', { retryable: true })
    case 'RAFT_ENTRY_TOO_LARGE':
      return new CodedError('PROPOSAL_TOO_LARGE', 'the proposal is larger than an entry may be')
    case 'RAFT_CONF_PENDING':
      return new CodedError('MEMBERSHIP_CHANGE_PENDING', 'another membership change is under way', { retryable: true })
    case 'RAFT_CONF_INVALID':
      return new CodedError('MEMBERSHIP_CHANGE_INVALID', 'the membership change is not possible')
    default:
      // Of a newer build's leader: it was refused, whatever the reason.
      return new CodedError('PROPOSAL_DROPPED', `the leader refused the proposal: ${String(code)}`, { retryable: true })
  }
}

export function queueFull(): CodedError {
  return new CodedError('PROPOSAL_QUEUE_FULL', 'too many proposals are under way', { retryable: true })
}

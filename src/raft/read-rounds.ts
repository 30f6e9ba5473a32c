// Linearizable reads without the log (dissertation §6.4, ReadIndex): the leader notes its commit index and proves with
// one round of heartbeats that it still leads. All reads that arrive while a round is out share the next one.

import type { CoreContext } from './context.ts'
import { quorumValue } from './quorum.ts'
import type { RaftId, RefusalCode } from './types.ts'

interface Waiting {
  readonly from: RaftId
  readonly session: number
  readonly requestIds: readonly number[]
  readonly index: number
  /** The round that proves it, once that has begun. */
  round: number | undefined
}

export class ReadRounds {
  readonly #context: CoreContext
  #waiting: Waiting[] = []
  /** Number of the last round begun; heartbeats carry it and their answers return it. */
  #round = 0
  #confirmed = 0

  constructor(context: CoreContext) {
    this.#context = context
  }

  get round(): number {
    return this.#round
  }

  get count(): number {
    return this.#waiting.length
  }

  add(from: RaftId, session: number, requestIds: readonly number[]): void {
    this.#waiting.push({ from, session, requestIds, index: this.#context.log.commit, round: undefined })
  }

  /** Returns whether a round begins, so that heartbeats are to be sent. `force`: although the last one is still out. */
  begin(force: boolean): boolean {
    if (!force && this.#confirmed < this.#round) return false
    const next = this.#waiting.filter((waiting) => waiting.round === undefined)
    if (next.length === 0) return false
    this.#round++
    for (const waiting of next) waiting.round = this.#round
    return true
  }

  /** Answers the reads of every round that a quorum has seen. `seenBy` gives the last round that another member answered. */
  confirm(seenBy: (id: RaftId) => number): void {
    const { id, membership } = this.#context
    const confirmed = quorumValue(membership.sets, (voter) => (voter === id ? Infinity : seenBy(voter)))
    this.#confirmed = Math.min(confirmed, this.#round)
    const done = this.#waiting.filter((waiting) => (waiting.round ?? Infinity) <= this.#confirmed)
    if (done.length === 0) return
    this.#waiting = this.#waiting.filter((waiting) => (waiting.round ?? Infinity) > this.#confirmed)
    for (const waiting of done) this.#answer(waiting)
  }

  /** Leadership ends: nobody can answer these any more. */
  refuse(code: RefusalCode): void {
    for (const { from, session, requestIds } of this.#waiting)
      refuseReads(this.#context, from, session, requestIds, code)
    this.#waiting = []
  }

  #answer({ from, session, requestIds, index }: Waiting): void {
    const { id, outbox } = this.#context
    if (from !== id) outbox.send(from, { kind: 'read-index-reply', session, requestIds, index, code: '' })
    else for (const requestId of requestIds) outbox.read({ kind: 'confirmed', requestId, index })
  }
}

/** Tells whoever asked, here or elsewhere. */
export function refuseReads(
  { id, outbox }: CoreContext,
  from: RaftId,
  session: number,
  requestIds: readonly number[],
  code: RefusalCode,
): void {
  if (from !== id) outbox.send(from, { kind: 'read-index-reply', session, requestIds, index: 0, code })
  else for (const requestId of requestIds) outbox.read({ kind: 'refused', requestId, code })
}

// A follower's side of forwarding: proposals and reads go to the leader in batches, and each gets an outcome, at the
// latest after two election timeouts.

import type { CoreContext } from './context.ts'
import { entryBytes } from './log.ts'
import type { Message, RaftId, RefusalCode } from './types.ts'

type MessageOf<K extends Message['kind']> = Extract<Message, { readonly kind: K }>

export class Requests {
  readonly #context: CoreContext
  /** Tells this run from an earlier one of the same member: an old answer must not match a new request. */
  readonly session: number
  #unsentProposals: { readonly requestId: number; readonly data: Uint8Array }[] = []
  #unsentReads: number[] = []
  /** By request id, oldest first: the tick at which it was made. */
  readonly #proposals = new Map<number, number>()
  readonly #reads = new Map<number, number>()
  #now = 0

  constructor(context: CoreContext) {
    this.#context = context
    this.session = context.random.below(2 ** 31) * 2 ** 21 + context.random.below(2 ** 21)
  }

  propose(data: Uint8Array, requestId: number): void {
    const { limits, outbox } = this.#context
    if (this.#proposals.size >= limits.maxPendingRequests) {
      outbox.proposal({ kind: 'refused', requestId, code: 'RAFT_BACKPRESSURE' })
      return
    }
    this.#proposals.set(requestId, this.#now)
    this.#unsentProposals.push({ requestId, data })
  }

  readIndex(requestId: number): void {
    const { limits, outbox } = this.#context
    if (this.#reads.size >= limits.maxPendingRequests) {
      outbox.read({ kind: 'refused', requestId, code: 'RAFT_BACKPRESSURE' })
      return
    }
    this.#reads.set(requestId, this.#now)
    this.#unsentReads.push(requestId)
  }

  tick(): void {
    this.#now++
    const oldest = this.#now - 2 * this.#context.limits.electionTicks
    this.#expire(this.#proposals, oldest, (requestId) => this.#refuseProposal(requestId, 'RAFT_NO_ANSWER'))
    this.#expire(this.#reads, oldest, (requestId) => this.#refuseRead(requestId, 'RAFT_NO_ANSWER'))
  }

  /** Sends what came since the last Ready. */
  flush(leader: RaftId): void {
    const { outbox } = this.#context
    for (const batch of this.#proposalBatches()) {
      outbox.send(leader, {
        kind: 'propose',
        session: this.session,
        requestIds: batch.map((proposal) => proposal.requestId),
        proposals: batch.map((proposal) => proposal.data),
      })
    }
    if (this.#unsentReads.length > 0) {
      outbox.send(leader, { kind: 'read-index', session: this.session, requestIds: this.#unsentReads })
    }
    this.#unsentProposals = []
    this.#unsentReads = []
  }

  proposeReply({ session, requestIds, index, term, code }: MessageOf<'propose-reply'>): void {
    if (session !== this.session) return
    for (const [position, requestId] of requestIds.entries()) {
      if (!this.#proposals.delete(requestId)) continue
      if (code === '') this.#context.outbox.proposal({ kind: 'appended', requestId, index: index + position, term })
      else this.#context.outbox.proposal({ kind: 'refused', requestId, code })
    }
  }

  readIndexReply({ session, requestIds, index, code }: MessageOf<'read-index-reply'>): void {
    if (session !== this.session) return
    for (const requestId of requestIds) {
      if (!this.#reads.delete(requestId)) continue
      if (code === '') this.#context.outbox.read({ kind: 'confirmed', requestId, index })
      else this.#context.outbox.read({ kind: 'refused', requestId, code })
    }
  }

  /** There is another leader, or none: what was sent to the last one may stay without an answer. */
  leaderChanged(): void {
    for (const { requestId } of this.#unsentProposals) {
      this.#proposals.delete(requestId)
      this.#refuseProposal(requestId, 'RAFT_NO_LEADER')
    }
    for (const requestId of this.#proposals.keys()) this.#refuseProposal(requestId, 'RAFT_LEADER_CHANGED')
    for (const requestId of this.#reads.keys()) this.#refuseRead(requestId, 'RAFT_LEADER_CHANGED')
    this.#proposals.clear()
    this.#reads.clear()
    this.#unsentProposals = []
    this.#unsentReads = []
  }

  #refuseProposal(requestId: number, code: RefusalCode): void {
    this.#context.outbox.proposal({ kind: 'refused', requestId, code })
  }

  #refuseRead(requestId: number, code: RefusalCode): void {
    this.#context.outbox.read({ kind: 'refused', requestId, code })
  }

  #expire(requests: Map<number, number>, oldest: number, refuse: (requestId: number) => void): void {
    for (const [requestId, madeAt] of requests) {
      if (madeAt > oldest) return
      requests.delete(requestId)
      refuse(requestId)
    }
  }

  #proposalBatches() {
    const { maxMessageBytes } = this.#context.limits
    const batches: { readonly requestId: number; readonly data: Uint8Array }[][] = []
    let sizeBytes = Infinity
    for (const proposal of this.#unsentProposals) {
      sizeBytes += entryBytes(proposal)
      if (sizeBytes > maxMessageBytes) {
        batches.push([])
        sizeBytes = entryBytes(proposal)
      }
      batches.at(-1)!.push(proposal)
    }
    return batches
  }
}

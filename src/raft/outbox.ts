// What the core has to say since the last Ready, and when it may leave.

import type { ProposalResult, ReadResult } from './core-types.ts'
import type { Message, RaftId } from './types.ts'

type WithoutEnvelope<M> = M extends Message ? Omit<M, 'from' | 'to' | 'term'> : never
export type MessageBody = WithoutEnvelope<Message>

export class Outbox {
  readonly #from: RaftId
  readonly #currentTerm: () => number
  #messages: Message[] = []
  #messagesAfterPersist: Message[] = []
  #proposals: ProposalResult[] = []
  #reads: ReadResult[] = []

  constructor(from: RaftId, currentTerm: () => number) {
    this.#from = from
    this.#currentTerm = currentTerm
  }

  get empty(): boolean {
    return (
      this.#messages.length === 0 &&
      this.#messagesAfterPersist.length === 0 &&
      this.#proposals.length === 0 &&
      this.#reads.length === 0
    )
  }

  send(to: RaftId, body: MessageBody, term = this.#currentTerm()): void {
    this.#messages.push({ ...body, from: this.#from, to, term })
  }

  /** For whatever promises something that a crash must not take back: votes and acknowledgements. */
  sendAfterPersist(to: RaftId, body: MessageBody, term = this.#currentTerm()): void {
    this.#messagesAfterPersist.push({ ...body, from: this.#from, to, term })
  }

  proposal(result: ProposalResult): void {
    this.#proposals.push(result)
  }

  read(result: ReadResult): void {
    this.#reads.push(result)
  }

  take() {
    const taken = {
      messages: this.#messages,
      messagesAfterPersist: this.#messagesAfterPersist,
      proposals: this.#proposals,
      reads: this.#reads,
    }
    this.#messages = []
    this.#messagesAfterPersist = []
    this.#proposals = []
    this.#reads = []
    return taken
  }
}

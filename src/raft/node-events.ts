// What a RaftNode tells its owner, and what it has told so far.

import { isMember } from './conf-change.ts'
import type { RaftNodeEvent } from './raft-node-types.ts'
import type { ConfState, RaftId } from './types.ts'

export class NodeEvents {
  readonly #id: RaftId
  readonly #listeners = new Set<(event: RaftNodeEvent) => void>()
  #leadsInTerm: number | undefined
  #isMember = false

  constructor(id: RaftId) {
    this.#id = id
  }

  /** Set between the two `leadership` events of a term. */
  get leadsInTerm(): number | undefined {
    return this.#leadsInTerm
  }

  subscribe(listener: (event: RaftNodeEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  emit(event: RaftNodeEvent): void {
    for (const listener of [...this.#listeners]) listener(event)
  }

  /** Tells what changed; undefined: this node does not lead. */
  leads(term: number | undefined): void {
    const before = this.#leadsInTerm
    if (before === term) return
    this.#leadsInTerm = term
    if (before !== undefined) this.emit({ kind: 'leadership', isLeader: false, term: before })
    if (term !== undefined) this.emit({ kind: 'leadership', isLeader: true, term })
  }

  membership(conf: ConfState): void {
    this.emit({ kind: 'membership', conf })
    const member = isMember(conf, this.#id)
    if (this.#isMember && !member) this.emit({ kind: 'removed' })
    this.#isMember = member
  }
}

// The durable half of an election: the term and this member's vote in it (paper §5.1, §5.2).

import { assert } from '../lib/errors.ts'
import type { RaftId } from './types.ts'

export class Ballot {
  #term: number
  #vote: RaftId | ''

  constructor(term: number, vote: RaftId | '') {
    this.#term = term
    this.#vote = vote
  }

  get term(): number {
    return this.#term
  }
  get vote(): RaftId | '' {
    return this.#vote
  }

  /** Terms only rise, and each begins with a vote to give. */
  advance(term: number): void {
    assert(term > this.#term, `term ${term} after ${this.#term}`)
    this.#term = term
    this.#vote = ''
  }

  /** Whether the vote may be given is the rules' to say. */
  cast(candidate: RaftId): void {
    this.#vote = candidate
  }
}

// The registers as a RaftNode's state machine, under the eyes of the checkers.

import type { StateMachine } from '../../src/raft/raft-node-types.ts'
import type { RaftId } from '../../src/raft/types.ts'
import type { RaftCheckers } from './raft-checkers.ts'
import { applyOperation } from './raft-registers.ts'

interface State {
  readonly values: Readonly<Record<string, string>>
  readonly chain: string
  readonly index: number
  readonly term: number
}

const CHUNK_BYTES = 40

/** Answers with what the register held before. */
export class RegisterMachine implements StateMachine<string> {
  readonly #id: RaftId
  readonly #checkers: RaftCheckers
  #state: State = { values: {}, chain: '', index: 0, term: 0 }

  constructor(id: RaftId, checkers: RaftCheckers) {
    this.#id = id
    this.#checkers = checkers
  }

  get values(): Readonly<Record<string, string>> {
    return this.#state.values
  }
  get chain(): string {
    return this.#state.chain
  }

  apply(entry: { readonly index: number; readonly term: number; readonly data: Uint8Array }): string {
    const { index, term, data } = entry
    const chain = this.#checkers.executes(this.#id, this.#state.index, this.#state.chain, entry)
    const { values, found } = applyOperation(this.#state.values, data)
    this.#state = { values, chain, index, term }
    return found
  }

  async *snapshot(): AsyncIterable<Uint8Array> {
    const bytes = Buffer.from(JSON.stringify(this.#state))
    for (let start = 0; start < bytes.length; start += CHUNK_BYTES) yield bytes.subarray(start, start + CHUNK_BYTES)
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const parts: Uint8Array[] = []
    for await (const chunk of chunks) parts.push(chunk)
    const state = JSON.parse(Buffer.concat(parts).toString()) as State
    const { index, term, chain } = state
    if (index > 0) {
      const conf = { voters: [], learners: [], outgoing: [], learnersNext: [], members: [] }
      this.#checkers.restores(this.#id, this.#state.index, { index, term, conf }, chain)
    }
    this.#state = state
  }
}

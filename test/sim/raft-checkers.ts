// Watches a simulated cluster after every step for the properties that Raft promises (paper figure 3). The checkers see
// what a member writes, hands out and says of itself, never the core's inside, so that they work for the core as for the
// driver around it.

import { createHash } from 'node:crypto'
import type { Entry, RaftId, SnapshotMeta } from '../../src/raft/types.ts'

export type Property =
  | 'one leader a term'
  | 'log matching'
  | 'leader completeness'
  | 'state machine safety'
  | 'acknowledged entries are kept'
  | 'linearizable'
  | 'liveness'

export class Violation extends Error {
  readonly property: Property

  constructor(property: Property, detail: string) {
    super(`${property}: ${detail}`)
    this.name = 'Violation'
    this.property = property
  }
}

/** What a member's disk holds, or will when its writes are through. */
interface LogView {
  readonly snapshotIndex: number
  entryAt(index: number): Entry | undefined
}

interface Applied {
  readonly entry: Omit<Entry, 'kind'>
  /** Of this entry and all before it. */
  readonly chain: string
}

export class RaftCheckers {
  readonly #leaders = new Map<number, RaftId>()
  /** By index and term: what stands there and the term before it, the same in every log. */
  readonly #written = new Map<string, string>()
  /** The one order in which all members apply. */
  readonly #applied = new Map<number, Applied>()
  #highestApplied = 0

  get highestApplied(): number {
    return this.#highestApplied
  }

  /** Election safety (§5.2). */
  leads(id: RaftId, term: number, log: LogView): void {
    const known = this.#leaders.get(term)
    if (known !== undefined && known !== id)
      throw new Violation('one leader a term', `${known} and ${id} lead term ${term}`)
    if (known === id) return
    this.#leaders.set(term, id)
    // Leader completeness (§5.4): what anybody applied is in the log of each later leader.
    for (let index = this.#highestApplied; index > log.snapshotIndex; index--) {
      const applied = this.#applied.get(index)
      if (applied === undefined) continue
      const own = log.entryAt(index)
      if (applied.entry.term <= term && own?.term !== applied.entry.term) {
        throw new Violation(
          'leader completeness',
          `${id} leads term ${term} without entry ${index}/${applied.entry.term}`,
        )
      }
    }
  }

  /** Log matching (§5.3): same index and term mean the same entry after the same past. */
  writes(id: RaftId, previousTerm: number, entries: readonly Entry[]): void {
    let before = previousTerm
    for (const entry of entries) {
      const position = `${entry.index}/${entry.term}`
      const content = `${before}/${entry.kind}/${Buffer.from(entry.data).toString('base64')}`
      const known = this.#written.get(position)
      if (known === undefined) this.#written.set(position, content)
      else if (known !== content) throw new Violation('log matching', `${id} has another entry ${position} than others`)
      before = entry.term
    }
  }

  /** State machine safety (§5.4.3). Returns the chain of everything applied so far. */
  applies(id: RaftId, lastIndex: number, lastChain: string, entry: Entry): string {
    if (entry.index !== lastIndex + 1) {
      throw new Violation('state machine safety', `${id} applies entry ${entry.index} after ${lastIndex}`)
    }
    return this.executes(id, lastIndex, lastChain, entry)
  }

  /** The same for a state machine that does not see every entry. */
  executes(id: RaftId, lastIndex: number, lastChain: string, entry: Omit<Entry, 'kind'>): string {
    if (entry.index <= lastIndex) {
      throw new Violation('state machine safety', `${id} applies entry ${entry.index} after ${lastIndex}`)
    }
    const chain = hash(`${lastChain}/${entry.index}/${entry.term}/${Buffer.from(entry.data).toString('base64')}`)
    const known = this.#applied.get(entry.index)
    if (known === undefined) {
      this.#applied.set(entry.index, { entry, chain })
      this.#highestApplied = Math.max(this.#highestApplied, entry.index)
    } else if (known.chain !== chain) {
      throw new Violation(
        'state machine safety',
        `${id} applies entry ${entry.index}/${entry.term}, another member ${known.entry.index}/${known.entry.term}`,
      )
    }
    return chain
  }

  restores(id: RaftId, lastIndex: number, snapshot: SnapshotMeta, chain: string): void {
    if (snapshot.index < lastIndex) {
      throw new Violation(
        'state machine safety',
        `${id} goes from ${lastIndex} back to a snapshot at ${snapshot.index}`,
      )
    }
    const known = this.#applied.get(snapshot.index)
    if (known !== undefined && (known.chain !== chain || known.entry.term !== snapshot.term)) {
      throw new Violation('state machine safety', `${id} restores another state at ${snapshot.index} than was applied`)
    }
  }

  /** Whoever was told that a write took effect finds it in the log. */
  acknowledged(id: RaftId, index: number, term: number): void {
    const known = this.#applied.get(index)
    if (known?.entry.term !== term) {
      throw new Violation('acknowledged entries are kept', `${id} acknowledged ${index}/${term}, which is not applied`)
    }
  }
}

function hash(text: string): string {
  return createHash('sha1').update(text).digest('base64').slice(0, 16)
}

// Clients of a simulated cluster: each operation goes to some member, and what the client saw of it becomes history.

import type { SeededRandom } from '../../src/lib/random.ts'
import type { ProposalResult, ReadResult } from '../../src/raft/core-types.ts'
import type { Entry } from '../../src/raft/types.ts'
import { type HistoryItem, isLinearizable, type RegisterOperation } from './linearizability.ts'
import { type RaftCheckers, Violation } from './raft-checkers.ts'
import type { MemberListener, SimMember } from './raft-member.ts'
import { encodeOperation } from './raft-registers.ts'

export interface Operation {
  readonly key: string
  readonly operation: RegisterOperation
  readonly called: number
  returned: number
  found: string | undefined
  /** Known to have had no effect. */
  void: boolean
  /** The client waits no longer: whatever comes now, it has not seen. */
  abandoned: boolean
  readonly onOutcome: (acknowledged: boolean) => void
}

export class History {
  readonly #operations: Operation[] = []
  /** Calls and returns in their order. */
  #order = 0
  #values = 0

  get acknowledged(): number {
    return this.#operations.filter((operation) => operation.returned !== Infinity).length
  }

  /** A value that nobody wrote before. */
  freshValue(): string {
    return `v${++this.#values}`
  }

  /** Some value that somebody wrote, for swaps that have a chance. */
  recentValue(random: SeededRandom): string {
    return `v${Math.max(this.#values - random.below(5), 0)}`
  }

  call(key: string, operation: RegisterOperation, onOutcome: Operation['onOutcome']): Operation {
    const item: Operation = {
      key,
      operation,
      called: this.#order++,
      returned: Infinity,
      found: undefined,
      void: false,
      abandoned: false,
      onOutcome,
    }
    this.#operations.push(item)
    return item
  }

  returns(operation: Operation, found: string | undefined): void {
    if (operation.abandoned) return
    operation.returned = this.#order++
    operation.found = found
    operation.onOutcome(true)
  }

  /** `void`: for sure without an effect, else nobody knows. */
  fails(operation: Operation, none: boolean): void {
    if (none) operation.void = true
    if (operation.abandoned) return
    operation.abandoned = true
    operation.onOutcome(false)
  }

  /** All that clients saw, for digests. */
  describe(): string {
    return JSON.stringify(this.#operations)
  }

  check(): void {
    const byKey = new Map<string, HistoryItem[]>()
    for (const { key, operation, called, returned, found, void: none } of this.#operations) {
      if (none) continue
      if (!byKey.has(key)) byKey.set(key, [])
      byKey.get(key)!.push({ operation, called, returned, found })
    }
    for (const [key, items] of byKey) {
      if (!isLinearizable(items)) throw new Violation('linearizable', `the history of ${key}: ${JSON.stringify(items)}`)
    }
  }
}

/** The requests of one life of one member. */
export class MemberRequests implements MemberListener {
  readonly #member: SimMember
  readonly #history: History
  readonly #checkers: RaftCheckers
  #lastId = 0
  readonly #proposed = new Map<number, Operation>()
  /** Appended at this index in that term, not yet applied here. */
  readonly #appended = new Map<number, { readonly operation: Operation; readonly term: number }>()
  readonly #asked = new Map<number, Operation>()
  #confirmed: { readonly operation: Operation; readonly index: number }[] = []
  /** What was applied in this life: an answer may come after the entry itself. */
  readonly #applied = new Map<number, { readonly term: number; readonly found: string }>()

  constructor(member: SimMember, history: History, checkers: RaftCheckers) {
    this.#member = member
    this.#history = history
    this.#checkers = checkers
  }

  /** `onOutcome` is called at most once, and not after `abandon` of the result. */
  perform(key: string, operation: RegisterOperation, onOutcome: Operation['onOutcome']): Operation {
    const item = this.#history.call(key, operation, onOutcome)
    const id = ++this.#lastId
    if (operation.kind === 'read') {
      this.#asked.set(id, item)
      this.#member.input((core) => core.readIndex(id))
    } else {
      this.#proposed.set(id, item)
      this.#member.input((core) => core.propose(encodeOperation(key, operation), id))
    }
    return item
  }

  onProposal(result: ProposalResult): void {
    const operation = this.#proposed.get(result.requestId)
    if (!operation) return
    this.#proposed.delete(result.requestId)
    if (result.kind === 'refused') {
      this.#history.fails(operation, result.code !== 'RAFT_LEADER_CHANGED' && result.code !== 'RAFT_NO_ANSWER')
      return
    }
    const { index, term } = result
    const applied = this.#applied.get(index)
    if (applied) this.#decide(operation, index, term, applied.term, applied.found)
    else if (index > this.#member.appliedIndex) this.#appended.set(index, { operation, term })
  }

  onRead(result: ReadResult): void {
    const operation = this.#asked.get(result.requestId)
    if (!operation) return
    this.#asked.delete(result.requestId)
    if (result.kind === 'refused') {
      this.#history.fails(operation, true)
      return
    }
    this.#confirmed.push({ operation, index: result.index })
    this.#answerReads()
  }

  onApplied(entry: Entry, found: string): void {
    this.#applied.set(entry.index, { term: entry.term, found })
    const waiting = this.#appended.get(entry.index)
    if (waiting) {
      this.#appended.delete(entry.index)
      this.#decide(waiting.operation, entry.index, waiting.term, entry.term, found)
    }
    this.#answerReads()
  }

  onRestored(index: number): void {
    for (const appended of this.#appended.keys()) if (appended <= index) this.#appended.delete(appended)
    this.#answerReads()
  }

  onCrash(): void {
    // Nobody learns any more what became of the rest.
  }

  #decide(operation: Operation, index: number, term: number, appliedTerm: number, found: string): void {
    if (term !== appliedTerm) {
      this.#history.fails(operation, true) // another entry took its place for good
      return
    }
    this.#checkers.acknowledged(this.#member.id, index, term)
    this.#history.returns(operation, operation.operation.kind === 'swap' ? found : undefined)
  }

  #answerReads(): void {
    const due = this.#confirmed.filter(({ index }) => index <= this.#member.appliedIndex)
    if (due.length === 0) return
    this.#confirmed = this.#confirmed.filter(({ index }) => index > this.#member.appliedIndex)
    for (const { operation } of due) this.#history.returns(operation, this.#member.values[operation.key] ?? '')
  }
}

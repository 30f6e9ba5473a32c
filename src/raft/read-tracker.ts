// Linearizable reads of this node that wait: first for the leader's confirmation (dissertation §6.4), then for the
// state machine to reach the index that it names.

import type { CodedError } from '../lib/errors.ts'
import type { ReadResult } from './core-types.ts'
import { noLeader, refusal } from './proposal-tracker.ts'

interface Read {
  readonly resolve: (index: number) => void
  readonly reject: (error: CodedError) => void
  readonly deadlineMs: number
}

interface Confirmed {
  readonly index: number
  readonly read: Read
}

export class ReadTracker {
  /** Not confirmed yet, by request id. */
  #asked = new Map<number, Read>()
  /** Confirmed; the state machine has not got there yet. */
  #confirmed: Confirmed[] = []

  get size(): number {
    return this.#asked.size + this.#confirmed.length
  }

  add(requestId: number, deadlineMs: number): Promise<number> {
    return new Promise((resolve, reject) => this.#asked.set(requestId, { resolve, reject, deadlineMs }))
  }

  report(result: ReadResult, appliedIndex: number): void {
    const read = this.#asked.get(result.requestId)
    if (!read) return
    // A read has no effect: it is simply asked again once the next leader is known.
    if (result.kind === 'refused' && result.code === 'RAFT_LEADER_CHANGED') return
    this.#asked.delete(result.requestId)
    if (result.kind === 'refused' && result.code === 'RAFT_NO_ANSWER') {
      read.reject(noLeader())
      return
    }
    if (result.kind === 'refused') read.reject(refusal(result.code, undefined))
    else if (result.index <= appliedIndex) read.resolve(result.index)
    else this.#confirmed.push({ index: result.index, read })
  }

  applied(appliedIndex: number): void {
    if (this.#confirmed.length === 0) return
    const waiting: Confirmed[] = []
    for (const confirmed of this.#confirmed) {
      if (confirmed.index <= appliedIndex) confirmed.read.resolve(confirmed.index)
      else waiting.push(confirmed)
    }
    this.#confirmed = waiting
  }

  /** Another leader is known: what was asked of the last one is asked again, under new ids. */
  askAgain(ask: () => number): void {
    const asked = this.#asked
    this.#asked = new Map()
    for (const read of asked.values()) this.#asked.set(ask(), read)
  }

  expire(nowMs: number): void {
    for (const [requestId, read] of this.#asked) {
      if (read.deadlineMs > nowMs) continue
      this.#asked.delete(requestId)
      read.reject(noLeader())
    }
    this.#confirmed = this.#confirmed.filter(({ read }) => {
      if (read.deadlineMs > nowMs) return true
      read.reject(noLeader())
      return false
    })
  }

  close(error: CodedError): void {
    for (const read of this.#asked.values()) read.reject(error)
    for (const { read } of this.#confirmed) read.reject(error)
    this.#asked.clear()
    this.#confirmed = []
  }
}

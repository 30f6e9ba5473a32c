// Which Ready batches are on their way to the disk, in order, and what each of them makes durable.

import { assert } from '../lib/errors.ts'

interface Write {
  readonly seq: number
  /** The last entry that is durable with it; 0 for none (or none that still counts). */
  logEnd: number
  /** The term in which this member's vote for itself is durable with it; 0 for none. */
  readonly ownVoteTerm: number
}

export class WriteQueue {
  #writes: Write[] = []
  #lastSeq = 0

  get lastSeq(): number {
    return this.#lastSeq
  }

  get empty(): boolean {
    return this.#writes.length === 0
  }

  nextSeq(): number {
    return ++this.#lastSeq
  }

  push(write: Write): void {
    this.#writes.push(write)
  }

  /** Entries after `index` were replaced in memory: what is being written of them counts no more. */
  cutAfter(index: number): void {
    for (const write of this.#writes) write.logEnd = Math.min(write.logEnd, index)
  }

  /** The writes that are durable now. */
  takeUpTo(seq: number): readonly Write[] {
    assert(seq <= this.#lastSeq, `Ready ${seq} was never handed out`)
    const done = this.#writes.filter((write) => write.seq <= seq)
    this.#writes = this.#writes.filter((write) => write.seq > seq)
    return done
  }
}

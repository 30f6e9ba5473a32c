// The log since its last compaction, in memory, and how far it is written, committed, handed out and applied. Keeping it
// whole makes the core synchronous: the driver bounds it by compacting. What the disk holds is the driver's.

import { assert } from '../lib/errors.ts'
import type { Entry, SnapshotMeta, StoredState } from './types.ts'

export class RaftLog {
  /** The position before the first entry in memory, and its term. */
  #offset: number
  #offsetTerm: number
  #entries: Entry[]
  #snapshot: SnapshotMeta
  #sizeBytes = 0
  #uncommittedBytes = 0
  #commit: number
  #applied: number
  /** Entries up to here were handed out to be written, up to `#durable` they are. */
  #writing: number
  #durable: number
  /** Entries up to here were handed out to be applied. */
  #applying: number

  constructor(stored: StoredState) {
    const { snapshot, entries, hardState } = stored
    this.#snapshot = snapshot
    const first = entries[0]
    if (first !== undefined && first.index <= snapshot.index) {
      // Entries kept for slow followers reach back before the snapshot: the first one only lends its term.
      this.#offset = first.index
      this.#offsetTerm = first.term
      this.#entries = entries.slice(1)
    } else {
      this.#offset = snapshot.index
      this.#offsetTerm = snapshot.term
      this.#entries = [...entries]
    }
    for (const [position, entry] of this.#entries.entries()) {
      assert(entry.index === this.#offset + 1 + position, `stored log has a gap before entry ${entry.index}`)
      this.#sizeBytes += entryBytes(entry)
    }
    assert(this.lastIndex >= snapshot.index, 'stored log ends before its snapshot')
    this.#commit = Math.max(hardState.commit, snapshot.index)
    assert(this.#commit <= this.lastIndex, 'stored log lost committed entries')
    this.#uncommittedBytes = this.#bytesOf(this.#commit, this.lastIndex)
    this.#applied = snapshot.index
    this.#applying = snapshot.index
    this.#writing = this.lastIndex
    this.#durable = this.lastIndex
  }

  get firstIndex(): number {
    return this.#offset + 1
  }
  get lastIndex(): number {
    return this.#offset + this.#entries.length
  }
  get lastTerm(): number {
    return this.#entries.at(-1)?.term ?? this.#offsetTerm
  }
  get commit(): number {
    return this.#commit
  }
  get applied(): number {
    return this.#applied
  }
  /** The last entry that is written or being written. */
  get writing(): number {
    return this.#writing
  }
  get durable(): number {
    return this.#durable
  }
  get snapshot(): SnapshotMeta {
    return this.#snapshot
  }
  get sizeBytes(): number {
    return this.#sizeBytes
  }
  get uncommittedBytes(): number {
    return this.#uncommittedBytes
  }

  /** Undefined outside of [firstIndex - 1, lastIndex]. */
  termAt(index: number): number | undefined {
    if (index === this.#offset) return this.#offsetTerm
    return this.#entries[index - this.#offset - 1]?.term
  }

  entryAt(index: number): Entry {
    const entry = this.#entries[index - this.#offset - 1]
    assert(entry !== undefined, `no entry ${index} in the log`)
    return entry
  }

  /** Entries from `from` on, as many as fit into `maxBytes`, at least one if there is one, none after `to`. */
  slice(from: number, to: number, maxBytes: number): readonly Entry[] {
    assert(from > this.#offset, `entry ${from} is compacted`)
    const end = Math.min(to, this.lastIndex)
    let sizeBytes = 0
    let next = from
    while (next <= end) {
      sizeBytes += entryBytes(this.entryAt(next))
      if (sizeBytes > maxBytes && next > from) break
      next++
    }
    return this.#entries.slice(from - this.#offset - 1, next - this.#offset - 1)
  }

  /** Paper §5.4.1: whether a log that ends so is at least as complete as this one. */
  isUpToDate(lastIndex: number, lastTerm: number): boolean {
    return lastTerm > this.lastTerm || (lastTerm === this.lastTerm && lastIndex >= this.lastIndex)
  }

  /** A leader's own append. */
  append(term: number, kind: Entry['kind'], data: Uint8Array): Entry {
    const entry: Entry = { term, index: this.lastIndex + 1, kind, data }
    this.#push(entry)
    return entry
  }

  /**
   * A follower's append (paper §5.3): conflicting entries and all that follow them give way.
   * Returns the last index that now agrees with the leader, undefined if the logs differ at `prevIndex`.
   */
  appendAfter(prevIndex: number, prevTerm: number, entries: readonly Entry[]): number | undefined {
    if (this.termAt(prevIndex) !== prevTerm) return undefined
    for (const [position, entry] of entries.entries()) {
      if (this.termAt(entry.index) === entry.term) continue
      if (entry.index <= this.lastIndex) this.#truncate(entry.index)
      for (const fresh of entries.slice(position)) this.#push(fresh)
      break
    }
    return prevIndex + entries.length
  }

  /** The last index up to `index` whose term is at most `term`: logs can't agree after it. Not before the commit index. */
  lastAgreeing(index: number, term: number): { readonly index: number; readonly term: number } {
    let at = Math.min(index, this.lastIndex)
    while (at > this.#offset && this.termAt(at)! > term) at--
    return { index: at, term: this.termAt(at) ?? 0 }
  }

  commitTo(index: number): void {
    if (index <= this.#commit) return
    assert(index <= this.lastIndex, `commit index ${index} is beyond the log's end ${this.lastIndex}`)
    this.#uncommittedBytes -= this.#bytesOf(this.#commit, index)
    this.#commit = index
  }

  /** Entries that are to be written now; they count as handed out. */
  takeUnwritten(): readonly Entry[] {
    const entries = this.#entries.slice(Math.max(this.#writing - this.#offset, 0))
    this.#writing = this.lastIndex
    return entries
  }

  /** `index`: the end of a write that is durable now and was not overwritten since. */
  written(index: number): void {
    this.#durable = Math.max(this.#durable, index)
  }

  /** Committed and durable entries that are to be applied now; they count as handed out. */
  takeCommitted(maxBytes: number): readonly Entry[] {
    if (!this.hasCommitted) return []
    const entries = this.slice(this.#applying + 1, Math.min(this.#commit, this.#durable), maxBytes)
    this.#applying += entries.length
    return entries
  }

  get hasCommitted(): boolean {
    return Math.min(this.#commit, this.#durable) > this.#applying
  }

  appliedTo(index: number): void {
    assert(index >= this.#applied && index <= this.#applying, `applied ${index}, but ${this.#applying} was handed out`)
    this.#applied = index
  }

  /** Replaces everything by a snapshot's state (paper §7). */
  restore(snapshot: SnapshotMeta): void {
    this.#snapshot = snapshot
    this.#offset = snapshot.index
    this.#offsetTerm = snapshot.term
    this.#entries = []
    this.#sizeBytes = 0
    this.#uncommittedBytes = 0
    this.#commit = snapshot.index
    this.#applying = snapshot.index
    this.#writing = snapshot.index
    this.#durable = 0
  }

  /** Drops entries before `firstKept`, which a durable snapshot covers. */
  compact(snapshot: SnapshotMeta, firstKept: number): void {
    assert(snapshot.index <= this.#applied, 'a snapshot of a state that is not applied')
    if (snapshot.index > this.#snapshot.index) this.#snapshot = snapshot
    const offset = Math.min(firstKept - 1, this.#snapshot.index)
    if (offset <= this.#offset) return
    this.#sizeBytes -= this.#bytesOf(this.#offset, offset)
    this.#offsetTerm = this.termAt(offset)!
    this.#entries = this.#entries.slice(offset - this.#offset)
    this.#offset = offset
  }

  #push(entry: Entry): void {
    assert(entry.index === this.lastIndex + 1, `entry ${entry.index} after ${this.lastIndex}`)
    this.#entries.push(entry)
    this.#sizeBytes += entryBytes(entry)
    this.#uncommittedBytes += entryBytes(entry)
  }

  #truncate(from: number): void {
    assert(from > this.#commit, `entry ${from} is committed and can't give way`)
    const sizeBytes = this.#bytesOf(from - 1, this.lastIndex)
    this.#sizeBytes -= sizeBytes
    this.#uncommittedBytes -= sizeBytes
    this.#entries.length = from - this.#offset - 1
    this.#writing = Math.min(this.#writing, from - 1)
    this.#durable = Math.min(this.#durable, from - 1)
  }

  #bytesOf(after: number, to: number): number {
    let sizeBytes = 0
    for (let index = after + 1; index <= to; index++) sizeBytes += entryBytes(this.entryAt(index))
    return sizeBytes
  }
}

/** What an entry counts against every bound: its data and a flat share for the rest. */
export function entryBytes(entry: { readonly data: Uint8Array }): number {
  return entry.data.byteLength + ENTRY_OVERHEAD_BYTES
}

const ENTRY_OVERHEAD_BYTES = 32

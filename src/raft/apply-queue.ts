// Executes what is committed, in order and in short slices: entries through the state machine, snapshots in its place.

import type { Clock } from '../lib/clock.ts'
import { assert } from '../lib/errors.ts'
import { decodeEnvelope } from './proposal-envelope.ts'
import type { StateMachine } from './raft-node-types.ts'
import type { RaftStorage } from './raft-storage.ts'
import type { Entry, SnapshotMeta } from './types.ts'

type Item =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | { readonly kind: 'snapshot'; readonly meta: SnapshotMeta; readonly durable: Promise<void> }

export interface ApplyQueueOptions<Result> {
  readonly stateMachine: StateMachine<Result>
  readonly storage: RaftStorage
  readonly clock: Clock
  readonly sliceMs: number
  /** Of entries proposed in this session, the request id is told. */
  readonly session: number
  readonly onEntry: (entry: Entry, requestId: number | undefined, result: Result | undefined) => void
  readonly onRestored: (meta: SnapshotMeta) => void
  /** After each slice: everything up to `index` is in the state machine. */
  readonly onApplied: (index: number, durationMs: number) => void
  readonly onError: (error: unknown) => void
}

export class ApplyQueue<Result> {
  readonly #options: ApplyQueueOptions<Result>
  readonly #items: Item[] = []
  /** Entries of the first item that are done. */
  #position = 0
  /** A snapshot is being loaded, or the rest waits for the next turn. */
  #paused = false
  #stopped = false

  constructor(options: ApplyQueueOptions<Result>) {
    this.#options = options
  }

  get idle(): boolean {
    return this.#items.length === 0
  }

  /** Applies a first slice at once. */
  pushEntries(entries: readonly Entry[]): void {
    this.#items.push({ kind: 'entries', entries })
    this.#advance()
  }

  /** The storage's snapshot `meta` is to be loaded, once it is durable. */
  pushSnapshot(meta: SnapshotMeta, durable: Promise<void>): void {
    this.#items.push({ kind: 'snapshot', meta, durable })
    this.#advance()
  }

  stop(): void {
    this.#stopped = true
  }

  #advance(): void {
    if (this.#paused || this.#stopped) return
    try {
      this.#applySlice()
    } catch (error) {
      this.#stopped = true
      this.#options.onError(error)
    }
  }

  #applySlice(): void {
    const { clock, sliceMs, onApplied } = this.#options
    const startedMs = clock.nowMs()
    let appliedIndex = 0
    for (let item = this.#items[0]; item; item = this.#items[0]) {
      if (item.kind === 'snapshot') {
        this.#paused = true
        void this.#restore(item.meta, item.durable)
        break
      }
      const entry = item.entries[this.#position]
      if (!entry) {
        this.#items.shift()
        this.#position = 0
        continue
      }
      if (clock.nowMs() - startedMs >= sliceMs) {
        this.#paused = true
        clock.setTimer(0, () => {
          this.#paused = false
          this.#advance()
        })
        break
      }
      this.#position++
      this.#apply(entry)
      appliedIndex = entry.index
    }
    if (appliedIndex > 0) onApplied(appliedIndex, clock.nowMs() - startedMs)
  }

  #apply(entry: Entry): void {
    const { stateMachine, session, onEntry } = this.#options
    // Membership changes, and the empty entry that opens a term, are Raft's own.
    if (entry.kind === 'config' || entry.data.length === 0) {
      onEntry(entry, undefined, undefined)
      return
    }
    const envelope = decodeEnvelope(entry.index, entry.data)
    const result = stateMachine.apply({ index: entry.index, term: entry.term, data: envelope.data })
    onEntry(entry, envelope.session === session ? envelope.requestId : undefined, result)
  }

  async #restore(meta: SnapshotMeta, durable: Promise<void>): Promise<void> {
    const { storage, stateMachine, onRestored, onApplied, onError } = this.#options
    try {
      await durable
      if (this.#stopped) return
      // Another one that came meanwhile has taken its place in the storage, and holds all that lies between the two.
      const later = this.#items.findIndex((item, at) => at > 0 && item.kind === 'snapshot')
      if (later > 0) {
        this.#items.splice(0, later)
        this.#paused = false
        this.#advance()
        return
      }
      const reader = storage.readSnapshot()
      assert(reader && reader.meta.index === meta.index, 'the snapshot to be loaded is the stored one')
      try {
        await stateMachine.restore(reader.chunks())
      } finally {
        reader.release()
      }
      if (this.#stopped) return
      this.#items.shift()
      onRestored(meta)
      onApplied(meta.index, 0)
      this.#paused = false
      this.#advance()
    } catch (error) {
      this.#stopped = true
      onError(error)
    }
  }
}

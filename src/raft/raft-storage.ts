// What a Raft member keeps on disk: hard state, log, and snapshots in chunks, over any RecordStore. It batches what
// accumulates during a sync (group commit) and proves at recovery that what it read is what was written.

import type { Clock } from '../lib/clock.ts'
import { assert, CodedError, errorMessage } from '../lib/errors.ts'
import { KeptSnapshots, type SnapshotRecord } from './kept-snapshots.ts'
import { corrupt, type RecordCodec } from './record-codec.ts'
import type { RecordOperation, RecordStore } from './record-store.ts'
import { type RecoveredState, recoverState } from './storage-recovery.ts'
import {
  chunkKey,
  encodeEntry,
  encodeKept,
  encodeSnapshot,
  encodeState,
  encodeStoreFormat,
  entryKey,
  FORMAT_KEY,
  keptKey,
  SNAPSHOT_KEY,
  STATE_KEY,
} from './stored-records.ts'
import type { Entry, HardState, SnapshotMeta, StoredState } from './types.ts'

/** The largest chunk of a snapshot. */
export const MAX_CHUNK_BYTES = 1024 * 1024
const DELETE_SLICE = 1_000

/** What one write makes durable, in this order. Absent parts stay as they are. */
export interface StorageBatch {
  /** A received snapshot takes the place of the whole log. */
  readonly snapshot?: SavedSnapshot | undefined
  readonly hardState?: HardState | undefined
  /** From the first one's index on they replace what is there. */
  readonly entries?: readonly Entry[] | undefined
}

/** A snapshot whose chunks are durable; it counts only once it is adopted or part of a StorageBatch. */
export type SavedSnapshot = SnapshotRecord

/** A snapshot that stays readable until `release`, also when a newer one replaces it meanwhile. */
export interface SnapshotReader {
  readonly meta: SnapshotMeta
  readonly chunkCount: number
  readonly sizeBytes: number
  chunks(): AsyncIterable<Uint8Array>
  /** Idempotent. */
  release(): void
}

export interface StoredSnapshot {
  readonly index: number
  readonly term: number
  readonly sizeBytes: number
  /** wall time; undefined: it is the current one */
  readonly replacedMs: number | undefined
}

export interface RaftStorageOptions {
  readonly records: RecordStore
  readonly codec: RecordCodec
  readonly clock: Clock
}

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/**
 * One member's durable state. Writes take effect in the order of their calls; each promise resolves when the write and
 * all before it are durable. After a failed write all that follow fail with the same error: the owner must stop.
 */
export class RaftStorage {
  /** Told after each sync how long it took and how many records it wrote. */
  onSync: (durationMs: number, records: number) => void = () => {}
  readonly #records: RecordStore
  readonly #codec: RecordCodec
  readonly #clock: Clock
  #hardState: HardState = { term: 0, vote: '', commit: 0 }
  #stateDirty = false
  #formatted = false
  #snapshot: SnapshotRecord | undefined
  /** The lowest entry that may still be on disk. */
  #firstStored = 1
  /** Terms of the entries after `#baseIndex`, so that each record can name its predecessor's. */
  #terms: number[] = []
  #baseIndex = 0
  #baseTerm = 0
  #generation = 0
  /** Readers of a generation's chunks; those of `#obsolete` go when the last reader does. */
  readonly #readers = new Map<number, number>()
  readonly #obsolete = new Map<number, SnapshotRecord>()
  readonly #kept = new KeptSnapshots()
  #queue: RecordOperation[] = []
  #waiting: Waiting[] = []
  #flushing: Promise<void> | undefined
  #failure: CodedError | undefined

  constructor(options: RaftStorageOptions) {
    this.#records = options.records
    this.#codec = options.codec
    this.#clock = options.clock
  }

  /** Nothing was ever written here. */
  get isEmpty(): boolean {
    return !this.#formatted
  }

  get snapshotMeta(): SnapshotMeta | undefined {
    return this.#snapshot?.meta
  }

  /**
   * Opens the store and reads what the member had made durable when it last ran, or the empty state.
   * @throws {CodedError} RAFT_STORAGE_LOCKED; RAFT_STORAGE_FAILED; RAFT_RECORD_CORRUPT when something is damaged or
   *   missing that had been durable (a torn last batch is not: it never was); RAFT_KEY_UNKNOWN; RAFT_FORMAT_UNKNOWN.
   */
  async open(): Promise<StoredState> {
    await this.#records.open()
    const recovered: RecoveredState = await recoverState(this.#records, this.#codec)
    const { state } = recovered
    this.#formatted = recovered.formatted
    this.#hardState = state.hardState
    this.#snapshot = recovered.snapshot
    this.#kept.restore(recovered.kept)
    this.#firstStored = recovered.firstStored
    this.#baseIndex = (state.entries[0]?.index ?? state.snapshot.index + 1) - 1
    this.#baseTerm = recovered.baseTerm
    this.#terms = state.entries.map((entry) => entry.term)
    this.#generation = recovered.lastGeneration
    for (const keys of recovered.garbage) await this.#records.write(deletions(keys), { sync: false })
    return state
  }

  /**
   * Writes the first state of a new cluster's first member.
   * @throws {CodedError} RAFT_STORAGE_NOT_EMPTY
   */
  async bootstrap(state: StoredState, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    if (!this.isEmpty)
      throw new CodedError('RAFT_STORAGE_NOT_EMPTY', 'this node is already a member of a cluster: its Raft log exists')
    await this.replace(state, chunks)
  }

  /** Another state takes the place of all that is there, in one step. */
  async replace(state: StoredState, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const snapshot = await this.saveSnapshot(state.snapshot, chunks)
    await this.write({ snapshot, hardState: state.hardState, entries: state.entries })
  }

  write(batch: StorageBatch): Promise<void> {
    if (batch.snapshot) this.#replaceLog(batch.snapshot)
    if (batch.hardState) {
      this.#hardState = batch.hardState
      this.#stateDirty = true
    }
    if (batch.entries && batch.entries.length > 0) this.#putEntries(batch.entries)
    return this.#flushed()
  }

  /**
   * Writes a snapshot's chunks, durably, beside what is there. Nothing refers to it yet: see `adoptSnapshot` (one of our
   * own state) and `StorageBatch.snapshot` (a received one); `discardSnapshot` undoes it, as recovery does.
   * @throws {CodedError} RAFT_SNAPSHOT_CHUNK_TOO_LARGE; RAFT_DISK_FULL (retryable); and what `chunks` throws.
   */
  async saveSnapshot(
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<SavedSnapshot> {
    const generation = ++this.#generation
    let chunkCount = 0
    let sizeBytes = 0
    const saved = (): SavedSnapshot => ({ meta, generation, chunkCount, sizeBytes })
    try {
      for await (const chunk of chunks) {
        signal?.throwIfAborted()
        if (chunk.length > MAX_CHUNK_BYTES)
          throw new CodedError(
            'RAFT_SNAPSHOT_CHUNK_TOO_LARGE',
            `a snapshot's chunk has ${chunk.length} bytes; at most ${MAX_CHUNK_BYTES} are allowed`,
          )
        const key = chunkKey(generation, chunkCount)
        chunkCount++
        sizeBytes += chunk.length
        // Each one synced: LevelDB may lose an unsynced write and keep a later synced one (they are in two log files).
        // A log that waits for room must not wait behind a snapshot that finds none.
        const put = { kind: 'put', key, value: this.#codec.seal(key, chunk) } as const
        await this.#records.write([put], { sync: true, mayFail: true })
      }
    } catch (error) {
      await this.discardSnapshot(saved())
      throw error
    }
    return saved()
  }

  /**
   * Makes a saved snapshot of this member's own state the current one, then drops log entries before `firstKept`.
   * False if a newer one (a received one) is there already; the saved one is then discarded.
   */
  async adoptSnapshot(saved: SavedSnapshot, firstKept: number): Promise<boolean> {
    if (this.#snapshot && this.#snapshot.meta.index >= saved.meta.index) {
      await this.discardSnapshot(saved)
      return false
    }
    assert(firstKept <= saved.meta.index + 1, 'entries after a snapshot are kept')
    this.#putSnapshot(saved)
    await this.#flushed()
    await this.#deleteEntries(firstKept)
    return true
  }

  async discardSnapshot(saved: SavedSnapshot): Promise<void> {
    await this.#deleteInSlices(saved.chunkCount, (chunk) => chunkKey(saved.generation, chunk))
  }

  /** From now on so many of those that newer ones replace stay; what is too many goes. */
  keepSnapshots(count: number): void {
    this.#kept.setLimit(count)
    this.#dropSurplus()
  }

  /** The current one, and those that were kept, the newest first. */
  snapshots(): readonly StoredSnapshot[] {
    const shown = ({ meta, sizeBytes }: SnapshotRecord, replacedMs?: number): StoredSnapshot => ({
      index: meta.index,
      term: meta.term,
      sizeBytes,
      replacedMs,
    })
    const kept = this.#kept.list.map((one) => shown(one, one.replacedMs)).toReversed()
    return this.#snapshot ? [shown(this.#snapshot), ...kept] : kept
  }

  /** The current snapshot, or the one at `index`; undefined where there is none. */
  readSnapshot(index?: number): SnapshotReader | undefined {
    const isMeant = ({ meta }: SnapshotRecord) => index === undefined || meta.index === index
    const snapshot = [...(this.#snapshot ? [this.#snapshot] : []), ...this.#kept.list.toReversed()].find(isMeant)
    if (!snapshot) return undefined
    const { meta, chunkCount, sizeBytes, generation } = snapshot
    this.#readers.set(generation, (this.#readers.get(generation) ?? 0) + 1)
    let released = false
    return {
      meta,
      chunkCount,
      sizeBytes,
      chunks: () => this.#readChunks(snapshot),
      release: () => {
        if (released) return
        released = true
        const left = this.#readers.get(generation)! - 1
        if (left > 0) this.#readers.set(generation, left)
        else this.#readers.delete(generation)
        this.#dropObsolete(generation)
      },
    }
  }

  /** Waits for what was written and closes the store. Failures were reported to the writers. */
  async close(): Promise<void> {
    this.#records.giveUp?.()
    await this.#flushing
    await this.#records.close()
  }

  #putEntries(entries: readonly Entry[]): void {
    const first = entries[0]!.index
    const lastIndex = this.#baseIndex + this.#terms.length
    assert(first > this.#baseIndex && first <= lastIndex + 1, 'entries follow the log without a gap')
    const newLast = first + entries.length - 1
    for (let index = newLast + 1; index <= lastIndex; index++)
      this.#queue.push({ kind: 'delete', key: entryKey(index) })
    this.#terms.length = first - this.#baseIndex - 1
    let previousTerm = this.#terms.at(-1) ?? this.#baseTerm
    for (const entry of entries) {
      assert(entry.index === this.#baseIndex + this.#terms.length + 1, 'entries are consecutive')
      const key = entryKey(entry.index)
      this.#queue.push({ kind: 'put', key, value: this.#codec.seal(key, encodeEntry(entry, previousTerm)) })
      this.#terms.push(entry.term)
      previousTerm = entry.term
    }
    this.#stateDirty = true
  }

  #replaceLog(saved: SavedSnapshot): void {
    const lastIndex = this.#baseIndex + this.#terms.length
    for (let index = this.#firstStored; index <= lastIndex; index++)
      this.#queue.push({ kind: 'delete', key: entryKey(index) })
    this.#putSnapshot(saved)
    this.#firstStored = saved.meta.index + 1
    this.#baseIndex = saved.meta.index
    this.#baseTerm = saved.meta.term
    this.#terms = []
    this.#stateDirty = true
  }

  #putSnapshot(saved: SavedSnapshot): void {
    const old = this.#snapshot
    this.#snapshot = saved
    const value = this.#codec.seal(SNAPSHOT_KEY, encodeSnapshot(saved))
    this.#queue.push({ kind: 'put', key: SNAPSHOT_KEY, value })
    if (!old) return
    const kept = this.#kept.add(old, this.#clock.wallMs())
    const key = keptKey(old.generation)
    if (kept) this.#queue.push({ kind: 'put', key, value: this.#codec.seal(key, encodeKept(kept)) })
    else this.#obsolete.set(old.generation, old)
    // Only once the new one is durable; a failure has been reported to the writer.
    void this.#flushed().then(
      () => {
        this.#dropObsolete(old.generation)
        this.#dropSurplus()
      },
      () => {},
    )
  }

  #flushed(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure)
    const promise = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }))
    this.#flushing ??= this.#flush()
    return promise
  }

  /** Group commit: while one sync is under way, all that is written waits for the next one. */
  async #flush(): Promise<void> {
    // Lets the caller finish its turn, so that a snapshot and its hard state are one batch.
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting
      const operations = this.#queue
      this.#waiting = []
      this.#queue = []
      try {
        if (operations.length > 0 || this.#stateDirty) await this.#sync(operations)
      } catch (error) {
        this.#failure =
          error instanceof CodedError
            ? error
            : new CodedError('RAFT_STORAGE_FAILED', `the Raft log cannot be written: ${errorMessage(error)}`, {
                cause: error,
              })
        for (const { reject } of [...waiting, ...this.#waiting]) reject(this.#failure)
        this.#waiting = []
        break
      }
      for (const { resolve } of waiting) resolve()
    }
    this.#flushing = undefined
  }

  async #sync(operations: RecordOperation[]): Promise<void> {
    const lastIndex = this.#baseIndex + this.#terms.length
    const state = encodeState({ hardState: this.#hardState, lastIndex })
    operations.push({ kind: 'put', key: STATE_KEY, value: this.#codec.seal(STATE_KEY, state) })
    this.#stateDirty = false
    if (!this.#formatted) {
      this.#formatted = true
      operations.push({ kind: 'put', key: FORMAT_KEY, value: this.#codec.seal(FORMAT_KEY, encodeStoreFormat()) })
    }
    const startedMs = this.#clock.nowMs()
    await this.#records.write(operations, { sync: true })
    this.onSync(this.#clock.nowMs() - startedMs, operations.length)
  }

  async #deleteEntries(firstKept: number): Promise<void> {
    const first = this.#firstStored
    if (firstKept <= first) return
    this.#firstStored = firstKept
    if (firstKept - 1 > this.#baseIndex) {
      const dropped = firstKept - 1 - this.#baseIndex
      this.#baseTerm = this.#terms[dropped - 1]!
      this.#terms = this.#terms.slice(dropped)
      this.#baseIndex = firstKept - 1
    }
    await this.#deleteInSlices(firstKept - first, (offset) => entryKey(first + offset))
  }

  #dropObsolete(generation: number): void {
    const snapshot = this.#obsolete.get(generation)
    if (!snapshot || this.#readers.has(generation)) return
    this.#obsolete.delete(generation)
    // What a failed deletion leaves, recovery deletes.
    this.#records.write(deletions([keptKey(generation)]), { sync: false }).catch(() => {})
    this.discardSnapshot(snapshot).catch(() => {})
  }

  #dropSurplus(): void {
    for (const snapshot of this.#kept.takeSurplus()) {
      this.#obsolete.set(snapshot.generation, snapshot)
      this.#dropObsolete(snapshot.generation)
    }
  }

  /** Not synced: what a crash brings back, recovery drops again. */
  async #deleteInSlices(count: number, keyOf: (offset: number) => string): Promise<void> {
    for (let start = 0; start < count; start += DELETE_SLICE) {
      const length = Math.min(DELETE_SLICE, count - start)
      const keys = Array.from({ length }, (_, offset) => keyOf(start + offset))
      await this.#records.write(deletions(keys), { sync: false })
    }
  }

  async *#readChunks(snapshot: SnapshotRecord): AsyncIterable<Uint8Array> {
    for (let chunk = 0; chunk < snapshot.chunkCount; chunk++) {
      const key = chunkKey(snapshot.generation, chunk)
      const value = this.#records.get(key)
      if (!value) throw corrupt(key, 'it is missing')
      yield this.#codec.open(key, value)
    }
  }
}

function deletions(keys: readonly string[]): RecordOperation[] {
  return keys.map((key) => ({ kind: 'delete', key }))
}

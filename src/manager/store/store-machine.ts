// The store as Raft's state machine: entries in, results out, snapshots both ways.

import type { StoreObject } from '../../api/objects.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { decode, encode } from '../../lib/codec.ts'
import { CodedError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { atOnce, inSlices } from '../../lib/slices.ts'
import { type Checkpoint, decodeEntry, decodeObject, encodeObject } from './entry.ts'
import { OBJECT_KINDS, type Store } from './store.ts'
import type { TransactionResult } from './types.ts'

/** Format of snapshots; a manager that meets another one stops. */
export const SNAPSHOT_FORMAT = 1

/** Managers compare their states' hashes once per so many entries. */
export const CHECKPOINT_INTERVAL = 1000
const CHECKPOINTS_KEPT = 16

/** Hashes that may be missing at a checkpoint, to be computed at once: some 10 ms. */
const MAX_UNHASHED = 300

/** Objects encoded in one synchronous slice: some 3 ms. */
const OBJECTS_PER_CHUNK = 100
/** Half of what a chunk may have. */
const CHUNK_BYTES = 512 * 1024

export class StoreMachine {
  readonly #store: Store
  readonly #log: Log
  readonly #clock: Clock | undefined
  readonly #checkpoints = new Map<number, string>()
  #due: Checkpoint | undefined

  /** @param options.clock undefined: a snapshot is loaded in one piece */
  constructor(options: { readonly store: Store; readonly log: Log; readonly clock?: Clock }) {
    this.#store = options.store
    this.#log = options.log
    this.#clock = options.clock
  }

  /** The newest checkpoint that nobody has announced yet; the leader's proposer puts it into its next entry. */
  takeCheckpoint(): Checkpoint | undefined {
    const due = this.#due
    this.#due = undefined
    return due
  }

  /**
   * @throws {CodedError} ENTRY_UNKNOWN, STATE_DIVERGED: this manager must stop. Everything else is refused in the results.
   */
  apply(entry: { readonly index: number; readonly data: Uint8Array }): readonly TransactionResult[] {
    const { wallMs, checkpoint, transactions } = decodeEntry(entry.data)
    if (checkpoint) this.#compare(checkpoint)
    const results = this.#store.apply(entry.index, wallMs, transactions)
    this.#note(entry.index)
    return results
  }

  /** The state at the moment of the call, encoded chunk by chunk while it is read. */
  snapshot(): AsyncIterable<Uint8Array> {
    const index = this.#store.index
    const objects = OBJECT_KINDS.flatMap((kind): readonly StoreObject[] => this.#store.list(kind))
    return chunks(index, objects)
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    let index: number | undefined
    const objects: StoreObject[] = []
    let begun: Uint8Array[] = []
    const clock = this.#clock
    for await (const chunk of source) {
      // A chunk is a slice, and the source may have the next one at once.
      if (clock) await sleep(clock, 0)
      const record = decode(chunk) as readonly unknown[] | Part
      if (index === undefined) {
        const [format, at] = Array.isArray(record) ? (record as readonly unknown[]) : []
        if (format !== SNAPSHOT_FORMAT) throw unknownSnapshot(format)
        index = at as number
      } else if ('part' in record) {
        begun.push(record.part)
        if (!record.isLast) continue
        objects.push(decodeObject(Buffer.concat(begun)))
        begun = []
      } else for (const bytes of record as readonly Uint8Array[]) objects.push(decodeObject(bytes))
    }
    if (index === undefined) throw unknownSnapshot('nothing')
    const steps = this.#store.restoring(index, objects)
    if (clock) await inSlices(steps, clock)
    else atOnce(steps)
    this.#checkpoints.clear()
  }

  #note(index: number): void {
    // After a snapshot the hashes of all its objects come bit by bit; until they are there, this manager has nothing to compare.
    if (index % CHECKPOINT_INTERVAL !== 0 || this.#store.unhashed > MAX_UNHASHED) return
    const hash = this.#store.stateHash()
    this.#checkpoints.set(index, hash)
    this.#due = { index, hash }
    for (const old of this.#checkpoints.keys()) {
      if (this.#checkpoints.size <= CHECKPOINTS_KEPT) break
      this.#checkpoints.delete(old)
    }
  }

  #compare(checkpoint: Checkpoint): void {
    if (this.#due?.index === checkpoint.index) this.#due = undefined
    const own = this.#checkpoints.get(checkpoint.index)
    if (own === undefined || own === checkpoint.hash) return
    this.#log.fatal({ index: checkpoint.index, own, leader: checkpoint.hash }, 'state differs from the leader')
    throw new CodedError(
      'STATE_DIVERGED',
      `this manager's state at index ${checkpoint.index} differs from the leader's; demote it, let it leave and join again to get a fresh copy`,
    )
  }
}

/** First a header; then objects by the hundred, or fewer where they are large, and those that are too large in parts. */
async function* chunks(index: number, objects: readonly StoreObject[]): AsyncIterable<Uint8Array> {
  yield encode([SNAPSHOT_FORMAT, index])
  let some: Uint8Array[] = []
  let someBytes = 0
  for (const object of objects) {
    const bytes = encodeObject(object)
    if (some.length > 0 && (some.length >= OBJECTS_PER_CHUNK || someBytes + bytes.byteLength > CHUNK_BYTES)) {
      yield encode(some)
      some = []
      someBytes = 0
    }
    if (bytes.byteLength > CHUNK_BYTES) yield* parts(bytes)
    else {
      some.push(bytes)
      someBytes += bytes.byteLength
    }
  }
  if (some.length > 0) yield encode(some)
}

interface Part {
  readonly part: Uint8Array
  readonly isLast: boolean
}

function* parts(bytes: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) {
    const end = at + CHUNK_BYTES
    const part: Part = { part: bytes.subarray(at, end), isLast: end >= bytes.byteLength }
    yield encode(part)
  }
}

function unknownSnapshot(found: unknown): CodedError {
  return new CodedError(
    'SNAPSHOT_UNKNOWN',
    `the snapshot has format ${String(found)}, this version of swarmd knows format ${SNAPSHOT_FORMAT}: upgrade swarmd on this node`,
  )
}

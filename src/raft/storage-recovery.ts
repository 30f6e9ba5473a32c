// Reads a member's durable state at start and proves that it is whole. What a crash tore off had never been
// acknowledged and is not missed; anything else that is missing or damaged stops the node with a message.

import { EMPTY_STATE } from './core.ts'
import type { KeptSnapshot, SnapshotRecord } from './kept-snapshots.ts'
import { corrupt, type RecordCodec } from './record-codec.ts'
import type { RecordStore } from './record-store.ts'
import {
  CHUNK_RANGE,
  checkStoreFormat,
  chunkKey,
  decodeEntry,
  decodeKept,
  decodeSnapshot,
  decodeState,
  ENTRY_RANGE,
  entryKey,
  FORMAT_KEY,
  generationOfChunkKey,
  indexOfEntryKey,
  KEPT_RANGE,
  keptKey,
  SNAPSHOT_KEY,
  STATE_KEY,
} from './stored-records.ts'
import type { Entry, SnapshotMeta, StoredState } from './types.ts'

export interface RecoveredState {
  readonly formatted: boolean
  readonly state: StoredState
  readonly snapshot: SnapshotRecord | undefined
  /** Earlier ones that are kept, the oldest first. */
  readonly kept: readonly KeptSnapshot[]
  /** The lowest entry on disk, wanted or not. */
  readonly firstStored: number
  /** Of the entry before `state.entries`. */
  readonly baseTerm: number
  readonly lastGeneration: number
  /** Keys of chunks that belong to no snapshot (a crash came between saving and adopting one), and what else is of no use, in slices. */
  readonly garbage: readonly (readonly string[])[]
}

const SLICE = 1_000

/** @throws {CodedError} RAFT_RECORD_CORRUPT, RAFT_KEY_UNKNOWN, RAFT_FORMAT_UNKNOWN, RAFT_STORAGE_FAILED */
export async function recoverState(records: RecordStore, codec: RecordCodec): Promise<RecoveredState> {
  const format = records.get(FORMAT_KEY)
  if (!format) return recoverEmpty(records)
  checkStoreFormat(codec.open(FORMAT_KEY, format))

  const sealedState = records.get(STATE_KEY)
  if (!sealedState) throw corrupt(STATE_KEY, 'it is missing')
  const { hardState, lastIndex } = decodeState(codec.open(STATE_KEY, sealedState))

  const sealedSnapshot = records.get(SNAPSHOT_KEY)
  const snapshot = sealedSnapshot && decodeSnapshot(codec.open(SNAPSHOT_KEY, sealedSnapshot))
  const meta = snapshot?.meta ?? EMPTY_STATE.snapshot

  const { entries, baseTerm, firstStored } = await readLog(records, codec, meta, lastIndex)
  if (hardState.commit > lastIndex) throw corrupt(STATE_KEY, 'it commits entries that are not there')

  const kept = await readKept(records, codec)
  const live = kept.filter(({ generation }) => generation !== snapshot?.generation && isWhole(records, generation))
  const useless = kept.filter((one) => !live.includes(one)).map(({ generation }) => keptKey(generation))
  const { lastGeneration, garbage } = await findGarbage(records, snapshot ? [...live, snapshot] : live)
  return {
    formatted: true,
    state: {
      hardState: { ...hardState, commit: Math.max(hardState.commit, meta.index) },
      snapshot: meta,
      entries,
    },
    snapshot,
    kept: live,
    firstStored,
    baseTerm,
    lastGeneration,
    garbage: useless.length > 0 ? [...garbage, useless] : garbage,
  }
}

/** A store without its format record holds at most chunks of a snapshot that was never adopted. */
async function recoverEmpty(records: RecordStore): Promise<RecoveredState> {
  for (const key of [STATE_KEY, SNAPSHOT_KEY])
    if (records.get(key)) throw corrupt(FORMAT_KEY, `it is missing although ${key} is there`)
  for await (const [key] of records.range(...ENTRY_RANGE))
    throw corrupt(FORMAT_KEY, `it is missing although ${key} is there`)
  const { lastGeneration, garbage } = await findGarbage(records, [])
  return {
    formatted: false,
    state: EMPTY_STATE,
    snapshot: undefined,
    kept: [],
    firstStored: 1,
    baseTerm: 0,
    lastGeneration,
    garbage,
  }
}

/**
 * The entries after the snapshot, all of them there, and what is left of those before it (a crash may bring some back
 * whose deletion was not synced).
 */
async function readLog(
  records: RecordStore,
  codec: RecordCodec,
  { index: snapshotIndex, term: snapshotTerm }: SnapshotMeta,
  lastIndex: number,
): Promise<{ readonly entries: readonly Entry[]; readonly baseTerm: number; readonly firstStored: number }> {
  let entries: Entry[] = []
  let firstStored: number | undefined
  let baseTerm = snapshotTerm
  let last: { readonly index: number; readonly term: number } | undefined
  for await (const [key, value] of records.range(...ENTRY_RANGE)) {
    const index = indexOfEntryKey(key)
    firstStored ??= index
    if (index > snapshotIndex && (last?.index ?? 0) < snapshotIndex) {
      entries = []
      last = { index: snapshotIndex, term: snapshotTerm }
    }
    const isNext = last !== undefined && index === last.index + 1
    if (!isNext && last && index > snapshotIndex) throw corrupt(entryKey(last.index + 1), 'it is missing')
    const { entry, previousTerm } = decodeEntry(key, codec.open(key, value))
    if (isNext && previousTerm !== last!.term)
      throw corrupt(key, `it follows an entry of term ${previousTerm}, but the one before it has term ${last!.term}`)
    if (index === snapshotIndex && entry.term !== snapshotTerm)
      throw corrupt(key, `it has term ${entry.term}, but the snapshot of its index has term ${snapshotTerm}`)
    if (!isNext) entries = []
    if (entries.length === 0) baseTerm = previousTerm
    entries.push(entry)
    last = entry
  }
  const end = Math.max(last?.index ?? 0, snapshotIndex)
  if (end !== lastIndex) throw corrupt(entryKey(end + 1), `the log ends before entry ${lastIndex}`)
  if (last && last.index < snapshotIndex) return { entries: [], baseTerm: snapshotTerm, firstStored: firstStored! }
  return { entries, baseTerm, firstStored: firstStored ?? snapshotIndex + 1 }
}

async function readKept(records: RecordStore, codec: RecordCodec): Promise<readonly KeptSnapshot[]> {
  const kept: KeptSnapshot[] = []
  for await (const [key, value] of records.range(...KEPT_RANGE)) kept.push(decodeKept(key, codec.open(key, value)))
  return kept.toSorted((a, b) => a.generation - b.generation)
}

/** An older build, or a crash amid the deletion, may have taken its chunks. */
function isWhole(records: RecordStore, generation: number): boolean {
  return records.get(chunkKey(generation, 0)) !== undefined
}

async function findGarbage(
  records: RecordStore,
  live: readonly SnapshotRecord[],
): Promise<{ readonly lastGeneration: number; readonly garbage: readonly (readonly string[])[] }> {
  const sorted = live.toSorted((a, b) => a.generation - b.generation)
  let lastGeneration = sorted.at(-1)?.generation ?? 0
  const keys: string[] = []
  // Around those that are wanted, so that nobody reads them.
  const begins = [CHUNK_RANGE[0], ...sorted.map(({ generation, chunkCount }) => chunkKey(generation, chunkCount))]
  const ends = [...sorted.map(({ generation }) => chunkKey(generation, 0)), CHUNK_RANGE[1]]
  const ranges = begins.map((begin, at) => [begin, ends[at]!] as const)
  for (const [from, to] of ranges)
    for await (const [key] of records.range(from, to)) {
      keys.push(key)
      lastGeneration = Math.max(lastGeneration, generationOfChunkKey(key))
    }
  const garbage = Array.from({ length: Math.ceil(keys.length / SLICE) }, (_, slice) =>
    keys.slice(slice * SLICE, (slice + 1) * SLICE),
  )
  return { lastGeneration, garbage }
}

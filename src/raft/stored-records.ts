// The content of Raft's durable records, one format version each. Fields stand by position, in the order of this file.

import { decode, encode } from '../lib/codec.ts'
import { decodeConfState, encodeConfState } from './conf-state-codec.ts'
import type { KeptSnapshot, SnapshotRecord } from './kept-snapshots.ts'
import { corrupt, unknownFormat } from './record-codec.ts'
import type { Entry, EntryKind, HardState } from './types.ts'

/** Bumped when the set of records or their keys changes. */
export const STORE_FORMAT = 1
const ENTRY_FORMAT = 1
const STATE_FORMAT = 1
const SNAPSHOT_FORMAT = 1
const KEPT_FORMAT = 1

export const FORMAT_KEY = 'format'
export const STATE_KEY = 'state'
export const SNAPSHOT_KEY = 'snapshot'
export const ENTRY_RANGE = ['entry/', 'entry0'] as const
export const CHUNK_RANGE = ['chunk/', 'chunk0'] as const
export const KEPT_RANGE = ['kept/', 'kept0'] as const

const INDEX_DIGITS = 14
const NUMBER_DIGITS = 8

export function entryKey(index: number): string {
  return `entry/${index.toString(16).padStart(INDEX_DIGITS, '0')}`
}

export function indexOfEntryKey(key: string): number {
  return Number.parseInt(key.slice('entry/'.length), 16)
}

/** A generation is one snapshot that was ever written here, whatever became of it. */
export function chunkKey(generation: number, chunk: number): string {
  return `chunk/${hex(generation)}/${hex(chunk)}`
}

/** A snapshot that is kept although a newer one has replaced it. Builds that know none drop the chunks and leave this. */
export function keptKey(generation: number): string {
  return `kept/${hex(generation)}`
}

export function generationOfChunkKey(key: string): number {
  return Number.parseInt(key.slice('chunk/'.length, 'chunk/'.length + NUMBER_DIGITS), 16)
}

function hex(value: number): string {
  return value.toString(16).padStart(NUMBER_DIGITS, '0')
}

const ENTRY_HEADER_BYTES = 14
const KINDS: readonly EntryKind[] = ['normal', 'config']

/**
 * format (1), kind (1), term (6), the term of the entry before (6), data. The predecessor's term shows at recovery that
 * a batch in the middle was lost, also where an older entry of the same index took its place.
 */
export function encodeEntry(entry: Entry, previousTerm: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(ENTRY_HEADER_BYTES + entry.data.length)
  bytes[0] = ENTRY_FORMAT
  bytes[1] = KINDS.indexOf(entry.kind)
  bytes.writeUIntBE(entry.term, 2, 6)
  bytes.writeUIntBE(previousTerm, 8, 6)
  bytes.set(entry.data, ENTRY_HEADER_BYTES)
  return bytes
}

export function decodeEntry(key: string, plain: Uint8Array): { readonly entry: Entry; readonly previousTerm: number } {
  checkFormat(key, plain[0], ENTRY_FORMAT)
  const bytes = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength)
  const kind = KINDS[bytes[1] ?? -1]
  if (bytes.length < ENTRY_HEADER_BYTES || kind === undefined) throw corrupt(key, 'it is no log entry')
  return {
    entry: {
      term: bytes.readUIntBE(2, 6),
      index: indexOfEntryKey(key),
      kind,
      data: bytes.subarray(ENTRY_HEADER_BYTES),
    },
    previousTerm: bytes.readUIntBE(8, 6),
  }
}

/** Written with every batch: the last index shows at recovery that the log's end was lost. */
export interface StateRecord {
  readonly hardState: HardState
  readonly lastIndex: number
}

export function encodeState({ hardState, lastIndex }: StateRecord): Uint8Array {
  return encode([STATE_FORMAT, hardState.term, hardState.vote, hardState.commit, lastIndex])
}

export function decodeState(plain: Uint8Array): StateRecord {
  const fields = decodeFields(STATE_KEY, plain, STATE_FORMAT, 5)
  const [, term, vote, commit, lastIndex] = fields
  if (!isIndex(term) || typeof vote !== 'string' || !isIndex(commit) || !isIndex(lastIndex))
    throw corrupt(STATE_KEY, 'it is no hard state')
  return { hardState: { term, vote, commit }, lastIndex }
}

export function encodeSnapshot(record: SnapshotRecord): Uint8Array {
  const { meta, generation, chunkCount, sizeBytes } = record
  return encode([SNAPSHOT_FORMAT, meta.index, meta.term, encodeConfState(meta.conf), generation, chunkCount, sizeBytes])
}

export function decodeSnapshot(plain: Uint8Array, key = SNAPSHOT_KEY): SnapshotRecord {
  const fields = decodeFields(key, plain, SNAPSHOT_FORMAT, 7)
  const [, index, term, conf, generation, chunkCount, sizeBytes] = fields
  if (!isIndex(index) || !isIndex(term) || !isIndex(generation) || !isIndex(chunkCount) || !isIndex(sizeBytes))
    throw corrupt(key, 'it is no snapshot')
  return { meta: { index, term, conf: decodeConfState(conf, key) }, generation, chunkCount, sizeBytes }
}

export function encodeKept(kept: KeptSnapshot): Uint8Array {
  return encode([KEPT_FORMAT, kept.replacedMs, encodeSnapshot(kept)])
}

export function decodeKept(key: string, plain: Uint8Array): KeptSnapshot {
  const [, replacedMs, snapshot] = decodeFields(key, plain, KEPT_FORMAT, 3)
  if (typeof replacedMs !== 'number' || !(snapshot instanceof Uint8Array)) throw corrupt(key, 'it is no snapshot')
  return { ...decodeSnapshot(snapshot, key), replacedMs }
}

export function encodeStoreFormat(): Uint8Array {
  return encode([STORE_FORMAT])
}

export function checkStoreFormat(plain: Uint8Array): void {
  decodeFields(FORMAT_KEY, plain, STORE_FORMAT, 1)
}

function decodeFields(key: string, plain: Uint8Array, known: number, count: number): readonly unknown[] {
  let fields: unknown
  try {
    fields = decode(plain)
  } catch (error) {
    throw corrupt(key, 'it is no list of fields', error)
  }
  if (!Array.isArray(fields)) throw corrupt(key, 'it is no list of fields')
  checkFormat(key, fields[0], known)
  if (fields.length !== count) throw corrupt(key, `it has ${fields.length} fields instead of ${count}`)
  return fields
}

function checkFormat(key: string, format: unknown, known: number): void {
  if (format === known) return
  if (isIndex(format) && format > known) throw unknownFormat(`the Raft record ${key}`, format, known)
  throw corrupt(key, 'its format version is none')
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

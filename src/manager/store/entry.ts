// What stands in a Raft entry: the proposer's time, transactions as bytes of their own (so that they are encoded once, when
// their size is checked) and now and then a checkpoint of the state's hash.

import type { StoreObject } from '../../api/objects.ts'
import { decode, encode } from '../../lib/codec.ts'
import { CodedError } from '../../lib/errors.ts'
import type { Change, Transaction } from './types.ts'

/** Format of entries; a manager that meets a higher one stops, it never skips. */
export const ENTRY_FORMAT = 1

const CHANGE_KINDS: readonly string[] = [
  'create',
  'update',
  'remove',
  'task-status',
  'check',
] satisfies Change['kind'][]

/** The hash that the leader's state had after the entry at `index`. */
export interface Checkpoint {
  readonly index: number
  readonly hash: string
}

export interface StoreEntry {
  readonly wallMs: number
  readonly checkpoint: Checkpoint | undefined
  readonly transactions: readonly Transaction[]
}

/**
 * Secrets and configs carry base64 in Docker's JSON; as bytes they are a quarter smaller, so that a config of the allowed
 * 1000 KiB fits into one entry.
 */
function packObject(object: StoreObject): unknown {
  if ((object.kind !== 'secret' && object.kind !== 'config') || object.spec.Data === undefined) return object
  return { ...object, spec: { ...object.spec, Data: Buffer.from(object.spec.Data, 'base64') } }
}

function unpackObject(object: StoreObject): StoreObject {
  if (object.kind !== 'secret' && object.kind !== 'config') return object
  const data: unknown = object.spec.Data
  if (!(data instanceof Uint8Array)) return object
  const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64')
  if (object.kind === 'secret') return { ...object, spec: { ...object.spec, Data: text } }
  return { ...object, spec: { ...object.spec, Data: text } }
}

export function encodeObject(object: StoreObject): Uint8Array {
  return encode(packObject(object))
}

export function decodeObject(bytes: Uint8Array): StoreObject {
  return unpackObject(decode(bytes) as StoreObject)
}

export function encodeTransaction(transaction: Transaction): Uint8Array {
  return encode(
    transaction.map((change) =>
      change.kind === 'create' || change.kind === 'update' ? { ...change, object: packObject(change.object) } : change,
    ),
  )
}

function decodeTransaction(bytes: Uint8Array): Transaction {
  const changes = decode(bytes) as readonly Change[]
  return changes.map((change) => {
    if (!CHANGE_KINDS.includes(change.kind)) throw unknownEntry(`a change '${String(change.kind)}'`)
    return change.kind === 'create' || change.kind === 'update'
      ? { ...change, object: unpackObject(change.object) }
      : change
  })
}

export function encodeEntry(
  wallMs: number,
  checkpoint: Checkpoint | undefined,
  transactions: readonly Uint8Array[],
): Uint8Array {
  return encode([ENTRY_FORMAT, wallMs, checkpoint ? [checkpoint.index, checkpoint.hash] : null, transactions])
}

/**
 * @throws {CodedError} ENTRY_UNKNOWN if a newer version wrote it: the manager must stop, since going on without it would
 *   make its state differ from the others'.
 */
export function decodeEntry(data: Uint8Array): StoreEntry {
  const [format, wallMs, checkpoint, transactions] = decode(data) as readonly [
    number,
    number,
    readonly [number, string] | null,
    readonly Uint8Array[],
  ]
  if (format !== ENTRY_FORMAT) throw unknownEntry(`an entry of format ${format}`)
  return {
    wallMs,
    checkpoint: checkpoint ? { index: checkpoint[0], hash: checkpoint[1] } : undefined,
    transactions: transactions.map(decodeTransaction),
  }
}

function unknownEntry(what: string): CodedError {
  return new CodedError(
    'ENTRY_UNKNOWN',
    `the cluster's log holds ${what} that this version of swarmd does not know: upgrade swarmd on this node`,
  )
}

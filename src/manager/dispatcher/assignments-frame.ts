// An `assignments` message from items that are encoded already: records of the data plane go to many nodes, and are encoded
// once. What comes out reads as what `encode` would make of the whole.

import { type AssignedKey, DISPATCHER_PROTOCOL_VERSION } from '../../api/dispatcher.ts'
import { encode } from '../../lib/codec.ts'

export interface AssignmentsFrame {
  readonly complete: boolean
  readonly more: boolean
  readonly sequence: number
  /** Each as `encode` has it. */
  readonly set: readonly Uint8Array[]
  readonly removed: readonly AssignedKey[]
}

const FIELDS = 6
const FIXMAP = 0x80
const FIXARRAY = 0x90
const ARRAY_16 = 0xdc
const ARRAY_32 = 0xdd
const PAIR = Uint8Array.of(FIXARRAY | 2)

export function encodeAssignments({ complete, more, sequence, set, removed }: AssignmentsFrame): Uint8Array {
  return Buffer.concat([
    PAIR,
    encode(DISPATCHER_PROTOCOL_VERSION),
    Uint8Array.of(FIXMAP | FIELDS),
    ...['kind', 'assignments', 'complete', complete, 'more', more, 'sequence', sequence, 'set'].map(encode),
    arrayHeader(set.length),
    ...set,
    ...['removed', removed].map(encode),
  ])
}

function arrayHeader(length: number): Uint8Array {
  if (length < 16) return Uint8Array.of(FIXARRAY | length)
  const header = Buffer.alloc(length < 0x10000 ? 3 : 5)
  header[0] = length < 0x10000 ? ARRAY_16 : ARRAY_32
  if (length < 0x10000) header.writeUInt16BE(length, 1)
  else header.writeUInt32BE(length, 1)
  return header
}

// MessagePack as everything here uses it: plain maps and arrays (no structures learned at run time, so that any reader
// can decode any record), bounded size, copies instead of views of the input.

import { Packr } from 'msgpackr'
import { CodedError, errorMessage } from './errors.ts'

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: false, copyBuffers: true, int64AsType: 'number' })

export function encode(value: unknown): Uint8Array {
  // msgpackr returns a view of its pool; a copy keeps a small message from holding a large pool alive.
  return Uint8Array.from(packr.pack(value))
}

/**
 * Decodes what a peer or a disk sent. The result is unchecked data: its reader validates it.
 * @throws {CodedError} MALFORMED if the bytes are no MessagePack value.
 */
export function decode(bytes: Uint8Array): unknown {
  try {
    return packr.unpack(bytes)
  } catch (error) {
    throw new CodedError('MALFORMED', `malformed message: ${errorMessage(error)}`, { cause: error })
  }
}

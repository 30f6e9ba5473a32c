// What a RaftNode puts around the data of a proposal, so that its proposer knows the entry when it comes back.

import { CodedError } from '../lib/errors.ts'
import { unknownFormat } from './record-codec.ts'

/** Bumped when the envelope changes. A member that meets a newer one stops: it cannot execute the entry. */
export const ENVELOPE_FORMAT = 1
const HEADER_BYTES = 13

export const MAX_SESSION = 2 ** 48

export interface Envelope {
  /** Random, one for each run of a proposer's process. */
  readonly session: number
  /** Unique within the session. */
  readonly requestId: number
  readonly data: Uint8Array
}

/** format (1), session (6), request id (6), data. */
export function encodeEnvelope({ session, requestId, data }: Envelope): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(HEADER_BYTES + data.length)
  bytes[0] = ENVELOPE_FORMAT
  bytes.writeUIntBE(session, 1, 6)
  bytes.writeUIntBE(requestId, 7, 6)
  bytes.set(data, HEADER_BYTES)
  return bytes
}

/** @throws {CodedError} RAFT_FORMAT_UNKNOWN, RAFT_MALFORMED: the entry is committed, so the node must stop. */
export function decodeEnvelope(index: number, bytes: Uint8Array): Envelope {
  const format = bytes[0]
  if (format !== undefined && format > ENVELOPE_FORMAT)
    throw unknownFormat(`the Raft entry ${index}`, format, ENVELOPE_FORMAT)
  if (format !== ENVELOPE_FORMAT || bytes.length < HEADER_BYTES)
    throw new CodedError('RAFT_MALFORMED', `the Raft entry ${index} is none that a proposer made`, {
      details: { index },
    })
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { session: view.readUIntBE(1, 6), requestId: view.readUIntBE(7, 6), data: view.subarray(HEADER_BYTES) }
}

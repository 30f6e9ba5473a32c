// What travels in Raft's connections: frames with a format version, and the check of everything that a peer sends. A
// frame is an array by position; who sends to whom is said once, in the first frame of a connection.

import { decode, encode } from '../lib/codec.ts'
import { CodedError } from '../lib/errors.ts'
import { decodeMessage, encodeMessage } from './message-codec.ts'
import { unknownFormat } from './record-codec.ts'
import type { Message, RaftId } from './types.ts'

export const FRAME_FORMAT = 1

/** Close codes of Raft's connections. */
export const CLOSE_MALFORMED = 4400
/** The dialed process is another member than the one that was meant. */
export const CLOSE_WRONG_MEMBER = 4404
/** The dialing member was removed from the cluster. */
export const CLOSE_REMOVED = 4410
/** The frame's format is newer than the receiver. */
export const CLOSE_FORMAT = 4426

/** The first frame that the dialing side sends. `address` is where `from` can be reached, empty if it does not know. */
export interface Hello {
  readonly kind: 'hello'
  readonly from: RaftId
  readonly to: RaftId
  readonly address: string
}

export type Frame =
  | Hello
  | { readonly kind: 'messages'; readonly messages: readonly Message[] }
  /** A part of a snapshot's stream; `count` is how many chunks were sent or consumed so far. */
  | { readonly kind: 'chunk'; readonly chunk: Uint8Array }
  | { readonly kind: 'end'; readonly count: number }
  | { readonly kind: 'consumed'; readonly count: number }
  | { readonly kind: 'installed' }
  | { readonly kind: 'failed'; readonly code: string }
  /** The dialing side asks whether anybody is still there. */
  | { readonly kind: 'ping' }
  /** The answer to a ping, and to a greeting. `session` is another one when the process is another one. */
  | { readonly kind: 'pong'; readonly session: number }

/** The position is the code on the wire: only ever append. */
const KINDS: readonly Frame['kind'][] = [
  'hello',
  'messages',
  'chunk',
  'end',
  'consumed',
  'installed',
  'failed',
  'ping',
  'pong',
]

/** Messages of one frame are encoded before (see `encodeMessages`), so that its size is known. */
export function encodeFrame(frame: Exclude<Frame, { kind: 'messages' }>): Uint8Array {
  const head = [FRAME_FORMAT, KINDS.indexOf(frame.kind)]
  switch (frame.kind) {
    case 'hello':
      return encode([...head, frame.from, frame.to, frame.address])
    case 'chunk':
      return encode([...head, frame.chunk])
    case 'end':
    case 'consumed':
      return encode([...head, frame.count])
    case 'installed':
    case 'ping':
      return encode(head)
    case 'pong':
      return encode([...head, frame.session])
    case 'failed':
      return encode([...head, frame.code])
  }
}

export function encodeMessages(messages: readonly Message[]): Uint8Array {
  return encode([FRAME_FORMAT, KINDS.indexOf('messages'), messages.map(encodeMessage)])
}

/**
 * `from` and `to` of the connection's hello become those of the messages.
 * @throws {CodedError} RAFT_MALFORMED; RAFT_FORMAT_UNKNOWN for a peer of a newer build.
 */
export function decodeFrame(bytes: Uint8Array, from: RaftId, to: RaftId): Frame {
  let fields: unknown
  try {
    fields = decode(bytes)
  } catch (error) {
    throw malformed('not MessagePack', error)
  }
  if (!Array.isArray(fields)) throw malformed('no array')
  const [format, kindIndex, first, second, third] = fields as readonly unknown[]
  if (format !== FRAME_FORMAT) {
    if (typeof format === 'number' && format > FRAME_FORMAT)
      throw unknownFormat(`a Raft frame from ${from}`, format, FRAME_FORMAT)
    throw malformed('no format version')
  }
  const kind = typeof kindIndex === 'number' ? KINDS[kindIndex] : undefined
  switch (kind) {
    case 'hello':
      if (!isText(first) || !isText(second) || !isText(third)) throw malformed(kind)
      return { kind, from: first, to: second, address: third }
    case 'messages':
      if (!Array.isArray(first)) throw malformed(kind)
      return { kind, messages: first.map((fields: unknown) => decodeMessage(fields, from, to)) }
    case 'chunk':
      if (!(first instanceof Uint8Array)) throw malformed(kind)
      return { kind, chunk: first }
    case 'end':
    case 'consumed':
      if (!Number.isSafeInteger(first)) throw malformed(kind)
      return { kind, count: first as number }
    case 'installed':
    case 'ping':
      return { kind }
    case 'pong':
      if (!Number.isSafeInteger(first)) throw malformed(kind)
      return { kind, session: first as number }
    case 'failed':
      if (!isText(first)) throw malformed(kind)
      return { kind, code: first }
    case undefined:
      throw malformed('unknown kind of frame')
  }
}

const MAX_TEXT = 1_000

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TEXT
}

export function malformed(what: string, cause?: unknown): CodedError {
  return new CodedError('RAFT_MALFORMED', `malformed Raft message: ${what}`, cause === undefined ? {} : { cause })
}

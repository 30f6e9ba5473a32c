// One Raft message as an array by position, and the check of one that a peer sent: whatever passes it is a message that
// a correct peer could have sent, so that nothing from the wire can break an assertion of the core.

import { CodedError } from '../lib/errors.ts'
import { decodeConfState, encodeConfState } from './conf-state-codec.ts'
import { type Entry, type EntryKind, MAX_ENTRY_BYTES, type Message, type RaftId, type RefusalCode } from './types.ts'

type Kind = Message['kind']

/** The position is the code on the wire: only ever append. */
const KINDS: readonly Kind[] = [
  'append',
  'append-reply',
  'heartbeat',
  'heartbeat-reply',
  'vote',
  'vote-reply',
  'install-snapshot',
  'timeout-now',
  'propose',
  'propose-reply',
  'read-index',
  'read-index-reply',
]
const ENTRY_KINDS: readonly EntryKind[] = ['normal', 'config']
const MAX_LIST = 100_000

export function encodeMessage(message: Message): unknown {
  const head = [KINDS.indexOf(message.kind), message.term]
  switch (message.kind) {
    case 'append': {
      const entries = message.entries.map((entry) => [entry.term, ENTRY_KINDS.indexOf(entry.kind), entry.data])
      return [...head, message.prevIndex, message.prevTerm, message.commit, entries]
    }
    case 'append-reply':
      return [...head, message.index, message.reject, message.hintIndex, message.hintTerm]
    case 'heartbeat':
      return [...head, message.commit, message.readContext]
    case 'heartbeat-reply':
      return [...head, message.readContext]
    case 'vote':
      return [...head, message.pre, message.lastIndex, message.lastTerm, message.transfer]
    case 'vote-reply':
      return [...head, message.pre, message.granted]
    case 'install-snapshot':
      return [...head, message.meta.index, message.meta.term, encodeConfState(message.meta.conf)]
    case 'timeout-now':
      return head
    case 'propose':
      return [...head, message.session, message.requestIds, message.proposals]
    case 'propose-reply':
    case 'read-index-reply':
      return [...head, message.session, message.requestIds, message.index, message.code]
    case 'read-index':
      return [...head, message.session, message.requestIds]
  }
}

/** Bytes of a message as encoded, within a few percent. */
export function messageBytes(message: Message): number {
  const fixed = 64
  switch (message.kind) {
    case 'append':
      return message.entries.reduce((sum, entry) => sum + entry.data.length + 16, fixed)
    case 'propose':
      return message.proposals.reduce((sum, proposal) => sum + proposal.length + 16, fixed)
    case 'propose-reply':
    case 'read-index':
    case 'read-index-reply':
      return fixed + message.requestIds.length * 9
    case 'install-snapshot':
      return fixed + message.meta.conf.members.length * 200
    case 'append-reply':
    case 'heartbeat':
    case 'heartbeat-reply':
    case 'vote':
    case 'vote-reply':
    case 'timeout-now':
      return fixed
  }
}

/** @throws {CodedError} RAFT_MALFORMED */
export function decodeMessage(value: unknown, from: RaftId, to: RaftId): Message {
  if (!Array.isArray(value)) throw malformedMessage('no array')
  const fields = new Fields(value)
  const kind = KINDS[fields.number()]
  const envelope = { from, to, term: fields.number() }
  if (kind === undefined) throw malformedMessage('unknown kind')
  switch (kind) {
    case 'append': {
      const prevIndex = fields.number()
      const prevTerm = fields.number()
      const commit = fields.number()
      const entries = decodeEntries(fields.list(), prevIndex, prevTerm, envelope.term)
      return { ...envelope, kind, prevIndex, prevTerm, commit, entries }
    }
    case 'append-reply':
      return {
        ...envelope,
        kind,
        index: fields.number(),
        reject: fields.boolean(),
        hintIndex: fields.number(),
        hintTerm: fields.number(),
      }
    case 'heartbeat':
      return { ...envelope, kind, commit: fields.number(), readContext: fields.number() }
    case 'heartbeat-reply':
      return { ...envelope, kind, readContext: fields.number() }
    case 'vote':
      return {
        ...envelope,
        kind,
        pre: fields.boolean(),
        lastIndex: fields.number(),
        lastTerm: fields.number(),
        transfer: fields.boolean(),
      }
    case 'vote-reply':
      return { ...envelope, kind, pre: fields.boolean(), granted: fields.boolean() }
    case 'install-snapshot': {
      const index = fields.number()
      const term = fields.number()
      return { ...envelope, kind, meta: { index, term, conf: decodeConf(fields.next()) } }
    }
    case 'timeout-now':
      return { ...envelope, kind }
    case 'propose': {
      const session = fields.number()
      const requestIds = fields.numbers()
      const proposals = fields.list().map((data) => decodeData(data))
      if (proposals.length !== requestIds.length) throw malformedMessage(kind)
      return { ...envelope, kind, session, requestIds, proposals }
    }
    case 'propose-reply':
    case 'read-index-reply':
      return {
        ...envelope,
        kind,
        session: fields.number(),
        requestIds: fields.numbers(),
        index: fields.number(),
        // A code that a newer build has is handled as every refusal is.
        code: fields.text() as RefusalCode | '',
      }
    case 'read-index':
      return { ...envelope, kind, session: fields.number(), requestIds: fields.numbers() }
  }
}

function decodeEntries(
  list: readonly unknown[],
  prevIndex: number,
  prevTerm: number,
  messageTerm: number,
): readonly Entry[] {
  let index = prevIndex
  let previousTerm = prevTerm
  return list.map((value) => {
    if (!Array.isArray(value)) throw malformedMessage('entry')
    const fields = new Fields(value)
    const term = fields.number()
    const kind = ENTRY_KINDS[fields.number()]
    if (kind === undefined || term < previousTerm || term > messageTerm) throw malformedMessage('entry')
    previousTerm = term
    index++
    return { term, index, kind, data: decodeData(fields.next()) }
  })
}

function decodeData(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array) || value.length > MAX_ENTRY_BYTES) throw malformedMessage('data')
  return value
}

function decodeConf(value: unknown) {
  try {
    return decodeConfState(value, 'install-snapshot')
  } catch (error) {
    throw malformedMessage('configuration', error)
  }
}

/** Reads an array by position. */
class Fields {
  readonly #fields: readonly unknown[]
  #at = 0

  constructor(fields: readonly unknown[]) {
    this.#fields = fields
  }

  next(): unknown {
    return this.#fields[this.#at++]
  }

  number(): number {
    const value = this.next()
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformedMessage('number')
    return value as number
  }

  boolean(): boolean {
    const value = this.next()
    if (typeof value !== 'boolean') throw malformedMessage('boolean')
    return value
  }

  text(): string {
    const value = this.next()
    if (typeof value !== 'string' || value.length > 1_000) throw malformedMessage('text')
    return value
  }

  list(): readonly unknown[] {
    const value = this.next()
    if (!Array.isArray(value) || value.length > MAX_LIST) throw malformedMessage('list')
    return value
  }

  numbers(): readonly number[] {
    return this.list().map((value) => {
      if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformedMessage('number')
      return value as number
    })
  }
}

function malformedMessage(what: string, cause?: unknown): CodedError {
  return new CodedError('RAFT_MALFORMED', `malformed Raft message: ${what}`, cause === undefined ? {} : { cause })
}

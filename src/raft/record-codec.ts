// Seals every durable record of Raft: a format version, the id of the key, and an AEAD over the content. It exists so
// that a disk that is read, changed or mixed up by somebody else is noticed, and so that a node that meets a newer
// format stops instead of guessing.

import { createCipheriv, createDecipheriv } from 'node:crypto'
import { assert, CodedError } from '../lib/errors.ts'
import type { Random } from '../lib/random.ts'

export interface RecordKey {
  /** 1–32 bytes of UTF-8; stands in clear in every record. */
  readonly id: string
  /** 32 bytes. */
  readonly key: Uint8Array
}

/** New records are sealed with `current`; records under any of `previous` still open. */
export interface KeyRing {
  readonly current: RecordKey
  readonly previous?: readonly RecordKey[]
}

export const RECORD_KEY_BYTES = 32
/** The newest format of a sealed record that this build reads and the one that it writes. */
export const RECORD_FORMAT = 1

const ALGORITHM = 'chacha20-poly1305'
const TAG_BYTES = 16
const NONCE_BYTES = 12
const NONCE_PREFIX_BYTES = 8
const NONCE_COUNTER_LIMIT = 2 ** 32

/**
 * Layout of a record: format (1), length of the key id (1), key id, nonce (12), tag (16), ciphertext. The clear header
 * and the record's context (the key under which it is stored) are authenticated, so that records cannot change places.
 */
export class RecordCodec {
  readonly #random: Random
  #keys = new Map<string, Uint8Array>()
  #current: RecordKey
  #header: Buffer
  #nonce = Buffer.alloc(NONCE_BYTES)
  #nonceCounter = NONCE_COUNTER_LIMIT

  constructor(options: { readonly keys: KeyRing; readonly random: Random }) {
    this.#random = options.random
    this.#current = options.keys.current
    this.#header = Buffer.alloc(0)
    this.setKeys(options.keys)
  }

  get currentKeyId(): string {
    return this.#current.id
  }

  /** The id of the key that a record is sealed with; undefined where it is cut short. */
  keyIdOf(record: Uint8Array): string | undefined {
    const idBytes = record[1] ?? 0
    if (idBytes === 0 || record.length < 2 + idBytes) return undefined
    return Buffer.from(record.buffer, record.byteOffset + 2, idBytes).toString()
  }

  /** Replaces the ring, as a key rotation does; records already written keep their key until they are rewritten. */
  setKeys(ring: KeyRing): void {
    const keys = new Map<string, Uint8Array>()
    for (const { id, key } of [...(ring.previous ?? []), ring.current]) {
      assert(key.length === RECORD_KEY_BYTES, `a record key has ${RECORD_KEY_BYTES} bytes`)
      const idBytes = Buffer.byteLength(id)
      assert(idBytes >= 1 && idBytes <= 32, 'a record key id has 1 to 32 bytes')
      keys.set(id, key)
    }
    const id = Buffer.from(ring.current.id)
    this.#keys = keys
    this.#current = ring.current
    this.#header = Buffer.concat([Uint8Array.of(RECORD_FORMAT, id.length), id])
  }

  /** `context` is what the record is bound to; `open` needs the same. */
  seal(context: string, plain: Uint8Array): Uint8Array {
    const header = this.#header
    const nonce = this.#nextNonce()
    const cipher = createCipheriv(ALGORITHM, this.#current.key, nonce, { authTagLength: TAG_BYTES })
    cipher.setAAD(associatedData(header, context), { plaintextLength: plain.length })
    const body = cipher.update(plain)
    cipher.final()
    const record = Buffer.allocUnsafeSlow(header.length + NONCE_BYTES + TAG_BYTES + body.length)
    record.set(header, 0)
    record.set(nonce, header.length)
    record.set(cipher.getAuthTag(), header.length + NONCE_BYTES)
    record.set(body, header.length + NONCE_BYTES + TAG_BYTES)
    return record
  }

  /**
   * @throws {CodedError} RAFT_FORMAT_UNKNOWN for a format that this build does not know; RAFT_KEY_UNKNOWN when the key
   *   is not in the ring; RAFT_RECORD_CORRUPT when the content is not what was written under that key and context.
   */
  open(context: string, record: Uint8Array): Uint8Array {
    const format = record[0]
    if (format === undefined) throw corrupt(context, 'it is empty')
    if (format !== RECORD_FORMAT) throw unknownFormat(context, format, RECORD_FORMAT)
    const idBytes = record[1] ?? 0
    const headerBytes = 2 + idBytes
    if (idBytes === 0 || record.length < headerBytes + NONCE_BYTES + TAG_BYTES)
      throw corrupt(context, 'it is cut short')
    const header = record.subarray(0, headerBytes)
    const keyId = Buffer.from(header.buffer, header.byteOffset + 2, idBytes).toString()
    const key = this.#keys.get(keyId)
    if (!key)
      throw new CodedError(
        'RAFT_KEY_UNKNOWN',
        `the Raft record ${context} is sealed with the key ${JSON.stringify(keyId)}, which this node does not have`,
        { details: { context, keyId } },
      )
    const tagStart = headerBytes + NONCE_BYTES
    const nonce = record.subarray(headerBytes, tagStart)
    const tag = record.subarray(tagStart, tagStart + TAG_BYTES)
    const body = record.subarray(tagStart + TAG_BYTES)
    try {
      const decipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
      decipher.setAAD(associatedData(header, context), { plaintextLength: body.length })
      decipher.setAuthTag(tag)
      const plain = decipher.update(body)
      decipher.final()
      return plain
    } catch (error) {
      throw corrupt(context, 'its authentication tag does not fit (damaged, or sealed with another key)', error)
    }
  }

  /**
   * 64 random bits for each run of 2^32 records: a nonce repeats under a key only if two runs draw the same prefix,
   * where 96 random bits for each record would be used up after 2^32 of them.
   */
  #nextNonce(): Uint8Array {
    if (this.#nonceCounter === NONCE_COUNTER_LIMIT) {
      this.#nonce.set(this.#random.bytes(NONCE_PREFIX_BYTES), 0)
      this.#nonceCounter = 0
    }
    this.#nonce.writeUInt32BE(this.#nonceCounter++, NONCE_PREFIX_BYTES)
    return this.#nonce
  }
}

function associatedData(header: Uint8Array, context: string): Uint8Array {
  return Buffer.concat([header, Buffer.from(context)])
}

/** What an unreadable record is called everywhere in this folder. */
export function corrupt(context: string, why: string, cause?: unknown): CodedError {
  return new CodedError('RAFT_RECORD_CORRUPT', `the Raft record ${context} cannot be read: ${why}`, {
    details: { context },
    ...(cause === undefined ? {} : { cause }),
  })
}

/** A node that meets a format of a newer build stops with this. */
export function unknownFormat(context: string, format: number, known: number): CodedError {
  return new CodedError(
    'RAFT_FORMAT_UNKNOWN',
    `${context} has format version ${format}, and this build knows versions up to ${known}: it was written by a newer ` +
      'version of swarmd. Install that version or a later one; nothing was changed.',
    { details: { context, format, known } },
  )
}

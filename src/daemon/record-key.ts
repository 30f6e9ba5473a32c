// The keys that seal this node's Raft records, in a file that only the daemon's user reads: the current one, and those of
// before that some record may still need. While the cluster is autolocked the file itself is sealed.

import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { openSealed, seal } from '../lib/key-seal.ts'
import type { Random } from '../lib/random.ts'
import { type KeyRing, RECORD_KEY_BYTES, type RecordKey } from '../raft/record-codec.ts'
import { writeFileDurably } from './json-file.ts'

const FILE_NAME = 'raft.key'
/** Of the sealed file; the one in clear is lines of `id:base64`, the current key first. */
const SEALED_FORMAT = 2
const CONTEXT = 'raft.key'

export interface StoredKeys {
  readonly ring: KeyRing
  /** How many unlock keys open the file; 0: it is in clear. */
  readonly unlockKeys: number
}

export class RecordKeyFile {
  readonly #path: string
  readonly #random: Random

  constructor(directory: string, random: Random) {
    this.#path = join(directory, FILE_NAME)
    this.#random = random
  }

  /**
   * The keys, made where there are none.
   * @param unlockKey opens the file where it is sealed
   * @throws {CodedError} STATE_UNREADABLE
   */
  async load(unlockKey: Uint8Array | undefined): Promise<StoredKeys> {
    const text = await this.#read()
    if (text === undefined) {
      const ring = { current: this.newKey() }
      await this.write(ring, unlockKey ? [unlockKey] : [])
      return { ring, unlockKeys: unlockKey ? 1 : 0 }
    }
    const { plain, unlockKeys } = text.startsWith('{') ? this.#open(text, unlockKey) : { plain: text, unlockKeys: 0 }
    const [current, ...previous] = plain
      .trim()
      .split('\n')
      .map((line) => this.#parse(line))
    return { ring: { current: current!, previous }, unlockKeys }
  }

  /**
   * Durable when it resolves.
   * @param unlockKeys each of them opens the file; none: it stands there in clear
   */
  async write(ring: KeyRing, unlockKeys: readonly Uint8Array[]): Promise<void> {
    const lines = [ring.current, ...(ring.previous ?? [])].map(
      ({ id, key }) => `${id}:${Buffer.from(key).toString('base64')}\n`,
    )
    const plain = lines.join('')
    const sealed = unlockKeys.map((key) => seal(key, CONTEXT, plain, this.#random))
    const text = sealed.length === 0 ? plain : `${JSON.stringify({ format: SEALED_FORMAT, sealed })}\n`
    await writeFileDurably(this.#path, text, 0o600)
  }

  newKey(): RecordKey {
    const id = `node-${Buffer.from(this.#random.bytes(4)).toString('hex')}`
    return { id, key: this.#random.bytes(RECORD_KEY_BYTES) }
  }

  /** What was sealed with these keys is gone with them. */
  async remove(): Promise<void> {
    await rm(this.#path, { force: true })
    await rm(`${this.#path}.new`, { force: true })
  }

  async #read(): Promise<string | undefined> {
    try {
      return await readFile(this.#path, 'utf8')
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined
      throw this.#unreadable(`cannot be read: ${errorMessage(error)}`, error)
    }
  }

  #open(text: string, unlockKey: Uint8Array | undefined): { readonly plain: string; readonly unlockKeys: number } {
    let value: { readonly format?: unknown; readonly sealed?: unknown }
    try {
      value = JSON.parse(text) as typeof value
    } catch {
      throw this.#unreadable('is damaged')
    }
    if (value.format !== SEALED_FORMAT || !Array.isArray(value.sealed)) {
      throw this.#unreadable('has a format that this version of swarmd does not know')
    }
    for (const sealed of value.sealed) {
      const plain = unlockKey && typeof sealed === 'string' ? openSealed(unlockKey, CONTEXT, sealed) : undefined
      if (plain !== undefined) return { plain, unlockKeys: value.sealed.length }
    }
    throw this.#unreadable('is sealed with another unlock key')
  }

  #parse(line: string): RecordKey {
    const [id = '', key = ''] = line.split(':')
    const bytes = Buffer.from(key, 'base64')
    if (!id || bytes.length !== RECORD_KEY_BYTES) {
      throw this.#unreadable(`holds no key of ${RECORD_KEY_BYTES} bytes`)
    }
    return { id, key: bytes }
  }

  #unreadable(why: string, cause?: unknown): CodedError {
    return new CodedError('STATE_UNREADABLE', `${this.#path} ${why}`, { cause })
  }
}

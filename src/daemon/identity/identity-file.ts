// The identity on disk: one file, so that a key never stands beside another key's certificate, replaced in one step that
// survives a loss of power. While the cluster is autolocked a manager's private key stands there sealed.

import { chmod, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import { openSealed, seal } from '../../lib/key-seal.ts'
import type { Random } from '../../lib/random.ts'
import { Turns } from '../../lib/turns.ts'
import { writeFileDurably } from '../json-file.ts'
import { certificateOf, type Identity } from './identity.ts'

/** 1: the private key in clear; 2: sealed with the cluster's unlock key. */
const CLEAR_FORMAT = 1
const SEALED_FORMAT = 2
const FILE_NAME = 'identity.json'
const CONTEXT = 'identity.json'

/** What the file says of the node without its private key. */
export interface StoredIdentity extends Omit<Identity, 'keyPem'> {
  readonly key: { readonly kind: 'clear' | 'sealed'; readonly text: string }
}

export class IdentityFile {
  readonly path: string
  readonly #directory: string
  readonly #random: Random
  /** a renewal and a change of the unlock key may come together */
  readonly #turns = new Turns()
  #last: Identity | undefined
  #unlockKey: Uint8Array | undefined

  /** `directory` (under the data root) is made when needed, readable by its owner only. */
  constructor(directory: string, random: Random) {
    this.#directory = directory
    this.#random = random
    this.path = join(directory, FILE_NAME)
  }

  /** What the file is sealed with; undefined: it is in clear. */
  get unlockKey(): Uint8Array | undefined {
    return this.#unlockKey
  }

  /**
   * undefined: this machine is in no cluster.
   * @throws {CodedError} IDENTITY_UNREADABLE where the file is damaged or of a newer version: never silently a new node
   */
  async read(): Promise<StoredIdentity | undefined> {
    try {
      return this.#parse(await readFile(this.path, 'utf8'))
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined
      if (errorCode(error) === 'IDENTITY_UNREADABLE') throw error
      throw this.#unreadable(errorMessage(error), error)
    }
  }

  /**
   * undefined: this machine is in no cluster.
   * @param unlockKey opens it where it is sealed, and seals it from now on
   * @throws {CodedError} IDENTITY_UNREADABLE as `read`; SWARM_LOCKED without the key; INVALID_UNLOCK_KEY with a wrong one
   */
  async load(unlockKey?: Uint8Array): Promise<Identity | undefined> {
    const stored = await this.read()
    if (!stored) return undefined
    const { key, ...rest } = stored
    const identity = { ...rest, keyPem: key.kind === 'clear' ? key.text : this.#open(key.text, unlockKey) }
    try {
      const { identity: named } = certificateOf(identity)
      if (named.nodeId !== identity.nodeId || named.clusterId !== identity.clusterId)
        throw new CodedError('CERTIFICATE_INVALID', 'the certificate names another node')
    } catch (error) {
      throw this.#unreadable(errorMessage(error), error)
    }
    this.#last = identity
    this.#unlockKey = key.kind === 'sealed' ? unlockKey : undefined
    return identity
  }

  /** Durable when it resolves. */
  save(identity: Identity): Promise<void> {
    return this.#turns.take(() => this.#write(identity, this.#unlockKey))
  }

  /** The private key is sealed with this key from now on; undefined: it stands there in clear. Durable when it resolves. */
  seal(unlockKey: Uint8Array | undefined): Promise<void> {
    return this.#turns.take(async () => {
      if (this.#last) await this.#write(this.#last, unlockKey)
      this.#unlockKey = unlockKey
    })
  }

  /** This machine leaves its cluster. */
  async remove(): Promise<void> {
    await this.#turns.take(async () => {
      this.#last = undefined
      this.#unlockKey = undefined
      await rm(this.path, { force: true })
      await rm(`${this.path}.new`, { force: true })
    })
  }

  async #write(identity: Identity, unlockKey: Uint8Array | undefined): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await chmod(this.#directory, 0o700)
    const { clusterId, nodeId, certPem, keyPem, rootsPem } = identity
    const shared = { clusterId, nodeId, certPem, rootsPem }
    const content = unlockKey
      ? { formatVersion: SEALED_FORMAT, ...shared, sealedKey: seal(unlockKey, CONTEXT, keyPem, this.#random) }
      : { formatVersion: CLEAR_FORMAT, ...shared, keyPem }
    await writeFileDurably(this.path, `${JSON.stringify(content, undefined, 2)}\n`, 0o600)
    this.#last = identity
  }

  #open(sealed: string, unlockKey: Uint8Array | undefined): string {
    if (!unlockKey) throw new CodedError('SWARM_LOCKED', 'the private key of this node is sealed')
    const keyPem = openSealed(unlockKey, CONTEXT, sealed)
    if (keyPem !== undefined) return keyPem
    throw new CodedError('INVALID_UNLOCK_KEY', 'swarm could not be unlocked: invalid key provided')
  }

  #parse(text: string): StoredIdentity {
    let value: Readonly<Record<string, unknown>>
    try {
      value = (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>
    } catch {
      throw this.#unreadable('it is no JSON') // the parser's own message would quote the key
    }
    const { formatVersion, clusterId, nodeId, certPem, keyPem, sealedKey, rootsPem } = value
    if (formatVersion !== CLEAR_FORMAT && formatVersion !== SEALED_FORMAT)
      throw this.#unreadable(`its format is ${String(formatVersion)}, this swarmd knows ${SEALED_FORMAT}`)
    const key = formatVersion === SEALED_FORMAT ? sealedKey : keyPem
    if (
      typeof clusterId !== 'string' ||
      typeof nodeId !== 'string' ||
      typeof certPem !== 'string' ||
      typeof key !== 'string' ||
      !Array.isArray(rootsPem) ||
      !rootsPem.every((root) => typeof root === 'string')
    )
      throw this.#unreadable('a field is missing')
    const kind = formatVersion === SEALED_FORMAT ? 'sealed' : 'clear'
    return { clusterId, nodeId, certPem, rootsPem, key: { kind, text: key } }
  }

  #unreadable(why: string, cause?: unknown): CodedError {
    return new CodedError(
      'IDENTITY_UNREADABLE',
      `cannot read this node's identity from ${this.path}: ${why}. Restore the file, or remove it and join the cluster again.`,
      { cause },
    )
  }
}

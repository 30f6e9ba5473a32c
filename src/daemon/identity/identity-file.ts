// The identity on disk: one file, so that a key never stands beside another key's certificate, replaced in one step that
// survives a loss of power.

import { chmod, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import { writeFileDurably } from '../json-file.ts'
import { certificateOf, type Identity } from './identity.ts'

const FORMAT_VERSION = 1
const FILE_NAME = 'identity.json'

export class IdentityFile {
  readonly path: string
  readonly #directory: string

  /** `directory` (under the data root) is made when needed, readable by its owner only. */
  constructor(directory: string) {
    this.#directory = directory
    this.path = join(directory, FILE_NAME)
  }

  /**
   * undefined: this machine is in no cluster.
   * @throws {CodedError} IDENTITY_UNREADABLE where the file is damaged or of a newer version: never silently a new node
   */
  async load(): Promise<Identity | undefined> {
    let text: string
    try {
      text = await readFile(this.path, 'utf8')
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined
      throw this.#unreadable(errorMessage(error), error)
    }
    const identity = this.#parse(text)
    try {
      const { identity: named } = certificateOf(identity)
      if (named.nodeId !== identity.nodeId || named.clusterId !== identity.clusterId)
        throw new CodedError('CERTIFICATE_INVALID', 'the certificate names another node')
    } catch (error) {
      throw this.#unreadable(errorMessage(error), error)
    }
    return identity
  }

  /** Durable when it resolves. */
  async save(identity: Identity): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await chmod(this.#directory, 0o700)
    const { clusterId, nodeId, certPem, keyPem, rootsPem } = identity
    const content = { formatVersion: FORMAT_VERSION, clusterId, nodeId, certPem, keyPem, rootsPem }
    await writeFileDurably(this.path, `${JSON.stringify(content, undefined, 2)}\n`, 0o600)
  }

  /** This machine leaves its cluster. */
  async remove(): Promise<void> {
    await rm(this.path, { force: true })
    await rm(`${this.path}.new`, { force: true })
  }

  #parse(text: string): Identity {
    let value: Readonly<Record<string, unknown>>
    try {
      value = (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>
    } catch {
      throw this.#unreadable('it is no JSON') // the parser's own message would quote the key
    }
    const { formatVersion, clusterId, nodeId, certPem, keyPem, rootsPem } = value
    if (formatVersion !== FORMAT_VERSION)
      throw this.#unreadable(`its format is ${String(formatVersion)}, this swarmd knows ${FORMAT_VERSION}`)
    if (
      typeof clusterId !== 'string' ||
      typeof nodeId !== 'string' ||
      typeof certPem !== 'string' ||
      typeof keyPem !== 'string' ||
      !Array.isArray(rootsPem) ||
      !rootsPem.every((root) => typeof root === 'string')
    )
      throw this.#unreadable('a field is missing')
    return { clusterId, nodeId, certPem, keyPem, rootsPem }
  }

  #unreadable(why: string, cause?: unknown): CodedError {
    return new CodedError(
      'IDENTITY_UNREADABLE',
      `cannot read this node's identity from ${this.path}: ${why}. Restore the file, or remove it and join the cluster again.`,
      { cause },
    )
  }
}

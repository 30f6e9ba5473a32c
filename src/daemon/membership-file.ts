// What this machine remembers of its membership beside its certificate: addresses, managers, its member of the consensus.

import { join } from 'node:path'
import type { ManagerAddress } from '../api/dispatcher.ts'
import { CodedError } from '../lib/errors.ts'
import { readJson, writeFileDurably } from './json-file.ts'

const FORMAT = 1

export interface Membership {
  /** host:port */
  readonly listenAddress: string
  readonly advertiseAddress: string
  /** IP; empty: the advertised one */
  readonly dataPathAddress: string
  /** Where other managers were when this was written; the worker's own memory is newer. */
  readonly managers: readonly ManagerAddress[]
  /** Of a manager: its member of the consensus. Empty on a worker. */
  readonly raftId: string
  /** False until the other managers have taken this member in: a join that was interrupted goes on. */
  readonly joined: boolean
}

export class MembershipFile {
  readonly #path: string

  constructor(directory: string) {
    this.#path = join(directory, 'membership.json')
  }

  /** @throws {CodedError} STATE_UNREADABLE */
  async read(): Promise<Membership | undefined> {
    const value = await readJson(this.#path)
    if (value === undefined) return undefined
    if (typeof value !== 'object' || value === null || !('format' in value) || value.format !== FORMAT) {
      throw new CodedError('STATE_UNREADABLE', `${this.#path} has a format that this version of swarmd does not know`)
    }
    return value as unknown as Membership
  }

  async write(membership: Membership): Promise<void> {
    await writeFileDurably(this.#path, `${JSON.stringify({ format: FORMAT, ...membership }, undefined, 2)}\n`, 0o600)
  }
}

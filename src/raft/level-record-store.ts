// Raft's records on LevelDB: the store of production.

import { Level } from 'level'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { RecordOperation, RecordStore } from './record-store.ts'

const LOCKED = 'LEVEL_LOCKED'

/** One directory, one process: a second opener gets RAFT_STORAGE_LOCKED. */
export class LevelRecordStore implements RecordStore {
  readonly #directory: string
  #opened: Level<string, Uint8Array> | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  get #level(): Level<string, Uint8Array> {
    if (!this.#opened) throw new Error('it is not open')
    return this.#opened
  }

  async open(): Promise<void> {
    try {
      // Not before: a Level opens by itself once it is made, and whoever never runs would hold the directory.
      // LevelDB compresses blocks with snappy by default; sealed records do not get smaller.
      const settings = { keyEncoding: 'utf8', valueEncoding: 'view', compression: false } as const
      this.#opened = new Level(this.#directory, settings)
      await this.#opened.open()
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error
      if (errorCode(cause) === LOCKED)
        throw new CodedError('RAFT_STORAGE_LOCKED', `${this.#directory} is in use by another process`, { cause })
      throw failed(this.#directory, 'opened', cause)
    }
  }

  async close(): Promise<void> {
    await this.#opened?.close()
  }

  get(key: string): Uint8Array | undefined {
    try {
      return this.#level.getSync(key)
    } catch (error) {
      throw failed(this.#directory, 'read', error)
    }
  }

  async *range(from: string, to: string): AsyncIterable<readonly [string, Uint8Array]> {
    try {
      yield* this.#level.iterator({ gte: from, lt: to })
    } catch (error) {
      if (error instanceof CodedError) throw error
      throw failed(this.#directory, 'read', error)
    }
  }

  async write(operations: readonly RecordOperation[], options: { readonly sync: boolean }): Promise<void> {
    try {
      await this.#level.batch(
        operations.map((operation) =>
          operation.kind === 'put'
            ? { type: 'put' as const, key: operation.key, value: operation.value }
            : { type: 'del' as const, key: operation.key },
        ),
        options,
      )
    } catch (error) {
      throw failed(this.#directory, 'written', error)
    }
  }
}

function failed(directory: string, verb: string, cause: unknown): CodedError {
  return new CodedError('RAFT_STORAGE_FAILED', `${directory} cannot be ${verb}: ${errorMessage(cause)}`, { cause })
}

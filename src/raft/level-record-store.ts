// Raft's records on LevelDB: the store of production.

import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { type FullDiskPolicy, isDiskFull, LevelFile } from '../lib/level-file.ts'
import type { RecordOperation, RecordStore, RecordWriteOptions } from './record-store.ts'

const LOCKED = 'LEVEL_LOCKED'

/** One directory, one process: a second opener gets RAFT_STORAGE_LOCKED. */
export class LevelRecordStore implements RecordStore {
  readonly #directory: string
  readonly #file: LevelFile

  /** @param fullDisk what to do while the disk is full; without it that is RAFT_STORAGE_FAILED */
  constructor(directory: string, fullDisk?: FullDiskPolicy) {
    this.#directory = directory
    // LevelDB compresses blocks with snappy by default; sealed records do not get smaller.
    this.#file = new LevelFile({ directory, compression: false, fullDisk })
  }

  async open(): Promise<void> {
    try {
      await this.#file.open()
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error
      if (errorCode(cause) === LOCKED)
        throw new CodedError('RAFT_STORAGE_LOCKED', `${this.#directory} is in use by another process`, { cause })
      throw failed(this.#directory, 'opened', cause)
    }
  }

  giveUp(): void {
    this.#file.giveUp()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  get(key: string): Uint8Array | undefined {
    try {
      return this.#file.get(key)
    } catch (error) {
      throw failed(this.#directory, 'read', error)
    }
  }

  async *range(from: string, to: string): AsyncIterable<readonly [string, Uint8Array]> {
    try {
      yield* this.#file.records({ gte: from, lt: to })
    } catch (error) {
      if (error instanceof CodedError) throw error
      throw failed(this.#directory, 'read', error)
    }
  }

  async write(operations: readonly RecordOperation[], options: RecordWriteOptions): Promise<void> {
    try {
      await this.#file.write(operations, options)
    } catch (error) {
      if (options.mayFail && isDiskFull(error))
        throw new CodedError('RAFT_DISK_FULL', `${this.#directory} has no room: ${errorMessage(error)}`, {
          retryable: true,
          cause: error,
        })
      throw failed(this.#directory, 'written', error)
    }
  }
}

function failed(directory: string, verb: string, cause: unknown): CodedError {
  return new CodedError('RAFT_STORAGE_FAILED', `${directory} cannot be ${verb}: ${errorMessage(cause)}`, { cause })
}

// The worker's memory on LevelDB: one directory, one process.

import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { type FullDiskPolicy, LevelFile } from '../lib/level-file.ts'
import { fromRecords, toRecords, type WorkerChange, type WorkerState, type WorkerStorage } from './worker-storage.ts'

export class LevelWorkerStorage implements WorkerStorage {
  readonly #directory: string
  readonly #file: LevelFile

  /** @param fullDisk what to do while the disk is full; without it that is WORKER_STORAGE_FAILED */
  constructor(directory: string, fullDisk?: FullDiskPolicy) {
    this.#directory = directory
    this.#file = new LevelFile({ directory, compression: true, fullDisk })
  }

  async open(): Promise<WorkerState> {
    const records: [string, Uint8Array][] = []
    try {
      await this.#file.open()
      for await (const record of this.#file.records()) records.push(record)
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error
      if (errorCode(cause) === 'LEVEL_LOCKED')
        throw new CodedError('WORKER_STORAGE_LOCKED', `${this.#directory} is in use by another process`, { cause })
      throw this.#failed('opened', cause)
    }
    return fromRecords(records)
  }

  async write(changes: readonly WorkerChange[], options: { readonly sync: boolean }): Promise<void> {
    const records = toRecords(changes)
    if (records.length === 0) return
    try {
      await this.#file.write(records, options)
    } catch (error) {
      throw this.#failed('written', error)
    }
  }

  giveUp(): void {
    this.#file.giveUp()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  #failed(verb: string, cause: unknown): CodedError {
    return new CodedError('WORKER_STORAGE_FAILED', `${this.#directory} cannot be ${verb}: ${errorMessage(cause)}`, {
      cause,
    })
  }
}

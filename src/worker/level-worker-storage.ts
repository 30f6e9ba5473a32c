// The worker's memory on LevelDB: one directory, one process.

import { Level } from 'level'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { fromRecords, toRecords, type WorkerChange, type WorkerState, type WorkerStorage } from './worker-storage.ts'

export class LevelWorkerStorage implements WorkerStorage {
  readonly #directory: string
  #opened: Level<string, Uint8Array> | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  get #level(): Level<string, Uint8Array> {
    if (!this.#opened) throw this.#failed('used', new Error('it is not open'))
    return this.#opened
  }

  async open(): Promise<WorkerState> {
    const records: [string, Uint8Array][] = []
    try {
      // Not before: a Level opens by itself once it is made, and whoever never runs would hold the directory.
      this.#opened = new Level(this.#directory, { keyEncoding: 'utf8', valueEncoding: 'view' })
      await this.#level.open()
      for await (const record of this.#level.iterator()) records.push(record)
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
      await this.#level.batch(
        records.map((record) =>
          record.kind === 'put'
            ? { type: 'put' as const, key: record.key, value: record.value }
            : { type: 'del' as const, key: record.key },
        ),
        options,
      )
    } catch (error) {
      throw this.#failed('written', error)
    }
  }

  async close(): Promise<void> {
    await this.#opened?.close()
  }

  #failed(verb: string, cause: unknown): CodedError {
    return new CodedError('WORKER_STORAGE_FAILED', `${this.#directory} cannot be ${verb}: ${errorMessage(cause)}`, {
      cause,
    })
  }
}

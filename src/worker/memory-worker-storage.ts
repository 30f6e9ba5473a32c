// The worker's memory for tests and the simulator: the same records as on disk, without the disk. It outlives an agent
// that is given it again.

import { fromRecords, toRecords, type WorkerChange, type WorkerState, type WorkerStorage } from './worker-storage.ts'

export class MemoryWorkerStorage implements WorkerStorage {
  readonly #records = new Map<string, Uint8Array>()

  async open(): Promise<WorkerState> {
    return fromRecords([...this.#records].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  async write(changes: readonly WorkerChange[]): Promise<void> {
    for (const record of toRecords(changes)) {
      if (record.kind === 'put') this.#records.set(record.key, record.value)
      else this.#records.delete(record.key)
    }
  }

  async close(): Promise<void> {}

  /** The bytes as a disk would hold them. */
  records(): ReadonlyMap<string, Uint8Array> {
    return this.#records
  }
}

// The worker's storage on a simulated disk: what was not synced may be lost, and a dead process writes nothing any more.

import type { RecordStore } from '../../src/raft/record-store.ts'
import {
  fromRecords,
  toRecords,
  type WorkerChange,
  type WorkerState,
  type WorkerStorage,
} from '../../src/worker/worker-storage.ts'

export class SimulatedWorkerStorage implements WorkerStorage {
  readonly #records: RecordStore

  constructor(records: RecordStore) {
    this.#records = records
  }

  async open(): Promise<WorkerState> {
    await this.#records.open()
    const found: (readonly [string, Uint8Array])[] = []
    for await (const record of this.#records.range('', '~')) found.push(record)
    return fromRecords(found)
  }

  write(changes: readonly WorkerChange[], options: { readonly sync: boolean }): Promise<void> {
    return this.#records.write(toRecords(changes), options)
  }

  close(): Promise<void> {
    return this.#records.close()
  }
}

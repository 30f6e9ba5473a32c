// Raft's records in memory, for tests and for nodes that need not outlive their process. The simulator's faulty disk
// (test/sim/disk.ts) is another implementation of the same interface.

import type { RecordOperation, RecordStore } from './record-store.ts'

export class MemoryRecordStore implements RecordStore {
  readonly #records = new Map<string, Uint8Array>()

  async open(): Promise<void> {}

  async close(): Promise<void> {}

  get(key: string): Uint8Array | undefined {
    return this.#records.get(key)
  }

  async *range(from: string, to: string): AsyncIterable<readonly [string, Uint8Array]> {
    const view = [...this.#records].filter(([key]) => key >= from && key < to)
    view.sort(([a], [b]) => (a < b ? -1 : 1))
    yield* view
  }

  async write(operations: readonly RecordOperation[]): Promise<void> {
    applyOperations(this.#records, operations)
  }
}

export function applyOperations(records: Map<string, Uint8Array>, operations: readonly RecordOperation[]): void {
  for (const operation of operations) {
    if (operation.kind === 'put') records.set(operation.key, operation.value)
    else records.delete(operation.key)
  }
}

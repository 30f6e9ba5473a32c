// Writes to the worker's storage, one batch at a time and in order: what comes while one is written makes the next.

import type { WorkerChange, WorkerStorage } from './worker-storage.ts'

export class StorageWriter {
  readonly #storage: WorkerStorage
  #changes: WorkerChange[] = []
  #written: (() => void)[] = []
  #sync = false
  #wake: () => void = () => {}
  #writing = false

  constructor(storage: WorkerStorage) {
    this.#storage = storage
  }

  /** For what can be learned again: no one waits for it, and a loss of power may lose it. */
  add(changes: readonly WorkerChange[]): void {
    this.#changes.push(...changes)
    this.#wake()
  }

  /** `written` is called once these changes, and all before them, survive a loss of power. */
  addDurable(changes: readonly WorkerChange[], written: () => void): void {
    this.#sync = true
    this.#written.push(written)
    this.add(changes)
  }

  /** Writes until aborted, and then what is left. @throws {CodedError} WORKER_STORAGE_FAILED. */
  async run(signal: AbortSignal): Promise<void> {
    const wake = () => this.#wake()
    signal.addEventListener('abort', wake, { once: true })
    while (!signal.aborted) {
      await this.flush()
      if (this.#changes.length === 0 && this.#written.length === 0 && !signal.aborted)
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
    await this.flush()
  }

  async flush(): Promise<void> {
    if (this.#writing) return
    this.#writing = true
    try {
      while (this.#changes.length > 0 || this.#written.length > 0) {
        const changes = this.#changes
        const written = this.#written
        const sync = this.#sync
        this.#changes = []
        this.#written = []
        this.#sync = false
        await this.#storage.write(changes, { sync })
        for (const call of written) call()
      }
    } finally {
      this.#writing = false
    }
  }
}

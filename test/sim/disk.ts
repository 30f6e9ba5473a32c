// The disk of the simulator: what was not synced may be lost in a crash. It outlives the processes that use it; each
// has its own handle, which is dead after the crash.

import type { Clock } from '../../src/lib/clock.ts'
import { CodedError } from '../../src/lib/errors.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import { applyOperations } from '../../src/raft/memory-record-store.ts'
import type { RecordOperation, RecordStore } from '../../src/raft/record-store.ts'

export interface DiskFaults {
  /** Duration of a synced write: uniform in [min, max]. */
  readonly syncMs: readonly [min: number, max: number]
  /** Of one that is not synced. */
  readonly writeMs: readonly [min: number, max: number]
  /** Chance of a sync that takes `stallMs` more. */
  readonly stallRate: number
  readonly stallMs: number
}

export const CALM_DISK: DiskFaults = { syncMs: [0.2, 2], writeMs: [0.01, 0.1], stallRate: 0, stallMs: 0 }

interface Unsynced {
  readonly operations: readonly RecordOperation[]
  /** Its promise has resolved: only a loss of power can lose it. */
  written: boolean
}

export class SimulatedDisk {
  readonly #clock: Clock
  readonly #random: SeededRandom
  #durable = new Map<string, Uint8Array>()
  #unsynced: Unsynced[] = []
  #handle: Handle | undefined
  faults: DiskFaults
  /** Every write fails from now on, as on a full or broken disk. */
  broken = false
  syncs = 0

  constructor(options: {
    readonly clock: Clock
    readonly random: SeededRandom
    readonly faults?: Partial<DiskFaults>
  }) {
    this.#clock = options.clock
    this.#random = options.random
    this.faults = { ...CALM_DISK, ...options.faults }
  }

  /** A process' way to the disk. */
  attach(): RecordStore {
    return new Handle(this)
  }

  /**
   * The process with the open handle ends without warning. What it had written stays in the kernel's hands; of what was
   * under way each batch may be there or not.
   */
  killProcess(): void {
    this.#crash((batch) => batch.written || this.#random.float() < 0.5)
  }

  /** The machine ends: of all that was not synced each batch may be there or not. */
  losePower(): void {
    this.#crash(() => this.#random.float() < 0.5)
  }

  /** Nobody has it open: everything on it is removed. */
  erase(): void {
    this.#durable = new Map()
    this.#unsynced = []
  }

  open(handle: Handle): Map<string, Uint8Array> {
    if (this.#handle) throw new CodedError('RAFT_STORAGE_LOCKED', 'the simulated disk is in use')
    this.#handle = handle
    const records = new Map(this.#durable)
    for (const { operations } of this.#unsynced) applyOperations(records, operations)
    return records
  }

  close(handle: Handle): void {
    if (this.#handle === handle) this.#handle = undefined
  }

  /** Resolves when written; never, if the process dies before. */
  async write(handle: Handle, operations: readonly RecordOperation[], sync: boolean): Promise<void> {
    if (this.#handle !== handle) await new Promise<never>(() => {}) // a dead process writes nothing
    if (this.broken) throw new CodedError('RAFT_STORAGE_FAILED', 'the simulated disk is broken')
    const batch: Unsynced = { operations, written: false }
    this.#unsynced.push(batch)
    if (sync) this.syncs++
    await new Promise<void>((resolve) => this.#clock.setTimer(this.#durationMs(sync), resolve))
    if (this.#handle !== handle) {
      await new Promise<never>(() => {}) // the process that waits for it is gone
    }
    applyOperations(handle.records, operations)
    batch.written = true
    if (!sync) return
    applyOperations(this.#durable, operations)
    this.#unsynced = this.#unsynced.filter((other) => other !== batch)
  }

  #durationMs(sync: boolean): number {
    const [minMs, maxMs] = sync ? this.faults.syncMs : this.faults.writeMs
    const stalls = sync && this.faults.stallRate > 0 && this.#random.float() < this.faults.stallRate
    return minMs + this.#random.float() * (maxMs - minMs) + (stalls ? this.faults.stallMs : 0)
  }

  #crash(survives: (batch: Unsynced) => boolean): void {
    this.#handle = undefined
    for (const batch of this.#unsynced) if (survives(batch)) applyOperations(this.#durable, batch.operations)
    this.#unsynced = []
  }
}

class Handle implements RecordStore {
  readonly #disk: SimulatedDisk
  records = new Map<string, Uint8Array>()

  constructor(disk: SimulatedDisk) {
    this.#disk = disk
  }

  async open(): Promise<void> {
    this.records = this.#disk.open(this)
  }

  async close(): Promise<void> {
    this.#disk.close(this)
  }

  get(key: string): Uint8Array | undefined {
    return this.records.get(key)
  }

  async *range(from: string, to: string): AsyncIterable<readonly [string, Uint8Array]> {
    const view = [...this.records].filter(([key]) => key >= from && key < to)
    view.sort(([a], [b]) => (a < b ? -1 : 1))
    yield* view
  }

  write(operations: readonly RecordOperation[], options: { readonly sync: boolean }): Promise<void> {
    return this.#disk.write(this, operations, options.sync)
  }
}

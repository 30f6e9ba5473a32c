// What Raft needs of a disk: an ordered map of records with atomic batches and a sync. It exists so that the storage
// (log-storage.ts), with its recovery, is one piece of code over LevelDB, memory and the simulator's faulty disk.

export type RecordOperation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string }

export interface RecordWriteOptions {
  /** The batch survives a crash once the promise has resolved. */
  readonly sync: boolean
  /** Where the disk is full it fails with RAFT_DISK_FULL, and the store goes on; else a store may wait for room. */
  readonly mayFail?: boolean
}

/** Keys are ASCII and ordered by their bytes. A `[from, to)` range excludes `to`. */
export interface RecordStore {
  /** @throws {CodedError} RAFT_STORAGE_LOCKED (another process has it open), RAFT_STORAGE_FAILED. */
  open(): Promise<void>
  close(): Promise<void>
  /** Of a store that may wait for room: it waits no more, before it is closed. */
  giveUp?(): void
  /** Sees every write whose promise has resolved; one that is under way it may miss. */
  get(key: string): Uint8Array | undefined
  /** In key order; a view as of the first step. */
  range(from: string, to: string): AsyncIterable<readonly [key: string, value: Uint8Array]>
  /**
   * All or nothing. With `sync` the batch survives a crash once the promise has resolved; without, any such batch may
   * be lost by a crash of the machine, also when later ones are not. Batches under way at one time may be written in
   * either order.
   * @throws {CodedError} RAFT_STORAGE_FAILED: what is durable is unknown from here on, and nothing
   *   that is written afterwards counts as durable. RAFT_DISK_FULL: see `mayFail`.
   */
  write(operations: readonly RecordOperation[], options: RecordWriteOptions): Promise<void>
}

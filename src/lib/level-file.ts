// One LevelDB directory that lives through a full disk, which LevelDB by itself does not: after a write that failed, the end of
// its log is torn, and whatever is written behind that, answered as durable, is gone at the next start; and after a
// compaction that failed it refuses for good. So there is one write at a time, and after one that failed the directory is
// opened anew, which drops the torn end (nothing of it was answered), before anything else is written.

import { Level } from 'level'
import { type Clock, sleep } from './clock.ts'
import { errorMessage } from './errors.ts'
import { Turns } from './turns.ts'

export type LevelOperation =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string }

/** What to do about a full disk: without it, being full is a failure like any other. */
export interface FullDiskPolicy {
  readonly clock: Clock
  /** Called for each attempt that the full disk refused, before the next one: may make room. */
  readonly onFull: () => Promise<void>
}

export interface LevelFileOptions {
  readonly directory: string
  readonly compression: boolean
  readonly fullDisk: FullDiskPolicy | undefined
}

export interface LevelWriteOptions {
  readonly sync: boolean
  /** It may be given up where the disk is full; else it waits for room, and all that follow wait with it. */
  readonly mayFail?: boolean
}

type Records = Level<string, Uint8Array>

const RETRY_MS = 500

/** LevelDB hands down the system's text, and no code. */
export function isDiskFull(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (/No space left on device|Disk quota exceeded|ENOSPC|EDQUOT/.test(at.message)) return true
  }
  return false
}

/** Failures are LevelDB's own errors: the owner gives them its codes. */
export class LevelFile {
  readonly #options: LevelFileOptions
  readonly #turns = new Turns()
  readonly #closing = new AbortController()
  #opened: Records | undefined
  /** A write failed for another reason: the log is torn, and nothing follows. */
  #failure: unknown

  constructor(options: LevelFileOptions) {
    this.#options = options
  }

  /** Waits for room where the disk is full and the policy says so. */
  async open(): Promise<void> {
    for (;;) {
      try {
        await this.#open()
        return
      } catch (error) {
        await this.#untilRetry(error)
      }
    }
  }

  get(key: string): Uint8Array | undefined {
    return this.#level.getSync(key)
  }

  /** In the order of the keys. */
  records(range: { readonly gte?: string; readonly lt?: string } = {}): AsyncIterable<[string, Uint8Array]> {
    return this.#level.iterator(range)
  }

  /** Writes take effect in the order of the calls; after one that failed none does, until the directory was opened anew. */
  write(operations: readonly LevelOperation[], options: LevelWriteOptions): Promise<void> {
    return this.#turns.take(() => this.#write(operations, options))
  }

  /** Whoever waits for room, now or later, fails instead: the owner is about to close. */
  giveUp(): void {
    this.#closing.abort()
  }

  async close(): Promise<void> {
    this.giveUp()
    await this.#turns.idle()
    await this.#opened?.close()
  }

  get #level(): Records {
    if (!this.#opened) throw new Error('it is not open')
    return this.#opened
  }

  async #open(): Promise<void> {
    const { directory, compression } = this.#options
    // Not before: a Level opens by itself once it is made, and whoever never runs would hold the directory.
    const level: Records = new Level(directory, { keyEncoding: 'utf8', valueEncoding: 'view', compression })
    await level.open()
    this.#opened = level
  }

  async #write(operations: readonly LevelOperation[], { sync, mayFail = false }: LevelWriteOptions): Promise<void> {
    const batch = operations.map((operation) =>
      operation.kind === 'put'
        ? { type: 'put' as const, key: operation.key, value: operation.value }
        : { type: 'del' as const, key: operation.key },
    )
    for (let attempt = 1; ; attempt++) {
      if (this.#failure !== undefined) throw this.#failure
      try {
        await this.#level.batch(batch, { sync })
        return
      } catch (error) {
        if (!isDiskFull(error) || this.#options.fullDisk === undefined) {
          this.#failure = error
          throw error
        }
        await this.#reopen(error, attempt > 1)
        if (mayFail) throw error
      }
    }
  }

  /** What was being written may be there afterwards, or not: writing it again comes to the same. */
  async #reopen(cause: unknown, again: boolean): Promise<void> {
    await this.#opened?.close().catch(() => {})
    this.#opened = undefined
    try {
      if (again) await this.#untilRetry(cause)
      else await this.#options.fullDisk?.onFull()
      await this.open()
    } catch (error) {
      this.#failure = error
      throw error
    }
  }

  /** @throws the error, where waiting does not help or the owner closes */
  async #untilRetry(error: unknown): Promise<void> {
    const { fullDisk } = this.#options
    const { signal } = this.#closing
    if (fullDisk === undefined || !isDiskFull(error) || signal.aborted) throw error
    await fullDisk.onFull()
    await sleep(fullDisk.clock, RETRY_MS, signal)
    if (signal.aborted) throw new Error(`no room came: ${errorMessage(error)}`, { cause: error })
  }
}

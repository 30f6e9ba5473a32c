// When a snapshot is made, how much of the log stays beside it, and the transfer of snapshots in both directions.

import type { Clock } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { RaftMetrics } from './raft-metrics.ts'
import type { RaftConfig, StateMachine } from './raft-node-types.ts'
import type { RaftStorage, SavedSnapshot } from './raft-storage.ts'
import type { RaftTransport, SnapshotMessage } from './transport.ts'
import type { Entry, RaftId, SnapshotMeta } from './types.ts'

export interface SnapshotKeeperOptions {
  readonly storage: RaftStorage
  readonly stateMachine: StateMachine<unknown>
  readonly transport: RaftTransport
  /** asked each time: it may change while the node runs */
  readonly config: () => RaftConfig
  readonly metrics: RaftMetrics
  readonly clock: Clock
  readonly log: Log
  /** Runs a task that ends with the node; what it throws stops the node. */
  readonly spawn: (name: string, task: (signal: AbortSignal) => Promise<void>) => void
  readonly snapshotMeta: () => SnapshotMeta | undefined
  /** A snapshot is durable, and entries before `firstKept` are dropped. */
  readonly onCompacted: (meta: SnapshotMeta, firstKept: number) => void
  readonly onSent: (to: RaftId, ok: boolean) => void
}

export class SnapshotKeeper {
  readonly #options: SnapshotKeeperOptions
  /** Sizes of the entries applied last, oldest first: what may stay for slow followers. */
  #recentBytes: number[] = []
  #lastIndex: number
  #bytesSince = 0
  #taking = false
  #saved: SavedSnapshot | undefined
  #receiving: AbortController | undefined
  /** Indexes of the snapshots under way to followers. */
  readonly #sending = new Set<{ readonly index: number }>()

  constructor(options: SnapshotKeeperOptions) {
    this.#options = options
    this.#lastIndex = options.storage.snapshotMeta?.index ?? 0
  }

  count(entry: Entry): void {
    this.#bytesSince += entry.data.length
    this.#recentBytes.push(entry.data.length)
    // Cut now and then, not for each entry.
    const { keepEntries } = this.#options.config()
    if (this.#recentBytes.length >= 2 * keepEntries + 100)
      this.#recentBytes = this.#recentBytes.slice(this.#recentBytes.length - keepEntries)
  }

  /** Between two slices of applying: the state machine is exactly at `index`. */
  takeIfDue(index: number): void {
    const { snapshotInterval, snapshotLogBytes } = this.#options.config()
    const due = index - this.#lastIndex >= snapshotInterval || this.#bytesSince >= snapshotLogBytes
    if (!due || this.#taking) return
    const meta = this.#options.snapshotMeta()
    if (!meta || meta.index !== index) return
    this.#taking = true
    this.#lastIndex = meta.index
    this.#bytesSince = 0
    const firstKept = this.#firstKept(meta.index)
    const chunks = this.#options.stateMachine.snapshot()
    this.#options.spawn('snapshot', (signal) => this.#take(meta, chunks, firstKept, signal))
  }

  /** A snapshot from elsewhere is the state now. */
  restored(index: number): void {
    this.#lastIndex = Math.max(this.#lastIndex, index)
    this.#bytesSince = 0
    this.#recentBytes = []
  }

  /** Streams the current snapshot to a follower whose next entry is compacted. */
  send(message: SnapshotMessage): void {
    const { storage, transport, metrics, log, onSent, spawn } = this.#options
    const reader = storage.readSnapshot()
    if (!reader) {
      onSent(message.to, false)
      return
    }
    spawn('send snapshot', async (signal) => {
      const { index } = reader.meta
      log.info({ to: message.to, index, sizeBytes: reader.sizeBytes }, 'sending a snapshot')
      let ok = false
      this.#sending.add(reader.meta)
      try {
        // The stored one may be newer than the one that the core knew of.
        await transport.sendSnapshot({ ...message, meta: reader.meta }, reader.chunks(), signal)
        ok = true
        metrics.snapshotsSent++
      } catch (error) {
        if (!(error instanceof CodedError)) throw error
        log.warn({ to: message.to, index, reason: errorMessage(error) }, 'a snapshot was not sent')
      } finally {
        this.#sending.delete(reader.meta)
        reader.release()
        if (!signal.aborted) onSent(message.to, ok)
      }
    })
  }

  /**
   * Stores a snapshot that a leader sends; `step` then hands its message to the core, which may call `claim`. A newer
   * stream ends one that is under way.
   */
  async receive(
    message: SnapshotMessage,
    chunks: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
    step: () => void,
  ): Promise<void> {
    const { storage, metrics, log } = this.#options
    this.#receiving?.abort(new CodedError('RAFT_SNAPSHOT_FAILED', 'another snapshot arrives', { retryable: true }))
    const receiving = new AbortController()
    this.#receiving = receiving
    log.info({ from: message.from, index: message.meta.index }, 'receiving a snapshot')
    const saved = await storage.saveSnapshot(message.meta, chunks, AbortSignal.any([signal, receiving.signal]))
    this.#saved = saved
    step()
    if (this.#saved === undefined) {
      metrics.snapshotsReceived++
      return
    }
    this.#saved = undefined
    await storage.discardSnapshot(saved)
  }

  /** The snapshot that the core has decided to install. */
  claim(meta: SnapshotMeta): SavedSnapshot {
    const saved = this.#saved
    if (saved?.meta.index !== meta.index || saved.meta.term !== meta.term)
      throw new CodedError('RAFT_SNAPSHOT_MISSING', `the snapshot at index ${meta.index} is not here`)
    this.#saved = undefined
    return saved
  }

  async #take(
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
    firstKept: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { storage, metrics, clock, log, onCompacted } = this.#options
    const startMs = clock.nowMs()
    try {
      const saved = await storage.saveSnapshot(meta, chunks, signal)
      if (signal.aborted) return
      if (await storage.adoptSnapshot(saved, firstKept)) {
        metrics.snapshotsTaken++
        metrics.snapshot.observe(clock.nowMs() - startMs)
        log.info({ index: meta.index, sizeBytes: saved.sizeBytes, chunks: saved.chunkCount }, 'took a snapshot')
        if (!signal.aborted) onCompacted(meta, firstKept)
      }
    } catch (error) {
      if (errorCode(error) !== 'RAFT_DISK_FULL') throw error
      // The log goes on as it is; the next snapshot may find room.
      log.warn({ index: meta.index, reason: errorMessage(error) }, 'a snapshot was not taken')
    } finally {
      this.#taking = false
    }
  }

  #firstKept(index: number): number {
    const { keepEntries, keepBytes, snapshotInterval } = this.#options.config()
    let bytes = 0
    let kept = 0
    while (kept < keepEntries && kept < this.#recentBytes.length) {
      bytes += this.#recentBytes[this.#recentBytes.length - 1 - kept]!
      if (bytes > keepBytes) break
      kept++
    }
    // A follower that is being sent a snapshot will need what comes after it, or it never catches up.
    const sending = [...this.#sending].map((meta) => meta.index).filter((sent) => index - sent <= 2 * snapshotInterval)
    return Math.min(index - kept, ...sending) + 1
  }
}

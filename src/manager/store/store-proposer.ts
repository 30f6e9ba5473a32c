// The leader's way to write: transactions that arrive while entries are under way share the next one, so that many small
// writes cost one sync, and a lone write waits for nobody.

import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import { Histogram } from '../../lib/histogram.ts'
import { type Checkpoint, encodeEntry, encodeTransaction } from './entry.ts'
import { MAX_CHANGES_PER_ENTRY, type Proposer, type Transaction, type TransactionResult } from './types.ts'

/** An entry may have 1 MiB; the rest is for its envelope. */
const MAX_TRANSACTIONS_BYTES = 1024 * 1024 - 4096
/** Entries under way at once: enough to keep the disk and the network busy. */
const MAX_IN_FLIGHT = 8
const MAX_QUEUED = 10_000

/** All counters rise from 0 since the start of the process, except where it says `now`. */
export interface ProposerMetrics {
  /** Transactions: from `propose` until their answer, whatever it was. */
  readonly writes: Histogram
  /** Entries: from their encoding until every transaction in them was answered. */
  readonly batches: Histogram
  /** Entries: what Raft and the apply of it took. */
  readonly entries: Histogram
  /** Transactions by what came of them: `applied`, or the error's code. */
  readonly outcomes: ReadonlyMap<string, number>
  readonly queuedNow: number
  readonly inFlightNow: number
}

interface Waiting {
  readonly startMs: number
  readonly changes: number
  readonly bytes: Uint8Array
  readonly resolve: (index: number) => void
  readonly reject: (error: unknown) => void
}

export interface StoreProposerOptions {
  /** Raft: resolves with what the local apply answered. */
  readonly propose: (data: Uint8Array) => Promise<readonly TransactionResult[]>
  readonly takeCheckpoint: () => Checkpoint | undefined
  readonly clock: Clock
}

export class StoreProposer implements Proposer {
  readonly #options: StoreProposerOptions
  #queue: Waiting[] = []
  #inFlight = 0
  #scheduled = false
  readonly #writes = new Histogram()
  readonly #batches = new Histogram()
  readonly #entries = new Histogram()
  readonly #outcomes = new Map<string, number>()

  constructor(options: StoreProposerOptions) {
    this.#options = options
  }

  metrics(): ProposerMetrics {
    return {
      writes: this.#writes,
      batches: this.#batches,
      entries: this.#entries,
      outcomes: this.#outcomes,
      queuedNow: this.#queue.length,
      inFlightNow: this.#inFlight,
    }
  }

  propose(transaction: Transaction): Promise<number> {
    if (transaction.length > MAX_CHANGES_PER_ENTRY) {
      return Promise.reject(tooLarge(`${transaction.length} changes, ${MAX_CHANGES_PER_ENTRY} at most`))
    }
    const bytes = encodeTransaction(transaction)
    if (bytes.byteLength > MAX_TRANSACTIONS_BYTES) {
      return Promise.reject(tooLarge(`${bytes.byteLength} bytes, ${MAX_TRANSACTIONS_BYTES} at most`))
    }
    if (this.#queue.length >= MAX_QUEUED) {
      const message = 'too many writes are waiting for the cluster; try again later'
      return Promise.reject(new CodedError('PROPOSAL_QUEUE_FULL', message, { retryable: true }))
    }
    return new Promise((resolve, reject) => {
      const startMs = this.#options.clock.nowMs()
      this.#queue.push({ startMs, changes: transaction.length, bytes, resolve, reject })
      this.#schedule()
    })
  }

  /** What is proposed in one turn of the event loop goes into one entry. */
  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= MAX_IN_FLIGHT) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      while (this.#queue.length > 0 && this.#inFlight < MAX_IN_FLIGHT) void this.#send(this.#nextBatch())
    })
  }

  #nextBatch(): readonly Waiting[] {
    let changes = 0
    let bytes = 0
    let count = 0
    for (const waiting of this.#queue) {
      changes += waiting.changes
      bytes += waiting.bytes.byteLength + 8
      if (count > 0 && (changes > MAX_CHANGES_PER_ENTRY || bytes > MAX_TRANSACTIONS_BYTES)) break
      count++
    }
    return this.#queue.splice(0, count)
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    this.#inFlight++
    const { propose, takeCheckpoint, clock } = this.#options
    const startMs = clock.nowMs()
    try {
      const data = encodeEntry(
        clock.wallMs(),
        takeCheckpoint(),
        batch.map((waiting) => waiting.bytes),
      )
      const proposedMs = clock.nowMs()
      const results = await propose(data)
      this.#entries.observe(clock.nowMs() - proposedMs)
      for (const [at, waiting] of batch.entries()) {
        const result = results[at]
        this.#count(result?.kind === 'refused' ? result.code : 'applied', waiting)
        settle(waiting, result)
      }
    } catch (error) {
      for (const waiting of batch) {
        this.#count(errorCode(error) ?? 'INTERNAL', waiting)
        waiting.reject(error)
      }
    } finally {
      this.#batches.observe(clock.nowMs() - startMs)
      this.#inFlight--
      if (this.#queue.length > 0) this.#schedule()
    }
  }

  #count(outcome: string, { startMs }: Waiting): void {
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1)
    this.#writes.observe(this.#options.clock.nowMs() - startMs)
  }
}

function settle(waiting: Waiting, result: TransactionResult | undefined): void {
  if (result?.kind === 'applied') waiting.resolve(result.index)
  else if (result) {
    const details = { objectKind: result.objectKind, id: result.id }
    const retryable = result.code === 'OUT_OF_SEQUENCE'
    waiting.reject(new CodedError(result.code, result.message, { retryable, details }))
  } else waiting.reject(new CodedError('MALFORMED', 'the entry was applied without an answer'))
}

function tooLarge(what: string): CodedError {
  return new CodedError('TRANSACTION_TOO_LARGE', `the transaction is too large: ${what}`)
}

// The leader's way to write: transactions that arrive while entries are under way share the next one, so that many small
// writes cost one sync, and a lone write waits for nobody.

import type { Clock } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import { type Checkpoint, encodeEntry, encodeTransaction } from './entry.ts'
import { MAX_CHANGES_PER_ENTRY, type Proposer, type Transaction, type TransactionResult } from './types.ts'

/** An entry may have 1 MiB; the rest is for its envelope. */
const MAX_TRANSACTIONS_BYTES = 1024 * 1024 - 4096
/** Entries under way at once: enough to keep the disk and the network busy. */
const MAX_IN_FLIGHT = 8
const MAX_QUEUED = 10_000

interface Waiting {
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

  constructor(options: StoreProposerOptions) {
    this.#options = options
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
      this.#queue.push({ changes: transaction.length, bytes, resolve, reject })
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
    try {
      const { propose, takeCheckpoint, clock } = this.#options
      const data = encodeEntry(
        clock.wallMs(),
        takeCheckpoint(),
        batch.map((waiting) => waiting.bytes),
      )
      const results = await propose(data)
      for (const [at, waiting] of batch.entries()) settle(waiting, results[at])
    } catch (error) {
      for (const waiting of batch) waiting.reject(error)
    } finally {
      this.#inFlight--
      if (this.#queue.length > 0) this.#schedule()
    }
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

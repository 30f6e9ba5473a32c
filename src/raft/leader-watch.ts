// What a node does about its leader beside the core's silence timeout: it replaces a leader whose process has ended at
// once, and it sees a transfer of leadership through.

import type { Clock, Timer } from '../lib/clock.ts'
import { CodedError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import type { RaftCore } from './core.ts'
import type { SoftState } from './core-types.ts'
import type { RaftId } from './types.ts'

/** Others may notice the loss later, and refuse the first pre-votes. */
const ATTEMPTS = 6
/** A reluctant member leaves the first ones to others. */
const RELUCTANT_ATTEMPTS = 3

export interface LeaderWatchOptions {
  readonly core: RaftCore
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly jitterMs: readonly [min: number, max: number]
  /** Lets the core's work be done. */
  readonly schedule: () => void
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: CodedError) => void
}

export class LeaderWatch {
  readonly #options: LeaderWatchOptions
  #timer: Timer | undefined
  #transfers: Waiter[] = []
  #isReluctant = false

  constructor(options: LeaderWatchOptions) {
    this.#options = options
  }

  /** The connection to `peer` closed; `refused`: nobody listens at its address any more. */
  connectionLost(peer: RaftId, refused: boolean): void {
    const { core, log, schedule } = this.#options
    const { leader, term } = core.status()
    if (!refused || leader !== peer) return
    log.info({ leader, term }, 'the raft leader has ended')
    core.leaderLost(peer)
    schedule()
    this.#timer?.cancel()
    this.#campaignSoon(1, term)
  }

  /** See RaftNode. */
  setReluctant(isReluctant: boolean): void {
    this.#isReluctant = isReluctant
  }

  /** Resolves when this node leads no more. */
  transferred(): Promise<void> {
    return new Promise((resolve, reject) => this.#transfers.push({ resolve, reject }))
  }

  changed({ role, leader }: SoftState): void {
    if (leader !== '') this.#timer?.cancel()
    if (role === 'leader') return
    for (const { resolve } of this.#transfers) resolve()
    this.#transfers = []
  }

  /** Called with each tick of the core. */
  tick(): void {
    if (this.#transfers.length === 0) return
    const { role, transferee } = this.#options.core.status()
    if (role === 'leader' && transferee === '')
      this.#fail(new CodedError('TRANSFER_FAILED', 'the other manager did not take over in time', { retryable: true }))
  }

  stop(error: CodedError): void {
    this.#timer?.cancel()
    this.#fail(error)
  }

  #fail(error: CodedError): void {
    for (const { reject } of this.#transfers) reject(error)
    this.#transfers = []
  }

  /** `seenTerm`: the term at the last attempt. The first one comes soon, the others give an election time to be won. */
  #campaignSoon(attempt: number, seenTerm: number): void {
    const { core, clock, random, jitterMs, schedule } = this.#options
    const [minMs, maxMs] = jitterMs
    const delayMs = attempt === 1 ? minMs + random.float() * (maxMs - minMs) : maxMs * (1 + 2 * random.float())
    this.#timer = clock.setTimer(delayMs, () => {
      const { leader, term } = core.status()
      if (leader !== '') return
      // In a new term somebody's election is under way; one that is not won by the next time was a split vote.
      if (term === seenTerm && (!this.#isReluctant || attempt > RELUCTANT_ATTEMPTS)) core.campaignNow()
      schedule()
      if (attempt < ATTEMPTS) this.#campaignSoon(attempt + 1, term)
    })
  }
}

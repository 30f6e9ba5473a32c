// The one driver of all decision-makers: events become keys, keys are reconciled in order and in short slices, and what a
// reconcile wants is proposed. A key rests while its proposals are under way, so that it never fights itself; other keys
// go on, so that proposals pipeline. What goes wrong is retried, or shown: nothing is logged and forgotten.

import type { Clock, Timer } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import type { Proposer, StoreEvent, StoreView, Transaction } from '../store/types.ts'
import type { Controller, Problem, ReconcileContext } from './controller.ts'
import type { TurnBudget } from './turn-budget.ts'

export type Subscribe = (listener: (events: readonly StoreEvent[]) => void) => () => void

export interface KeyedLoopOptions {
  readonly controller: Controller
  readonly view: StoreView
  readonly subscribe: Subscribe
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly budget: TurnBudget
}

/** Keys with proposals under way at once: well below what the proposer queues. */
const MAX_IN_FLIGHT = 256
const BACKOFF_MIN_MS = 20
const BACKOFF_MAX_MS = 5_000
/** A key that failed for good is looked at again after this, or when something about it changes. */
const QUARANTINE_MS = 60_000
/** So many refusals in a row are no longer a race that someone else won. */
const REFUSALS_UNTIL_PROBLEM = 10
/** Wall time may jump: no timer sleeps longer than this before it looks at the clock again. */
const MAX_SLEEP_MS = 60_000

/** Refusals by `apply`: the world has moved on since the decision, so decide again. */
export const REFUSALS: ReadonlySet<string> = new Set([
  'OUT_OF_SEQUENCE',
  'NOT_FOUND',
  'EXISTS',
  'NAME_CONFLICT',
  'PORT_CONFLICT',
  'ADDRESS_CONFLICT',
  'VNI_CONFLICT',
  'NODE_NUMBER_CONFLICT',
  'RESOURCES_CONFLICT',
  'IN_USE',
])

/** The leadership is being lost: the signal will say so in a moment. Reading the state again is right in any case. */
const LEADERSHIP: ReadonlySet<string> = new Set(['NOT_LEADER', 'NO_LEADER', 'PROPOSAL_DROPPED', 'PROPOSAL_UNKNOWN'])

export class KeyedLoop {
  readonly name: string
  readonly #options: KeyedLoopOptions
  readonly #queue = new Set<string>()
  readonly #inFlight = new Set<string>()
  /** Keys that were touched while they were in flight. */
  readonly #again = new Set<string>()
  readonly #timers = new Map<string, Timer>()
  readonly #failures = new Map<string, number>()
  readonly #problems = new Map<string, Problem>()
  readonly #pending = new Set<Promise<void>>()
  #wake: (() => void) | undefined
  #stopped = true
  #rescan = false

  constructor(options: KeyedLoopOptions) {
    this.#options = options
    this.name = options.controller.name
  }

  /** Keys that can't go on, and why. They are tried again every minute and whenever something about them changes. */
  problems(): ReadonlyMap<string, Problem> {
    return this.#problems
  }

  /** For metrics. */
  depth(): { readonly queued: number; readonly inFlight: number } {
    return { queued: this.#queue.size, inFlight: this.#inFlight.size }
  }

  /** Runs until `signal` aborts, then waits for the answers to its proposals. Can be run again, by the next term's leader. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    if (signal.aborted) return
    const { subscribe, budget } = this.#options
    this.#stopped = false
    this.#rescan = true
    const unsubscribe = subscribe((events) => this.#hear(events))
    const stop = () => {
      this.#stopped = true
      this.#wake?.()
    }
    signal.addEventListener('abort', stop, { once: true })
    try {
      while (!this.#stopped) {
        await budget.turn()
        if (this.#rescan) await this.#scan()
        this.#drain()
        if (!this.#hasWork() && !this.#rescan) await this.#idle()
      }
    } finally {
      signal.removeEventListener('abort', stop)
      this.#stopped = true
      unsubscribe()
      for (const timer of this.#timers.values()) timer.cancel()
      this.#timers.clear()
      while (this.#pending.size > 0) await Promise.all(this.#pending)
      for (const memory of [this.#queue, this.#again, this.#failures, this.#problems]) memory.clear()
    }
  }

  async #scan(): Promise<void> {
    const { controller, view, budget } = this.#options
    this.#rescan = false
    for (const key of controller.start(view)) {
      if (key !== undefined) this.#enqueue(key)
      if (!budget.hasTime()) await budget.turn()
      if (this.#stopped) return
    }
  }

  /** Runs within `apply`, which nothing may disturb: a controller that fails here starts anew. */
  #hear(events: readonly StoreEvent[]): void {
    const { controller, view, log } = this.#options
    try {
      for (const event of events) for (const key of controller.affected(event, view)) this.#enqueue(key)
    } catch (error) {
      log.error({ loop: this.name, err: error }, 'an event could not be followed; the loop looks at everything again')
      this.#rescan = true
      this.#wake?.()
    }
  }

  #hasWork(): boolean {
    return this.#queue.size > 0 && this.#inFlight.size < MAX_IN_FLIGHT
  }

  #idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
      if (this.#stopped) resolve()
    })
  }

  #enqueue(key: string): void {
    if (this.#stopped) return
    if (this.#inFlight.has(key)) {
      this.#again.add(key)
      return
    }
    this.#queue.add(key)
    this.#wake?.()
  }

  #drain(): void {
    const { budget } = this.#options
    for (const key of [...this.#queue].sort()) {
      if (this.#stopped || this.#inFlight.size >= MAX_IN_FLIGHT || !budget.hasTime()) return
      this.#queue.delete(key)
      this.#reconcile(key)
    }
  }

  #context(): ReconcileContext {
    return { nowMs: this.#options.clock.wallMs(), random: this.#options.random }
  }

  #reconcile(key: string): void {
    const { controller, view } = this.#options
    this.#cancelTimer(key)
    const context = this.#context()
    try {
      const { transactions, requeueAtMs } = controller.reconcile(view, key, context)
      if (requeueAtMs !== undefined) this.#wakeAt(key, requeueAtMs)
      if (transactions.length === 0) this.#succeeded(key)
      else this.#track(key, transactions)
    } catch (error) {
      this.#quarantine(key, { code: errorCode(error) ?? 'INTERNAL', message: errorMessage(error) }, error)
    }
  }

  #track(key: string, transactions: readonly Transaction[]): void {
    this.#inFlight.add(key)
    const proposed = this.#propose(key, transactions).finally(() => this.#pending.delete(proposed))
    this.#pending.add(proposed)
  }

  async #propose(key: string, transactions: readonly Transaction[]): Promise<void> {
    const { controller, view, proposer } = this.#options
    const outcomes = await Promise.allSettled(transactions.map((transaction) => proposer.propose(transaction)))
    this.#inFlight.delete(key)
    if (this.#stopped) return
    controller.settled?.(key, view)
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed) this.#failed(key, failed.reason)
    else this.#succeeded(key)
    if (this.#again.delete(key)) this.#enqueue(key)
    this.#wake?.()
  }

  #succeeded(key: string): void {
    this.#failures.delete(key)
    if (this.#problems.delete(key)) this.#report(key, undefined)
  }

  #failed(key: string, error: unknown): void {
    const code = errorCode(error) ?? 'INTERNAL'
    const refused = REFUSALS.has(code)
    const retryable = refused || LEADERSHIP.has(code) || (error instanceof CodedError && error.retryable)
    if (!retryable) {
      this.#again.delete(key)
      this.#quarantine(key, { code, message: errorMessage(error) }, error)
      return
    }
    const failures = (this.#failures.get(key) ?? 0) + 1
    this.#failures.set(key, failures)
    if (failures === REFUSALS_UNTIL_PROBLEM) this.#showProblem(key, { code, message: errorMessage(error) }, error)
    if (refused && failures === 1) {
      this.#enqueue(key)
      return
    }
    this.#again.delete(key)
    const { clock, random } = this.#options
    const backoffMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** Math.min(failures, 16))
    this.#wakeAt(key, clock.wallMs() + backoffMs * (0.5 + random.float()))
  }

  #quarantine(key: string, problem: Problem, error: unknown): void {
    this.#showProblem(key, problem, error)
    this.#wakeAt(key, this.#options.clock.wallMs() + QUARANTINE_MS)
  }

  #showProblem(key: string, problem: Problem, error: unknown): void {
    if (this.#problems.get(key)?.message === problem.message) return
    this.#problems.set(key, problem)
    this.#options.log.error({ loop: this.name, key, code: problem.code, err: error }, 'a key can not go on')
    this.#report(key, problem)
  }

  #report(key: string, problem: Problem | undefined): void {
    const { controller, view, proposer, log } = this.#options
    const transaction = controller.report?.(view, key, problem, this.#context())
    if (!transaction) return
    const reported = proposer
      .propose(transaction)
      .then(
        () => {},
        (error: unknown) => log.warn({ loop: this.name, key, err: error }, 'could not show a problem'),
      )
      .finally(() => this.#pending.delete(reported))
    this.#pending.add(reported)
  }

  /** @param atMs wall time, of which only the distance from now counts: a clock that is set moves no timer */
  #wakeAt(key: string, atMs: number): void {
    if (this.#stopped) return
    const { clock } = this.#options
    this.#sleep(key, clock.nowMs() + Math.max(0, Math.ceil(atMs - clock.wallMs())))
  }

  #sleep(key: string, untilMs: number): void {
    const { clock } = this.#options
    this.#cancelTimer(key)
    const fire = () => {
      this.#timers.delete(key)
      if (clock.nowMs() < untilMs) this.#sleep(key, untilMs)
      else this.#enqueue(key)
    }
    this.#timers.set(key, clock.setTimer(Math.min(untilMs - clock.nowMs(), MAX_SLEEP_MS), fire))
  }

  #cancelTimer(key: string): void {
    this.#timers.get(key)?.cancel()
    this.#timers.delete(key)
  }
}

// What the generic loop asks of a decision-maker: which keys an event concerns, and what to write for a key now. All of it
// is synchronous and draws on nothing but the view and the context, so that a decision can be repeated in a test.

import type { Random } from '../../lib/random.ts'
import type { StoreEvent, StoreView, Transaction } from '../store/types.ts'

export interface ReconcileContext {
  /** Wall time in milliseconds: what is stored must mean the same to the next leader. */
  readonly nowMs: number
  readonly random: Random
}

export interface Decision {
  /** Proposed at once and independently of each other; the key rests until all of them are answered. */
  readonly transactions: readonly Transaction[]
  /** Wall time at which the key is to be looked at again, whatever happens until then. */
  readonly requeueAtMs?: number | undefined
}

export const NOTHING: Decision = { transactions: [] }

export interface Problem {
  readonly code: string
  readonly message: string
}

export interface Controller {
  readonly name: string
  /** All keys there are, for a new leader; undefined is a place to pause. Forgets what an earlier term left behind. */
  start(view: StoreView): Iterable<string | undefined>
  /** The keys that an event concerns. Called while the entry is being applied: it must be cheap and must not throw. */
  affected(event: StoreEvent, view: StoreView): Iterable<string>
  reconcile(view: StoreView, key: string, context: ReconcileContext): Decision
  /** Every proposal of the key's last decision has been answered, and the view shows it. */
  settled?(key: string, view: StoreView): void
  /** What makes the key's problem visible to the user, or (undefined) takes the sign away. */
  report?(
    view: StoreView,
    key: string,
    problem: Problem | undefined,
    context: ReconcileContext,
  ): Transaction | undefined
}

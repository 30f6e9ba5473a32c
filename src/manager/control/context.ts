// What every handler of the control API works on, and the one way in which handlers write.

import { managerRefusal } from '../../api/validation/refusal.ts'
import type { Clock } from '../../lib/clock.ts'
import { errorCode } from '../../lib/errors.ts'
import type { Random } from '../../lib/random.ts'
import type { Proposer, StoreView, Transaction } from '../store/types.ts'
import { type Findable, type Found, find } from './lookup.ts'

export interface ControlContext {
  readonly view: StoreView
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
  /** The id that an object gets which this request creates: the same in every attempt, so that none makes a second. */
  readonly objectId: string
  /** Shared by all attempts of a request that removes something; absent: there is one attempt only. */
  readonly removal?: Removal
}

export interface Removal {
  /** What an earlier attempt, whose outcome nobody saw, was to remove: this one is about the same, and may find it gone. */
  id: string | undefined
}

const MAX_ATTEMPTS = 20

/** Refusals that say only that the store moved between reading and applying. */
const STALE = new Set([
  'OUT_OF_SEQUENCE',
  'NOT_FOUND',
  'EXISTS',
  'IN_USE',
  'NAME_CONFLICT',
  'PORT_CONFLICT',
  'ADDRESS_CONFLICT',
  'VNI_CONFLICT',
])

/**
 * Proposes what `build` makes of the current state, and asks it again where the store has moved meanwhile: `build` then
 * either sees why the request can't be granted and throws Docker's text, or makes a transaction that fits. Undefined
 * says that nothing is left to do: an earlier attempt, whose outcome nobody saw, was applied.
 */
export async function proposeCurrent(
  context: ControlContext,
  build: (view: StoreView) => Transaction | undefined,
): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      const transaction = build(context.view)
      return transaction === undefined ? context.view.index : await context.proposer.propose(transaction)
    } catch (error) {
      const stale = STALE.has(errorCode(error) ?? '') && !isHandlers(error)
      if (!stale) throw error
      if (attempt >= MAX_ATTEMPTS) throw outOfSequence()
    }
  }
}

/**
 * Removes what `input` names. Where the outcome stays unknown the request's `removal` says what it was about, and may be made again:
 * it removes nothing that has meanwhile been given the name.
 * @param build throws where the object may not go
 */
export async function proposeRemoval<K extends Findable>(
  context: ControlContext,
  kind: K,
  input: string,
  build: (object: Found<K>, view: StoreView) => Transaction,
): Promise<void> {
  const { removal } = context
  let meant: string | undefined
  try {
    await proposeCurrent(context, (view) => {
      const { id } = removal ?? {}
      if (id !== undefined && view.get(kind, id) === undefined) return undefined
      const object = find(view, kind, id ?? input)
      meant = object.id
      return build(object, view)
    })
  } catch (error) {
    if (removal && errorCode(error) === 'PROPOSAL_UNKNOWN') removal.id = meant
    throw error
  }
}

/** A handler's own refusal carries Docker's prefix; the store's does not. */
function isHandlers(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('rpc error:')
}

export function outOfSequence(): Error {
  return managerRefusal('UNKNOWN', 'update out of sequence')
}

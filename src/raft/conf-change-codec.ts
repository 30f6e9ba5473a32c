// How a membership change is written into a log entry: arrays by position with a format version, so that any release
// can read what another one wrote.

import { decode, encode } from '../lib/codec.ts'
import { assert } from '../lib/errors.ts'
import type { ConfChange, ConfChangeStep } from './types.ts'

const VERSION = 1
const KINDS: readonly ConfChangeStep['kind'][] = ['add-voter', 'add-learner', 'remove', 'update']

/** [VERSION, [[kind's position in KINDS, id, address or ''], …]] */
export function encodeConfChange(change: ConfChange): Uint8Array {
  return encode([
    VERSION,
    change.steps.map((step) =>
      step.kind === 'remove'
        ? [KINDS.indexOf(step.kind), step.id, '']
        : [KINDS.indexOf(step.kind), step.member.id, step.member.address],
    ),
  ])
}

/** The entry was committed, so a member that cannot read it must stop: going on would give it another configuration. */
export function decodeConfChange(data: Uint8Array): ConfChange {
  const record = decode(data)
  assert(Array.isArray(record) && record[0] === VERSION, 'membership change in a format of a newer release')
  const [, steps]: readonly unknown[] = record
  assert(Array.isArray(steps), 'malformed membership change')
  return { steps: steps.map(decodeStep) }
}

function decodeStep(step: unknown): ConfChangeStep {
  assert(Array.isArray(step), 'malformed membership change')
  const [kindIndex, id, address]: readonly unknown[] = step
  const kind = typeof kindIndex === 'number' ? KINDS[kindIndex] : undefined
  assert(kind !== undefined, 'membership change of a newer release')
  assert(typeof id === 'string' && typeof address === 'string', 'malformed membership change')
  return kind === 'remove' ? { kind, id } : { kind, member: { id, address } }
}

// Puts changes that belong together into transactions that fit into an entry.

import type { Change, Transaction } from '../store/types.ts'
import { MAX_CHANGES_PER_ENTRY } from '../store/types.ts'

/** Half of what an entry takes: the estimate below is one, and other proposals want to share the entry. */
const MAX_BYTES = 512 * 1024
const OBJECT_BYTES = 600

const specBytes = new WeakMap<object, number>()

function sizeOf(value: object | undefined): number {
  if (!value) return 0
  let bytes = specBytes.get(value)
  if (bytes === undefined) {
    bytes = JSON.stringify(value).length
    specBytes.set(value, bytes)
  }
  return bytes
}

function estimatedBytes(change: Change): number {
  if (change.kind !== 'create' && change.kind !== 'update') return OBJECT_BYTES
  const { object } = change
  return OBJECT_BYTES + sizeOf(object.spec) + (object.kind === 'service' ? sizeOf(object.previousSpec) : 0)
}

/** Units stay whole and in order; a unit that is too large for an entry is left for the proposer to refuse. */
export function packChanges(units: Iterable<readonly Change[]>): readonly Transaction[] {
  const transactions: Change[][] = []
  let current: Change[] = []
  let bytes = 0
  for (const unit of units) {
    const unitBytes = unit.reduce((sum, change) => sum + estimatedBytes(change), 0)
    if (current.length > 0 && (current.length + unit.length > MAX_CHANGES_PER_ENTRY || bytes + unitBytes > MAX_BYTES)) {
      transactions.push(current)
      current = []
      bytes = 0
    }
    current.push(...unit)
    bytes += unitBytes
  }
  if (current.length > 0) transactions.push(current)
  return transactions
}

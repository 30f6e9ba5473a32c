// Which changes make the store grow: what a manager without room for its log refuses. What removes, stops or settles something
// passes, since that is how room is made.

import type { Service } from '../api/objects.ts'
import { specsEqual } from '../api/spec-equality.ts'
import type { StoreView, Transaction } from './store/types.ts'

export function makesStoreGrow(view: Pick<StoreView, 'get'>, transaction: Transaction): boolean {
  return transaction.some((change) => {
    if (change.kind === 'create') return true
    if (change.kind !== 'update' || change.object.kind !== 'service') return false
    const before = view.get('service', change.object.id)
    return before !== undefined && makesTasks(before, change.object)
  })
}

/** New tasks, whose predecessors stay as history. */
function makesTasks(before: Service, after: Service): boolean {
  if (after.jobStatus?.iteration !== before.jobStatus?.iteration) return true
  return replicas(after) > replicas(before) || !specsEqual(before.spec.TaskTemplate, after.spec.TaskTemplate)
}

function replicas({ spec }: Service): number {
  return spec.Mode?.Replicated?.Replicas ?? 0
}

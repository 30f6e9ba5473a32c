// A node's number names its block of gateway addresses; the store refuses one that is taken.

import { CodedError } from '../../lib/errors.ts'
import type { StoreView } from '../store/types.ts'

export const MAX_NODE_NUMBER = 4094

/**
 * The smallest number that neither a node nor a proposal in flight has.
 * @throws {CodedError} CLUSTER_FULL
 */
export function nextNodeNumber(view: Pick<StoreView, 'list'>, inFlight: ReadonlySet<number> = new Set()): number {
  const taken = new Set(view.list('node').map((node) => node.number))
  for (let number = 1; number <= MAX_NODE_NUMBER; number++)
    if (!taken.has(number) && !inFlight.has(number)) return number
  throw new CodedError('CLUSTER_FULL', `the cluster has ${MAX_NODE_NUMBER} nodes, which is the most it can have`)
}

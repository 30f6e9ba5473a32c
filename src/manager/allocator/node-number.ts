// Numbers of nodes: which block of gateway addresses a node has. Next-fit, so that the number of a node that left is used
// again as late as possible.

import type { StoreView } from '../store/types.ts'

export const MAX_NODE_NUMBER = 4094

/**
 * A free number from 1 to 4094, for a new node's record; undefined: the cluster is full. `apply` refuses one that is taken.
 * @param inFlight numbers of proposals that are not applied yet
 */
export function nextNodeNumber(
  view: Pick<StoreView, 'list'>,
  inFlight: ReadonlySet<number> = new Set(),
): number | undefined {
  const used = new Set([...view.list('node').map((node) => node.number), ...inFlight])
  const highest = Math.max(0, ...used)
  if (highest < MAX_NODE_NUMBER) return highest + 1
  for (let number = 1; number <= MAX_NODE_NUMBER; number++) if (!used.has(number)) return number
  return undefined
}

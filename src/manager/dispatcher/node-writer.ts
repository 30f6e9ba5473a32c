// Writes of node records by the dispatcher. Users write the same records (availability, labels), so a stale version is
// read again and the change decided anew.

import type { Node } from '../../api/objects.ts'
import { errorCode } from '../../lib/errors.ts'
import type { Proposer, StoreView } from '../store/types.ts'

const ATTEMPTS = 5

/**
 * Applies `change` to the node; it returns undefined where nothing is to be written. A node that is gone is left alone.
 * @throws {CodedError} what the proposer throws, but a stale version.
 */
export async function updateNode(
  view: StoreView,
  proposer: Proposer,
  nodeId: string,
  change: (node: Node) => Node | undefined,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const node = view.get('node', nodeId)
    const next = node && change(node)
    if (!node || !next) return
    try {
      await proposer.propose([{ kind: 'update', object: next, expectedVersion: node.meta.version }])
      return
    } catch (error) {
      if (errorCode(error) === 'NOT_FOUND') return
      if (errorCode(error) !== 'OUT_OF_SEQUENCE' || attempt === ATTEMPTS) throw error
    }
  }
}

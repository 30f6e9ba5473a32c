// Whether a node whose certificate was verified may do what it asks: the store's record has the last word.

import type { PeerIdentity } from '../../lib/connection.ts'
import type { Refusal } from '../../lib/ws-connection.ts'
import type { StoreView } from '../store/types.ts'

/** `node`: any node of the cluster; `manager`: managers; `raft`: managers, to replicate with each other. */
export type Access = 'node' | 'manager' | 'raft'

/**
 * undefined: allowed.
 * @param current whether the store is known to be up to date: this manager leads, or follows a leader and has applied
 *   what that has committed. A store that is behind may not know a new manager, and that one may be the leader who has
 *   the missing entries: for `raft` such a store leaves it to the certificate, and the caller asks again once it is current.
 */
export function authorizeNode(
  view: StoreView,
  identity: PeerIdentity,
  access: Access,
  current: boolean,
): Refusal | undefined {
  const cluster = view.cluster()
  if (cluster && cluster.id !== identity.clusterId)
    return refusal('untrusted', 'the certificate belongs to another cluster', false)
  if (access !== 'node' && identity.role !== 'manager')
    return refusal('role', `node ${identity.nodeId} is not a manager`, false)
  if (access === 'raft' && (!cluster || !current)) return undefined
  const node = view.get('node', identity.nodeId)
  if (!node)
    return current
      ? refusal('removed', `node ${identity.nodeId} is not part of the cluster any more`, false)
      : refusal('unknown-node', `this manager does not know node ${identity.nodeId}, or not yet`, true)
  if (access !== 'node' && node.role !== 'manager')
    return refusal('role', `node ${identity.nodeId} is not a manager`, !current)
  return undefined
}

function refusal(reason: string, message: string, retryable: boolean): Refusal {
  return { status: 403, reason, message, retryable }
}

// What a RaftNode says about itself, and what it reads from the core's status.

import { CodedError } from '../lib/errors.ts'
import type { CoreStatus } from './core-types.ts'
import type { RaftNodeStatus } from './raft-node-types.ts'
import type { ConfState, RaftId } from './types.ts'

export function describeStatus(
  status: CoreStatus,
  node: { readonly applied: number; readonly leadsInTerm: number | undefined },
): RaftNodeStatus {
  const { id, role, term, commit, firstIndex, lastIndex, conf } = status
  const leader = status.leader === '' ? undefined : status.leader
  const peers = status.peers.map(({ id, state, match, recentlyActive }) => ({
    id,
    state,
    match,
    recentActive: recentlyActive,
  }))
  const leaderAddress = addressOf(conf, leader)
  return { id, role, term, leader, leaderAddress, ...node, commit, firstIndex, lastIndex, conf, peers }
}

export function addressOf(conf: ConfState | undefined, id: RaftId | undefined): string | undefined {
  return conf?.members.find((member) => member.id === id)?.address
}

/**
 * Who is to lead next: `wanted`, or else the active voter that knows most.
 * @throws {CodedError} TRANSFER_IMPOSSIBLE
 */
export function transferTarget({ id, peers, conf }: CoreStatus, wanted: RaftId | undefined): RaftId {
  const active = peers.filter((peer) => peer.recentlyActive && conf.voters.includes(peer.id))
  const best = active.sort((a, b) => b.match - a.match || (a.id < b.id ? -1 : 1))[0]?.id
  const target = wanted ?? best
  if (target === undefined || target === id || !conf.voters.includes(target))
    throw new CodedError('TRANSFER_IMPOSSIBLE', 'there is no other manager that could lead')
  return target
}

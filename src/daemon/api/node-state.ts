// What this node may do, in Docker's words: the texts that every client knows of nodes that are no manager.

import { CodedError } from '../../lib/errors.ts'
import type { ManagerSight } from '../../manager/control/render.ts'
import type { ClusterState } from './cluster-access.ts'

export type ManagerState = Extract<ClusterState, { kind: 'manager' }>

export const LOCKED =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'

/** @throws {CodedError} NOT_MANAGER, SWARM_LOCKED */
export function requireManager(state: ClusterState): ManagerState {
  switch (state.kind) {
    case 'manager':
      return state
    case 'locked':
      throw new CodedError('SWARM_LOCKED', LOCKED)
    case 'worker':
      throw notManager(
        "Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.",
      )
    case 'pending':
      throw notManager('Manager is being prepared or has trouble connecting to the cluster.')
    case 'inactive':
    case 'error':
      throw notManager('Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.')
  }
}

function notManager(advice: string): CodedError {
  return new CodedError('NOT_MANAGER', `This node is not a swarm manager. ${advice}`)
}

export function swarmExists(): CodedError {
  return new CodedError(
    'SWARM_EXISTS',
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
  )
}

export function noLeader(): CodedError {
  return new CodedError(
    'NO_LEADER',
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.",
    { retryable: true },
  )
}

/** Nobody leads, and a leader that is gone had taken the request. */
export function unknownOutcome(): CodedError {
  const { message } = noLeader()
  return new CodedError(
    'PROPOSAL_UNKNOWN',
    `${message} It is not known whether this request was carried out, or will be once there is a leader.`,
  )
}

/** As /_ping and /info name it. */
export function localNodeState(state: ClusterState): 'inactive' | 'pending' | 'active' | 'error' | 'locked' {
  return state.kind === 'manager' || state.kind === 'worker' ? 'active' : state.kind
}

export function swarmHeader(state: ClusterState): string {
  const local = localNodeState(state)
  return local === 'active' ? `active/${state.kind}` : local
}

export function sightOf(state: ManagerState): ManagerSight {
  return { leaderId: state.isLeader ? state.nodeId : state.leader?.nodeId, reachability: state.reachability }
}

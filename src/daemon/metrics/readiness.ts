// Whether this node can do its work now, and what is lacking if not. Pure: /readyz and support bundles show it.

import type { Sample } from './node-facts.ts'

export interface Readiness {
  readonly ready: boolean
  /** For people, one each; empty when ready. */
  readonly reasons: readonly string[]
}

/** Of the data plane: without these nothing on networks works. The others concern one port or one network. */
const FATAL_PROBLEMS: ReadonlySet<string> = new Set([
  'DATA_PLANE_FAILED',
  'DATA_PLANE_DOWN',
  'DATA_PLANE_UNAVAILABLE',
  'NOT_IN_CLUSTER',
])

export function readinessOf(sample: Pick<Sample, 'state' | 'membership' | 'engine' | 'dataPlane'>): Readiness {
  const reasons = [...clusterReasons(sample), ...engineReasons(sample)]
  if (sample.membership) reasons.push(...dataPlaneReasons(sample))
  return { ready: reasons.length === 0, reasons }
}

function clusterReasons({ state, membership }: Pick<Sample, 'state' | 'membership'>): string[] {
  switch (state.kind) {
    case 'inactive':
      return ['cluster: this node is in no swarm']
    case 'pending':
      return ['cluster: this node is still joining']
    case 'locked':
      return ['cluster: this node is locked']
    case 'error':
      return [`cluster: ${state.message}`]
    case 'worker':
      return sessionReasons(membership)
    case 'manager': {
      const raft = membership?.manager?.raft
      const reasons = sessionReasons(membership)
      if (!raft) return ['manager: the state is being recovered from disk', ...reasons]
      if (!raft.leader) reasons.push('manager: the managers have no leader')
      else if (state.isLeader || raft.applied >= raft.commit) return reasons
      else reasons.push(`manager: applied ${raft.applied} of ${raft.commit} committed entries`)
      return reasons
    }
  }
}

function sessionReasons(membership: Sample['membership']): string[] {
  return membership?.hasSession ? [] : ['worker: no manager has this node’s session']
}

function engineReasons({ engine }: Pick<Sample, 'engine'>): string[] {
  return engine.kind === 'up' ? [] : [`engine: ${engine.reason}`]
}

function dataPlaneReasons({ dataPlane }: Pick<Sample, 'dataPlane'>): string[] {
  if (dataPlane.kind === 'down') return [`data plane: ${dataPlane.reason}`]
  const fatal = dataPlane.value.problems.filter(({ code }) => FATAL_PROBLEMS.has(code))
  return fatal.map(({ message }) => `data plane: ${message}`)
}

// Why tasks wait for a node: the scheduler's own filters, asked of each node as it is now.

import type { Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { WhyCandidateJson, WhyPlacementJson } from '../../api/why.ts'
import { newest } from '../orchestrator/slots.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import { waitsFor } from '../scheduler/dependencies.ts'
import { type Filter, filtersFor, refusalOf } from '../scheduler/filters.ts'
import type { NodeInfo } from '../scheduler/node-info.ts'
import { isEncrypted } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'

const MAX_CANDIDATES = 50

/** It has everything but a node. */
export function awaitsNode(task: Task): boolean {
  return task.status.state === 'pending' && compareTaskStates(task.desiredState, 'complete') <= 0
}

export function filtersOf(view: StoreView, task: Task): readonly Filter[] {
  return filtersFor(task, (networkId) => isEncrypted(view.get('network', networkId)))
}

/** For tasks that wait, as the last of them asks for it; those of global services ask for their own nodes only. */
export function placementOf(view: StoreView, waiting: readonly Task[], map: ClusterMap): WhyPlacementJson | undefined {
  const task = newest(waiting)
  // it says itself what it waits for
  if (!task || waitsFor(view, view.get('service', task.serviceId))) return undefined
  const filters = filtersOf(view, task)
  const nodes = task.nodeId ? waiting.flatMap(({ nodeId }) => map.get(nodeId) ?? []) : [...map.nodes()]
  const counts = new Map<string, number>()
  const candidates = nodes.map((info): WhyCandidateJson => {
    const refusal = refusalOf(filters, info)
    if (refusal) counts.set(refusal.reason, (counts.get(refusal.reason) ?? 0) + 1)
    return candidate(info, task.serviceId, refusal?.reason ?? '', refusal?.detail ?? '')
  })
  return {
    Waiting: waiting.length,
    Nodes: nodes.length,
    Fit: candidates.filter(({ Reason }) => Reason === '').length,
    Refusals: [...counts].sort(([, a], [, b]) => b - a).map(([Reason, Nodes]) => ({ Reason, Nodes })),
    Candidates: candidates.sort((a, b) => (name(a) < name(b) ? -1 : 1)).slice(0, MAX_CANDIDATES),
  }
}

const name = ({ Hostname, ID }: WhyCandidateJson): string => `${Hostname} ${ID}`

function candidate(info: NodeInfo, serviceId: string, Reason: string, Detail: string): WhyCandidateJson {
  const { id, description } = info.node
  const ServiceTasks = info.activeOf(serviceId)
  return { ID: id, Hostname: description.Hostname ?? '', Reason, Detail, ServiceTasks, Tasks: info.active }
}

/** "no suitable node (…)", as the scheduler says it, or that there is one. */
export function placementSummary({ Nodes, Fit, Refusals }: WhyPlacementJson): string {
  if (Nodes === 0) return 'there is no node to consider'
  const reasons = Refusals.map((one) => `${one.Nodes} ${one.Reason}`).join('; ')
  const considered = `${Nodes} ${Nodes === 1 ? 'node' : 'nodes'} considered`
  if (Fit === 0) return `no node will do: ${considered}; refused: ${reasons}`
  return `${Fit} of ${considered} would do now: the scheduler is about to choose`
}

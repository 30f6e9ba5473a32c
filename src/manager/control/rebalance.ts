// Rebalancing, as the API asks for it: what it would do, its beginning, how far it is, its end before the end.

import { MAX_REBALANCE_AT_ONCE, rebalanceSettings } from '../../api/cluster-settings.ts'
import type { Node, Service } from '../../api/objects.ts'
import type {
  RebalanceNodeJson,
  RebalancePlanJson,
  RebalanceRequestJson,
  RebalanceStatusJson,
} from '../../api/rebalance.ts'
import { managerRefusal, refusal } from '../../api/validation/refusal.ts'
import { formatTime } from '../../lib/clock.ts'
import { newRebalance, planMoves, type ServiceMoves } from '../orchestrator/rebalance-plan.ts'
import { moveOrder, obstacleOf } from '../orchestrator/rebalance-rules.ts'
import { accountOf, isRebalancing } from '../orchestrator/rebalance-run.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import type { StoreView } from '../store/types.ts'
import { type ControlContext, proposeCurrent } from './context.ts'
import { find } from './lookup.ts'

export interface RebalanceOrder {
  readonly services: readonly Service[]
  /** Ids of nodes */
  readonly onto: readonly string[]
  readonly volumes: boolean
  readonly atOnce: number
}

/** @throws {CodedError} where a name is none, a node takes no tasks, or so many at once can't be */
export function rebalanceOrder(view: StoreView, request: RebalanceRequestJson): RebalanceOrder {
  const { Services = [], Nodes = [], Volumes = false, AtOnce } = request
  const named = new Map(Services.map((input) => find(view, 'service', input)).map((service) => [service.id, service]))
  const services =
    Services.length === 0 ? view.list('service') : [...named.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  const onto = [...new Set(Nodes.map((input) => openNode(find(view, 'node', input)).id))]
  const atOnce = AtOnce ?? rebalanceSettings(view.cluster()?.spec).atOnce
  if (atOnce < 1 || atOnce > MAX_REBALANCE_AT_ONCE) {
    throw refusal(`invalid number of moves at once ${atOnce}: must be 1 to ${MAX_REBALANCE_AT_ONCE}`)
  }
  return { services, onto, volumes: Volumes, atOnce }
}

function openNode(node: Node): Node {
  const availability = node.spec.Availability ?? 'active'
  const name = node.description.Hostname || node.id
  if (node.status.state !== 'ready') {
    throw managerRefusal('FAILED_PRECONDITION', `node ${name} takes no tasks: it is ${node.status.state}`)
  }
  if (availability === 'active') return node
  throw managerRefusal('FAILED_PRECONDITION', `node ${name} takes no tasks: its availability is ${availability}`)
}

/** Of each service; yields undefined where it may be interrupted. @param map the caller's own */
export function planRebalance(
  view: StoreView,
  map: ClusterMap,
  { services, onto, volumes }: RebalanceOrder,
  nowMs: number,
): Generator<ServiceMoves | undefined, void> {
  return planMoves(view, map, { services, onto, volumes, nowMs })
}

/**
 * Begins the moves of each service that has some.
 * @returns ids of the services; one that was changed meanwhile is left out, as it would be now
 */
export async function beginRebalance(
  context: ControlContext,
  order: RebalanceOrder,
  planned: readonly ServiceMoves[],
): Promise<readonly string[]> {
  const begun: string[] = []
  for (const { service, moves } of planned) {
    if (moves.length === 0) continue
    let isBegun = false
    await proposeCurrent(context, (view) => {
      const current = view.get('service', service.id)
      const isFree = current && !isRebalancing(current) && obstacleOf(view, current, order.volumes) === undefined
      isBegun = isFree === true
      if (!isFree) return undefined
      const { onto, volumes, atOnce } = order
      const run = { cause: 'a user asked for it', atOnce, onto, volumes, planned: moves.length }
      const rebalance = newRebalance(run, context.clock.wallMs(), context.random)
      return [{ kind: 'update', object: { ...current, rebalance }, expectedVersion: current.meta.version }]
    })
    if (isBegun) begun.push(service.id)
  }
  return begun
}

/** What of it is under way is taken back: the tasks that run stay. @throws {CodedError} where none is under way */
export async function stopRebalance(context: ControlContext, input: string): Promise<void> {
  await proposeCurrent(context, (view) => {
    const service = find(view, 'service', input)
    if (!isRebalancing(service)) {
      throw managerRefusal('FAILED_PRECONDITION', `service ${service.spec.Name} is not being rebalanced`)
    }
    const endedAt = formatTime(context.clock.wallMs())
    const rebalance = { ...service.rebalance, state: 'stopped', message: 'a user stopped it', endedAt } as const
    return [{ kind: 'update', object: { ...service, rebalance }, expectedVersion: service.meta.version }]
  })
}

export function rebalancePlanJson(
  view: StoreView,
  planned: readonly ServiceMoves[],
  order: RebalanceOrder,
  begun: readonly string[],
): RebalancePlanJson {
  return {
    Moves: planned.flatMap(({ service, moves }) =>
      moves.map(({ task, toNodeId, reason }) => ({
        ServiceID: service.id,
        Service: service.spec.Name ?? '',
        Task: `${service.spec.Name}.${task.slot}`,
        TaskID: task.id,
        From: nodeJson(view, task.nodeId),
        To: nodeJson(view, toNodeId),
        Order: moveOrder(service),
        Reason: reason,
      })),
    ),
    Excluded: planned.flatMap(({ service, excluded }) =>
      excluded === undefined ? [] : [{ ServiceID: service.id, Service: service.spec.Name ?? '', Reason: excluded }],
    ),
    Services: planned.length,
    AtOnce: order.atOnce,
    Begun: begun,
  }
}

/** Of services that were ever rebalanced. */
export function rebalanceStatus(
  view: StoreView,
  services: readonly Service[],
  nowMs: number,
): readonly RebalanceStatusJson[] {
  return services.flatMap((service) => {
    const { rebalance: run } = service
    if (!run) return []
    const { underWay } = accountOf(view, service, run, nowMs)
    const shown = run.state === 'running' ? underWay : []
    return [
      {
        ServiceID: service.id,
        Service: service.spec.Name ?? '',
        State: run.state,
        Cause: run.cause,
        StartedAt: run.startedAt,
        EndedAt: run.endedAt,
        Planned: run.planned,
        Done: Math.max(0, run.begun - underWay.length),
        UnderWay: shown.map(({ task, predecessor, stage }) => ({
          Task: `${service.spec.Name}.${task.slot}`,
          TaskID: task.id,
          From: nodeJson(view, predecessor?.nodeId ?? ''),
          To: nodeJson(view, task.nodeId),
          Stage: stage,
        })),
        Message:
          run.message ||
          waitingFor(
            view,
            service,
            underWay.map(({ task }) => task.slot),
          ),
      },
    ]
  })
}

function waitingFor(view: StoreView, service: Service, moving: readonly number[]): string {
  if (!isRebalancing(service) || service.rebalance.waitsSince === '') return ''
  return obstacleOf(view, service, service.rebalance.volumes, moving)?.reason ?? ''
}

function nodeJson(view: StoreView, nodeId: string): RebalanceNodeJson {
  return { ID: nodeId, Hostname: view.get('node', nodeId)?.description.Hostname ?? '' }
}

// What a rebalancing of some services would do now, move by move, and the record that begins it.

import type { Rebalance, Service } from '../../api/objects.ts'
import { formatTime } from '../../lib/clock.ts'
import type { Random } from '../../lib/random.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import { isEncrypted } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { Balance, type Move } from './rebalance-moves.ts'
import { movableTasks, obstacleOf } from './rebalance-rules.ts'
import { accountOf, isRebalancing } from './rebalance-run.ts'

/** More moves than that of a service are for another time: nobody reads them, and each takes seconds. */
const MAX_MOVES = 1_000

export interface PlanRequest {
  /** By id: in the order in which they are carried out. */
  readonly services: readonly Service[]
  /** Ids of the nodes to move onto; empty: any */
  readonly onto: readonly string[]
  readonly volumes: boolean
  readonly nowMs: number
}

export interface ServiceMoves {
  readonly service: Service
  readonly moves: readonly Move[]
  /** Why there are none, where the service is not one to be rebalanced (now). */
  readonly excluded: string | undefined
}

/**
 * Yields service by service, and undefined where it may be interrupted.
 * @param map the caller's own: it is ahead of the store afterwards
 */
export function* planMoves(
  view: StoreView,
  map: ClusterMap,
  { services, onto, volumes, nowMs }: PlanRequest,
): Generator<ServiceMoves | undefined, void> {
  const running = view.list('service').filter(isRebalancing)
  const underWay = running.flatMap((service) => accountOf(view, service, service.rebalance, nowMs).underWay)
  const balance = new Balance(map, underWay)
  for (const service of services) {
    const excluded = isRebalancing(service)
      ? 'it is being rebalanced already'
      : obstacleOf(view, service, volumes)?.reason
    const moves: Move[] = []
    let tasks = excluded === undefined ? movableTasks(view, service) : []
    while (moves.length < MAX_MOVES) {
      const move = balance.next({ tasks, onto, isEncrypted: (id) => isEncrypted(view.get('network', id)), nowMs })
      if (!move) break
      balance.begin(move)
      tasks = tasks.filter((task) => task.id !== move.task.id)
      moves.push(move)
      yield undefined
    }
    yield { service, moves, excluded }
  }
}

export function newRebalance(
  run: Pick<Rebalance, 'cause' | 'atOnce' | 'onto' | 'volumes' | 'planned'>,
  nowMs: number,
  random: Random,
): Rebalance {
  const startedAt = formatTime(nowMs)
  const state = 'running'
  return {
    id: random.id(),
    state,
    ...run,
    startedAt,
    steppedAt: startedAt,
    waitsSince: '',
    endedAt: '',
    begun: 0,
    message: '',
  }
}

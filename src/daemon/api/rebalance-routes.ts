// `/swarmd/rebalance`: moving tasks of services to where the scheduler would place them now.

import { rebalanceRequestDecoder } from '../../api/rebalance.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { find } from '../../manager/control/lookup.ts'
import {
  beginRebalance,
  planRebalance,
  rebalanceOrder,
  rebalancePlanJson,
  rebalanceStatus,
  stopRebalance,
} from '../../manager/control/rebalance.ts'
import type { ServiceMoves } from '../../manager/orchestrator/rebalance-plan.ts'
import { ClusterMap } from '../../manager/scheduler/cluster-map.ts'
import { type Call, decodeJson, sendEmpty, sendJson } from './call.ts'
import type { ManagerState } from './node-state.ts'
import type { Route } from './router.ts'
import { controlOf, type ServerContext } from './server-context.ts'

const SLICE_MS = 8
const PATH = '/swarmd/rebalance'

export function rebalanceRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      // `?service=` names or ids; none: all that were ever rebalanced
      place: 'manager',
      method: 'GET',
      path: PATH,
      handle: async (call, { view }) => {
        const named = call.query.getAll('service').map((input) => find(view, 'service', input))
        const services = named.length > 0 ? named : view.list('service')
        sendJson(call, 200, rebalanceStatus(view, services, server.clock.wallMs()))
      },
    },
    { place: 'leader', method: 'POST', path: PATH, handle: (call, state) => begin(server, call, state) },
    {
      place: 'leader',
      method: 'POST',
      path: `${PATH}/stop`,
      handle: async (call, state) => {
        const { Services = [] } = decodeJson(call, rebalanceRequestDecoder)
        for (const service of Services) await stopRebalance(controlOf(server, state, call), service)
        sendEmpty(call, 204)
      },
    },
  ]
}

/** Answers a RebalancePlanJson; unless it is a dry run, the moves are begun. */
async function begin(server: ServerContext, call: Call, state: ManagerState): Promise<void> {
  const { view, subscribe } = state
  const request = decodeJson(call, rebalanceRequestDecoder)
  const order = rebalanceOrder(view, request)
  const map = new ClusterMap()
  const unsubscribe = subscribe((events) => {
    for (const event of events) map.observe(event, view)
  })
  const planned: ServiceMoves[] = []
  try {
    const slices = new Slices(server.clock, call.signal)
    for (const _ of map.build(view)) await slices.rest()
    for (const one of planRebalance(view, map, order, server.clock.wallMs())) {
      if (one) planned.push(one)
      await slices.rest()
    }
  } finally {
    unsubscribe()
  }
  if (call.signal.aborted) return
  const begun = request.DryRun ? [] : await beginRebalance(controlOf(server, state, call), order, planned)
  sendJson(call, 200, rebalancePlanJson(view, planned, order, begun))
}

/** Lets others have their turn now and then. */
class Slices {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  #startMs: number

  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock
    this.#signal = signal
    this.#startMs = clock.nowMs()
  }

  async rest(): Promise<void> {
    if (this.#clock.nowMs() - this.#startMs <= SLICE_MS) return
    await sleep(this.#clock, 0, this.#signal)
    this.#startMs = this.#clock.nowMs()
  }
}

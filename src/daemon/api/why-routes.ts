// `GET /swarmd/why`: why a task, a service or a node is as it is.

import { refusal } from '../../api/validation/refusal.ts'
import type { WhyKind } from '../../api/why.ts'
import { sleep } from '../../lib/clock.ts'
import { needsMap, why } from '../../manager/control/why.ts'
import { whySubject } from '../../manager/control/why-subject.ts'
import { ClusterMap } from '../../manager/scheduler/cluster-map.ts'
import { type Call, parameter, sendJson } from './call.ts'
import type { ManagerState } from './node-state.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

const SLICE_MS = 8
const DEFAULT_LIMIT = 8
const MAX_LIMIT = 100

export function whyRoutes(server: ServerContext): readonly Route[] {
  return [
    { place: 'manager', method: 'GET', path: '/swarmd/why', handle: (call, state) => answer(server, call, state) },
  ]
}

/** `?of=` an id, its beginning, or a name; `?type=task|service|node`: only such; `?limit=` events, 8 by default, at most 100. */
async function answer(server: ServerContext, call: Call, { view, subscribe }: ManagerState): Promise<void> {
  const subject = whySubject(view, parameter(call, 'of'), kindOf(parameter(call, 'type')))
  const limit = limitOf(parameter(call, 'limit'))
  if (!needsMap(view, subject)) {
    sendJson(call, 200, why(view, subject, undefined, { nowMs: server.clock.wallMs(), limit }))
    return
  }
  const map = new ClusterMap()
  const unsubscribe = subscribe((events) => {
    for (const event of events) map.observe(event, view)
  })
  try {
    let sliceStartMs = server.clock.nowMs()
    for (const _ of map.build(view)) {
      if (server.clock.nowMs() - sliceStartMs <= SLICE_MS) continue
      await sleep(server.clock, 0, call.signal)
      if (call.signal.aborted) return
      sliceStartMs = server.clock.nowMs()
    }
  } finally {
    unsubscribe()
  }
  // It may have been placed, or be gone, meanwhile.
  const current = whySubject(view, subject.id, subject.kind)
  sendJson(call, 200, why(view, current, map, { nowMs: server.clock.wallMs(), limit }))
}

function kindOf(text: string): WhyKind | undefined {
  if (text === '') return undefined
  if (text === 'task' || text === 'service' || text === 'node') return text
  throw refusal(`invalid type ${JSON.stringify(text)}: must be task, service or node`)
}

function limitOf(text: string): number {
  if (text === '') return DEFAULT_LIMIT
  const limit = Number(text)
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT) return limit
  throw refusal(`invalid limit ${JSON.stringify(text)}: must be 1 to ${MAX_LIMIT}`)
}

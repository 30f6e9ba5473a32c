// What Docker's API has no word for, below a name of its own: trying the networks, and new keys for the encrypted ones.

import type { ProbeAnswer } from '../../api/network-check.ts'
import { sleep } from '../../lib/clock.ts'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import { checkResult, planCheck } from '../../manager/control/network-check.ts'
import { type Call, parameter, sendEmpty, sendJson } from './call.ts'
import { type ManagerState, requireManager } from './node-state.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

/** A node that tries many silent ones takes this long. */
const ANSWER_WITHIN_MS = 60_000

const HINTS: Readonly<Record<string, string>> = {
  STREAM_TIMEOUT: "; does a firewall keep it from new connections to the leader's control port?",
  STREAM_UNKNOWN: '; its swarmd is of an older version',
}

export function networkCheckRoutes(server: ServerContext): readonly Route[] {
  return [
    {
      place: 'leader',
      method: 'GET',
      path: '/swarmd/network-check',
      handle: (call, state) => check(server, call, state),
    },
    { place: 'node', method: 'POST', path: '/swarmd/network-keys/rotate', handle: (call) => rotate(server, call) },
  ]
}

/** `?network=` a name or id: only that one. Answers a NetworkCheckJson when all nodes have, each at its own pace. */
async function check(server: ServerContext, call: Call, state: ManagerState): Promise<void> {
  const { request, nodes } = planCheck(state.view, parameter(call, 'network'))
  const late = new AbortController()
  const signal = AbortSignal.any([call.signal, late.signal])
  const finished = new AbortController()
  void sleep(server.clock, ANSWER_WITHIN_MS, finished.signal).then(() => late.abort())
  const checked = await Promise.all(
    nodes.map(async (node) => {
      try {
        const answer: ProbeAnswer = await server.cluster.probe(node.id, request, signal)
        return { node, answer }
      } catch (error) {
        return { node, answer: { error: `${errorMessage(error)}${HINTS[errorCode(error) ?? ''] ?? ''}` } }
      }
    }),
  )
  finished.abort()
  sendJson(call, 200, checkResult(state.view, checked))
}

async function rotate(server: ServerContext, call: Call): Promise<void> {
  requireManager(server.cluster.state())
  await server.cluster.rotateNetworkKeys()
  sendEmpty(call, 204)
}

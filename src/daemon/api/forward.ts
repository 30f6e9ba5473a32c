// A manager that is not the leader hands a whole request to the leader, over mutual TLS, and its response to the client.

import type { IncomingMessage } from 'node:http'
import type { ManagerAddress } from '../../api/dispatcher.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import { findOptional } from '../../manager/control/lookup.ts'
import { type Call, isRepeatable, OBJECT_ID_HEADER, REMOVAL_HEADER, RETRY_HEADER } from './call.ts'
import { type ClusterAccess, FORWARD_PREFIX } from './cluster-access.ts'
import { endToEndHeaders } from './pass-through.ts'

/** As dockerd gives a manager 20 s to answer. */
const ANSWER_MS = 20_000
/** A leader that hangs is replaced by the others within two seconds; one that lost its leadership answers by itself. */
const REPLACED_MS = 1_000
const LOOK_MS = 250

/**
 * @param url path and query for the leader, where they differ from the client's
 * @returns 'retry' where the leader certainly did nothing (it could not be reached, or leads no longer), or where it does
 *   no harm to ask again
 * @throws {CodedError} PROPOSAL_UNKNOWN where the connection broke after the request was sent
 */
export function forward(
  cluster: ClusterAccess,
  clock: Clock,
  leader: ManagerAddress,
  call: Call,
  url = call.request.url ?? '/',
): Promise<'answered' | 'retry'> {
  return new Promise((resolve, reject) => {
    let sent = false
    const meant = meantBy(cluster, call)
    // No client says what only managers tell one another.
    const { [REMOVAL_HEADER]: _, ...headers } = endToEndHeaders(call.request.headers)
    const outgoing = cluster.requestLeader(leader, {
      method: call.method,
      path: `${FORWARD_PREFIX}${url}`,
      headers: {
        ...headers,
        [OBJECT_ID_HEADER]: call.objectId,
        ...(call.removal.id !== undefined && { [REMOVAL_HEADER]: call.removal.id }),
        ...(call.body.length > 0 || call.method === 'POST' ? { 'content-length': String(call.body.length) } : {}),
      },
    })
    const deadlineMs = clock.nowMs() + ANSWER_MS
    let replacedMs: number | undefined
    const look = (): void => {
      const nowMs = clock.nowMs()
      replacedMs = hasOtherLeader(cluster, leader) ? (replacedMs ?? nowMs) : undefined
      if (replacedMs !== undefined && nowMs - replacedMs >= REPLACED_MS)
        outgoing.destroy(new Error('another leads now'))
      else if (nowMs >= deadlineMs) outgoing.destroy(new Error('no answer'))
      else timer = clock.setTimer(LOOK_MS, look)
    }
    let timer = clock.setTimer(LOOK_MS, look)
    outgoing.on('socket', (socket) => {
      // A connection that is being made has not carried the request yet.
      if (socket.connecting)
        socket
          .once('secureConnect', () => {
            sent = true
          })
          .once('connect', () => {
            sent ||= !('encrypted' in socket)
          })
      else sent = true
    })
    outgoing.on('error', (error) => {
      timer.cancel()
      if (sent) call.removal.id ??= meant
      if (call.signal.aborted) resolve('answered')
      else if (!sent || isRepeatable(call)) resolve('retry')
      else {
        reject(
          new CodedError(
            'PROPOSAL_UNKNOWN',
            `rpc error: code = Unavailable desc = the connection to the leader was lost (${errorMessage(error)}): the request may or may not have been carried out`,
            { cause: error },
          ),
        )
      }
    })
    outgoing.on('response', (incoming) => {
      timer.cancel()
      if (incoming.headers[RETRY_HEADER] !== undefined) {
        const removal = incoming.headers[REMOVAL_HEADER]
        if (typeof removal === 'string') call.removal.id = removal
        incoming.resume()
        resolve('retry')
        return
      }
      answer(call, incoming)
      call.response.once('close', () => resolve('answered'))
    })
    call.signal.addEventListener('abort', () => outgoing.destroy(), { once: true })
    outgoing.end(call.body)
  })
}

const KINDS = {
  services: 'service',
  nodes: 'node',
  networks: 'network',
  secrets: 'secret',
  configs: 'config',
} as const

/** What a removal is about, as far as this manager's own state says so. */
function meantBy(cluster: ClusterAccess, call: Call): string | undefined {
  const state = cluster.state()
  const kind = KINDS[(call.path.split('/')[1] ?? '') as keyof typeof KINDS]
  if (call.method !== 'DELETE' || state.kind !== 'manager' || kind === undefined) return undefined
  return findOptional(state.view, kind, call.id)?.id
}

function hasOtherLeader(cluster: ClusterAccess, asked: ManagerAddress): boolean {
  const state = cluster.state()
  if (state.kind !== 'manager') return false
  return state.isLeader || (state.leader !== undefined && state.leader.nodeId !== asked.nodeId)
}

function answer(call: Call, incoming: IncomingMessage): void {
  const { response } = call
  response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage, endToEndHeaders(incoming.headers))
  response.flushHeaders()
  incoming.on('error', () => response.destroy())
  incoming.pipe(response)
}

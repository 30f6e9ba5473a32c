// `/member/…` on the control port: a manager that has started asks the leader to take it into the consensus, tells where it
// is now and what it can do, or leaves.

import type { ManagerAddress } from '../api/dispatcher.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { type PeerClient, readBody } from '../lib/tls-request.ts'
import type { Manager } from '../manager/manager.ts'
import type { MemberCall, SeatRequest } from '../manager/membership/seat.ts'
import type { ControlPort } from './control-port.ts'

const PREFIX = '/member/'
const MAX_BODY_BYTES = 64 * 1024
/** Catching up is part of the answer. */
const REQUEST_TIMEOUT_MS = 90_000

function parseRequest(body: Buffer): SeatRequest {
  const value: unknown = JSON.parse(body.toString('utf8'))
  if (
    typeof value === 'object' &&
    value !== null &&
    'raftId' in value &&
    'address' in value &&
    'featureLevel' in value
  ) {
    const { raftId, address, featureLevel } = value
    if (typeof raftId === 'string' && typeof address === 'string' && typeof featureLevel === 'number') {
      return { raftId, address, featureLevel }
    }
  }
  throw new CodedError('MALFORMED', 'malformed member request')
}

/** @returns ends it */
export function serveMembers(port: ControlPort, manager: Manager): () => void {
  return port.onRequest(PREFIX, 'manager', {
    request: async (message, response, client) => {
      let status = 200
      let reply: unknown = {}
      try {
        if (!manager.isLeader) {
          status = 421
          reply = { code: 'NOT_LEADER', message: 'this manager is not the leader', leader: manager.leader() }
        } else {
          const request = parseRequest(await readBody(message, MAX_BODY_BYTES))
          const member = { ...request, nodeId: client?.nodeId ?? '' }
          if (message.url === `${PREFIX}add`) await manager.addMember(member)
          else if (message.url === `${PREFIX}leave`) await manager.releaseMember(member)
          else await manager.refreshMember(member)
        }
      } catch (error) {
        status = error instanceof CodedError && !error.retryable ? 409 : 503
        reply = { code: errorCode(error) ?? 'INTERNAL', message: errorMessage(error), retryable: status === 503 }
      }
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(reply))
    },
  })
}

/**
 * One attempt at one manager.
 * @throws {CodedError} NOT_LEADER with `details.leader` (a ManagerAddress, where known); what the leader answered; the client's
 */
export async function askMember(
  client: PeerClient,
  target: ManagerAddress,
  what: MemberCall,
  request: SeatRequest,
  signal: AbortSignal,
): Promise<void> {
  const response = await client.request(
    { address: target.address, ...(target.nodeId ? { nodeId: target.nodeId } : {}) },
    {
      method: 'POST',
      path: `${PREFIX}${what}`,
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(JSON.stringify(request)),
      timeoutMs: REQUEST_TIMEOUT_MS,
      signal,
    },
  )
  const body = await readBody(response.message, MAX_BODY_BYTES)
  if (response.status === 200) return
  const reply = JSON.parse(body.toString('utf8') || '{}') as {
    readonly code?: string
    readonly reason?: string
    readonly message?: string
    readonly retryable?: boolean
    readonly leader?: ManagerAddress
  }
  const retryable = response.status === 421 || response.status === 503 || reply.retryable === true
  throw new CodedError(reply.code ?? reply.reason ?? 'REFUSED', reply.message ?? `HTTP status ${response.status}`, {
    retryable,
    details: reply.leader ? { leader: reply.leader } : {},
  })
}

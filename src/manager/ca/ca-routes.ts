// `/ca/root` and `/ca/issue` on the control port, and how a manager asks another one's.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { httpStatus } from '../../api/error-status.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { type PeerRequest, type PeerResponse, readBody } from '../../lib/tls-request.ts'
import type { CertificateAuthority, IssueClient } from './certificate-authority.ts'
import {
  type IssueReply,
  type IssueRequest,
  MAX_CA_BODY_BYTES,
  parseIssueReply,
  parseIssueRequest,
} from './issue-request.ts'

/** Serves one request below `/ca/`. Answers errors itself, as `{code, message, retryable}`. */
export async function serveCa(
  authority: CertificateAuthority,
  log: Log,
  message: IncomingMessage,
  response: ServerResponse,
  client: IssueClient,
): Promise<void> {
  let status = 200
  let reply: unknown
  try {
    reply = await answer(authority, message, client)
  } catch (error) {
    const code = errorCode(error) ?? 'INTERNAL'
    const retryable = error instanceof CodedError && error.retryable
    status = httpStatus(error)
    reply = { code, message: errorMessage(error), retryable }
    log.warn({ code, reason: errorMessage(error), remoteHost: client.remoteHost }, 'certificate refused')
  }
  const body = JSON.stringify(reply)
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  response.end(body)
}

async function answer(authority: CertificateAuthority, message: IncomingMessage, client: IssueClient) {
  switch (`${message.method} ${message.url}`) {
    case 'POST /ca/root':
      return authority.root()
    case 'POST /ca/issue':
      return authority.issue(parseIssueRequest(await readBody(message, MAX_CA_BODY_BYTES)), client)
    default:
      throw new CodedError('NOT_FOUND', `no ${message.method} ${message.url} here`)
  }
}

/**
 * Asks a manager's `/ca/…`.
 * @returns the body of the answer
 * @throws {CodedError} `send`'s, and what the manager answered, under its code
 */
export async function askCa(
  send: (request: PeerRequest) => Promise<PeerResponse>,
  path: '/ca/root' | '/ca/issue',
  request: IssueRequest | undefined,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal | undefined },
): Promise<Buffer> {
  const response = await send({
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(request ?? {})),
    ...options,
  })
  if (response.kind !== 'response') throw new CodedError('MALFORMED', 'the manager switched protocols')
  const body = await readBody(response.message, MAX_CA_BODY_BYTES)
  if (response.status === 200) return body
  throw errorOf(response.status, body)
}

/** For `CertificateAuthority`'s `forwardToLeader`, over a connection to the leader. */
export async function forwardIssue(
  send: (request: PeerRequest) => Promise<PeerResponse>,
  request: IssueRequest,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<IssueReply> {
  return parseIssueReply(await askCa(send, '/ca/issue', request, options))
}

function errorOf(status: number, body: Buffer): CodedError {
  try {
    const { code, reason, message, retryable } = JSON.parse(body.toString('utf8')) as Readonly<Record<string, unknown>>
    if (typeof message === 'string')
      return new CodedError(typeof code === 'string' ? code : 'FORBIDDEN', message, {
        retryable: retryable === true,
        details: { status, reason },
      })
  } catch {
    // the status alone has to do
  }
  return new CodedError('UNAVAILABLE', `the manager answered with HTTP status ${status}`, { retryable: status >= 500 })
}

// How a machine becomes a node: the token's digest pins the cluster's root, the token's secret is shown only to a manager
// that proves itself by that root, and the answer is checked before it is believed.

import type { ManagerAddress } from '../../api/dispatcher.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import type { Random } from '../../lib/random.ts'
import type { Trust } from '../../lib/tls.ts'
import { requestOverTls } from '../../lib/tls-request.ts'
import { createKey, createRequest } from '../../lib/x509.ts'
import { askCa } from '../../manager/ca/ca-routes.ts'
import { type IssueReply, parseIssueReply, parseRootReply } from '../../manager/ca/issue-request.ts'
import { parseJoinToken, rootDigest } from '../../manager/ca/join-token.ts'
import { certificateOf, type Identity } from './identity.ts'

export interface JoinOptions {
  /** host:port of managers, tried in turn. */
  readonly addresses: readonly string[]
  readonly token: string
  readonly availability?: 'active' | 'pause' | 'drain'
  readonly clock: Clock
  readonly random: Random
  /** For all attempts together. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

export interface Joined {
  readonly identity: Identity
  readonly role: 'worker' | 'manager'
  readonly managers: readonly ManagerAddress[]
}

const ATTEMPT_TIMEOUT_MS = 5_000
const BACKOFF_MS = { first: 250, most: 4_000 } as const
/** An address that nothing answers at is more often wrong than slow. */
const UNANSWERED_TIMEOUT_MS = 5_000

/**
 * Asks a cluster for a node id and a certificate. Nothing is written to disk.
 * @throws {CodedError} INVALID_JOIN_TOKEN, FORBIDDEN (the token is not, or no longer, one of this cluster's),
 *   ROOT_MISMATCH, or the last attempt's error when the time is over.
 */
export async function joinCluster(options: JoinOptions): Promise<Joined> {
  const { addresses, clock, random, signal } = options
  const { digest } = parseJoinToken(options.token)
  // One key for all attempts: the cluster derives the node's id from it, so that a second attempt is the same node.
  const keyPem = createKey()
  const startMs = clock.nowMs()
  const deadlineMs = startMs + options.timeoutMs
  let answered = false
  for (let attempt = 0; ; attempt++) {
    const address = addresses[attempt % addresses.length]
    if (address === undefined) throw new CodedError('INVALID_ADDRESS', 'at least 1 RemoteAddr is required to join')
    try {
      const timeoutMs = Math.max(Math.min(ATTEMPT_TIMEOUT_MS, deadlineMs - clock.nowMs()), 1)
      return await joinAt(address, digest, keyPem, { ...options, timeoutMs })
    } catch (error) {
      const delayMs = Math.min(BACKOFF_MS.first * 2 ** Math.floor(attempt / addresses.length), BACKOFF_MS.most)
      const jitteredMs = delayMs * (0.5 + random.float() / 2)
      answered ||= !isUnanswered(error)
      const lastMs = answered ? deadlineMs : Math.min(deadlineMs, startMs + UNANSWERED_TIMEOUT_MS)
      const final = !mayPass(error) || clock.nowMs() + jitteredMs >= lastMs
      // Another of several addresses may be the right one, or in a better state.
      if (final && (attempt + 1 >= addresses.length || clock.nowMs() >= deadlineMs)) throw explain(error)
      await sleep(clock, jitteredMs, signal)
      if (signal?.aborted) throw explain(error)
    }
  }
}

/** Worth another attempt; a join is idempotent, so an unknown outcome is, too. */
export function mayPass(error: unknown): boolean {
  const code = errorCode(error)
  return (error instanceof CodedError && error.retryable) || code === 'CONNECTION_LOST' || code === 'PROPOSAL_UNKNOWN'
}

function isUnanswered(error: unknown): boolean {
  return ['CONNECTION_REFUSED', 'CONNECTION_TIMEOUT'].includes(errorCode(error) ?? '')
}

function explain(error: unknown): unknown {
  if (!(error instanceof CodedError) || !isUnanswered(error)) return error
  return new CodedError(
    error.code,
    `could not reach a manager of the swarm: ${error.message}. Check the address, that swarmd runs there as a manager, and that its control port (2377 unless chosen otherwise) is open to this machine`,
    { cause: error, retryable: true },
  )
}

async function joinAt(address: string, digest: string, keyPem: string, options: JoinOptions): Promise<Joined> {
  const { clock, timeoutMs, signal, token, availability } = options
  const ask = (trust: Trust) => (request: Parameters<Parameters<typeof askCa>[0]>[0]) =>
    requestOverTls({ address, trust, clock, ...request })
  const { rootPem } = parseRootReply(
    await askCa(ask({ kind: 'unverified' }), '/ca/root', undefined, { timeoutMs, signal }),
  )
  const found = rootDigest(rootPem)
  if (found !== digest)
    throw new CodedError(
      'ROOT_MISMATCH',
      `remote CA does not match fingerprint. Expected: ${hex(digest)}, got: ${hex(found)}. The join token is of another swarm, or older than its CA: "docker swarm join-token" on a manager shows the valid one`,
    )
  const csr = createRequest({ keyPem, subject: { commonName: 'swarm-node' } })
  const request = { csr, token, ...(availability && { availability }) }
  const body = await askCa(ask({ kind: 'roots', rootsPem: [rootPem] }), '/ca/issue', request, { timeoutMs, signal })
  const reply = parseIssueReply(body)
  return { identity: identityOf(reply, keyPem), role: reply.role, managers: reply.managers }
}

/**
 * The identity that an answer gives to the holder of `keyPem`.
 * @throws {CodedError} CERTIFICATE_INVALID
 */
export function identityOf(reply: IssueReply, keyPem: string): Identity {
  const { clusterId, nodeId, certPem, rootsPem } = reply
  const identity = { clusterId, nodeId, certPem, keyPem, rootsPem }
  const { identity: named } = certificateOf(identity)
  if (named.clusterId !== clusterId || named.nodeId !== nodeId || named.role !== reply.role)
    throw new CodedError('CERTIFICATE_INVALID', "the cluster's answer does not fit its certificate")
  return identity
}

/** Fingerprints are shown as sha256 sums are. */
function hex(base36: string): string {
  let value = 0n
  for (const digit of base36) value = value * 36n + BigInt(Number.parseInt(digit, 36))
  return value.toString(16).padStart(64, '0')
}

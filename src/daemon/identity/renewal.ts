// Renews this node's certificate while it runs: at a random point in 50–80 % of its life, so that nodes that joined
// together do not renew together, and at once when the node's role or the cluster's root has changed.

import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import type { PeerRequest, PeerResponse } from '../../lib/tls-request.ts'
import { createKey, createRequest } from '../../lib/x509.ts'
import type { NodeCertificate } from '../../lib/x509-node.ts'
import { askCa } from '../../manager/ca/ca-routes.ts'
import { parseIssueReply } from '../../manager/ca/issue-request.ts'
import { type CurrentIdentity, certificateOf, type Identity } from './identity.ts'
import { identityOf } from './join.ts'

const ATTEMPT_TIMEOUT_MS = 10_000
const BACKOFF_MS = { first: 1_000, most: 300_000 } as const
/** Wall time may be set, and long timers lose their way: look at it at least this often. */
const LOOK_AGAIN_MS = 3_600_000

/** Wall time at which a certificate should be renewed. */
export function renewalTimeMs(certificate: NodeCertificate, random: Random): number {
  const { issuedMs, expiresMs } = certificate
  return issuedMs + (expiresMs - issuedMs) * (0.5 + 0.3 * random.float())
}

export interface CertificateRenewerOptions {
  readonly identity: CurrentIdentity
  /** Durable when it resolves, unless the signal has aborted. */
  readonly save: (identity: Identity, signal: AbortSignal) => Promise<void>
  /** Managers' control ports, host:port, the best first; asked before each attempt. */
  readonly managers: () => readonly string[]
  /** PeerClient.request: on a connection made with the certificate that is to be renewed. */
  readonly request: (target: { readonly address: string }, request: PeerRequest) => Promise<PeerResponse>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class CertificateRenewer {
  readonly #options: CertificateRenewerOptions
  #asked = false
  #wake: () => void = () => {}

  constructor(options: CertificateRenewerOptions) {
    this.#options = options
  }

  /** Renews as soon as possible: the node's role or the cluster's root has changed. */
  requestRenewal(): void {
    this.#asked = true
    this.#wake()
  }

  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { identity, random, clock } = this.#options
    let certificate = certificateOf(identity.value)
    let dueMs = renewalTimeMs(certificate, random)
    let failures = 0
    while (!signal.aborted) {
      if (!this.#asked && clock.wallMs() < dueMs) {
        await this.#rest(Math.min(dueMs - clock.wallMs(), LOOK_AGAIN_MS), signal)
        continue
      }
      this.#asked = false
      try {
        await this.#renew(failures, signal)
        certificate = certificateOf(identity.value)
        dueMs = renewalTimeMs(certificate, random)
        failures = 0
      } catch (error) {
        if (signal.aborted) return
        failures++
        this.#report(error, certificate)
        // Of a short life no more than a tenth may pass unused between two attempts.
        const tenthMs = Math.max((certificate.expiresMs - certificate.issuedMs) / 10, BACKOFF_MS.first)
        const delayMs = Math.min(BACKOFF_MS.first * 2 ** Math.min(failures - 1, 20), BACKOFF_MS.most, tenthMs)
        await this.#rest(delayMs * (0.5 + random.float() / 2), signal)
        this.#asked = true
      }
    }
  }

  /** Asks one manager after the other. */
  async #renew(failures: number, signal: AbortSignal): Promise<void> {
    const { identity, save, request, log } = this.#options
    const managers = this.#options.managers()
    const address = managers[failures % managers.length]
    if (address === undefined) throw new CodedError('NO_MANAGER', 'no manager is known', { retryable: true })
    const { nodeId, clusterId } = identity.value
    const keyPem = createKey()
    const csr = createRequest({ keyPem, subject: { commonName: nodeId, organization: clusterId } })
    const body = await askCa(
      (options) => request({ address }, options),
      '/ca/issue',
      { csr },
      { timeoutMs: ATTEMPT_TIMEOUT_MS, signal },
    )
    const reply = parseIssueReply(body)
    const renewed: Identity = identityOf(reply, keyPem)
    if (renewed.nodeId !== nodeId || renewed.clusterId !== clusterId)
      throw new CodedError('CERTIFICATE_INVALID', 'the renewed certificate names another node')
    await save(renewed, signal)
    if (signal.aborted) return
    identity.replace(renewed)
    const { expiresMs } = certificateOf(renewed)
    log.info({ nodeId, role: reply.role, expiresMs, manager: address }, 'certificate renewed')
  }

  #report(error: unknown, { expiresMs }: NodeCertificate): void {
    const { log, clock } = this.#options
    const fields = { code: errorCode(error), reason: errorMessage(error), expiresMs }
    if (clock.wallMs() < expiresMs) log.warn(fields, 'certificate not renewed, will try again')
    else
      log.error(
        fields,
        "this node's certificate has expired and managers refuse it: take the node out of the cluster (swarm leave --force) and join again with a token",
      )
  }

  async #rest(delayMs: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    const stop = () => woken.abort()
    signal.addEventListener('abort', stop, { once: true })
    try {
      if (!this.#asked && !signal.aborted) await sleep(this.#options.clock, delayMs, woken.signal)
    } finally {
      signal.removeEventListener('abort', stop)
      this.#wake = () => {}
    }
  }
}

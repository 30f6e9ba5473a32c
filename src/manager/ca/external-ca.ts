// Signing by somebody else: POST of a request to CFSSL's `/sign`, over TLS with this manager's own certificate, as Swarm does.
// Whatever comes back is checked by the caller.

import { request } from 'node:https'
import { type ConnectionOptions, connect } from 'node:tls'
import type { SwarmSpec } from '../../api/spec.ts'
import type { Clock } from '../../lib/clock.ts'
import type { PeerIdentity } from '../../lib/connection.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import type { TlsCredentials } from '../../lib/tls.ts'
import { readBody } from '../../lib/tls-request.ts'
import { createRootRequest } from '../../lib/x509.ts'
import { OU_OF_ROLE } from '../../lib/x509-node.ts'
import { normalizedPem } from './given-root.ts'

const TIMEOUT_MS = 5000
const MAX_ANSWER_BYTES = 256 * 1024
/** The profile of CFSSL that may sign CAs, as Swarm asks for it. */
const CROSS_SIGN_PROFILE = 'CA'
const BASIC_CONSTRAINTS = { id: '2.5.29.19', critical: true, value: '30030101ff' }

/** Where certificates below the root `certPem` are signed; those without a root of their own are of the current one. */
export function externalUrls(spec: SwarmSpec, certPem: string, currentPem: string): readonly string[] {
  const wanted = normalizedPem(certPem)
  return (spec.CAConfig?.ExternalCAs ?? []).flatMap(({ Protocol = 'cfssl', URL = '', CACert }) =>
    Protocol === 'cfssl' && normalizedPem(CACert || currentPem) === wanted ? [URL] : [],
  )
}

export interface ExternalSigner {
  /**
   * Whether one answers at the address that is verified by the root and takes this manager's certificate.
   * @throws {CodedError} EXTERNAL_CA
   */
  reach(url: string, rootPem: string): Promise<void>
  /**
   * A certificate for a node's request, in PEM, of the first address that gives one.
   * @throws {CodedError} EXTERNAL_CA (retryable)
   */
  signNode(urls: readonly string[], rootsPem: readonly string[], csr: string, identity: PeerIdentity): Promise<string>
  /** The intermediate that lets those who trust the external root verify what `next` signs. @throws {CodedError} EXTERNAL_CA */
  crossSign(
    urls: readonly string[],
    rootsPem: readonly string[],
    next: { readonly certPem: string; readonly keyPem: string },
  ): Promise<string>
}

export class CfsslSigner implements ExternalSigner {
  readonly #credentials: () => TlsCredentials
  readonly #clock: Clock

  constructor(options: { readonly credentials: () => TlsCredentials; readonly clock: Clock }) {
    this.#credentials = options.credentials
    this.#clock = options.clock
  }

  async reach(url: string, rootPem: string): Promise<void> {
    const { protocol, hostname, port } = parseUrl(url)
    if (protocol !== 'https:') throw failed(url, 'invalid HTTP scheme')
    return new Promise((resolve, reject) => {
      const host = hostname.replace(/^\[(.*)\]$/, '$1')
      const socket = connect({
        host,
        port: Number(port || 443),
        ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
        ...this.#tls([rootPem]),
      })
      const end = (error?: Error) => {
        timer.cancel()
        socket.destroy()
        if (error) reject(failed(url, errorMessage(error)))
        else resolve()
      }
      const timer = this.#clock.setTimer(TIMEOUT_MS, () => end(new Error('it does not answer')))
      socket.once('error', end)
      socket.once('secureConnect', () => end())
    })
  }

  signNode(urls: readonly string[], rootsPem: readonly string[], csr: string, identity: PeerIdentity): Promise<string> {
    const { nodeId, clusterId, role } = identity
    const unit = OU_OF_ROLE[role]
    return this.#sign(urls, rootsPem, {
      hosts: role === 'manager' ? [unit, nodeId, 'swarm-ca'] : [unit, nodeId],
      certificate_request: csr,
      subject: { CN: nodeId, names: [{ OU: unit, O: clusterId }] },
      profile: '',
      crl_override: '',
      label: '',
    })
  }

  crossSign(
    urls: readonly string[],
    rootsPem: readonly string[],
    next: { readonly certPem: string; readonly keyPem: string },
  ): Promise<string> {
    return this.#sign(urls, rootsPem, {
      hosts: [],
      certificate_request: createRootRequest(next.certPem, next.keyPem),
      subject: { CN: 'swarm-ca', names: [] },
      profile: CROSS_SIGN_PROFILE,
      crl_override: '',
      label: '',
      extensions: [BASIC_CONSTRAINTS],
    })
  }

  async #sign(urls: readonly string[], rootsPem: readonly string[], body: object): Promise<string> {
    let last = new CodedError('EXTERNAL_CA', 'no external CA is known', { retryable: true })
    for (const url of urls) {
      try {
        return certificateIn(url, await this.#post(url, rootsPem, JSON.stringify(body)))
      } catch (error) {
        last = error instanceof CodedError && error.code === 'EXTERNAL_CA' ? error : failed(url, errorMessage(error))
      }
    }
    throw last
  }

  async #post(url: string, rootsPem: readonly string[], body: string): Promise<string> {
    const limit = new AbortController()
    const timer = this.#clock.setTimer(TIMEOUT_MS, () => limit.abort())
    try {
      return await new Promise<string>((resolve, reject) => {
        const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
        const options = { method: 'POST', headers, agent: false, signal: limit.signal, ...this.#tls(rootsPem) }
        const sent = request(parseUrl(url), options, (response) => {
          readBody(response, MAX_ANSWER_BYTES).then((bytes) => {
            const text = bytes.toString('utf8')
            if (response.statusCode === 200) resolve(text)
            else reject(failed(url, `unexpected status code ${response.statusCode}: ${text.slice(0, 200)}`))
          }, reject)
        })
        sent.once('error', (error) => reject(limit.signal.aborted ? failed(url, 'it does not answer') : error))
        sent.end(body)
      })
    } finally {
      timer.cancel()
    }
  }

  #tls(rootsPem: readonly string[]): ConnectionOptions {
    const { certPem, keyPem } = this.#credentials()
    return { cert: certPem, key: keyPem, ca: [...rootsPem], minVersion: 'TLSv1.2' }
  }
}

function parseUrl(url: string): URL {
  try {
    return new URL(url)
  } catch {
    throw failed(url, 'it is no URL')
  }
}

function certificateIn(url: string, text: string): string {
  let answer: { readonly success?: unknown; readonly errors?: unknown; readonly result?: { certificate?: unknown } }
  try {
    answer = (JSON.parse(text) ?? {}) as typeof answer
  } catch {
    throw failed(url, 'unable to parse JSON response')
  }
  const { success, result, errors } = answer
  if (success === true && typeof result?.certificate === 'string') return result.certificate
  const why = Array.isArray(errors) && errors.length > 0 ? JSON.stringify(errors).slice(0, 500) : 'no certificate'
  throw failed(url, `certificate signing request failed: ${why}`)
}

function failed(url: string, why: string): CodedError {
  return new CodedError('EXTERNAL_CA', `the external CA at ${url} has not signed: ${why}`, { retryable: true })
}

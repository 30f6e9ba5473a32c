// TLS between nodes: 1.3 only, both sides show certificates of the cluster. A client refuses a server that is no manager
// of its cluster; a server takes every client and says who it is, so that a refusal can be an answer in words.

import { constants, type X509Certificate } from 'node:crypto'
import { createServer, type Server } from 'node:https'
import { connect, createSecureContext, type SecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls'
import type { Clock } from './clock.ts'
import type { PeerIdentity } from './connection.ts'
import { CodedError, errorCode, errorMessage } from './errors.ts'
import { nodeIdentity } from './x509-node.ts'

/** A node's own certificate and whom it trusts. Immutable: a renewal makes a new object. */
export interface TlsCredentials {
  readonly clusterId: string
  readonly certPem: string
  /** PKCS#8 */
  readonly keyPem: string
  /** Every root that may have signed a peer's certificate: several while a root is being replaced. */
  readonly rootsPem: readonly string[]
}

/** Whom a client accepts, and as whom it comes. */
export type Trust =
  | { readonly kind: 'cluster'; readonly credentials: TlsCredentials; readonly nodeId?: string | undefined }
  /** Without a certificate of our own: a node that joins. */
  | { readonly kind: 'roots'; readonly rootsPem: readonly string[] }
  /** Whoever answers: only to fetch a root certificate that is then compared with a digest. */
  | { readonly kind: 'unverified' }

export interface ConnectOptions {
  /** `host:port`, IPv6 in brackets. */
  readonly address: string
  readonly trust: Trust
  readonly clock: Clock
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

export interface SecureSocket {
  readonly socket: TLSSocket
  /** undefined only where nothing was verified. */
  readonly peer: PeerIdentity | undefined
}

const TLS_VERSION = 'TLSv1.3'
const SERVER_NAME = 'swarm-manager'
/** A dead peer without a session is found in about two minutes; sessions have heartbeats of their own. */
const TCP_KEEP_ALIVE_MS = 30_000

/**
 * Opens a TCP connection and completes TLS.
 * @throws {CodedError} CONNECTION_REFUSED (details.refused: true where the host answered that nobody listens, or the
 *   connection was reset before it was secure), CONNECTION_TIMEOUT, CONNECTION_ABORTED, CONNECTION_UNTRUSTED.
 */
export function connectTls(options: ConnectOptions): Promise<SecureSocket> {
  const { address, trust, clock, timeoutMs, signal } = options
  return new Promise((resolve, reject) => {
    if (signal?.aborted) throw aborted(signal)
    const socket = connect({
      ...splitAddress(address),
      servername: SERVER_NAME,
      minVersion: TLS_VERSION,
      secureContext: clientContext(trust),
      rejectUnauthorized: trust.kind !== 'unverified',
      // Names are checked below, where a wrong one gets its own code.
      checkServerIdentity: () => undefined,
    })
    socket.setNoDelay(true)
    socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS)
    const settle = () => {
      timer.cancel()
      signal?.removeEventListener('abort', onAbort)
      socket.removeAllListeners()
    }
    const fail = (error: CodedError) => {
      settle()
      socket.on('error', () => {}) // what it says after this is of no interest
      socket.destroy()
      reject(error)
    }
    const onAbort = () => fail(aborted(signal))
    const timer = clock.setTimer(timeoutMs, () => fail(timedOut(address)))
    signal?.addEventListener('abort', onAbort, { once: true })
    socket.once('error', (error) => fail(connectError(address, error)))
    socket.once('secureConnect', () => {
      try {
        const peer = trust.kind === 'unverified' ? undefined : checkServer(socket, address, trust)
        settle()
        resolve({ socket, peer })
      } catch (error) {
        fail(
          error instanceof CodedError
            ? error
            : new CodedError('CONNECTION_UNTRUSTED', errorMessage(error), { cause: error }),
        )
      }
    })
  })
}

/**
 * Host and port of `host:port` or `[ipv6]:port`.
 * @throws {CodedError} INVALID_ADDRESS
 */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:\s[\]]+)):(\d{1,5})$/.exec(address)
  const port = Number(match?.[3])
  if (!match || port < 1 || port > 65_535)
    throw new CodedError('INVALID_ADDRESS', `invalid address "${address}": host:port expected`)
  return { host: match[1] ?? match[2]!, port }
}

function checkServer(
  socket: TLSSocket,
  address: string,
  trust: Exclude<Trust, { readonly kind: 'unverified' }>,
): PeerIdentity {
  const certificate = socket.getPeerX509Certificate()
  let identity: PeerIdentity
  try {
    if (!certificate) throw new CodedError('CERTIFICATE_INVALID', 'no certificate')
    identity = nodeIdentity(certificate)
  } catch (error) {
    throw new CodedError('CONNECTION_UNTRUSTED', `${address}: ${errorMessage(error)}`, { cause: error })
  }
  if (trust.kind === 'cluster' && identity.clusterId !== trust.credentials.clusterId)
    throw new CodedError('CONNECTION_UNTRUSTED', `${address} belongs to another cluster`)
  if (identity.role !== 'manager') throw new CodedError('CONNECTION_UNTRUSTED', `${address} is not a manager`)
  if (trust.kind === 'cluster' && trust.nodeId !== undefined && identity.nodeId !== trust.nodeId)
    throw new CodedError('CONNECTION_REFUSED', `${address} is node ${identity.nodeId}, not ${trust.nodeId}`, {
      retryable: true,
      details: { nodeId: identity.nodeId },
    })
  return identity
}

export function timedOut(address: string): CodedError {
  return new CodedError('CONNECTION_TIMEOUT', `${address} does not answer`, { retryable: true })
}

export function aborted(signal: AbortSignal | undefined): CodedError {
  return new CodedError('CONNECTION_ABORTED', 'the connection attempt was given up', { cause: signal?.reason })
}

/** The code of a failure before or while a connection becomes secure. */
function connectError(address: string, error: Error): CodedError {
  const code = errorCode(error) ?? ''
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET' || code === 'EPIPE')
    return new CodedError('CONNECTION_REFUSED', `${address} refuses connections`, {
      retryable: true,
      cause: error,
      details: { refused: true },
    })
  if (code === 'ETIMEDOUT') return timedOut(address)
  if (code !== 'EPROTO' && 'syscall' in error)
    return new CodedError('CONNECTION_REFUSED', `${address} cannot be reached: ${error.message}`, {
      retryable: true,
      cause: error,
      details: { refused: false },
    })
  return new CodedError('CONNECTION_UNTRUSTED', `${address}: ${certificateError(code) ?? error.message}`, {
    cause: error,
    details: { certificate: code },
  })
}

function certificateError(code: string): string | undefined {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return 'its certificate has expired'
    case 'CERT_NOT_YET_VALID':
      return 'its certificate is not valid yet (do the clocks agree?)'
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'CERT_SIGNATURE_FAILURE':
      return "its certificate is not signed by the cluster's root"
    default:
      return undefined
  }
}

const contexts = new WeakMap<TlsCredentials, SecureContext>()

/** Parsing keys and certificates is most of what a dial would cost besides the handshake. */
function clientContext(trust: Trust): SecureContext {
  if (trust.kind === 'unverified') return createSecureContext({ minVersion: TLS_VERSION })
  if (trust.kind === 'roots') return createSecureContext({ minVersion: TLS_VERSION, ca: [...trust.rootsPem] })
  const { credentials } = trust
  let context = contexts.get(credentials)
  if (!context) {
    context = createSecureContext(contextOptions(credentials))
    contexts.set(credentials, context)
  }
  return context
}

function contextOptions(credentials: TlsCredentials): SecureContextOptions {
  return {
    minVersion: TLS_VERSION,
    cert: credentials.certPem,
    key: credentials.keyPem,
    ca: [...credentials.rootsPem],
    // A resumed session would bring back a certificate that was verified at another time, against other roots.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
}

export interface TlsServer {
  readonly server: Server
  /** New connections see the new certificate and roots; live ones stay as they are. */
  renew(credentials: TlsCredentials): void
}

/** An HTTPS server for a control port, not yet listening. It takes clients without a certificate: see `clientOf`. */
export function createTlsServer(credentials: TlsCredentials): TlsServer {
  const server = createServer({
    ...contextOptions(credentials),
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: 10_000,
    headersTimeout: 10_000,
    keepAliveTimeout: 60_000,
    maxHeaderSize: 64 * 1024,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
  })
  return { server, renew: (next) => server.setSecureContext(contextOptions(next)) }
}

export type Client =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'untrusted'; readonly reason: 'expired' | 'untrusted'; readonly message: string }
  | { readonly kind: 'node'; readonly identity: PeerIdentity; readonly expiresMs: number }

/** Who the other end of a server's connection is. */
export function clientOf(socket: TLSSocket, clusterId: string): Client {
  const certificate: X509Certificate | undefined = socket.getPeerX509Certificate()
  if (!certificate) return { kind: 'anonymous' }
  if (!socket.authorized) {
    // Typed as an Error, it is a string in every version of Node.js.
    const code = String(socket.authorizationError)
    if (code === 'CERT_HAS_EXPIRED')
      return { kind: 'untrusted', reason: 'expired', message: `the certificate expired at ${certificate.validTo}` }
    return {
      kind: 'untrusted',
      reason: 'untrusted',
      message: `the certificate is not trusted by this cluster (${code})`,
    }
  }
  try {
    const identity = nodeIdentity(certificate)
    if (identity.clusterId !== clusterId)
      return { kind: 'untrusted', reason: 'untrusted', message: 'the certificate belongs to another cluster' }
    return { kind: 'node', identity, expiresMs: Date.parse(certificate.validTo) }
  } catch (error) {
    return { kind: 'untrusted', reason: 'untrusted', message: errorMessage(error) }
  }
}

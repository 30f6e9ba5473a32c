// Connections on WebSockets (`ws`) over mutual TLS: the production side of connection.ts. Messages that are sent in one
// turn of the event loop leave in one TLS record: 1.5 to 1.8 times as many small messages a second as one by one.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import WebSocket, { WebSocketServer } from 'ws'
import type { Clock } from './clock.ts'
import type { CloseInfo, Connection, Dialer, DialOptions, PeerIdentity } from './connection.ts'
import { CodedError, errorCode } from './errors.ts'
import { aborted, connectTls, type TlsCredentials, timedOut } from './tls.ts'

export interface ConnectionLimits {
  /** Longer messages are neither sent (MESSAGE_TOO_LARGE) nor received (close code 1009). Default 32 MiB. */
  readonly maxMessageBytes: number
  /** What may wait to be sent before `send` throws CONNECTION_FULL. Default 64 MiB. */
  readonly maxBufferedBytes: number
}

export const DEFAULT_LIMITS: ConnectionLimits = {
  maxMessageBytes: 32 * 1024 * 1024,
  maxBufferedBytes: 64 * 1024 * 1024,
}

/** WebSocket's own close codes that we meet (RFC 6455 §7.4.1). */
const CLOSE = { noStatus: 1005, abnormal: 1006, unsupportedData: 1003, tooLarge: 1009 } as const

/** How long a goodbye waits for the other side's before the connection is dropped. */
const CLOSE_TIMEOUT_MS = 5_000
const MAX_REFUSAL_BYTES = 8 * 1024

class WsConnection implements Connection {
  readonly peer: PeerIdentity | undefined
  readonly remoteAddress: string
  readonly #ws: WebSocket
  readonly #socket: Duplex
  readonly #limits: ConnectionLimits
  #handlers: Parameters<Connection['listen']>[0] | undefined
  #closed: CloseInfo | undefined
  #leaving = false
  #corked = false
  /** Why the receiver gave up, where it did: the close event says only that it did. */
  #receiveError: { readonly code: number; readonly reason: string } | undefined

  constructor(ws: WebSocket, socket: TLSSocket, peer: PeerIdentity | undefined, limits: ConnectionLimits) {
    this.#ws = ws
    this.#socket = socket
    this.peer = peer
    this.#limits = limits
    this.remoteAddress = `${socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''}:${socket.remotePort ?? 0}`
    ws.on('message', (data: Buffer, isBinary) => {
      if (this.#leaving) return
      if (isBinary) this.#handlers?.onMessage(data)
      else this.close(CLOSE.unsupportedData, 'binary messages expected')
    })
    ws.on('error', (error) => {
      const tooLarge = errorCode(error) === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'
      this.#receiveError ??= { code: tooLarge ? CLOSE.tooLarge : CLOSE.abnormal, reason: error.message }
    })
    ws.on('close', (code, reason) => this.#onClose(code, reason.toString('utf8')))
    ws.pause() // nothing may arrive before somebody listens
  }

  get bufferedBytes(): number {
    return this.#ws.bufferedAmount
  }

  send(message: Uint8Array): void {
    if (this.#leaving || this.#ws.readyState !== WebSocket.OPEN)
      throw new CodedError('CONNECTION_CLOSED', 'the connection is closed')
    if (message.length > this.#limits.maxMessageBytes)
      throw new CodedError('MESSAGE_TOO_LARGE', `a message of ${message.length} bytes is too large to send`, {
        details: { sizeBytes: message.length, limitBytes: this.#limits.maxMessageBytes },
      })
    if (this.#ws.bufferedAmount + message.length > this.#limits.maxBufferedBytes)
      throw new CodedError('CONNECTION_FULL', 'too much is waiting to be sent', { retryable: true })
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.#ws.send(message)
  }

  listen(handlers: Parameters<Connection['listen']>[0]): void {
    this.#handlers = handlers
    const closed = this.#closed
    if (closed) queueMicrotask(() => handlers.onClose(closed))
    else this.#ws.resume()
  }

  close(code = 1000, reason = ''): void {
    if (this.#leaving) return
    this.#leaving = true
    // A close frame holds 123 bytes of reason.
    this.#ws.close(code, Buffer.from(reason).subarray(0, 123))
    this.#ws.resume() // the answer must be read, also where nobody ever listened
  }

  destroy(): void {
    this.#leaving = true
    this.#ws.terminate()
  }

  #onClose(code: number, reason: string): void {
    this.#leaving = true
    const info =
      code === CLOSE.abnormal
        ? { clean: false, code: CLOSE.abnormal, reason: '', ...this.#receiveError }
        : { clean: true, code: code === CLOSE.noStatus ? 1000 : code, reason }
    this.#closed = info
    this.#handlers?.onClose(info)
  }
}

const WS_OPTIONS = {
  perMessageDeflate: false,
  skipUTF8Validation: true, // text is refused anyway
  closeTimeout: CLOSE_TIMEOUT_MS,
} as const

/** Dials other nodes' control ports. `credentials` is asked at each dial, so a renewed certificate needs no restart. */
export class WsDialer implements Dialer {
  readonly #credentials: () => TlsCredentials
  readonly #clock: Clock
  readonly #limits: ConnectionLimits

  constructor(
    options: { readonly credentials: () => TlsCredentials; readonly clock: Clock } & Partial<ConnectionLimits>,
  ) {
    this.#credentials = options.credentials
    this.#clock = options.clock
    this.#limits = { ...DEFAULT_LIMITS, ...options }
  }

  async dial(options: DialOptions): Promise<Connection> {
    const { address, timeoutMs, signal } = options
    const deadlineMs = this.#clock.nowMs() + timeoutMs
    const { socket, peer } = await connectTls({
      address,
      trust: { kind: 'cluster', credentials: this.#credentials(), nodeId: options.nodeId },
      clock: this.#clock,
      timeoutMs,
      signal,
    })
    return this.#upgrade(socket, peer, options, Math.max(deadlineMs - this.#clock.nowMs(), 0))
  }

  #upgrade(
    socket: TLSSocket,
    peer: PeerIdentity | undefined,
    { address, path, signal }: DialOptions,
    timeoutMs: number,
  ): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const ws = new WebSocket(`ws://${address}${path}`, {
        ...WS_OPTIONS,
        createConnection: () => socket,
        maxPayload: this.#limits.maxMessageBytes,
        // Masks protect proxies from browsers; under TLS between nodes they only cost a copy of each message.
        generateMask: (mask) => mask.fill(0),
      })
      const settle = () => {
        timer.cancel()
        signal?.removeEventListener('abort', onAbort)
        ws.removeAllListeners()
      }
      const fail = (error: CodedError) => {
        settle()
        ws.on('error', () => {})
        ws.terminate()
        socket.destroy()
        reject(error)
      }
      const onAbort = () => fail(aborted(signal))
      const timer = this.#clock.setTimer(timeoutMs, () => fail(timedOut(address)))
      signal?.addEventListener('abort', onAbort, { once: true })
      if (signal?.aborted) onAbort()
      ws.once('open', () => {
        settle()
        resolve(new WsConnection(ws, socket, peer, this.#limits))
      })
      ws.once('unexpected-response', (_, response) => {
        void readRefusal(response).then((refusal) =>
          fail(refusalError(address, path, response.statusCode ?? 0, refusal)),
        )
      })
      ws.once('error', (error) => {
        const reset = errorCode(error) === 'ECONNRESET' || errorCode(error) === 'EPIPE'
        fail(
          new CodedError('CONNECTION_REFUSED', `${address} ended the connection: ${error.message}`, {
            retryable: true,
            cause: error,
            details: { refused: reset },
          }),
        )
      })
    })
  }
}

/** How a server refuses an upgrade or a request: a status and this as JSON. `message` is for people. */
export interface Refusal {
  readonly status: 401 | 403 | 404 | 503
  /** For programs: `expired`, `untrusted`, `anonymous`, `role`, `unknown-node`, `removed`, `no-path` … */
  readonly reason: string
  readonly message: string
  /** It may be otherwise soon, without anybody changing anything. */
  readonly retryable: boolean
}

/** What the other side reads; the status travels beside it. */
export function refusalBody({ reason, message, retryable }: Refusal): string {
  return JSON.stringify({ reason, message, retryable })
}

function refusalError(address: string, path: string, status: number, refusal: Partial<Refusal>): CodedError {
  const message = refusal.message ?? `HTTP status ${status}`
  const { reason } = refusal
  if (status === 401 || status === 403)
    return new CodedError('CONNECTION_FORBIDDEN', `${address} refuses this node: ${message}`, {
      retryable: refusal.retryable ?? false,
      details: { reason },
    })
  return new CodedError('CONNECTION_REFUSED', `${address} does not serve ${path}: ${message}`, {
    retryable: true,
    details: { refused: false, reason },
  })
}

async function readRefusal(response: IncomingMessage): Promise<Partial<Refusal>> {
  let text = ''
  try {
    for await (const chunk of response) {
      text += String(chunk)
      if (text.length > MAX_REFUSAL_BYTES) return {}
    }
    const { reason, message, retryable } = JSON.parse(text) as Readonly<Record<string, unknown>>
    return typeof reason === 'string' && typeof message === 'string'
      ? { reason, message, retryable: retryable === true }
      : {}
  } catch {
    return {} // the status alone has to do
  }
}

/** The server's half: turns an upgrade request of an authorised node into a Connection. */
export class WsAcceptor {
  readonly #server: WebSocketServer
  readonly #limits: ConnectionLimits

  constructor(limits: Partial<ConnectionLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
    this.#server = new WebSocketServer({
      ...WS_OPTIONS,
      noServer: true,
      clientTracking: false,
      maxPayload: this.#limits.maxMessageBytes,
    })
  }

  /** A request that is no valid upgrade is answered with a status, and `accept` is not called. */
  accept(
    request: IncomingMessage,
    socket: TLSSocket,
    head: Buffer,
    peer: PeerIdentity,
    accept: (connection: Connection) => void,
  ): void {
    this.#server.handleUpgrade(request, socket, head, (ws) => accept(new WsConnection(ws, socket, peer, this.#limits)))
  }
}

/** Answers an upgrade request with a refusal and ends the connection. */
export function refuseUpgrade(socket: Duplex, refusal: Refusal): void {
  const body = refusalBody(refusal)
  socket.on('error', () => {}) // the other side may be gone already
  socket.end(
    `HTTP/1.1 ${refusal.status} Refused\r\nContent-Type: application/json\r\nConnection: close\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

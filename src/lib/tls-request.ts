// HTTPS requests to another node's control port: certificates for a node that joins, the API's requests that a follower
// hands to the leader, with their streams and upgrades.

import {
  Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type RequestOptions,
  request,
} from 'node:http'
import { type Duplex, pipeline, type Readable } from 'node:stream'
import type { Clock } from './clock.ts'
import { CodedError, errorCode, errorMessage } from './errors.ts'
import { aborted, connectTls, type TlsCredentials, type Trust, timedOut } from './tls.ts'

export interface PeerRequest {
  readonly method: string
  /** with the query */
  readonly path: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: Uint8Array | Readable
  /** Until the head of the response is there; its body may take as long as it likes. */
  readonly timeoutMs: number
  /** Ends the whole exchange, also while the body streams. */
  readonly signal?: AbortSignal | undefined
}

export type PeerResponse =
  | { readonly kind: 'response'; readonly status: number; readonly message: IncomingMessage }
  /** The other side switched protocols (attach, exec): `head` are bytes that came with the answer. */
  | {
      readonly kind: 'upgrade'
      readonly status: number
      readonly headers: IncomingHttpHeaders
      readonly message: IncomingMessage
      readonly socket: Duplex
      readonly head: Buffer
    }

/**
 * One request on a connection of its own.
 * @throws {CodedError} as `connectTls`; CONNECTION_LOST where the connection ended before the response: whether the
 *   request was carried out is unknown.
 */
export async function requestOverTls(
  options: { readonly address: string; readonly trust: Trust; readonly clock: Clock } & PeerRequest,
): Promise<PeerResponse> {
  const { address, clock, timeoutMs } = options
  const deadlineMs = clock.nowMs() + timeoutMs
  const { socket } = await connectTls(options)
  return exchange({ ...options, timeoutMs: Math.max(deadlineMs - clock.nowMs(), 0) }, { address, clock }, () => socket)
}

const CONNECT_TIMEOUT_MS = 5_000

/** Requests to the cluster's managers on kept connections; `credentials` is asked at each new one. */
export class PeerClient {
  readonly #credentials: () => TlsCredentials
  readonly #clock: Clock
  /** by address and node id; all made with the same credentials */
  readonly #agents = new Map<string, Agent>()
  #agentsCredentials: TlsCredentials | undefined

  constructor(options: { readonly credentials: () => TlsCredentials; readonly clock: Clock }) {
    this.#credentials = options.credentials
    this.#clock = options.clock
  }

  /** As `requestOverTls`. `nodeId`: the certificate at `address` must bear it. */
  async request(
    target: { readonly address: string; readonly nodeId?: string },
    options: PeerRequest,
  ): Promise<PeerResponse> {
    const agent = this.#agent(target.address, target.nodeId)
    const send = () => exchange(options, { address: target.address, clock: this.#clock }, agent)
    try {
      return await send()
    } catch (error) {
      // A kept connection may end in the moment it is used; what only reads may be asked again.
      const again = options.method === 'GET' || options.method === 'HEAD'
      if (again && errorCode(error) === 'CONNECTION_LOST' && !options.signal?.aborted) return send()
      throw error
    }
  }

  /** A bare request to the target, for streams that are passed on as they come: host and certificates are filled in. */
  open(target: { readonly address: string; readonly nodeId?: string }, options: RequestOptions): ClientRequest {
    return request({ ...options, agent: this.#agent(target.address, target.nodeId) })
  }

  /** Ends the kept connections that are idle, and those in use as well. */
  close(): void {
    for (const agent of this.#agents.values()) agent.destroy()
    this.#agents.clear()
  }

  #agent(address: string, nodeId: string | undefined): Agent {
    const credentials = this.#credentials()
    if (this.#agentsCredentials !== credentials) {
      // Requests under way keep their connections; nothing new starts with the old certificate.
      this.#agents.clear()
      this.#agentsCredentials = credentials
    }
    const key = `${address} ${nodeId ?? ''}`
    let agent = this.#agents.get(key)
    if (!agent) {
      agent = new TlsAgent({ address, trust: { kind: 'cluster', credentials, nodeId }, clock: this.#clock })
      this.#agents.set(key, agent)
    }
    return agent
  }
}

interface ConnectOnce {
  readonly address: string
  readonly trust: Trust
  readonly clock: Clock
}

class TlsAgent extends Agent {
  readonly #target: ConnectOnce

  constructor(target: ConnectOnce) {
    super({ keepAlive: true, maxFreeSockets: 8, maxSockets: 512, scheduling: 'lifo', timeout: 55_000 })
    this.#target = target
  }

  /** Called by node:http, which takes the socket from the callback. */
  override createConnection(_: unknown, done: (error: Error | null, socket?: Duplex) => void): undefined {
    connectTls({ ...this.#target, timeoutMs: CONNECT_TIMEOUT_MS }).then(
      ({ socket }) => done(null, socket),
      (error: unknown) => done(error instanceof Error ? error : new Error(errorMessage(error))),
    )
  }
}

function exchange(
  options: PeerRequest,
  { address, clock }: { readonly address: string; readonly clock: Clock },
  connection: Agent | (() => Duplex),
): Promise<PeerResponse> {
  const { method, path, headers, body, signal } = options
  return new Promise((resolve, reject) => {
    const outgoing = request({
      method,
      path,
      headers: { host: address, ...headers },
      ...(typeof connection === 'function' ? { createConnection: connection } : { agent: connection }),
    })
    const settle = () => timer.cancel()
    const onAbort = () => outgoing.destroy(aborted(signal))
    const timer = clock.setTimer(options.timeoutMs, () => outgoing.destroy(timedOut(address)))
    signal?.addEventListener('abort', onAbort, { once: true })
    outgoing.once('close', () => signal?.removeEventListener('abort', onAbort))
    outgoing.once('response', (message) => {
      settle()
      resolve({ kind: 'response', status: message.statusCode ?? 0, message })
    })
    outgoing.once('upgrade', (message, socket, head) => {
      settle()
      resolve({ kind: 'upgrade', status: message.statusCode ?? 0, headers: message.headers, message, socket, head })
    })
    outgoing.on('error', (error) => {
      settle()
      reject(
        error instanceof CodedError
          ? error
          : new CodedError('CONNECTION_LOST', `${address} ended the connection: ${error.message}`, { cause: error }),
      )
    })
    if (signal?.aborted) onAbort()
    else if (body instanceof Uint8Array) outgoing.end(body)
    else if (body) pipeline(body, outgoing, () => {})
    else outgoing.end()
  })
}

/**
 * The whole body of a message.
 * @throws {CodedError} BODY_TOO_LARGE, CONNECTION_LOST
 */
export async function readBody(message: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  try {
    for await (const chunk of message) {
      sizeBytes += (chunk as Buffer).length
      if (sizeBytes > maxBytes) break
      chunks.push(chunk as Buffer)
    }
  } catch (error) {
    throw new CodedError('CONNECTION_LOST', `the connection ended: ${errorMessage(error)}`, { cause: error })
  }
  if (sizeBytes > maxBytes) throw new CodedError('BODY_TOO_LARGE', `more than ${maxBytes} bytes`)
  return Buffer.concat(chunks)
}

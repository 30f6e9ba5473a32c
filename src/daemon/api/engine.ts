// The local Docker Engine, as the API server talks to it: over its socket, in the versions that it understands.

import { once } from 'node:events'
import { type ClientRequest, type IncomingMessage, type RequestOptions, request } from 'node:http'
import { connect } from 'node:net'
import { type Duplex, PassThrough } from 'node:stream'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import { NEWEST_MINOR, OLDEST_MINOR, parseMinor } from './api-version.ts'

export type EngineAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  /** The Docker API of a swarmd, by whatever way. */
  | { readonly kind: 'dialed'; readonly name: string; readonly dial: () => Promise<Duplex> }

/** What an engine said of itself. */
export interface EngineLimits {
  readonly oldestMinor: number
  readonly newestMinor: number
  readonly version: string
  /** the `Builder-Version` header of its /_ping; '' none */
  readonly builderVersion: string
}

/** A response of the engine, read to its end. */
export interface EngineAnswer {
  readonly status: number
  readonly body: string
  readonly headers: IncomingMessage['headers']
}

const UNKNOWN_ENGINE: EngineLimits = {
  oldestMinor: OLDEST_MINOR,
  newestMinor: NEWEST_MINOR,
  version: '',
  builderVersion: '',
}

const LIMITS_AGE_MS = 10_000
/** For the socket of a request, where files pass: Node's 16 KiB would be a pause for each. */
const SOCKET: object = { highWaterMark: 256 * 1024 }
const LIMITS_WAIT_MS = 1_000
const MAX_JSON_BYTES = 64 * 1024 * 1024

export class Engine {
  readonly #address: EngineAddress
  readonly #clock: Clock
  #reading: Promise<EngineLimits> | undefined
  #limits: { readonly value: EngineLimits; readonly readMs: number } | undefined

  constructor(address: EngineAddress, clock: Clock) {
    this.#address = address
    this.#clock = clock
  }

  get name(): string {
    const address = this.#address
    if (address.kind === 'dialed') return address.name
    return address.kind === 'unix' ? `unix://${address.path}` : `tcp://${address.host}:${address.port}`
  }

  request(options: RequestOptions): ClientRequest {
    // A connection a request: a unix socket's costs 0.1 ms, and none can be stale. It says keep-alive all the same: told
    // to close, the engine answers a refused request and is gone before it has read the body.
    const headers = { ...options.headers, connection: 'keep-alive' }
    const address = this.#address
    if (address.kind === 'dialed') {
      // Without an agent nobody would take the connection back.
      return request({
        ...{ setHost: false, createConnection: creating(address.dial) },
        ...{ ...options, headers: { ...headers, connection: 'close' } },
      })
    }
    const where = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }
    return request({ ...where, ...SOCKET, agent: false, setHost: false, ...options, headers })
  }

  /**
   * A bare connection, for streams that leave HTTP behind.
   * @throws {CodedError} ENGINE_UNREACHABLE, or what the way there says
   */
  async connect(): Promise<Duplex> {
    const address = this.#address
    if (address.kind === 'dialed') return await address.dial()
    const socket =
      address.kind === 'unix'
        ? connect({ path: address.path, allowHalfOpen: true })
        : connect({ host: address.host, port: address.port, allowHalfOpen: true })
    try {
      await once(socket, 'connect')
    } catch (error) {
      throw this.unreachable(error)
    }
    return socket
  }

  unreachable(cause: unknown): CodedError {
    if (this.#address.kind === 'dialed') {
      return new CodedError('NODE_UNREACHABLE', `cannot reach ${this.name}: ${errorMessage(cause)}`, {
        cause,
        retryable: true,
      })
    }
    return new CodedError(
      'ENGINE_UNREACHABLE',
      `Cannot connect to the Docker daemon at ${this.name}. Is the docker daemon running? swarmd needs that engine: start it, or name another with swarmd's flag --engine (${errorMessage(cause)})`,
      { cause, retryable: true },
    )
  }

  /**
   * The response to a request without a body, read to its end.
   * @param signal ends the request; an engine that hangs keeps one without for ever
   * @throws {CodedError} ENGINE_UNREACHABLE
   */
  get(path: string, method = 'GET', signal?: AbortSignal): Promise<EngineAnswer> {
    return this.#answer({ method, path, headers: { host: 'docker' }, ...(signal && { signal }) }, '')
  }

  /**
   * The response to a request with a JSON body.
   * @throws {CodedError} ENGINE_UNREACHABLE
   */
  post(path: string, body: unknown): Promise<EngineAnswer> {
    const text = JSON.stringify(body)
    const headers = {
      host: 'docker',
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(text)),
    }
    return this.#answer({ method: 'POST', path, headers }, text)
  }

  #answer(options: RequestOptions, body: string): Promise<EngineAnswer> {
    return new Promise((resolve, reject) => {
      const failed = (error: unknown) => reject(this.unreachable(error))
      const outgoing = this.request(options)
      outgoing.on('error', failed)
      outgoing.on('response', (incoming) => {
        const chunks: Buffer[] = []
        let size = 0
        incoming.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > MAX_JSON_BYTES) incoming.destroy(new Error('the response is too large'))
          else chunks.push(chunk)
        })
        incoming.on('error', failed)
        incoming.on('end', () =>
          resolve({
            status: incoming.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8'),
            headers: incoming.headers,
          }),
        )
      })
      outgoing.end(body)
    })
  }

  /**
   * Asked of the engine at most every ten seconds; what is known stays while it is away, or hangs: the cluster's part of
   * the API waits for no engine.
   */
  async limits(): Promise<EngineLimits> {
    if (this.#address.kind === 'dialed') return UNKNOWN_ENGINE
    const known = this.#limits
    const nowMs = this.#clock.nowMs()
    if (known !== undefined && nowMs - known.readMs < LIMITS_AGE_MS) return known.value
    const answered = new AbortController()
    this.#reading ??= this.#readLimits(nowMs).finally(() => {
      this.#reading = undefined
    })
    const read = await Promise.race([this.#reading, sleep(this.#clock, LIMITS_WAIT_MS, answered.signal)])
    answered.abort()
    if (read) return read
    if (known) this.#limits = { value: known.value, readMs: this.#clock.nowMs() }
    return known?.value ?? UNKNOWN_ENGINE
  }

  async #readLimits(nowMs: number): Promise<EngineLimits> {
    try {
      const [ping, version] = await Promise.all([this.get('/_ping'), this.get('/version')])
      const parsed: unknown = JSON.parse(version.body)
      const fields =
        typeof parsed === 'object' && parsed !== null
          ? new Map<string, unknown>(Object.entries(parsed))
          : new Map<string, unknown>()
      const builder = ping.headers['builder-version']
      const value: EngineLimits = {
        oldestMinor: parseMinor(fields.get('MinAPIVersion')) ?? OLDEST_MINOR,
        newestMinor: parseMinor(fields.get('ApiVersion')) ?? NEWEST_MINOR,
        version: String(fields.get('Version') ?? ''),
        builderVersion: typeof builder === 'string' ? builder : '',
      }
      this.#limits = { value, readMs: nowMs }
      return value
    } catch {
      // Clients are told when they ask for something that needs the engine.
      return this.#limits?.value ?? UNKNOWN_ENGINE
    }
  }

  /** The path of a request in a version that the engine takes: the asked one, moved into its range. */
  async versionedPath(minor: number, path: string): Promise<string> {
    const { oldestMinor, newestMinor } = await this.limits()
    const taken = Math.max(oldestMinor, Math.min(minor, newestMinor))
    return `/v1.${taken}${path}`
  }
}

type CreateConnection = NonNullable<RequestOptions['createConnection']>

function creating(dial: () => Promise<Duplex>): CreateConnection {
  return (_options, done) => {
    dial().then(
      (connection) => done(null, connection),
      (error: unknown) => done(error instanceof Error ? error : new Error(String(error)), new PassThrough()),
    )
    return undefined
  }
}

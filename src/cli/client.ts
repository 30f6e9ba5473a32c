// The Docker Engine API as swarmctl uses it, over dockerode's connection. Dockerode takes 150 ms to load, so this file is
// imported only once a command talks to a daemon.

import { IncomingMessage } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { Duplex } from 'node:stream'
import Docker from 'dockerode'
import { errorCode, errorMessage } from '../lib/errors.ts'
import type { Address } from './address.ts'
import { SWARMD_SOCKET } from './address.ts'
import { CliError } from './command.ts'
import type { Filters } from './flags.ts'

/** The highest API version that swarmctl speaks. */
export const API_VERSION = '1.51'

/** An answer of the daemon that is no success: `Error response from daemon: …`. */
export class DaemonError extends CliError {
  readonly status: number
  constructor(message: string, status: number) {
    super(message, 1)
    this.status = status
  }
}

/** The daemon cannot be reached; the message says what to do. */
export class ConnectionError extends CliError {}

export interface RequestOptions {
  readonly query?: Readonly<Record<string, string | boolean | undefined>>
  readonly filters?: Filters | undefined
  /** Sent as JSON. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

const EVERY_STATUS: Record<number, true> = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [100 + i, true]))

export class ApiClient {
  readonly #docker: Docker
  readonly #host: string
  readonly #forced: string | undefined
  #version: Promise<string> | undefined

  /** `apiVersion` (DOCKER_API_VERSION) is used as it is; else the lower of ours and the daemon's. */
  constructor(address: Address, apiVersion: string | undefined) {
    this.#host = address.host
    this.#forced = apiVersion?.replace(/^v/, '')
    this.#docker = new Docker(dockerOptions(address))
  }

  /** The API version in use, as "1.41". Asks the daemon once. */
  version(): Promise<string> {
    this.#version ??= this.#forced ? Promise.resolve(this.#forced) : this.#negotiate()
    return this.#version
  }

  async #negotiate(): Promise<string> {
    const response = await this.#dial('GET', '/_ping', {})
    response.resume()
    const offered = response.headers['api-version']
    // a daemon that does not say is older than 1.24
    return typeof offered === 'string' && compareVersions(offered, API_VERSION) < 0 ? offered : API_VERSION
  }

  /** The parsed JSON of the answer. @throws {DaemonError | ConnectionError} */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    return JSON.parse((await this.text(method, path, options)) || 'null') as T
  }

  /** The text of the answer. @throws {DaemonError | ConnectionError} */
  async text(method: string, path: string, options: RequestOptions = {}): Promise<string> {
    return await readAll(await this.stream(method, path, options))
  }

  /** The answer's body as it comes. @throws {DaemonError | ConnectionError} */
  async stream(method: string, path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const response = await this.#dial(method, `/v${await this.version()}${path}`, options)
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 400) return response
    const body = (await readAll(response)).trim()
    throw new DaemonError(`Error response from daemon: ${daemonMessage(body, status, response)}`, status)
  }

  /** A connection that the daemon hands over: both directions are the other end's bytes. @throws {DaemonError | ConnectionError} */
  async hijack(method: string, path: string, options: RequestOptions = {}): Promise<Duplex> {
    const answer = await this.#dial<IncomingMessage | Duplex>(method, `/v${await this.version()}${path}`, options, true)
    if (!(answer instanceof IncomingMessage)) return answer
    const body = (await readAll(answer)).trim()
    throw new DaemonError(
      `Error response from daemon: ${daemonMessage(body, answer.statusCode ?? 0, answer)}`,
      answer.statusCode ?? 0,
    )
  }

  #dial<Answer = IncomingMessage>(
    method: string,
    path: string,
    options: RequestOptions,
    hijack = false,
  ): Promise<Answer> {
    const query = new URLSearchParams()
    for (const [key, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) query.set(key, String(value))
    if (options.filters) query.set('filters', JSON.stringify(options.filters))
    // dockerode adds a query of its own after a '?' where there is a body, and cuts one character where there is none;
    // without `_query` it would put the body, a secret's data say, into the URL
    const hasBody = options.body !== undefined
    const target = query.size === 0 ? path : hasBody ? `${path}?` : `${path}?${query}&`
    return new Promise((resolve, reject) => {
      this.#docker.modem.dial(
        {
          method,
          path: target,
          isStream: true,
          ...(hijack ? { hijack: true } : {}),
          statusCodes: EVERY_STATUS,
          ...(options.headers ? { headers: { ...options.headers } } : {}),
          ...(hasBody ? { options: { _body: options.body, _query: Object.fromEntries(query) } } : {}),
          ...(options.signal ? { abortSignal: options.signal } : {}),
        },
        (error: unknown, response: unknown) => {
          if (error) reject(this.#unreachable(error))
          else resolve(response as Answer)
        },
      )
    })
  }

  #unreachable(error: unknown): ConnectionError {
    const code = errorCode(error)
    if (code === 'EACCES' || code === 'EPERM') {
      return new ConnectionError(
        `permission denied while trying to connect to the daemon socket at ${this.#host}\nRun as root, or as a member of the group that owns the socket (usually "docker").`,
      )
    }
    if (
      code === 'ENOENT' ||
      code === 'ECONNREFUSED' ||
      code === 'ENOTSOCK' ||
      code === 'EHOSTUNREACH' ||
      code === 'ENOTFOUND' ||
      code === 'ETIMEDOUT'
    ) {
      const socket = this.#host === `unix://${SWARMD_SOCKET}`
      return new ConnectionError(
        `Cannot connect to the daemon at ${this.#host}. Is swarmd running?\n${socket ? 'Start it (`systemctl start swarmd`, or run `swarmd` as root)' : 'Start swarmd on this machine'}, or name a daemon with -H or DOCKER_HOST.`,
      )
    }
    if (/wrong version number|packet length too long|EPROTO/.test(errorMessage(error))) {
      return new ConnectionError(
        `error during connect: ${errorMessage(error)}.\n* Are you trying to connect with TLS to a daemon without TLS?`,
      )
    }
    return new ConnectionError(`error during connect: ${errorMessage(error)}`)
  }
}

function dockerOptions(address: Address): Docker.DockerOptions {
  const tls = address.tls
  if (address.host.startsWith('unix://')) return { socketPath: address.host.slice('unix://'.length) }
  const url = new URL(address.host.replace(/^tcp:/, 'http:'))
  const base = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port, protocol: tls ? 'https' : 'http' } as const
  if (!tls) return base
  const agent = new HttpsAgent({
    rejectUnauthorized: tls.verify,
    ...(tls.ca ? { ca: tls.ca } : {}),
    ...(tls.cert ? { cert: tls.cert } : {}),
    ...(tls.key ? { key: tls.key } : {}),
  })
  // dockerode's types lack it; its connection passes it on
  const withAgent: Docker.DockerOptions & { readonly agent: HttpsAgent } = { ...base, agent }
  return withAgent
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

function daemonMessage(body: string, status: number, response: IncomingMessage): string {
  if (body === '')
    return `request returned ${status} ${response.statusMessage ?? ''}; check if the server supports the requested API version`
  if (!(response.headers['content-type'] ?? '').startsWith('application/json')) return body
  try {
    const { message } = JSON.parse(body) as { message?: string }
    return message?.trim() || `API returned a ${status} (${response.statusMessage ?? ''}) but provided no error-message`
  } catch {
    return body
  }
}

/** Below, at or above 0 as version `a` is older than, equal to or newer than `b` ("1.9" is older than "1.24"). */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number)) as [number[], number[]]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

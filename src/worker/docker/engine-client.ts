// One Docker Engine through dockerode: the version to speak, requests, and errors as codes. dockerode is imported on
// the first request, because loading it takes 0.2 s that no other start of the program should pay.

import { Agent } from 'node:http'
import type { Readable } from 'node:stream'
import { inspect } from 'node:util'
import type Docker from 'dockerode'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import { stepAborted } from '../executor.ts'
import { apiRank } from './engine-features.ts'

/** What this code was written for, and the oldest engine that it works with. */
export const API_VERSION_MAX = '1.51'
export const API_VERSION_MIN = '1.41'

export interface EngineRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | boolean | Readonly<Record<string, readonly string[]>>>>
  readonly body?: Readonly<Record<string, unknown>>
  /** X-Registry-Auth as it is */
  readonly registryAuth?: string
  readonly signal?: AbortSignal
}

/** The engine answered with an error: `details.status` is HTTP's, the message the engine's own. */
export function isEngineError(error: unknown, status: number): boolean {
  return error instanceof CodedError && error.code === 'ENGINE_ERROR' && error.details.status === status
}

const OK_STATUS = { 200: true, 201: true, 204: true, 304: true }

/**
 * dockerode describes each request for its debug log, also when that is off, in full depth: with an agent and its
 * sockets that was 70 % of the time that a worker used of a processor while it started containers.
 */
class BriefAgent extends Agent {
  [inspect.custom](): string {
    return 'Agent'
  }
}

export class EngineClient {
  readonly #address: string
  readonly #agent = new BriefAgent({ keepAlive: true, maxFreeSockets: 32 })
  #connecting: Promise<{ readonly docker: Docker; readonly apiVersion: string }> | undefined

  /** @param address `unix:///path`, a path, or `tcp://host:port` */
  constructor(address: string) {
    this.#address = address
  }

  /** The engine's own API version; what is spoken is the lower of it and API_VERSION_MAX. */
  async apiVersion(): Promise<string> {
    return (await this.#connect()).apiVersion
  }

  /** The engine may have been replaced by another one: ask for its version again. */
  forget(): void {
    this.#connecting = undefined
  }

  close(): void {
    this.#agent.destroy()
  }

  /** @throws {CodedError} ENGINE_ERROR, ENGINE_UNAVAILABLE (retryable), ENGINE_TOO_OLD, STEP_ABORTED. */
  async json<T>(request: EngineRequest): Promise<T> {
    const { docker } = await this.#connect()
    return (await dial(docker, request, false)) as T
  }

  /** The body as it comes; destroy it to end the request. Errors as `json`. */
  async stream(request: EngineRequest): Promise<Readable> {
    const { docker } = await this.#connect()
    return (await dial(docker, request, true)) as Readable
  }

  #connect(): Promise<{ readonly docker: Docker; readonly apiVersion: string }> {
    this.#connecting ??= this.#negotiate().catch((error: unknown) => {
      this.#connecting = undefined
      throw error
    })
    return this.#connecting
  }

  async #negotiate() {
    const { default: DockerClient } = await import('dockerode')
    const options = { ...addressOptions(this.#address), agent: this.#agent }
    const { ApiVersion: apiVersion } = (await dial(
      new DockerClient(options),
      { method: 'GET', path: '/version' },
      false,
    )) as { ApiVersion: string }
    if (apiRank(apiVersion) < apiRank(API_VERSION_MIN))
      throw new CodedError(
        'ENGINE_TOO_OLD',
        `the Docker Engine at ${this.#address} speaks API ${apiVersion}: ${API_VERSION_MIN} (Docker 20.10) or later is needed`,
      )
    const spoken = apiRank(apiVersion) < apiRank(API_VERSION_MAX) ? apiVersion : API_VERSION_MAX
    return { docker: new DockerClient({ ...options, version: `v${spoken}` }), apiVersion }
  }
}

function addressOptions(
  address: string,
): { readonly socketPath: string } | { readonly host: string; readonly port: string } {
  const tcp = /^(?:tcp|http):\/\/(.+):(\d+)\/?$/.exec(address)
  if (tcp) return { host: `http://${tcp[1]!}`, port: tcp[2]! }
  return { socketPath: address.replace(/^unix:\/\//, '') }
}

function dial(docker: Docker, request: EngineRequest, isStream: boolean): Promise<unknown> {
  const { method, path, query, body, registryAuth, signal } = request
  if (signal?.aborted) return Promise.reject(stepAborted())
  return new Promise((resolve, reject) => {
    docker.modem.dial(
      {
        path: `${path}?`,
        method,
        // Both are always given: without them dockerode would write the whole body into the URL.
        options: { _query: query ?? {}, _body: body ?? {} },
        isStream,
        statusCodes: OK_STATUS,
        ...(registryAuth && { authconfig: { base64: registryAuth } }),
        ...(signal && { abortSignal: signal }),
      },
      (error: unknown, result: unknown) => {
        if (error) reject(toCoded(error, signal))
        else resolve(result)
      },
    )
  })
}

function toCoded(error: unknown, signal: AbortSignal | undefined): CodedError {
  if (signal?.aborted) return stepAborted()
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined
  if (typeof status !== 'number')
    return new CodedError('ENGINE_UNAVAILABLE', `the Docker Engine does not answer: ${errorMessage(error)}`, {
      retryable: true,
      cause: error,
    })
  return new CodedError('ENGINE_ERROR', engineMessage(error), { details: { status } })
}

/** The engine's own text: dockerode puts its own before it. */
function engineMessage(error: unknown): string {
  const json: unknown = error instanceof Error && 'json' in error ? error.json : undefined
  const own = typeof json === 'object' && json !== null && 'message' in json ? json.message : undefined
  if (typeof own === 'string') return own
  return errorMessage(error)
    .replace(/^\(HTTP code \d+\) .*? - /, '')
    .trim()
}

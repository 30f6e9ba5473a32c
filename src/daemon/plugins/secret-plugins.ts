// Secret drivers as Docker has them: plugins of this machine with the capability `secretprovider`, asked over their socket.

import { readFile } from 'node:fs/promises'
import { type IncomingMessage, type RequestOptions, request } from 'node:http'
import { request as requestTls } from 'node:https'
import type { Driver } from '../../api/spec.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import type { SecretDrivers, SecretRequest } from '../../manager/dispatcher/secret-request.ts'
import type { Engine } from '../api/engine.ts'
import { asList, asObject, asText, parseJson } from '../api/engine-json.ts'
import { DOCKER_PLACES, findPlugin, notImplemented, type PluginAddress, type PluginPlaces } from './find-plugin.ts'

const CAPABILITY = 'secretprovider'
const MEDIA_TYPE = 'application/vnd.docker.plugins.v1.2+json'
const TIMEOUT_MS = 10_000
/** A secret of 500 KiB in base64 is far below. */
const MAX_ANSWER_BYTES = 2 * 1024 * 1024
const MAX_ERROR_CHARACTERS = 500

export class SecretPlugins implements SecretDrivers {
  readonly #engine: Engine
  readonly #clock: Clock
  readonly #places: PluginPlaces
  /** Addresses at which somebody has said that it gives secrets. */
  readonly #activated = new Set<string>()

  constructor(options: { readonly engine: Engine; readonly clock: Clock; readonly places?: PluginPlaces }) {
    this.#engine = options.engine
    this.#clock = options.clock
    this.#places = options.places ?? DOCKER_PLACES
  }

  async get({ Name: name = '' }: Driver, asked: SecretRequest, signal: AbortSignal): Promise<Uint8Array> {
    const plugin = await findPlugin(name, CAPABILITY, {
      engine: this.#engine,
      places: this.#places,
      clock: this.#clock,
    })
    if (!plugin.managed && !this.#activated.has(plugin.url)) {
      const { Implements } = asObject(await this.#call(plugin, '/Plugin.Activate', undefined, signal))
      if (!asList(Implements).includes(CAPABILITY)) throw notImplemented(name, CAPABILITY)
      this.#activated.add(plugin.url)
    }
    try {
      const { Value, Err } = asObject(await this.#call(plugin, '/SecretProvider.GetSecret', asked, signal))
      if (asText(Err) !== '') throw pluginError(asText(Err))
      return Buffer.from(asText(Value), 'base64')
    } catch (error) {
      // It may be another one when it comes back.
      if (error instanceof CodedError && error.retryable) this.#activated.delete(plugin.url)
      throw error
    }
  }

  /** @throws {CodedError} PLUGIN_UNREACHABLE (retryable), PLUGIN_ERROR */
  async #call(plugin: PluginAddress, path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    const over = new AbortController()
    const timer = this.#clock.setTimer(TIMEOUT_MS, () =>
      over.abort(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)),
    )
    try {
      const { status, text } = await exchange(
        { method: 'POST', path, ...(await transportOf(plugin)) },
        body === undefined ? '' : JSON.stringify(body),
        plugin.url.startsWith('https:') ? requestTls : request,
        AbortSignal.any([signal, over.signal]),
      )
      const answer = parseJson(text)
      if (status !== 200) throw pluginError(asText(asObject(answer).Err) || `${path} answers ${status}: ${text.trim()}`)
      if (answer === undefined) throw pluginError(`${path} answers with what is no JSON`)
      return answer
    } catch (error) {
      if (error instanceof CodedError) throw error
      const cause = over.signal.aborted ? over.signal.reason : error
      throw new CodedError('PLUGIN_UNREACHABLE', `cannot reach ${plugin.url}: ${errorMessage(cause)}`, {
        retryable: true,
        cause,
      })
    } finally {
      timer.cancel()
    }
  }
}

/** What it says goes into the log of the managers, with each task that is rejected for it. */
function pluginError(message: string): CodedError {
  const isLong = message.length > MAX_ERROR_CHARACTERS
  return new CodedError('PLUGIN_ERROR', isLong ? `${message.slice(0, MAX_ERROR_CHARACTERS)}…` : message)
}

async function transportOf({ url, tls }: PluginAddress): Promise<RequestOptions> {
  if (url.startsWith('unix://')) return { socketPath: url.slice('unix://'.length) }
  const { hostname, port, protocol } = new URL(url.replace(/^tcp:/, 'http:'))
  const host = hostname.replace(/^\[(.*)\]$/, '$1')
  const address = { host, port: Number(port || (protocol === 'https:' ? 443 : 80)) }
  if (protocol !== 'https:') return address
  const fileOf = async (path = '') => (path === '' ? undefined : await readFile(path))
  const [ca, cert, key] = await Promise.all([tls?.caFile, tls?.certFile, tls?.keyFile].map(fileOf))
  return {
    ...address,
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    rejectUnauthorized: tls?.insecure !== true,
  } as RequestOptions
}

function exchange(
  options: RequestOptions,
  body: string,
  start: typeof request,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const headers = {
      host: 'plugin',
      accept: MEDIA_TYPE,
      'content-type': MEDIA_TYPE,
      'content-length': Buffer.byteLength(body),
    }
    const outgoing = start({ ...options, headers, agent: false, signal }, (incoming: IncomingMessage) => {
      const chunks: Buffer[] = []
      let size = 0
      incoming.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > MAX_ANSWER_BYTES) incoming.destroy(new Error('the answer is too large'))
        else chunks.push(chunk)
      })
      incoming.on('error', reject)
      incoming.on('end', () =>
        resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      )
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

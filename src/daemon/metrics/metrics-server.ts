// What --metrics-addr serves: /metrics for Prometheus, /healthz and /readyz for whoever restarts or routes. No swarm and no engine
// can be changed here, so it needs no certificate; what it shows is not for everybody, so it listens where it is told only.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { LoopDelayMonitor } from '../../lib/loop-delay.ts'
import { Listeners } from '../api/connections.ts'
import { CONTENT_TYPE, renderMetrics } from './exporter.ts'
import { readinessOf } from './readiness.ts'
import type { Sampler } from './sampler.ts'

export interface MetricsServerOptions {
  readonly sampler: Sampler
  readonly log: Log
}

export class MetricsServer {
  readonly #options: MetricsServerOptions
  readonly #loop = new LoopDelayMonitor()
  readonly #http: Server
  readonly #listeners: Listeners

  constructor(options: MetricsServerOptions) {
    this.#options = options
    this.#http = createServer((request, response) => void this.#serve(request, response))
    this.#listeners = new Listeners((socket) => this.#http.emit('connection', socket))
  }

  /**
   * @returns the port, also where 0 was asked for
   * @throws {CodedError} ADDRESS_IN_USE
   */
  async listen(host: string, port: number): Promise<number> {
    return (await this.#listeners.listen({ kind: 'tcp', host, port })) ?? port
  }

  async close(): Promise<void> {
    this.#loop.close()
    await this.#listeners.close()
    this.#http.close()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '/').replace(/\?.*$/, '')
    try {
      if (request.method !== 'GET' && request.method !== 'HEAD') sendJson(response, 405, { message: 'only GET' })
      else if (path === '/metrics') await this.#metrics(response)
      // That this runs is the answer: the process lives, and its event loop turns.
      else if (path === '/healthz') sendJson(response, 200, { status: 'ok' })
      else if (path === '/readyz') await this.#ready(response)
      else sendJson(response, 404, { message: 'page not found' })
    } catch (error) {
      this.#options.log.warn({ path, reason: errorMessage(error) }, 'metrics not served')
      if (response.headersSent) response.destroy()
      else sendJson(response, 500, { message: errorMessage(error) })
    }
  }

  async #metrics(response: ServerResponse): Promise<void> {
    const sample = await this.#options.sampler.take(true)
    const text = await renderMetrics({ ...sample, loopDelay: this.#loop.take() })
    response.writeHead(200, { 'Content-Type': CONTENT_TYPE })
    response.end(text)
  }

  async #ready(response: ServerResponse): Promise<void> {
    const { ready, reasons } = readinessOf(await this.#options.sampler.take(false))
    sendJson(response, ready ? 200 : 503, ready ? { status: 'ready' } : { status: 'not ready', reasons })
  }
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' })
  response.end(`${JSON.stringify(value)}\n`)
}

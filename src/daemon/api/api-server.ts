// The Docker Engine API as swarmd serves it: the swarm's part from the replicated store, everything else from the local
// engine. A request is routed, read, answered on this node or by the leader, and its failures become Docker's JSON.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { httpStatus } from '../../api/error-status.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { duplexPair } from '../../lib/duplex-pair.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import { acceptedMinor, NEWEST_MINOR, parseTarget, type Target, versionText } from './api-version.ts'
import {
  asksForRetry,
  type Call,
  isRepeatable,
  OBJECT_ID_HEADER,
  REMOVAL_HEADER,
  RETRY_HEADER,
  readBody,
  sendError,
} from './call.ts'
import { type ClusterAccess, FORWARD_PREFIX } from './cluster-access.ts'
import { ClusterView, VIEW_HEADER } from './cluster-view.ts'
import { type ListenAddress, Listeners } from './connections.ts'
import { containerRoutes } from './container-routes.ts'
import { Engine, type EngineAddress } from './engine.ts'
import { EventHub } from './event-hub.ts'
import { forward } from './forward.ts'
import { gate } from './hijack-gate.ts'
import { imagePushRoutes } from './image-push.ts'
import { networkCheckRoutes } from './network-check-routes.ts'
import { NetworkParts } from './network-parts.ts'
import { networkRoutes } from './network-routes.ts'
import { type ManagerState, noLeader, requireManager, unknownOutcome } from './node-state.ts'
import { nodeStreamRoutes } from './node-stream-routes.ts'
import { configRoutes, nodeRoutes, secretRoutes } from './object-routes.ts'
import { passRaw, passThrough, passUpgrade, refuseRaw } from './pass-through.ts'
import { plainContainerRoutes } from './plain-containers.ts'
import { rebalanceRoutes } from './rebalance-routes.ts'
import { type Match, Router } from './router.ts'
import type { ServerContext } from './server-context.ts'
import { serviceRoutes } from './service-routes.ts'
import { snapshotRoutes } from './snapshot-routes.ts'
import { stackRoutes } from './stack-routes.ts'
import { stackVolumeRoutes } from './stack-volumes.ts'
import { supportRoutes } from './support-routes.ts'
import { swarmRoutes } from './swarm-routes.ts'
import { systemRoutes } from './system-routes.ts'
import { whyRoutes } from './why-routes.ts'

export interface ApiServerOptions {
  readonly cluster: ClusterAccess
  readonly engine: EngineAddress
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Makes a support bundle (.tar.gz) of this node; without it there is none. */
  readonly supportBundle?: () => Promise<Buffer>
  /** swarmd's own, for /version */
  readonly version: string
}

const ASKS_FOR_CLUSTER = new RegExp(`^${VIEW_HEADER}: *cluster *\r$`, 'im')
const OBJECT_ID = /^[0-9a-z]{25}$/

/** How long a request waits for a leader before its client is told that there is none. */
const LEADER_WAIT_MS = 5_000
const LEADER_RETRY_MS = 50
/** Longer than clients keep idle connections: the side that closes first causes resets on the other. */
const KEEP_ALIVE_MS = 120_000

export class ApiServer {
  readonly #options: ApiServerOptions
  readonly #engine: Engine
  readonly #events: EventHub
  readonly #router: Router
  readonly #http: Server
  readonly #listeners: Listeners
  readonly #clusterView: ClusterView
  /** Where the machine's own view is served; the last of several. */
  #ownSocket = 'unix:///run/swarmd/swarmd.sock'
  /** Connections whose clients see the whole cluster. */
  readonly #viewers = new WeakSet<object>()

  constructor(options: ApiServerOptions) {
    this.#options = options
    this.#engine = new Engine(options.engine, options.clock)
    this.#events = new EventHub(options.cluster, options.clock)
    const context: ServerContext = {
      cluster: options.cluster,
      engine: this.#engine,
      parts: new NetworkParts(this.#engine),
      events: this.#events,
      clock: options.clock,
      random: options.random,
      version: options.version,
      onLeader: (call, handle, url) => this.#onLeader(call, handle, url),
    }
    this.#router = new Router([
      ...systemRoutes(context),
      ...swarmRoutes(context),
      ...serviceRoutes(context),
      ...nodeRoutes(context),
      ...secretRoutes(context),
      ...configRoutes(context),
      ...networkRoutes(context),
      ...networkCheckRoutes(context),
      ...imagePushRoutes(context),
      ...nodeStreamRoutes(context),
      ...stackRoutes(),
      ...stackVolumeRoutes(context),
      ...rebalanceRoutes(context),
      ...whyRoutes(context),
      ...snapshotRoutes(context),
      ...supportRoutes(options.supportBundle),
      ...containerRoutes(context),
      ...plainContainerRoutes(context),
    ])
    // Uploads (build, load) take as long as they take.
    this.#http = createServer({ requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS })
    this.#http.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response, false)
    })
    this.#http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      void this.#upgrade(request, socket, head)
    })
    this.#clusterView = new ClusterView({ ...options, events: this.#events, ownSocket: () => this.#ownSocket })
    this.#listeners = new Listeners((socket, address) => this.#accept(socket, address.clusterView === true))
    this.#events.refresh()
  }

  /**
   * @returns the port, for tcp with port 0
   * @throws {CodedError} ADDRESS_IN_USE
   */
  listen(address: ListenAddress): Promise<number | undefined> {
    if (address.kind === 'unix' && !address.clusterView) this.#ownSocket = `unix://${address.path}`
    return this.#listeners.listen(address)
  }

  /** A connection to this API from within the process. */
  dial(): Duplex {
    const [near, far] = duplexPair()
    this.#accept(far, false)
    return near
  }

  /** To be called when this node's state (inactive, worker, manager …) or the known leader has changed. */
  clusterChanged(): void {
    this.#events.refresh()
  }

  /** A request that another manager forwarded to this node's control port; its path begins with FORWARD_PREFIX. */
  handleForwarded(request: IncomingMessage, response: ServerResponse): void {
    request.url = (request.url ?? '/').slice(FORWARD_PREFIX.length)
    void this.#serve(request, response, true)
  }

  async close(): Promise<void> {
    this.#events.close()
    await this.#listeners.close()
    this.#http.close()
  }

  #accept(socket: Duplex, seesCluster: boolean): void {
    if (seesCluster) this.#viewers.add(socket)
    gate(socket, {
      serve: (each) => this.#http.emit('connection', each),
      takeOver: (each, head) => void this.#takeOver(each, head),
    })
  }

  async #takeOver(socket: Duplex, head: Buffer): Promise<void> {
    try {
      const text = head.toString('latin1')
      const [, url = '/', rest = ''] = /^POST (\S+)([\s\S]*)$/.exec(text) ?? []
      const target = parseTarget(url)
      if (this.#viewers.has(socket) || ASKS_FOR_CLUSTER.test(text)) {
        await this.#clusterView.takeOver(target, socket, rest)
        return
      }
      const { minor, path, search } = target
      const versioned = await this.#engine.versionedPath(acceptedMinor(minor), path)
      await passRaw(this.#engine, socket, Buffer.from(`POST ${versioned}${search}${rest}`, 'latin1'))
    } catch (error) {
      refuseRaw(socket, error)
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    try {
      const { path } = parseTarget(request.url ?? '/')
      if (this.#router.isOwn(path)) throw pageNotFound()
      if (this.#seesCluster(request) && this.#clusterView.concerns(request.method ?? 'GET', path)) {
        await this.#clusterView.upgrade(request, socket, head)
      } else await passUpgrade(this.#engine, request, socket, head)
    } catch (error) {
      refuseRaw(socket, error)
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse, forwarded: boolean): Promise<void> {
    const target = parseTarget(request.url ?? '/')
    try {
      await this.#setHeaders(response)
      const version = acceptedMinor(target.minor)
      if (
        !forwarded &&
        this.#seesCluster(request) &&
        this.#clusterView.concerns(request.method ?? 'GET', target.path)
      ) {
        await this.#clusterView.serve(request, response)
        return
      }
      const match = this.#router.match(request.method ?? 'GET', target.path)
      if (match !== undefined) await this.#answer(request, response, target, version, match, forwarded)
      else if (forwarded || this.#router.isOwn(target.path)) throw pageNotFound()
      else await passThrough(this.#engine, request, response)
    } catch (error) {
      this.#report(request, target, error)
      if (!response.destroyed) sendError(response, error)
    }
  }

  #seesCluster(request: IncomingMessage): boolean {
    return this.#viewers.has(request.socket) || request.headers[VIEW_HEADER] === 'cluster'
  }

  async #setHeaders(response: ServerResponse): Promise<void> {
    const { newestMinor } = await this.#engine.limits()
    response.setHeader('Api-Version', versionText(Math.min(NEWEST_MINOR, newestMinor)))
    response.setHeader('Docker-Experimental', 'false')
    response.setHeader('Ostype', 'linux')
    response.setHeader('Server', `swarmd/${this.#options.version} (linux)`)
  }

  #report(request: IncomingMessage, target: Target, error: unknown): void {
    const fields = { method: request.method, path: target.path, code: errorCode(error), error: errorMessage(error) }
    if (httpStatus(error) === 500 && !(error instanceof CodedError)) {
      this.#options.log.error({ ...fields, stack: error instanceof Error ? error.stack : undefined }, 'request failed')
    } else this.#options.log.debug(fields, 'request refused')
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    target: Target,
    version: number,
    { route, id }: Match,
    forwarded: boolean,
  ): Promise<void> {
    const gone = new AbortController()
    response.on('close', () => {
      if (!response.writableFinished) gone.abort() // an AbortError costs as much as a small answer
    })
    const body = await readBody(request)
    const call: Call = {
      ...target,
      request,
      response,
      method: request.method ?? 'GET',
      version,
      id,
      body,
      signal: gone.signal,
      forwarded,
      objectId: this.#objectId(request, forwarded),
      removal: { id: forwarded ? idHeader(request, REMOVAL_HEADER) : undefined },
    }
    switch (route.place) {
      case 'node':
        return route.handle(call)
      case 'manager':
        return this.#onManager(call, (state) => route.handle(call, state))
      case 'leader':
        return this.#onLeader(call, (state) => route.handle(call, state))
    }
  }

  /** Clients don't choose ids: the header counts from another manager only. */
  #objectId(request: IncomingMessage, forwarded: boolean): string {
    return (forwarded ? idHeader(request, OBJECT_ID_HEADER) : undefined) ?? this.#options.random.id()
  }

  /** Reads see every write that was acknowledged before, on whichever manager. */
  async #onManager(call: Call, handle: (state: ManagerState) => Promise<void>): Promise<void> {
    await this.#untilLed(call, async () => {
      requireManager(this.#options.cluster.state())
      await this.#readIndex(call)
      await handle(requireManager(this.#options.cluster.state()))
      return 'answered'
    })
  }

  async #onLeader(call: Call, handle: (state: ManagerState) => Promise<void>, url?: string): Promise<void> {
    const { cluster, clock } = this.#options
    await this.#untilLed(call, async () => {
      const state = cluster.state()
      if (call.forwarded && (state.kind !== 'manager' || !state.isLeader)) {
        throw new CodedError('NOT_LEADER', 'this manager does not lead')
      }
      const manager = requireManager(state)
      if (manager.isLeader) {
        // A leader that was cut off must not answer from the past.
        if (call.method === 'GET') await this.#readIndex(call)
        await handle(manager)
        return 'answered'
      }
      return manager.leader === undefined ? 'retry' : forward(cluster, clock, manager.leader, call, url)
    })
  }

  /** Waits for a leader no longer than a write does. A leader that is slow is waited for. */
  async #readIndex({ signal }: Call): Promise<void> {
    const { cluster, clock } = this.#options
    const answered = new AbortController()
    const leaderless = async (): Promise<void> => {
      await sleep(clock, LEADER_WAIT_MS, AbortSignal.any([signal, answered.signal]))
      if (answered.signal.aborted) return
      const state = cluster.state()
      const isLed = state.kind !== 'manager' || state.isLeader || state.leader !== undefined
      if (!isLed && !signal.aborted) throw noLeader()
      await index
    }
    const index = cluster.readIndex()
    try {
      await Promise.race([index, leaderless()])
    } finally {
      answered.abort()
    }
  }

  /** Tries again for a while where the only trouble is that nobody leads just now. */
  async #untilLed(call: Call, attempt: () => Promise<'answered' | 'retry'>): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.nowMs() + LEADER_WAIT_MS
    let unknown = false
    for (;;) {
      try {
        if ((await attempt()) === 'answered') return
      } catch (error) {
        // A forwarded request is tried again by the manager that has the client.
        const unseen = errorCode(error) === 'PROPOSAL_UNKNOWN' && isRepeatable(call)
        if (unseen && call.forwarded) {
          call.response.setHeader(RETRY_HEADER, '1')
          if (call.removal.id !== undefined) call.response.setHeader(REMOVAL_HEADER, call.removal.id)
        }
        if (!(asksForRetry(error) || unseen) || call.forwarded || call.response.headersSent) throw error
        unknown ||= unseen
      }
      if (call.signal.aborted) return
      if (clock.nowMs() >= deadlineMs) throw unknown ? unknownOutcome() : noLeader()
      await sleep(clock, LEADER_RETRY_MS, call.signal)
    }
  }
}

function idHeader(request: IncomingMessage, name: string): string | undefined {
  const given = request.headers[name]
  return typeof given === 'string' && OBJECT_ID.test(given) ? given : undefined
}

function pageNotFound(): CodedError {
  return new CodedError('PAGE_NOT_FOUND', 'page not found')
}

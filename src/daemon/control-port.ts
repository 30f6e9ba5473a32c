// The one port between nodes: WebSockets by path (raft, sessions, bulk), HTTPS by prefix (certificates, forwarded API
// requests). Whoever connects is known by certificate; what is asked is allowed by path; a node that loses a right loses
// the connections that need it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../lib/clock.ts'
import type { Connection, PeerIdentity } from '../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { type Client, clientOf, createTlsServer, type TlsCredentials, type TlsServer } from '../lib/tls.ts'
import { type ConnectionLimits, type Refusal, refusalBody, refuseUpgrade, WsAcceptor } from '../lib/ws-connection.ts'
import type { Access } from '../manager/ca/authorize.ts'

export type ConnectionHandler = (connection: Connection) => void

/** `client` is undefined only where the route's access is `anyone` and no certificate was shown. */
export interface RequestHandler {
  request(message: IncomingMessage, response: ServerResponse, client: PeerIdentity | undefined): void | Promise<void>
  /** Absent: upgrades are refused. */
  upgrade?(
    message: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    client: PeerIdentity | undefined,
  ): void | Promise<void>
}

export interface ControlPortOptions {
  readonly credentials: TlsCredentials
  /** The store's word on a node whose certificate was verified; undefined: allowed. */
  readonly authorize: (identity: PeerIdentity, access: Access) => Refusal | undefined
  readonly clock: Clock
  readonly log: Log
  readonly limits?: Partial<ConnectionLimits>
}

/** Close code of connections whose node lost the right to them (SESSION_CLOSE.removed). */
const CLOSE_FORBIDDEN = 4003

/** What the system says, and what to do about it. */
const bindFailures: Readonly<Record<string, string>> = {
  EADDRINUSE:
    'bind: address already in use: another process has this port; choose another address or port to listen on',
  EADDRNOTAVAIL: 'bind: cannot assign requested address: no interface of this machine has it',
  EACCES: 'bind: permission denied',
}

interface Route {
  readonly access: Access | 'anyone'
  readonly handler: RequestHandler
}

/** What a node has open here; sockets of requests that were not upgraded to a Connection, with the access they used. */
interface Live {
  readonly connections: Map<Connection, Access>
  readonly sockets: Map<TLSSocket, Access>
}

export class ControlPort {
  readonly #server: TlsServer
  readonly #authorize: ControlPortOptions['authorize']
  readonly #clock: Clock
  readonly #log: Log
  readonly #acceptor: WsAcceptor
  readonly #connections = new Map<string, { readonly access: Access; readonly handler: ConnectionHandler }>()
  readonly #requests = new Map<string, Route>()
  readonly #sockets = new Set<TLSSocket>()
  readonly #live = new Map<string, Live>()
  readonly #clients = new WeakMap<TLSSocket, Client>()
  #clusterId: string

  constructor(options: ControlPortOptions) {
    this.#authorize = options.authorize
    this.#clock = options.clock
    this.#log = options.log
    this.#acceptor = new WsAcceptor(options.limits)
    this.#clusterId = options.credentials.clusterId
    this.#server = createTlsServer(options.credentials)
    const { server } = this.#server
    server.on('secureConnection', (socket) => this.#onSocket(socket))
    server.on('tlsClientError', (error, socket) => {
      this.#log.debug({ remoteAddress: socket.remoteAddress, reason: error.message }, 'TLS handshake failed')
    })
    server.on('request', (message, response) => this.#onRequest(message, response))
    // An HTTPS server's upgrades come with their TLSSocket.
    server.on('upgrade', (message, socket, head) => this.#onUpgrade(message, socket as TLSSocket, head))
  }

  /** Serves connections to exactly `path`. @returns ends it (live connections stay) */
  onConnection(path: string, access: Access, handler: ConnectionHandler): () => void {
    this.#connections.set(path, { access, handler })
    return () => {
      if (this.#connections.get(path)?.handler === handler) this.#connections.delete(path)
    }
  }

  /** Serves requests whose path begins with `prefix`; the longest prefix wins. @returns ends it */
  onRequest(prefix: string, access: Access | 'anyone', handler: RequestHandler): () => void {
    this.#requests.set(prefix, { access, handler })
    return () => {
      if (this.#requests.get(prefix)?.handler === handler) this.#requests.delete(prefix)
    }
  }

  /**
   * @param address host:port; port 0 takes a free one
   * @returns the address listened on
   * @throws {CodedError} LISTEN_FAILED
   */
  listen(address: { readonly host: string; readonly port: number }): Promise<{ host: string; port: number }> {
    const { server } = this.#server
    return new Promise((resolve, reject) => {
      const onError = (error: Error) => {
        const why = bindFailures[errorCode(error) ?? ''] ?? error.message
        const shown = isIP(address.host) === 6 ? `[${address.host}]` : address.host
        reject(new CodedError('LISTEN_FAILED', `listen tcp ${shown}:${address.port}: ${why}`, { cause: error }))
      }
      server.once('error', onError)
      server.listen({ host: address.host, port: address.port }, () => {
        server.off('error', onError)
        server.on('error', (error) => this.#log.error({ reason: errorMessage(error) }, 'control port failed'))
        const bound = server.address()
        if (bound === null || typeof bound === 'string') throw new Error('no TCP address')
        resolve({ host: bound.address, port: bound.port })
      })
    })
  }

  /** New connections are made with these; live ones stay. */
  renew(credentials: TlsCredentials): void {
    this.#clusterId = credentials.clusterId
    this.#server.renew(credentials)
  }

  /** Closes all that a node has open here, now. `code` is a WebSocket close code. */
  closePeer(nodeId: string, code: number = CLOSE_FORBIDDEN, reason = ''): void {
    const live = this.#live.get(nodeId)
    if (!live) return
    for (const connection of live.connections.keys()) connection.close(code, reason)
    for (const socket of live.sockets.keys()) socket.destroy()
  }

  /**
   * Asks `authorize` again for all that a node has open and closes what is refused: to be called when the node's record
   * changes, or (without an id) when the store has caught up.
   */
  recheck(nodeId?: string): void {
    for (const id of nodeId === undefined ? [...this.#live.keys()] : [nodeId]) {
      const live = this.#live.get(id)
      if (!live) continue
      for (const [connection, access] of live.connections) {
        const refusal = connection.peer && this.#authorize(connection.peer, access)
        if (refusal) connection.close(CLOSE_FORBIDDEN, refusal.message)
      }
      for (const [socket, access] of live.sockets) {
        const client = this.#clients.get(socket)
        if (client?.kind === 'node' && this.#authorize(client.identity, access)) socket.destroy()
      }
    }
  }

  /** Stops listening and drops every connection. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.server.close(() => resolve()))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #onSocket(socket: TLSSocket): void {
    this.#sockets.add(socket)
    const client = clientOf(socket, this.#clusterId)
    this.#clients.set(socket, client)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (client.kind === 'node') this.#forget(client.identity.nodeId, (live) => live.sockets.delete(socket))
    })
  }

  #liveOf(nodeId: string): Live {
    let live = this.#live.get(nodeId)
    if (!live) {
      live = { connections: new Map(), sockets: new Map() }
      this.#live.set(nodeId, live)
    }
    return live
  }

  #forget(nodeId: string, remove: (live: Live) => void): void {
    const live = this.#live.get(nodeId)
    if (!live) return
    remove(live)
    if (live.connections.size === 0 && live.sockets.size === 0) this.#live.delete(nodeId)
  }

  /** Who asks, or why not. */
  #admit(
    socket: TLSSocket,
    access: Access | 'anyone',
  ): { readonly identity: PeerIdentity | undefined } | { readonly refusal: Refusal } {
    const client = this.#clients.get(socket) ?? clientOf(socket, this.#clusterId)
    switch (client.kind) {
      case 'anonymous':
        if (access === 'anyone') return { identity: undefined }
        return { refusal: unauthorized('anonymous', 'a certificate of the cluster is necessary') }
      case 'untrusted':
        // A join comes without a certificate, a renewal with a good one: whoever shows a bad one is told so.
        return { refusal: unauthorized(client.reason, client.message) }
      case 'node': {
        if (client.expiresMs <= this.#clock.wallMs())
          return { refusal: unauthorized('expired', 'the certificate has expired') }
        const refusal = access === 'anyone' ? undefined : this.#authorize(client.identity, access)
        return refusal ? { refusal } : { identity: client.identity }
      }
    }
  }

  #onRequest(message: IncomingMessage, response: ServerResponse): void {
    const route = this.#route(message)
    const socket = message.socket as TLSSocket
    const admitted = route ? this.#admit(socket, route.access) : { refusal: notServed(message) }
    if (!route || 'refusal' in admitted) {
      this.#answerRefusal(message, response, 'refusal' in admitted ? admitted.refusal : notServed(message))
      return
    }
    this.#use(socket, admitted.identity, route.access)
    this.#run(
      message,
      () => route.handler.request(message, response, admitted.identity),
      () => {
        if (response.headersSent) socket.destroy()
        else response.writeHead(500).end()
      },
    )
  }

  #onUpgrade(message: IncomingMessage, socket: TLSSocket, head: Buffer): void {
    const connection = this.#connections.get(pathOf(message))
    const route = connection ? undefined : this.#route(message)
    const access = connection?.access ?? (route?.handler.upgrade ? route.access : undefined)
    const admitted = access ? this.#admit(socket, access) : { refusal: notServed(message) }
    if ('refusal' in admitted) {
      this.#logRefusal(message, admitted.refusal)
      refuseUpgrade(socket, admitted.refusal)
      return
    }
    const { identity } = admitted
    if (connection && identity) this.#accept(message, socket, head, identity, connection)
    else if (route) {
      this.#use(socket, identity, route.access)
      this.#run(
        message,
        () => route.handler.upgrade?.(message, socket, head, identity),
        () => socket.destroy(),
      )
    }
  }

  #accept(
    message: IncomingMessage,
    socket: TLSSocket,
    head: Buffer,
    identity: PeerIdentity,
    { access, handler }: { readonly access: Access; readonly handler: ConnectionHandler },
  ): void {
    this.#acceptor.accept(message, socket, head, identity, (connection) => {
      const { nodeId } = identity
      this.#liveOf(nodeId).connections.set(connection, access)
      socket.once('close', () => this.#forget(nodeId, (live) => live.connections.delete(connection)))
      handler(connection)
    })
  }

  #use(socket: TLSSocket, identity: PeerIdentity | undefined, access: Access | 'anyone'): void {
    if (identity && access !== 'anyone') this.#liveOf(identity.nodeId).sockets.set(socket, access)
  }

  #run(message: IncomingMessage, work: () => void | Promise<void>, fail: () => void): void {
    const run = async () => {
      try {
        await work()
      } catch (error) {
        this.#log.error({ path: pathOf(message), reason: errorMessage(error) }, 'request failed')
        fail()
      }
    }
    void run()
  }

  #route(message: IncomingMessage): Route | undefined {
    const path = pathOf(message)
    let found: string | undefined
    for (const prefix of this.#requests.keys())
      if (path.startsWith(prefix) && prefix.length > (found?.length ?? -1)) found = prefix
    return found === undefined ? undefined : this.#requests.get(found)
  }

  #answerRefusal(message: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
    this.#logRefusal(message, refusal)
    // The body that may still be coming is not wanted, so the connection ends with the answer.
    response.writeHead(refusal.status, { 'content-type': 'application/json', connection: 'close' })
    response.end(refusalBody(refusal))
  }

  #logRefusal(message: IncomingMessage, { reason, message: text }: Refusal): void {
    const fields = { path: pathOf(message), remoteAddress: message.socket.remoteAddress, reason, text }
    this.#log.debug(fields, 'request refused')
  }
}

function pathOf(message: IncomingMessage): string {
  const url = message.url ?? ''
  const query = url.indexOf('?')
  return query < 0 ? url : url.slice(0, query)
}

function unauthorized(reason: string, message: string): Refusal {
  return { status: 401, reason, message, retryable: false }
}

function notServed(message: IncomingMessage): Refusal {
  return { status: 404, reason: 'no-path', message: `nothing is served at ${pathOf(message)}`, retryable: true }
}

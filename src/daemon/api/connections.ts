// The sockets that the API is served on: unix and tcp, and every connection on them until it ends.

import { once } from 'node:events'
import { chmod, chown, unlink } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { CodedError, errorCode } from '../../lib/errors.ts'

/** `clusterView`: its clients see the containers of all nodes. */
export type ListenAddress = {
  readonly clusterView?: boolean
} /** `groupId`: who besides root may use it (mode 0660) */ & (
  | { readonly kind: 'unix'; readonly path: string; readonly groupId?: number }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls?: TlsOptions }
)

const DEFAULT_TCP_PORT = 2375
/** Read and written ahead: files pass here, and Node's 16 KiB would be a pause for each. */
const AHEAD_BYTES = 256 * 1024

/**
 * A value of `-H`: unix:///path, tcp://host[:port], or a bare path.
 * @throws {CodedError} INVALID_PARAMETER
 */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('unix://') && text.length > 'unix://'.length)
    return { kind: 'unix', path: text.slice('unix://'.length) }
  if (text.startsWith('/')) return { kind: 'unix', path: text }
  const tcp = /^tcp:\/\/(\[[0-9a-fA-F:]+\]|[^:/[\]]*)(?::(\d{1,5}))?\/?$/.exec(text)
  const port = Number(tcp?.[2] ?? DEFAULT_TCP_PORT)
  if (tcp === null || port > 65_535) {
    throw new CodedError(
      'INVALID_PARAMETER',
      `invalid address to listen on: ${JSON.stringify(text)} (use unix:///path/to/socket or tcp://address:port)`,
    )
  }
  return { kind: 'tcp', host: (tcp[1] ?? '').replace(/^\[|\]$/g, '') || '127.0.0.1', port }
}

export class Listeners {
  readonly #accept: (socket: Socket, address: ListenAddress) => void
  readonly #servers: { readonly server: Server; readonly address: ListenAddress }[] = []
  readonly #sockets = new Set<Socket>()

  constructor(accept: (socket: Socket, address: ListenAddress) => void) {
    this.#accept = accept
  }

  /**
   * @returns the port, for tcp with port 0
   * @throws {CodedError} ADDRESS_IN_USE
   */
  async listen(address: ListenAddress): Promise<number | undefined> {
    const accept = (socket: Socket) => {
      this.#sockets.add(socket)
      // A client that is gone shows by 'close'; whoever serves the connection may not listen just then.
      socket.on('error', () => {})
      socket.on('close', () => this.#sockets.delete(socket))
      this.#accept(socket, address)
    }
    const options = { allowHalfOpen: true, highWaterMark: AHEAD_BYTES }
    const tls = address.kind === 'tcp' ? address.tls : undefined
    const server = tls === undefined ? createServer(options, accept) : createTlsServer({ ...options, ...tls }, accept)
    // A handshake that fails is the client's affair.
    server.on('tlsClientError', () => {})
    if (address.kind === 'unix') {
      await removeStaleSocket(address.path)
      server.listen(address.path)
    } else server.listen(address.port, address.host)
    try {
      await once(server, 'listening')
    } catch (error) {
      if (errorCode(error) === 'EADDRINUSE') throw inUse(addressText(address))
      throw error
    }
    this.#servers.push({ server, address })
    if (address.kind === 'unix') {
      if (address.groupId !== undefined) await chown(address.path, 0, address.groupId)
      await chmod(address.path, 0o660)
    }
    const bound = server.address()
    return typeof bound === 'object' && bound !== null ? bound.port : undefined
  }

  /** Stops listening and drops every connection. */
  async close(): Promise<void> {
    const closing = this.#servers.splice(0).map(async ({ server }) => {
      const closed = once(server, 'close')
      server.close()
      await closed
    })
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(closing)
  }
}

function addressText(address: ListenAddress): string {
  return address.kind === 'unix' ? `unix://${address.path}` : `tcp://${address.host}:${address.port}`
}

function inUse(address: string): CodedError {
  return new CodedError('ADDRESS_IN_USE', `cannot listen on ${address}: another process serves it`)
}

/** A socket file that nobody listens on is left from a daemon that was killed. */
async function removeStaleSocket(path: string): Promise<void> {
  const probe = connect({ path })
  try {
    await once(probe, 'connect')
  } catch (error) {
    if (errorCode(error) === 'ECONNREFUSED') await unlink(path)
    return
  } finally {
    probe.destroy()
  }
  throw inUse(`unix://${path}`)
}

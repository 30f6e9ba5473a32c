// Listening sockets as bare handles: a process can hold them and pass them on without ever reading from them, so that they
// outlive the one that serves them. Node's public API only knows sockets that are read at once, hence the look inside.

import type { SendHandle } from 'node:child_process'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server, Socket } from 'node:net'
import { CodedError } from '../lib/errors.ts'

/** A socket to be opened; names tell the holder's sockets apart. */
export type SocketSpec =
  | { readonly kind: 'unix'; readonly name: string; readonly path: string }
  | { readonly kind: 'tcp'; readonly name: string; readonly host: string; readonly port: number }
  /** may share its port with a socket of another address */
  | { readonly kind: 'udp'; readonly name: string; readonly host: string; readonly port: number }
  /** a listening unix socket of systemd's, or of another process that started this one */
  | { readonly kind: 'fd'; readonly name: string; readonly fd: number }

/** What travels between processes and can be served from. */
export type RawHandle = SendHandle & { readonly fd: number; close(): void }

const BACKLOG = 511
/** Names come in bursts: many containers, one socket. */
const UDP_BUFFER_BYTES = 4 * 1024 * 1024

function isRaw(value: unknown): value is RawHandle {
  return typeof value === 'object' && value !== null && 'fd' in value && typeof value.fd === 'number' && value.fd >= 0
}

function bare(handle: unknown): RawHandle {
  if (isRaw(handle)) return handle
  throw new CodedError(
    'SOCKETS_NOT_PASSABLE',
    `node ${process.version} does not give its sockets away: use Node.js 20 to 24`,
  )
}

function handleOfServer(server: Server): RawHandle {
  return bare('_handle' in server ? server._handle : undefined)
}

function handleOfUdp(socket: UdpSocket): RawHandle {
  const symbol = Object.getOwnPropertySymbols(socket).find((one) => one.description === 'state symbol')
  const state = symbol && Object.getOwnPropertyDescriptor(socket, symbol)?.value
  return bare(state?.handle)
}

/** What came with a message of another process. */
export function receivedHandle(value: unknown): RawHandle | undefined {
  return isRaw(value) ? value : undefined
}

/**
 * Opens a socket in this process, which must end soon: it reads from what it has opened.
 * @throws system errors (EADDRINUSE …)
 */
export async function openSocket(spec: SocketSpec): Promise<RawHandle> {
  if (spec.kind === 'udp') {
    const socket = createSocket({ type: spec.host.includes(':') ? 'udp6' : 'udp4', reuseAddr: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind(spec.port, spec.host, resolve)
    })
    return handleOfUdp(socket)
  }
  if (spec.kind === 'fd') {
    // connections wait there already, and this process must not take them
    const socket = new Socket({ fd: spec.fd, readable: false, writable: false })
    return bare('_handle' in socket ? socket._handle : undefined)
  }
  const server = createServer((connection) => connection.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listenOptions(spec), resolve)
  })
  return handleOfServer(server)
}

function listenOptions(spec: Exclude<SocketSpec, { kind: 'udp' | 'fd' }>): object {
  switch (spec.kind) {
    case 'unix':
      return { path: spec.path, backlog: BACKLOG }
    case 'tcp':
      return { host: spec.host, port: spec.port, backlog: BACKLOG }
  }
}

/** Serves from a handle; the server's connections are this process's, its socket is everybody's who has the handle. */
export async function serveFrom(server: Server, handle: RawHandle): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(handle, BACKLOG, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

export async function readFrom(handle: RawHandle, type: 'udp4' | 'udp6'): Promise<UdpSocket> {
  const socket = createSocket({ type })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    // a handle in place of options is Node's own way to take one over
    socket.bind(handle as unknown as { fd: number }, () => {
      socket.off('error', reject)
      resolve()
    })
  })
  try {
    socket.setRecvBufferSize(UDP_BUFFER_BYTES)
  } catch {
    // a smaller buffer loses names only in bursts, and clients ask again
  }
  return socket
}

// Sockets that hold a published port against other programs, of whichever protocol it is.

import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server } from 'node:net'
import { errorCode } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { PerlSockets, SCTP } from './perl-sockets.ts'

export interface Held {
  close(): void
  /** There is no socket, for this reason. */
  readonly unheld?: string
}

export interface ProtocolPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly port: number
}

const WITHOUT_SCTP: Readonly<Record<string, string>> = {
  EPROTONOSUPPORT: "this node's kernel has no SCTP",
  NO_PERL: 'sockets of SCTP need perl, which this node does not have',
}

export class PortSockets {
  readonly #sctp: PerlSockets

  constructor(log: Log) {
    this.#sctp = new PerlSockets(SCTP, log)
  }

  /** @param address '': every one of the node. @throws system errors (EADDRINUSE …) */
  open({ protocol, port }: ProtocolPort, address: string): Promise<Held> {
    switch (protocol) {
      case 'tcp':
        return openTcp(port, address)
      case 'udp':
        return openUdp(port, address)
      case 'sctp':
        return this.#openSctp(port, address)
    }
  }

  close(): void {
    this.#sctp.close()
  }

  async #openSctp(port: number, address: string): Promise<Held> {
    try {
      return await firstOf(anyOr(address), (host) => this.#sctp.open(host, port))
    } catch (error) {
      const unheld = WITHOUT_SCTP[errorCode(error) ?? '']
      if (unheld === undefined) throw error
      return { close: () => {}, unheld }
    }
  }
}

const anyOr = (address: string): readonly string[] => (address === '' ? ['::', '0.0.0.0'] : [address])

async function openTcp(port: number, address: string): Promise<Held> {
  const server = createServer((socket) => socket.resetAndDestroy())
  await firstOf(anyOr(address), (host) => listening(server, { host, port }))
  server.on('error', () => {}) // accepting fails for want of descriptors: the port is held all the same
  return { close: () => server.close() }
}

async function openUdp(port: number, address: string): Promise<Held> {
  const types = address === '' ? (['udp6', 'udp4'] as const) : ([address.includes(':') ? 'udp6' : 'udp4'] as const)
  return firstOf(types, async (type) => {
    const socket: UdpSocket = createSocket({ type, recvBufferSize: 4096 })
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (error) => {
        reject(error)
        socket.close() // a socket that could not be bound has a descriptor all the same
      })
      socket.bind(port, address || undefined, () => {
        socket.removeAllListeners('error')
        resolve()
      })
    })
    socket.on('error', () => {})
    return { close: () => socket.close() }
  })
}

function listening(server: Server, options: { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(options, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** The first of several ways that this kernel knows; one that is in use is in use in every way. */
async function firstOf<W, T>(ways: readonly W[], openWay: (way: W) => Promise<T>): Promise<T> {
  let last: unknown
  for (const way of ways) {
    try {
      return await openWay(way)
    } catch (error) {
      last = error
      const code = errorCode(error)
      if (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL' && code !== 'EINVAL') throw error
    }
  }
  throw last
}

// Published ports, really held on this node: a listening socket for each, so that other programs get EADDRINUSE and `ss` shows it.
// The host's nft rules lead traffic away before it gets to them. What another program holds already is not served by this node, and the report says who it is.

import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server } from 'node:net'
import type { DataPathProblem } from '../api/data-plane.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Turns } from '../lib/turns.ts'

export interface HostPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly port: number
}

/** `8080/tcp`, as problems and rules name ports */
export function hostPortKey({ protocol, port }: HostPort): string {
  return `${port}/${protocol}`
}

interface Held {
  close(): void
}

export interface HeldPortsOptions {
  /** Who has a port: a program's name and process id, for people; '' where nobody can say. */
  readonly ownerOf: (port: HostPort) => Promise<string>
  readonly log: Log
}

export class HeldPorts {
  readonly #options: HeldPortsOptions
  readonly #held = new Map<string, Held>()
  readonly #problems = new Map<string, DataPathProblem>()
  /** Ports of single containers, by key. */
  readonly #claims = new Map<string, { readonly owner: string; readonly held: Held }>()
  readonly #turns = new Turns()

  constructor(options: HeldPortsOptions) {
    this.#options = options
  }

  /** Ports of the last `set` that others have, as keys. Not served by this node. */
  get taken(): ReadonlySet<string> {
    return new Set(this.#problems.keys())
  }

  get problems(): readonly DataPathProblem[] {
    return [...this.#problems.values()]
  }

  /** Holds exactly these, as far as they can be had. Never throws; answers whether `taken` has changed. Ports that were taken are tried again. */
  set(ports: readonly HostPort[]): Promise<boolean> {
    return this.#turns.take(() => this.#set(ports))
  }

  /**
   * Holds ports for one container (`mode=host`) until `release`. All or none.
   * @throws {CodedError} PORT_TAKEN in the engine's words
   */
  claim(owner: string, ports: readonly HostPort[]): Promise<void> {
    return this.#turns.take(() => this.#claim(owner, ports))
  }

  release(owner: string): void {
    for (const [key, claim] of this.#claims) {
      if (claim.owner !== owner) continue
      claim.held.close()
      this.#claims.delete(key)
    }
  }

  close(): void {
    for (const held of this.#held.values()) held.close()
    for (const { held } of this.#claims.values()) held.close()
    this.#held.clear()
    this.#claims.clear()
  }

  async #claim(owner: string, ports: readonly HostPort[]): Promise<void> {
    for (const port of ports) {
      const key = hostPortKey(port)
      if (this.#claims.get(key)?.owner === owner) continue
      try {
        if (this.#held.has(key) || this.#claims.has(key)) {
          throw new CodedError('PORT_TAKEN', `Bind for 0.0.0.0:${port.port} failed: port is already allocated`)
        }
        this.#claims.set(key, { owner, held: await this.#open(port) })
      } catch (error) {
        this.release(owner)
        if (errorCode(error) !== 'EADDRINUSE') throw error
        const by = await this.#options.ownerOf(port)
        const reason = `listen ${port.protocol} 0.0.0.0:${port.port}: bind: address already in use`
        throw new CodedError('PORT_TAKEN', by ? `${reason} (by ${by})` : reason)
      }
    }
  }

  async #set(ports: readonly HostPort[]): Promise<boolean> {
    const before = [...this.#problems.keys()].sort().join()
    const wanted = new Map(ports.map((port) => [hostPortKey(port), port]))
    for (const [key, held] of this.#held) {
      if (wanted.has(key)) continue
      held.close()
      this.#held.delete(key)
    }
    for (const key of this.#problems.keys()) if (!wanted.has(key)) this.#problems.delete(key)
    for (const [key, port] of wanted) if (!this.#held.has(key)) await this.#hold(key, port)
    return before !== [...this.#problems.keys()].sort().join()
  }

  async #hold(key: string, port: HostPort): Promise<void> {
    try {
      this.#held.set(key, await this.#open(port))
      if (this.#problems.delete(key)) this.#options.log.info({ port: key }, 'a published port is served here again')
    } catch (error) {
      if (this.#problems.has(key)) return
      const inUse = errorCode(error) === 'EADDRINUSE'
      const owner = this.#claims.has(key) ? 'a container' : inUse ? await this.#options.ownerOf(port) : ''
      const reason = inUse ? `in use on this node${owner && ` by ${owner}`}` : `not to be had: ${errorMessage(error)}`
      const message = `published port ${key} is ${reason}; this node does not serve it`
      this.#problems.set(key, { code: 'PORT_IN_USE', message, subject: key })
      this.#options.log.warn({ port: key, owner }, 'a published port is in use on this node')
    }
  }

  #open(port: HostPort): Promise<Held> {
    switch (port.protocol) {
      case 'tcp':
        return openTcp(port.port)
      case 'udp':
        return openUdp(port.port)
      case 'sctp':
        return Promise.resolve({ close: () => {} }) // Node has no such sockets
    }
  }
}

async function openTcp(port: number): Promise<Held> {
  const server = createServer((socket) => socket.resetAndDestroy())
  await firstOf([{ host: '::' }, { host: '0.0.0.0' }], (where) => listening(server, { ...where, port }))
  server.on('error', () => {}) // accepting fails for want of descriptors: the port is held all the same
  return { close: () => server.close() }
}

async function openUdp(port: number): Promise<Held> {
  return firstOf(['udp6', 'udp4'] as const, async (type) => {
    const socket: UdpSocket = createSocket({ type, recvBufferSize: 4096 })
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind(port, resolve)
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
async function firstOf<W, T>(ways: readonly W[], open: (way: W) => Promise<T>): Promise<T> {
  let last: unknown
  for (const way of ways) {
    try {
      return await open(way)
    } catch (error) {
      last = error
      const code = errorCode(error)
      if (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL' && code !== 'EINVAL') throw error
    }
  }
  throw last
}

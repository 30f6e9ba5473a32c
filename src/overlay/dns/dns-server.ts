// The resolver of a node's containers. It answers names of the cluster by what the asking container may see, and hands the rest to
// name servers: the container's own or the host's. Its sockets lie in the fabric's namespace and are opened by others; name
// servers are asked from the namespace of the process.

import type dgram from 'node:dgram'
import type net from 'node:net'
import type { DataPlaneKey } from '../../api/data-plane.ts'
import type { Clock } from '../../lib/clock.ts'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import type { DesiredState, LocalAttachment } from '../desired-state.ts'
import { answerOf } from './answer.ts'
import { type Asker, Askers, type KeptAnswer } from './askers.ts'
import { Forwarder, type ForwarderStats } from './forwarder.ts'
import { InsideCarry } from './inside-carry.ts'
import { type Carry, type NameServer, tcpCarry, udpCarry } from './lookup.ts'
import {
  encodeFault,
  encodeForwarded,
  encodeReply,
  MESSAGE_BYTES_MAX,
  parseMessage,
  type Query,
  RCODE,
  udpLimit,
} from './message.ts'
import { NameTable } from './name-table.ts'
import type { Cached } from './response-cache.ts'
import { Shares } from './shares.ts'
import { serveTcp } from './tcp-session.ts'

export interface DnsServerOptions {
  /**
   * Bound already. A socket answers with the address that it is bound to: one of DNS_ADDRESS, and one of all addresses for
   * those on internal networks, who ask their network's gateway (both opened with `reuseAddr`).
   */
  readonly udp: readonly dgram.Socket[]
  /** Listening already; made with `allowHalfOpen`. */
  readonly tcp: readonly net.Server[]
  readonly state: () => DesiredState
  readonly locals: () => Iterable<LocalAttachment>
  readonly hostNameServers: () => readonly string[]
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Where name servers listen; 53 unless told. */
  readonly forwardPort?: number
}

export interface DnsStats extends ForwarderStats {
  readonly questions: number
  /** From whoever is no container of this node. */
  readonly strangers: number
  readonly malformed: number
  readonly truncated: number
}

/** Answers kept by one group of askers until the next change. */
const KEPT_MAX = 5000
const CONNECTIONS_MAX = 500
/** Of these, one container's. */
const CONNECTIONS_EACH_MAX = 50
/** A container's questions that wait for name servers. */
const FORWARDED_EACH_MAX = 200
/** Zone transfers and the like: several messages or none. */
const META_TYPES: ReadonlySet<number> = new Set([249, 250, 251, 252, 253, 254])

export class DnsServer {
  readonly #options: DnsServerOptions
  readonly #table = new NameTable()
  readonly #askers: Askers
  readonly #forwarder: Forwarder
  readonly #inside: InsideCarry
  readonly #connections = new Set<net.Socket>()
  readonly #connectionShares = new Shares(CONNECTIONS_EACH_MAX)
  readonly #forwardShares = new Shares(FORWARDED_EACH_MAX)
  readonly #counts = { questions: 0, strangers: 0, malformed: 0, truncated: 0 }
  /** Of the table that the kept answers are from. */
  #keptVersion = 0
  #turn = 0
  #closed = false

  constructor(options: DnsServerOptions) {
    this.#options = options
    const { state, locals, clock, random, forwardPort = 53 } = options
    this.#askers = new Askers({ state, locals })
    const everywhere = options.udp.find((socket) => socket.address().address === '0.0.0.0') ?? options.udp[0]
    this.#inside = new InsideCarry({ socket: everywhere, port: forwardPort })
    const either =
      (inside: Carry, outside: Carry): Carry =>
      (server, packet, on) =>
        (server.inside ? inside : outside)(server, packet, on)
    this.#forwarder = new Forwarder({
      clock,
      random,
      udp: either(this.#inside.udp, udpCarry(forwardPort)),
      tcp: either(this.#inside.tcp, tcpCarry(forwardPort)),
    })
    this.#table.update(state(), undefined)
    for (const socket of options.udp) {
      socket.on('message', (message, from) => this.#onPacket(socket, message, from))
      socket.on('error', (error) => options.log.warn({ error: errorMessage(error) }, 'name server socket failed'))
    }
    for (const server of options.tcp) {
      server.on('connection', (socket) => this.#onConnection(socket))
      server.on('error', (error) => options.log.warn({ error: errorMessage(error) }, 'name server socket failed'))
    }
  }

  get stats(): DnsStats {
    return { ...this.#counts, ...this.#forwarder.stats }
  }

  /** From the next question on, answers follow the state as it is now. @param keys undefined: anything may have changed */
  changed(keys: readonly DataPlaneKey[] | undefined): void {
    this.#table.update(this.#options.state(), keys)
    if (!keys || keys.some(({ kind }) => kind === 'overlay-network')) this.#askers.invalidate()
  }

  /** What `locals` yields has changed. */
  attachmentsChanged(): void {
    this.#askers.invalidate()
  }

  /** Closes its sockets; whoever holds copies of them can go on with another server. */
  close(): void {
    this.#closed = true
    for (const socket of this.#options.udp) socket.close()
    for (const server of this.#options.tcp) server.close()
    for (const connection of this.#connections) connection.destroy()
  }

  #onPacket(socket: dgram.Socket, message: Buffer, from: dgram.RemoteInfo): void {
    const send = (reply: Buffer | undefined) => {
      if (reply && !this.#closed) socket.send(reply, from.port, from.address)
    }
    const reply = this.#answer(from.address, message, udpLimit)
    if (reply instanceof Promise) void reply.then(send)
    else send(reply)
  }

  #onConnection(socket: net.Socket): void {
    const address = socket.remoteAddress
    const isWelcome = this.#connections.size < CONNECTIONS_MAX && address !== undefined && this.#askers.find(address)
    if (!isWelcome || !this.#connectionShares.take(address)) {
      socket.destroy()
      return
    }
    this.#connections.add(socket)
    socket.on('close', () => {
      this.#connections.delete(socket)
      this.#connectionShares.release(address)
    })
    serveTcp({
      socket,
      clock: this.#options.clock,
      answer: (message) => this.#answer(address, message, () => MESSAGE_BYTES_MAX),
    })
  }

  #answer(
    address: string,
    message: Buffer,
    limitOf: (query: Query) => number,
  ): Buffer | undefined | Promise<Buffer | undefined> {
    this.#counts.questions++
    const parsed = parseMessage(message)
    if (parsed.kind === 'fault') {
      this.#counts.malformed++
      return encodeFault(message, parsed.rcode, parsed.questionEnd)
    }
    if (parsed.kind === 'response') this.#inside.deliver(address, message)
    if (parsed.kind !== 'query') return undefined // to answer an answer could go on for ever
    const { query } = parsed
    const limitBytes = limitOf(query)
    const asker = this.#askers.find(address)
    if (!asker) {
      this.#counts.strangers++
      return encodeReply(message, query, bare(RCODE.REFUSED, false), limitBytes)
    }
    if (query.edns && query.edns.version > 0) {
      return encodeReply(message, query, bare(RCODE.BADVERS, true), limitBytes)
    }
    const own = this.#ownAnswer(asker, query)
    if (!own) return this.#forward(address, asker, { query, message }, limitBytes)
    const first = own.records.length > 1 ? own.turn++ % own.records.length : 0
    const reply = { rcode: own.rcode, records: own.records, first, authoritative: true, recursion: true }
    return this.#counted(encodeReply(message, query, reply, limitBytes))
  }

  #ownAnswer(asker: Asker, query: Query): KeptAnswer | undefined {
    if (this.#keptVersion !== this.#table.version) {
      this.#keptVersion = this.#table.version
      for (const each of this.#askers.all()) each.answers.clear()
    }
    const key = `${query.type} ${query.class} ${query.name}`
    const kept = asker.answers.get(key)
    if (kept) return kept
    const fresh = answerOf(this.#table, asker.networkIds, query)
    if (!fresh) return undefined
    if (asker.answers.size >= KEPT_MAX) asker.answers.clear()
    const answer: KeptAnswer = { ...fresh, turn: this.#turn++ }
    asker.answers.set(key, answer)
    return answer
  }

  #forward(
    address: string,
    asker: Asker,
    asked: { readonly query: Query; readonly message: Buffer },
    limitBytes: number,
  ): Buffer | Promise<Buffer> {
    const { query, message } = asked
    const servers = this.#serversOf(asker)
    // As Docker does for those who have no way out: to be asked elsewhere, and not to say that the name does not exist.
    if (!servers || META_TYPES.has(query.type)) {
      return encodeReply(message, query, bare(RCODE.REFUSED, false), limitBytes)
    }
    const finish = (cached: Cached | undefined) =>
      cached
        ? this.#counted(encodeForwarded(cached.response, asked, { ageSeconds: cached.ageSeconds, limitBytes }))
        : encodeReply(message, query, bare(RCODE.SERVFAIL, true), limitBytes)
    const known = this.#forwarder.known(query, servers)
    if (known || !this.#forwardShares.take(address)) return finish(known)
    return this.#forwarder.resolve(query, message, servers).then((cached) => {
      this.#forwardShares.release(address)
      return finish(cached)
    })
  }

  /** Undefined: there is nobody whom it may ask. */
  #serversOf({ networkIds, nameServers, forwards }: Asker): readonly NameServer[] | undefined {
    const own = nameServers.flatMap((server): readonly NameServer[] => {
      const inside = this.#table.findServers(networkIds, server)
      if (inside) return inside.map((address) => ({ address, inside: true }))
      // The container's loopback is meant, where we don't get; ours is the host's.
      return forwards && !isLoopback(server) ? [{ address: server, inside: false }] : []
    })
    if (own.length > 0) return own
    if (!forwards) return undefined
    return nameServers.length > 0 ? [] : this.#options.hostNameServers().map((address) => ({ address, inside: false }))
  }

  #counted(reply: Buffer): Buffer {
    if ((reply[2]! & 2) !== 0) this.#counts.truncated++
    return reply
  }
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

function bare(rcode: number, recursion: boolean) {
  return { rcode, records: [], first: 0, authoritative: false, recursion }
}

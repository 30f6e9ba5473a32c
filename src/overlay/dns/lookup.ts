// One question to name servers: each in turn, by UDP and, where the answer does not fit, by TCP, until one answers or the time is
// up. A server that is slow may still answer while the next one is asked.

import dgram from 'node:dgram'
import net from 'node:net'
import type { Clock, Timer } from '../../lib/clock.ts'
import type { Random } from '../../lib/random.ts'
import { encodeForward, type Query, RCODE, type Response, readResponse } from './message.ts'
import { FrameReader, frame } from './tcp-frames.ts'

export interface NameServer {
  readonly address: string
  /** In a network of the cluster, where only the fabric gets. */
  readonly inside: boolean
}

/** Asks `server`, and gives what comes back from it to `onMessage`; ends when the returned function is called. */
export type Carry = (
  server: NameServer,
  packet: Buffer,
  on: { readonly message: (message: Buffer) => void; readonly error: (error: unknown) => void },
) => () => void

export interface LookupOptions {
  readonly query: Query
  /** The packet that `query` was read from. */
  readonly message: Buffer
  /** At least one; asked in this order. */
  readonly servers: readonly NameServer[]
  readonly clock: Clock
  readonly random: Random
  readonly udp: Carry
  readonly tcp: Carry
  /** A server did not answer in time. */
  readonly onSilent: (server: NameServer) => void
}

/** Containers' resolvers give up after 5 s. */
const TOTAL_MS = 4500
const ATTEMPT_MS = 1500
const ATTEMPTS_MAX = 6

/** Undefined when no server has answered; what says that it can't (SERVFAIL, REFUSED) only if none could. */
export function lookUp(options: LookupOptions): Promise<Response | undefined> {
  return new Promise((resolve) => {
    new Lookup(options, resolve).next()
  })
}

class Lookup {
  readonly #options: LookupOptions
  readonly #resolve: (response: Response | undefined) => void
  readonly #open: (() => void)[] = []
  readonly #failed = new Set<NameServer>()
  readonly #deadline: Timer
  #turn: Timer | undefined
  #attempts = 0
  #refusal: Response | undefined
  #done = false

  constructor(options: LookupOptions, resolve: (response: Response | undefined) => void) {
    this.#options = options
    this.#resolve = resolve
    this.#deadline = options.clock.setTimer(TOTAL_MS, () => this.#finish(this.#refusal))
  }

  /** Asks the next server that has not failed. */
  next(): void {
    const { servers, clock, onSilent } = this.#options
    this.#turn?.cancel()
    const able = servers.filter((server) => !this.#failed.has(server))
    if (able.length === 0) this.#finish(this.#refusal)
    if (able.length === 0 || this.#attempts === ATTEMPTS_MAX) return
    const server = able[this.#attempts++ % able.length]!
    this.#turn = clock.setTimer(ATTEMPT_MS, () => {
      onSilent(server)
      this.next()
    })
    this.#ask(server, this.#options.udp, (response) => {
      if (response.truncated) this.#ask(server, this.#options.tcp, (whole) => this.#take(server, whole))
      else this.#take(server, response)
    })
  }

  #ask(server: NameServer, carry: Carry, take: (response: Response) => void): void {
    const { query, message, random } = this.#options
    const id = random.below(0x1_0000)
    let answered = false
    const close = carry(server, encodeForward(query, message, id), {
      message: (bytes) => {
        const response = this.#done || answered ? undefined : readResponse(bytes, query, id)
        if (!response) return // noise, or somebody who guesses: the answer may still come
        answered = true
        take(response)
      },
      error: () => {
        if (!this.#done && !answered) this.#fail(server)
      },
    })
    if (this.#done) close()
    else this.#open.push(close)
  }

  #take(server: NameServer, response: Response): void {
    const able = response.rcode !== RCODE.SERVFAIL && response.rcode !== RCODE.REFUSED
    if (able && !response.truncated) {
      this.#finish(response)
      return
    }
    if (!response.truncated) this.#refusal = response
    this.#fail(server)
  }

  #fail(server: NameServer): void {
    this.#failed.add(server)
    this.next()
  }

  #finish(response: Response | undefined): void {
    if (this.#done) return
    this.#done = true
    this.#turn?.cancel()
    this.#deadline.cancel()
    for (const close of this.#open) close()
    this.#resolve(response)
  }
}

/** A socket of its own for each question: its port is one more thing that a forger would have to guess. */
export function udpCarry(port: number): Carry {
  return ({ address }, packet, on) => {
    const socket = dgram.createSocket(net.isIP(address) === 6 ? 'udp6' : 'udp4')
    let open = true
    socket.on('error', on.error)
    socket.on('message', on.message)
    // Connected: only this server's packets arrive, and a closed port is an error at once.
    socket.connect(port, address, (error?: Error) => {
      if (!open) return
      if (error) on.error(error)
      else socket.send(packet, (failure) => failure && open && on.error(failure))
    })
    return () => {
      open = false
      socket.close()
    }
  }
}

export function tcpCarry(port: number): Carry {
  return ({ address }, packet, on) => {
    const socket = net.connect({ host: address, port })
    const frames = new FrameReader()
    socket.on('data', (bytes) => {
      // Copied: kept as it is, a small answer would keep the stream's whole chunk.
      for (const message of frames.push(bytes)) on.message(Buffer.from(message))
    })
    socket.on('error', on.error)
    socket.on('close', () => on.error(new Error('connection closed')))
    socket.write(frame(packet))
    return () => socket.destroy()
  }
}

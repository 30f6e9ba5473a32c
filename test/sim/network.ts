// The network of the simulator: production's Dialer and Connection on virtual time. A stream may be late, stall or
// break, but what arrives is in order and unharmed, as TCP under TLS has it; loss therefore shows as disconnection.

import type { Clock, Timer } from '../../src/lib/clock.ts'
import type { CloseInfo, Connection, Dialer, DialOptions, PeerIdentity } from '../../src/lib/connection.ts'
import { CodedError } from '../../src/lib/errors.ts'
import type { SeededRandom } from '../../src/lib/random.ts'

export interface NetworkFaults {
  /** One-way delay of a message: uniform in [min, max]. */
  readonly latencyMs: readonly [min: number, max: number]
  /** Chance that a message breaks its connection instead of arriving. */
  readonly breakRate: number
  /** Chance that a dial fails by running into its time-out. */
  readonly dialTimeoutRate: number
  /** How long a connection whose way is cut stalls before each end gives it up: uniform in [min, max]. */
  readonly stallMs: readonly [min: number, max: number]
  /** Throughput of one connection and direction in bytes a millisecond. */
  readonly bytesPerMs: number
}

export const CALM: NetworkFaults = {
  latencyMs: [0.2, 0.6],
  breakRate: 0,
  dialTimeoutRate: 0,
  stallMs: [4_000, 8_000],
  bytesPerMs: 100_000,
}

/** As production's: see src/lib/ws-connection.ts. */
const MAX_BUFFERED_BYTES = 64 * 1024 * 1024

export type Accept = (connection: Connection, path: string) => void

interface Listener {
  readonly host: string
  readonly identity: PeerIdentity | undefined
  readonly accept: Accept
}

/** Hosts are the part of an address before the colon. */
export class SimulatedNetwork {
  readonly #clock: Clock
  readonly #random: SeededRandom
  readonly #listeners = new Map<string, Listener>()
  readonly #pipes = new Set<Pipe>()
  /** `from>to` of ways that are cut. */
  readonly #cut = new Set<string>()
  readonly #dark = new Set<string>()
  faults: NetworkFaults

  constructor(options: {
    readonly clock: Clock
    readonly random: SeededRandom
    readonly faults?: Partial<NetworkFaults>
  }) {
    this.#clock = options.clock
    this.#random = options.random
    this.faults = { ...CALM, ...options.faults }
  }

  /** What a process on `host` dials with. */
  dialer(host: string, identity?: PeerIdentity): Dialer {
    return { dial: (options) => this.#dial(host, identity, options) }
  }

  /** Accepts connections on `address` until the returned function is called or the host is killed. */
  listen(address: string, accept: Accept, identity?: PeerIdentity): () => void {
    const listener = { host: hostOf(address), identity, accept }
    this.#listeners.set(address, listener)
    return () => {
      if (this.#listeners.get(address) === listener) this.#listeners.delete(address)
    }
  }

  /** The process on `host` dies: its kernel ends its connections and refuses new ones. */
  killProcess(host: string): void {
    for (const [address, listener] of this.#listeners) if (listener.host === host) this.#listeners.delete(address)
    for (const pipe of [...this.#pipes]) if (pipe.hosts.includes(host)) pipe.die(host)
  }

  /** The machine loses its power: nobody hears of it, dials to it run into their time-outs. */
  powerOff(host: string): void {
    this.#dark.add(host)
    for (const [address, listener] of this.#listeners) if (listener.host === host) this.#listeners.delete(address)
    for (const pipe of [...this.#pipes]) if (pipe.hosts.includes(host)) pipe.goDark(host)
  }

  powerOn(host: string): void {
    this.#dark.delete(host)
  }

  /** Nothing passes from `from` to `to` any more; the other way stays as it is. */
  cutOneWay(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`)
    for (const pipe of [...this.#pipes]) if (pipe.hosts.includes(from) && pipe.hosts.includes(to)) pipe.stall()
  }

  cut(a: string, b: string): void {
    this.cutOneWay(a, b)
    this.cutOneWay(b, a)
  }

  heal(a: string, b: string): void {
    this.#cut.delete(`${a}>${b}`)
    this.#cut.delete(`${b}>${a}`)
    for (const pipe of [...this.#pipes]) if (pipe.hosts.includes(a) && pipe.hosts.includes(b)) pipe.resume()
  }

  healAll(): void {
    this.#cut.clear()
    for (const pipe of [...this.#pipes]) pipe.resume()
  }

  /** Breaks the connections between two hosts, once, without goodbye. */
  disconnect(a: string, b: string): void {
    for (const pipe of [...this.#pipes]) if (pipe.hosts.includes(a) && pipe.hosts.includes(b)) pipe.break()
  }

  passes(from: string, to: string): boolean {
    return !this.#cut.has(`${from}>${to}`) && !this.#dark.has(from) && !this.#dark.has(to)
  }

  latencyMs(): number {
    return this.#uniform(this.faults.latencyMs)
  }

  async #dial(host: string, identity: PeerIdentity | undefined, options: DialOptions): Promise<Connection> {
    const { address, path, timeoutMs, signal } = options
    const target = hostOf(address)
    const unreachable = !this.passes(host, target) || !this.passes(target, host)
    if (unreachable || this.#random.float() < this.faults.dialTimeoutRate) {
      await this.#pause(timeoutMs, signal)
      throw new CodedError('CONNECTION_TIMEOUT', `${address} does not answer`, { retryable: true })
    }
    await this.#pause(this.latencyMs() + this.latencyMs(), signal)
    const listener = this.#listeners.get(address)
    if (!listener)
      throw new CodedError('CONNECTION_REFUSED', `${address} refuses connections`, {
        retryable: true,
        details: { refused: true },
      })
    if (options.nodeId !== undefined && listener.identity?.nodeId !== options.nodeId)
      throw new CodedError('CONNECTION_REFUSED', `${address} is not ${options.nodeId}`, { retryable: true })
    const pipe: Pipe = new Pipe(this, this.#clock, [host, target], [listener.identity, identity], () =>
      this.#pipes.delete(pipe),
    )
    this.#pipes.add(pipe)
    listener.accept(pipe.ends[1], path)
    return pipe.ends[0]
  }

  async #pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const abort = () => {
        timer.cancel()
        reject(new CodedError('CONNECTION_ABORTED', 'the dial was aborted', { cause: signal?.reason }))
      }
      const timer = this.#clock.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      })
      if (signal?.aborted) abort()
      else signal?.addEventListener('abort', abort, { once: true })
    })
  }

  breaksNow(): boolean {
    return this.faults.breakRate > 0 && this.#random.float() < this.faults.breakRate
  }

  stallMs(): number {
    return this.#uniform(this.faults.stallMs)
  }

  #uniform([min, max]: readonly [number, number]): number {
    return min + this.#random.float() * (max - min)
  }
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'))
}

type Item = { readonly order: number } & (
  | { readonly kind: 'message'; readonly message: Uint8Array }
  | { readonly kind: 'close'; readonly info: CloseInfo }
)

const BROKEN: CloseInfo = { clean: false, code: 1006, reason: '' }

/** Both ends of one connection. End 0 dialed, end 1 accepted. */
class Pipe {
  readonly hosts: readonly [string, string]
  readonly ends: readonly [End, End]
  readonly #network: SimulatedNetwork
  readonly #clock: Clock
  readonly #forget: () => void
  #stalled: Timer | undefined

  constructor(
    network: SimulatedNetwork,
    clock: Clock,
    hosts: readonly [string, string],
    peers: readonly [PeerIdentity | undefined, PeerIdentity | undefined],
    forget: () => void,
  ) {
    this.#network = network
    this.#clock = clock
    this.hosts = hosts
    this.#forget = forget
    this.ends = [
      new End(network, clock, this, hosts[0], hosts[1], peers[0]),
      new End(network, clock, this, hosts[1], hosts[0], peers[1]),
    ]
  }

  other(end: End): End {
    return end === this.ends[0] ? this.ends[1] : this.ends[0]
  }

  /** One end is gone; when both are, the network need not know the connection any more. */
  ended(): void {
    if (!this.ends[0].closed || !this.ends[1].closed) return
    this.#stalled?.cancel()
    this.#forget()
  }

  die(host: string): void {
    for (const end of this.ends) {
      if (end.host === host) end.vanish()
      // Behind a cut nothing is heard of it yet: what is sent there later is answered by a reset.
      else if (this.#network.passes(host, end.host)) end.endAfterLatency()
    }
  }

  goDark(host: string): void {
    for (const end of this.ends) if (end.host === host) end.vanish()
    this.stall()
  }

  break(): void {
    for (const end of this.ends) end.finish(BROKEN)
  }

  stall(): void {
    this.#stalled ??= this.#clock.setTimer(this.#network.stallMs(), () => {
      this.#stalled = undefined
      if (!this.#bothWays()) this.break()
    })
  }

  resume(): void {
    if (!this.#bothWays()) {
      for (const end of this.ends) end.flush()
      return
    }
    this.#stalled?.cancel()
    this.#stalled = undefined
    for (const end of this.ends) end.flush()
  }

  #bothWays(): boolean {
    const [a, b] = this.hosts
    return this.#network.passes(a, b) && this.#network.passes(b, a)
  }
}

class End implements Connection {
  readonly host: string
  readonly remoteAddress: string
  readonly peer: PeerIdentity | undefined
  readonly #network: SimulatedNetwork
  readonly #clock: Clock
  readonly #pipe: Pipe
  #handlers: Parameters<Connection['listen']>[0] | undefined
  /** Arrived before anybody listened. */
  #waiting: Item[] = []
  /** Sent while the way was cut. */
  #held: Item[] = []
  #sent = 0
  #lastArrivalMs = 0
  #bufferedBytes = 0
  #closing = false
  #closed = false
  #vanished = false
  #closeInfo: CloseInfo | undefined

  constructor(
    network: SimulatedNetwork,
    clock: Clock,
    pipe: Pipe,
    host: string,
    remoteHost: string,
    peer: PeerIdentity | undefined,
  ) {
    this.#network = network
    this.#clock = clock
    this.#pipe = pipe
    this.host = host
    this.remoteAddress = remoteHost
    this.peer = peer
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  get closed(): boolean {
    return this.#closed
  }

  send(message: Uint8Array): void {
    if (this.#closed || this.#closing) throw new CodedError('CONNECTION_CLOSED', 'the connection is closed')
    if (this.#bufferedBytes + message.length > MAX_BUFFERED_BYTES)
      throw new CodedError('CONNECTION_FULL', 'too much is waiting to be sent', { retryable: true })
    this.#bufferedBytes += message.length
    // The sender may use its buffer again, as with a real socket.
    this.#transmit({ order: this.#sent++, kind: 'message', message: new Uint8Array(message) })
  }

  listen(handlers: Parameters<Connection['listen']>[0]): void {
    this.#handlers = handlers
    if (this.#waiting.length === 0 && !this.#closeInfo) return
    this.#clock.setTimer(0, () => {
      const waiting = this.#waiting
      this.#waiting = []
      for (const item of waiting) this.#handle(item)
      if (this.#closeInfo) this.#handlers?.onClose(this.#closeInfo)
    })
  }

  close(code = 1000, reason = ''): void {
    if (this.#closed || this.#closing) return
    this.#closing = true
    this.#transmit({ order: this.#sent++, kind: 'close', info: { clean: true, code, reason } })
    this.#clock.setTimer(0, () => this.finish({ clean: true, code, reason }))
  }

  destroy(): void {
    if (this.#closed) return
    this.#closing = true
    this.#held = []
    this.#transmit({ order: this.#sent++, kind: 'close', info: BROKEN })
    this.#clock.setTimer(0, () => this.finish(BROKEN))
  }

  /** Ends this side; its owner hears of it once. */
  finish(info: CloseInfo): void {
    if (this.#closed) return
    this.#closed = true
    this.#closing = true
    // Whoever listens only later, or has messages waiting, hears of them first.
    if (this.#handlers && this.#waiting.length === 0) this.#handlers.onClose(info)
    else this.#closeInfo = info
    this.#pipe.ended()
  }

  /** This side's process is gone: nobody is there to hear of anything. */
  vanish(): void {
    this.#vanished = true
    this.#closed = true
    this.#closing = true
    this.#held = []
    this.#handlers = undefined
    this.#pipe.ended()
  }

  flush(): void {
    // What was under way when the way was cut was held after what was sent later.
    const held = this.#held.sort((a, b) => a.order - b.order)
    this.#held = []
    for (const item of held) this.#transmit(item)
  }

  #transmit(item: Item): void {
    const other = this.#pipe.other(this)
    if (!this.#network.passes(this.host, other.host)) {
      this.#held.push(item)
      this.#pipe.stall()
      return
    }
    if (item.kind === 'message' && this.#network.breaksNow()) {
      this.#clock.setTimer(this.#network.latencyMs(), () => this.#pipe.break())
      return
    }
    const sizeBytes = item.kind === 'message' ? item.message.length : 0
    const startMs = Math.max(this.#lastArrivalMs, this.#clock.nowMs() + this.#network.latencyMs())
    this.#lastArrivalMs = startMs + sizeBytes / this.#network.faults.bytesPerMs
    this.#clock.setTimer(this.#lastArrivalMs - this.#clock.nowMs(), () => {
      // What was under way when the way was cut is resent by TCP once it is healed.
      if (!this.#network.passes(this.host, other.host)) {
        this.#held.push(item)
        this.#pipe.stall()
        return
      }
      this.#bufferedBytes -= sizeBytes
      other.receive(item)
    })
  }

  /** The other side's process is gone and its kernel says so. */
  endAfterLatency(): void {
    this.#clock.setTimer(this.#network.latencyMs(), () => this.finish(BROKEN))
  }

  receive(item: Item): void {
    // The kernel answers for a process, or for a machine that was started again, with a reset.
    if (this.#vanished) this.#pipe.other(this).endAfterLatency()
    if (this.#closed) return
    if (this.#handlers && this.#waiting.length === 0) this.#handle(item)
    else this.#waiting.push(item)
  }

  #handle(item: Item): void {
    if (item.kind === 'close') this.finish(item.info)
    else this.#handlers?.onMessage(item.message)
  }
}

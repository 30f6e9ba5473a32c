// One session with one manager over one connection: hello and welcome, heartbeats, silence. What the messages mean is
// the agent's business.

import {
  DISPATCHER_PROTOCOL_VERSION,
  type ManagerAddress,
  type ManagerMessage,
  SESSION_CLOSE,
  type WorkerMessage,
} from '../api/dispatcher.ts'
import type { Clock, Timer } from '../lib/clock.ts'
import { decode, encode } from '../lib/codec.ts'
import type { CloseInfo, Connection } from '../lib/connection.ts'
import { errorMessage } from '../lib/errors.ts'

export type Welcome = Extract<ManagerMessage, { kind: 'welcome' }>
/** What the session leaves to its agent. */
export type AgentMessage = Exclude<ManagerMessage, { kind: 'welcome' | 'redirect' | 'heartbeat-ack' }>

export type SessionEnd =
  | {
      readonly kind: 'redirected'
      readonly leader: ManagerAddress | undefined
      readonly managers: readonly ManagerAddress[]
    }
  | { readonly kind: 'lost'; readonly reason: string }
  /** Another session of this node took over. */
  | { readonly kind: 'replaced' }
  /** This node is no longer in the cluster (or its role changed, as the reason says). */
  | { readonly kind: 'removed'; readonly reason: string }
  | { readonly kind: 'stopped' }

export interface SessionOptions {
  readonly connection: Connection
  readonly clock: Clock
  readonly hello: Extract<WorkerMessage, { kind: 'hello' }>
  readonly onWelcome: (welcome: Welcome) => void
  readonly onMessage: (message: AgentMessage) => void
  /** A heartbeat was answered, so long after it was sent. */
  readonly onHeartbeat?: (latencyMs: number) => void
  /** How long a stop is said to last, asked when it begins. */
  readonly goodbyeGraceMs: () => number
}

const WELCOME_TIMEOUT_MS = 3_000
/** Heartbeats in the period after which managers call a silent node down, and the longest pause between two. */
const HEARTBEATS_PER_PERIOD = 5
const HEARTBEAT_MS_MAX = 1_000

const KINDS: ReadonlySet<string> = new Set<ManagerMessage['kind']>([
  'welcome',
  'redirect',
  'heartbeat-ack',
  'status-ack',
  'assignments',
  'withdrawn',
  'attachment',
  'open-stream',
  'cluster',
])

export class Session {
  readonly #options: SessionOptions
  readonly #ended: Promise<SessionEnd>
  #end: (end: SessionEnd) => void = () => {}
  #over = false
  #welcome: Welcome | undefined
  #heartbeat: Timer | undefined
  #silence: Timer | undefined
  #sequence = 0
  /** When the last heartbeat was sent. */
  #sentMs = 0

  constructor(options: SessionOptions) {
    this.#options = options
    this.#ended = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  /** Until the session ends, for whatever reason; an abort says goodbye to the manager first. */
  async run(signal: AbortSignal): Promise<SessionEnd> {
    const { connection, hello } = this.#options
    const leave = () => this.#leave()
    connection.listen({ onMessage: (bytes) => this.#receive(bytes), onClose: (info) => this.#closed(info) })
    this.send(hello)
    this.#expectWithin(WELCOME_TIMEOUT_MS)
    if (signal.aborted) leave()
    else signal.addEventListener('abort', leave, { once: true })
    const end = await this.#ended
    signal.removeEventListener('abort', leave)
    return end
  }

  /** Nothing is sent once the session is over: what matters is sent again in the next one. */
  send(message: WorkerMessage): void {
    if (this.#over) return
    try {
      this.#options.connection.send(encode([DISPATCHER_PROTOCOL_VERSION, message]))
    } catch (error) {
      this.#drop(`cannot send: ${errorMessage(error)}`)
    }
  }

  #receive(bytes: Uint8Array): void {
    if (this.#over) return
    let message: ManagerMessage
    try {
      message = parse(bytes)
    } catch (error) {
      this.#finish({ kind: 'lost', reason: errorMessage(error) })
      this.#options.connection.close(SESSION_CLOSE.malformed, errorMessage(error).slice(0, 100))
      return
    }
    switch (message.kind) {
      case 'welcome':
        this.#welcome = message
        this.#expectWithin(message.silenceMs)
        this.#beat()
        this.#options.onWelcome(message)
        return
      case 'redirect':
        this.#finish({ kind: 'redirected', leader: message.leader, managers: message.managers })
        this.#options.connection.close(1000, 'redirected')
        return
      case 'heartbeat-ack':
        this.#heard()
        if (message.sequence === this.#sequence) {
          this.#options.onHeartbeat?.(this.#options.clock.nowMs() - this.#sentMs)
        }
        return
      case 'status-ack':
      case 'assignments':
      case 'withdrawn':
      case 'attachment':
      case 'open-stream':
      case 'cluster':
        this.#heard()
        this.#options.onMessage(message)
        return
    }
  }

  #heard(): void {
    if (this.#welcome) this.#expectWithin(this.#welcome.silenceMs)
  }

  #expectWithin(silenceMs: number): void {
    this.#silence?.cancel()
    this.#silence = this.#options.clock.setTimer(silenceMs, () => this.#drop(`silent for ${silenceMs} ms`))
  }

  #beat(): void {
    this.#heartbeat?.cancel()
    const periodMs = this.#welcome?.heartbeatMs ?? HEARTBEATS_PER_PERIOD * HEARTBEAT_MS_MAX
    const pauseMs = Math.min(HEARTBEAT_MS_MAX, periodMs / HEARTBEATS_PER_PERIOD)
    this.#heartbeat = this.#options.clock.setTimer(pauseMs, () => {
      this.#sentMs = this.#options.clock.nowMs()
      this.send({ kind: 'heartbeat', sequence: ++this.#sequence })
      if (!this.#over) this.#beat()
    })
  }

  #leave(): void {
    this.send({ kind: 'goodbye', graceMs: this.#options.goodbyeGraceMs() })
    if (this.#over) return
    this.#finish({ kind: 'stopped' })
    this.#options.connection.close(1000, 'stopping')
  }

  #drop(reason: string): void {
    if (this.#over) return
    this.#finish({ kind: 'lost', reason })
    this.#options.connection.destroy()
  }

  #closed(info: CloseInfo): void {
    switch (info.code) {
      case SESSION_CLOSE.removed:
        this.#finish({ kind: 'removed', reason: info.reason })
        break
      case SESSION_CLOSE.replaced:
        this.#finish({ kind: 'replaced' })
        break
      default:
        this.#finish({ kind: 'lost', reason: info.reason || (info.clean ? 'closed' : 'connection lost') })
    }
  }

  #finish(end: SessionEnd): void {
    if (this.#over) return
    this.#over = true
    this.#heartbeat?.cancel()
    this.#silence?.cancel()
    this.#end(end)
  }
}

/** @throws {Error} for what is no message of this protocol's version. */
function parse(bytes: Uint8Array): ManagerMessage {
  const frame = decode(bytes)
  if (!Array.isArray(frame) || frame.length !== 2) throw new Error('malformed frame')
  if (frame[0] !== DISPATCHER_PROTOCOL_VERSION) throw new Error(`unknown protocol version ${String(frame[0])}`)
  const message: unknown = frame[1]
  const kind = typeof message === 'object' && message !== null && 'kind' in message ? message.kind : undefined
  if (typeof kind !== 'string' || !KINDS.has(kind)) throw new Error(`unknown message ${String(kind)}`)
  return message as ManagerMessage
}

// The outgoing half of Raft's traffic with one peer: a connection that is dialed when there is something to send, kept,
// and made again after a loss, with a bound on what waits for it.

import type { Clock, Timer } from '../lib/clock.ts'
import type { CloseInfo, Connection, Dialer } from '../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { messageBytes } from './message-codec.ts'
import { splitMessage } from './split-message.ts'
import {
  CLOSE_MALFORMED,
  CLOSE_REMOVED,
  decodeFrame,
  encodeFrame,
  encodeMessages,
  type Hello,
  malformed,
} from './transport-frames.ts'
import type { Message, RaftId } from './types.ts'

export interface LinkLimits {
  /** A frame holds as many messages as fit; larger appends are split. */
  readonly maxFrameBytes: number
  /** What may wait in one connection, or for it. More is dropped, and the core told. */
  readonly maxQueueBytes: number
  readonly dialTimeoutMs: number
  /** An open connection is asked this often whether its peer is there; see MAX_UNANSWERED. */
  readonly pingMs: number
  readonly minBackoffMs: number
  readonly maxBackoffMs: number
}

export interface LinkEvents {
  readonly onUnreachable: () => void
  readonly onLost: (refused: boolean) => void
  readonly onForbidden: () => void
}

export interface LinkOptions {
  readonly peer: RaftId
  readonly address: string
  readonly path: string
  readonly nodeId: string | undefined
  readonly hello: () => Hello
  readonly dialer: Dialer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly limits: LinkLimits
  readonly events: LinkEvents
}

/** A connection that lasts this long ends a series of failures. */
const STABLE_MS = 1_000

/**
 * So many questions without an answer end a connection: TCP alone notices a cut after many minutes, and resumes late
 * after it is healed. Counted and not timed, so that a process which was held up does not blame its peers.
 */
const MAX_UNANSWERED = 3
const PING = encodeFrame({ kind: 'ping' })

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'dialing' }
  | { readonly kind: 'open'; readonly connection: Connection; readonly sinceMs: number }
  | { readonly kind: 'waiting'; readonly timer: Timer }
  | { readonly kind: 'closed' }

export class PeerLink {
  readonly #options: LinkOptions
  readonly #abort = new AbortController()
  #state: State = { kind: 'idle' }
  #queue: Message[] = []
  #queueBytes = 0
  /** Failures in a row, and connections that did not last. */
  #failures = 0
  /** A connection has closed since the last dial that succeeded, and whether its peer still lives was not reported. */
  #lost = false
  #unanswered = 0
  /** Of the peer's process, as its last answer said. */
  #session: number | undefined
  #pinging: Timer | undefined

  constructor(options: LinkOptions) {
    this.#options = options
  }

  get address(): string {
    return this.#options.address
  }

  send(messages: readonly Message[]): void {
    switch (this.#state.kind) {
      case 'open':
        this.#transmit(this.#state.connection, messages)
        return
      case 'idle':
        this.#enqueue(messages)
        this.#dial()
        return
      case 'dialing':
        this.#enqueue(messages)
        return
      case 'waiting':
        // Raft repeats what matters; what waits out a back-off is old when it arrives.
        this.#options.events.onUnreachable()
        return
      case 'closed':
    }
  }

  /** The peer has shown that it lives: no need to wait any longer. */
  wake(): void {
    if (this.#state.kind !== 'waiting') return
    this.#state.timer.cancel()
    this.#failures = 0
    this.#dial()
  }

  close(code?: number, reason?: string): void {
    const state = this.#state
    this.#state = { kind: 'closed' }
    this.#pinging?.cancel()
    if (state.kind === 'open') state.connection.close(code, reason)
    if (state.kind === 'waiting') state.timer.cancel()
    this.#abort.abort()
    this.#queue = []
  }

  #enqueue(messages: readonly Message[]): void {
    for (const message of messages) this.#queueBytes += messageBytes(message)
    if (this.#queueBytes > this.#options.limits.maxQueueBytes) this.#drop()
    else this.#queue.push(...messages)
  }

  #drop(): void {
    this.#queue = []
    this.#queueBytes = 0
    this.#options.events.onUnreachable()
  }

  #transmit(connection: Connection, messages: readonly Message[]): void {
    const { limits, events, log, peer } = this.#options
    if (connection.bufferedBytes > limits.maxQueueBytes) {
      events.onUnreachable()
      return
    }
    try {
      let frame: Message[] = []
      let frameBytes = 0
      const flush = () => {
        if (frame.length > 0) connection.send(encodeMessages(frame))
        frame = []
        frameBytes = 0
      }
      for (const whole of messages)
        for (const message of splitMessage(whole, limits.maxFrameBytes)) {
          const bytes = messageBytes(message)
          if (frameBytes + bytes > limits.maxFrameBytes) flush()
          frame.push(message)
          frameBytes += bytes
        }
      flush()
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      log.debug({ peer, code: error.code }, 'raft messages were dropped')
      events.onUnreachable()
    }
  }

  #dial(): void {
    this.#state = { kind: 'dialing' }
    const { dialer, address, path, nodeId, limits } = this.#options
    const attempt = dialer.dial({
      address,
      path,
      ...(nodeId === undefined ? {} : { nodeId }),
      timeoutMs: limits.dialTimeoutMs,
      signal: this.#abort.signal,
    })
    attempt.then(
      (connection) => this.#opened(connection),
      (error: unknown) => this.#failed(error),
    )
  }

  #opened(connection: Connection): void {
    if (this.#state.kind === 'closed') {
      connection.close()
      return
    }
    this.#state = { kind: 'open', connection, sinceMs: this.#options.clock.nowMs() }
    this.#lost = false
    connection.listen({
      onMessage: (bytes) => this.#onAnswer(connection, bytes),
      onClose: (info) => this.#onClose(connection, info),
    })
    const queue = this.#queue
    this.#queue = []
    this.#queueBytes = 0
    try {
      connection.send(encodeFrame(this.#options.hello()))
    } catch {
      // It closed at once: onClose follows.
      return
    }
    if (queue.length > 0) this.#transmit(connection, queue)
    this.#unanswered = 0
    this.#pingLater(connection)
  }

  /** Only answers to greetings and pings come this way; the peer has a connection of its own. */
  #onAnswer(connection: Connection, bytes: Uint8Array): void {
    const { peer, hello, events, log } = this.#options
    try {
      const frame = decodeFrame(bytes, peer, hello().from)
      if (frame.kind !== 'pong') throw malformed(frame.kind)
      this.#unanswered = 0
      const restarted = this.#session !== undefined && this.#session !== frame.session
      this.#session = frame.session
      // So quickly that no dial was refused.
      if (restarted) events.onLost(true)
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      log.warn({ peer, reason: error.message }, 'a raft peer is refused')
      connection.close(CLOSE_MALFORMED, 'malformed')
    }
  }

  #pingLater(connection: Connection): void {
    this.#pinging = this.#options.clock.setTimer(this.#options.limits.pingMs, () => {
      if (this.#unanswered >= MAX_UNANSWERED) {
        this.#options.log.info({ peer: this.#options.peer }, 'a raft peer does not answer')
        connection.destroy()
        return
      }
      this.#unanswered++
      try {
        connection.send(PING)
      } catch {
        // Full: it counts as unanswered. Closed: onClose follows.
      }
      this.#pingLater(connection)
    })
  }

  #onClose(connection: Connection, info: CloseInfo): void {
    const state = this.#state
    if (state.kind !== 'open' || state.connection !== connection) return
    this.#pinging?.cancel()
    const { clock, events, log, peer } = this.#options
    log.debug({ peer, code: info.code, reason: info.reason }, 'the raft connection closed')
    if (clock.nowMs() - state.sinceMs >= STABLE_MS) this.#failures = 0
    this.#lost = true
    if (this.#failures === 0) {
      this.#failures = 1 // so that a peer which accepts and closes is not dialed without end
      this.#dial()
    } else this.#backOff()
    events.onUnreachable()
    if (info.code === CLOSE_REMOVED) events.onForbidden()
  }

  #failed(error: unknown): void {
    if (this.#state.kind === 'closed') return
    const { events, log, peer, address } = this.#options
    const code = errorCode(error)
    log.debug({ peer, address, code, reason: errorMessage(error) }, 'a raft peer cannot be reached')
    this.#backOff()
    this.#drop()
    if (code === 'CONNECTION_FORBIDDEN') events.onForbidden()
    if (!this.#lost) return
    this.#lost = false
    events.onLost(error instanceof CodedError && error.details.refused === true)
  }

  #backOff(): void {
    const { clock, random, limits } = this.#options
    const fullMs = Math.min(limits.maxBackoffMs, limits.minBackoffMs * 2 ** Math.min(this.#failures, 20))
    this.#failures++
    const timer = clock.setTimer(fullMs * (0.5 + random.float() / 2), () => this.#dial())
    this.#state = { kind: 'waiting', timer }
  }
}

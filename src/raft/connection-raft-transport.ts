// Raft's traffic over the connections of the control port: for each peer one connection in each direction, and one more
// for each snapshot, so that a snapshot never delays a heartbeat.

import type { Clock } from '../lib/clock.ts'
import type { Connection, Dialer } from '../lib/connection.ts'
import { assert, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { type LinkLimits, PeerLink } from './peer-link.ts'
import { SnapshotReceiver, sendSnapshotStream, snapshotFailed } from './snapshot-stream.ts'
import type { RaftTransport, SnapshotMessage, TransportHandlers } from './transport.ts'
import {
  CLOSE_FORMAT,
  CLOSE_MALFORMED,
  CLOSE_REMOVED,
  CLOSE_WRONG_MEMBER,
  decodeFrame,
  encodeFrame,
  type Frame,
  type Hello,
  malformed,
} from './transport-frames.ts'
import type { Member, Message, RaftId } from './types.ts'

/** Classes of connections: the paths that this transport dials and that its owner hands to `accept`. */
export const RAFT_PATH = '/raft'
export const RAFT_SNAPSHOT_PATH = '/raft-snapshot'

export interface TransportLimits extends LinkLimits {
  /** How long a peer may take for one chunk of a snapshot, and for its installation. */
  readonly snapshotIdleTimeoutMs: number
}

/** A frame of the default size and one entry of the largest size fit into a connection's message of 4 MiB. */
export const DEFAULT_TRANSPORT_LIMITS: TransportLimits = {
  maxFrameBytes: 2 * 1024 * 1024,
  maxQueueBytes: 16 * 1024 * 1024,
  dialTimeoutMs: 2_000,
  pingMs: 1_000,
  minBackoffMs: 50,
  maxBackoffMs: 1_000,
  snapshotIdleTimeoutMs: 20_000,
}

export interface ConnectionRaftTransportOptions {
  readonly id: RaftId
  readonly dialer: Dialer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly limits?: Partial<TransportLimits>
  /** The node id that a member's certificate must bear, where it is known. */
  readonly nodeIdOf?: (member: RaftId) => string | undefined
}

interface Incoming {
  readonly connection: Connection
  readonly snapshot: boolean
  from: RaftId | undefined
}

export class ConnectionRaftTransport implements RaftTransport {
  readonly #options: ConnectionRaftTransportOptions
  readonly #limits: TransportLimits
  readonly #links = new Map<RaftId, PeerLink>()
  readonly #incoming = new Set<Incoming>()
  readonly #abort = new AbortController()
  readonly #pong: Uint8Array
  #members = new Map<RaftId, string>()
  /** Addresses of peers that are not in the address book (yet): a new member's leader. */
  readonly #hints = new Map<RaftId, string>()
  readonly #removed = new Set<RaftId>()
  #handlers: TransportHandlers | undefined

  constructor(options: ConnectionRaftTransportOptions) {
    this.#options = options
    this.#limits = { ...DEFAULT_TRANSPORT_LIMITS, ...options.limits }
    this.#pong = encodeFrame({ kind: 'pong', session: options.random.below(2 ** 31) })
  }

  start(handlers: TransportHandlers): void {
    assert(!this.#handlers, 'a transport is started once')
    this.#handlers = handlers
  }

  setMembers(members: readonly Member[]): void {
    const before = this.#members
    this.#members = new Map(members.map(({ id, address }) => [id, address]))
    for (const id of before.keys()) {
      if (this.#members.has(id)) continue
      this.#removed.add(id)
      for (const incoming of this.#incoming)
        if (incoming.from === id) incoming.connection.close(CLOSE_REMOVED, 'removed from the cluster')
    }
    for (const id of this.#members.keys()) this.#removed.delete(id)
    for (const [id, link] of this.#links) {
      if (this.#addressOf(id) === link.address && !this.#removed.has(id)) continue
      this.#links.delete(id)
      link.close()
    }
  }

  send(to: RaftId, messages: readonly Message[]): void {
    this.#link(to)?.send(messages)
  }

  async sendSnapshot(message: SnapshotMessage, chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const address = this.#addressOf(message.to)
    if (address === undefined) throw snapshotFailed(`${message.to} has no address`)
    const either = AbortSignal.any([signal, this.#abort.signal])
    let connection: Connection
    try {
      connection = await this.#options.dialer.dial({
        ...this.#target(message.to, address),
        path: RAFT_SNAPSHOT_PATH,
        timeoutMs: this.#limits.dialTimeoutMs,
        signal: either,
      })
    } catch (error) {
      throw snapshotFailed(errorMessage(error), error)
    }
    await sendSnapshotStream({
      connection,
      hello: this.#hello(message.to),
      message,
      chunks,
      clock: this.#options.clock,
      idleTimeoutMs: this.#limits.snapshotIdleTimeoutMs,
      signal: either,
    })
  }

  /**
   * Takes a connection that a peer dialed with RAFT_PATH or RAFT_SNAPSHOT_PATH; its owner has verified that a manager
   * of this cluster is at the other end. With `from`, the peer must be that very member.
   */
  accept(connection: Connection, path: string, from?: RaftId): void {
    if (this.#abort.signal.aborted || !this.#handlers) {
      connection.close()
      return
    }
    const incoming: Incoming = { connection, snapshot: path === RAFT_SNAPSHOT_PATH, from: undefined }
    this.#incoming.add(incoming)
    let receiver: SnapshotReceiver | undefined
    connection.listen({
      onMessage: (bytes) => {
        if (!this.#incoming.has(incoming)) return
        try {
          const frame = decodeFrame(bytes, incoming.from ?? '', this.#options.id)
          if (incoming.from === undefined) receiver = this.#greet(incoming, frame, from)
          else if (receiver) receiver.receive(frame)
          else this.#receive(incoming, incoming.from, frame)
        } catch (error) {
          this.#refuse(incoming, error)
          receiver?.closed()
        }
      },
      onClose: () => {
        this.#incoming.delete(incoming)
        receiver?.closed()
      },
    })
  }

  /** Ends the connections in both directions with a member, which may come back at once if it is still one. */
  disconnect(id: RaftId): void {
    const link = this.#links.get(id)
    this.#links.delete(id)
    link?.close()
    for (const incoming of this.#incoming) if (incoming.from === id) incoming.connection.close()
  }

  close(): void {
    this.#abort.abort()
    for (const link of this.#links.values()) link.close()
    this.#links.clear()
    for (const { connection } of this.#incoming) connection.close()
    this.#incoming.clear()
  }

  /** Checks a connection's first frame. Other faults than a malformed frame close it with a code of their own. */
  #greet(incoming: Incoming, frame: Frame, expected: RaftId | undefined): SnapshotReceiver | undefined {
    if (frame.kind !== 'hello' || frame.from === this.#options.id) throw malformed('no hello')
    if (frame.to !== this.#options.id || (expected !== undefined && frame.from !== expected)) {
      this.#close(incoming, CLOSE_WRONG_MEMBER, `this is ${this.#options.id}`)
      return undefined
    }
    if (this.#removed.has(frame.from)) {
      this.#close(incoming, CLOSE_REMOVED, 'removed from the cluster')
      return undefined
    }
    // A peer has one connection of a class; an older one is what a broken network left behind.
    for (const other of this.#incoming)
      if (other.from === frame.from && other.snapshot === incoming.snapshot) this.#close(other, 1000, 'replaced')
    incoming.from = frame.from
    if (frame.address !== '') this.#hints.set(frame.from, frame.address)
    this.#links.get(frame.from)?.wake()
    if (!incoming.snapshot) {
      this.#answer(incoming.connection)
      return undefined
    }
    return new SnapshotReceiver(incoming.connection, (message, chunks) => {
      assert(this.#handlers, 'a transport accepts once it is started')
      return this.#handlers.onSnapshot(message, chunks)
    })
  }

  #receive(incoming: Incoming, from: RaftId, frame: Frame): void {
    if (frame.kind === 'ping') {
      this.#answer(incoming.connection)
      return
    }
    if (frame.kind !== 'messages') throw malformed(frame.kind)
    // Without its stream it would leave a member without a state.
    if (frame.messages.some((message) => message.kind === 'install-snapshot')) throw malformed('snapshot out of place')
    this.#handlers?.onMessages(from, frame.messages)
  }

  #answer(connection: Connection): void {
    try {
      connection.send(this.#pong)
    } catch {
      // It is closing, or so full that nobody is there: the peer finds out.
    }
  }

  #refuse(incoming: Incoming, error: unknown): void {
    const code = errorCode(error)
    // Anything else is a fault of this program, not of the peer.
    if (code !== 'RAFT_MALFORMED' && code !== 'RAFT_FORMAT_UNKNOWN') throw error
    const { remoteAddress } = incoming.connection
    this.#options.log.warn(
      { from: incoming.from, remoteAddress, reason: errorMessage(error) },
      'a raft peer is refused',
    )
    if (code === 'RAFT_MALFORMED') this.#close(incoming, CLOSE_MALFORMED, 'malformed')
    else this.#close(incoming, CLOSE_FORMAT, 'unknown format version')
  }

  #close(incoming: Incoming, code: number, reason: string): void {
    this.#incoming.delete(incoming)
    incoming.connection.close(code, reason)
  }

  #addressOf(id: RaftId): string | undefined {
    return this.#members.get(id) ?? this.#hints.get(id)
  }

  #hello(to: RaftId): Hello {
    const { id } = this.#options
    return { kind: 'hello', from: id, to, address: this.#members.get(id) ?? '' }
  }

  #target(id: RaftId, address: string): { readonly address: string; readonly nodeId?: string } {
    const nodeId = this.#options.nodeIdOf?.(id)
    return nodeId === undefined ? { address } : { address, nodeId }
  }

  #link(to: RaftId): PeerLink | undefined {
    const existing = this.#links.get(to)
    if (existing) return existing
    const address = this.#addressOf(to)
    if (address === undefined || address === '' || this.#removed.has(to) || this.#abort.signal.aborted) return undefined
    const { dialer, clock, random, log } = this.#options
    const link = new PeerLink({
      peer: to,
      path: RAFT_PATH,
      nodeId: undefined,
      ...this.#target(to, address),
      hello: () => this.#hello(to),
      dialer,
      clock,
      random,
      log,
      limits: this.#limits,
      events: {
        onUnreachable: () => this.#handlers?.onUnreachable(to),
        onLost: (refused) => this.#handlers?.onConnectionLost(to, refused),
        onForbidden: () => this.#handlers?.onForbidden(to),
      },
    })
    this.#links.set(to, link)
    return link
  }
}

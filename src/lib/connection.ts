// A message connection between two nodes, and the way to open one. Production runs it on WebSockets over mutual TLS
// (ws-connection.ts), the simulator on virtual time.

export interface CloseInfo {
  /** The other side said goodbye; false when the connection just ended (crash, cut, kill). */
  readonly clean: boolean
  readonly code: number
  readonly reason: string
}

/** Who is at the other end, as its certificate says. */
export interface PeerIdentity {
  readonly nodeId: string
  readonly clusterId: string
  readonly role: 'manager' | 'worker'
}

/**
 * An open, ordered, reliable message connection. Messages arrive only after `listen`, in order, one at a time.
 * `onClose` is called exactly once, also when this side closed.
 */
export interface Connection {
  readonly peer: PeerIdentity | undefined
  readonly remoteAddress: string
  /** Bytes queued here and not yet taken by the network. */
  readonly bufferedBytes: number
  /**
   * Queues one message, which belongs to the connection from then on: the caller leaves its bytes as they are.
   * @throws {CodedError} CONNECTION_CLOSED; CONNECTION_FULL (retryable) when its bound of buffered bytes is reached;
   *   MESSAGE_TOO_LARGE above the connection's limit.
   */
  send(message: Uint8Array): void
  listen(handlers: {
    readonly onMessage: (message: Uint8Array) => void
    readonly onClose: (info: CloseInfo) => void
  }): void
  /** Says goodbye; queued messages are still sent. `code` is a WebSocket close code (1000, or 4000–4999 of our own). */
  close(code?: number, reason?: string): void
  /** Drops the connection and its queue without goodbye. */
  destroy(): void
}

export interface DialOptions {
  /** `host:port` of the other node's control port. */
  readonly address: string
  /** Class of traffic: `/raft`, `/session`, `/bulk` … */
  readonly path: string
  /** The certificate must bear this node id; else CONNECTION_REFUSED. */
  readonly nodeId?: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

export interface Dialer {
  /**
   * @throws {CodedError} CONNECTION_REFUSED (details.refused: true when the host answered that nobody listens there),
   *   CONNECTION_TIMEOUT, CONNECTION_UNTRUSTED (certificate), CONNECTION_FORBIDDEN (the peer refused us: role, removed).
   */
  dial(options: DialOptions): Promise<Connection>
}

// How a RaftNode reaches its peers. Production is ConnectionRaftTransport over the control port's connections; the
// simulator runs the same one over its network.

import type { Member, Message, RaftId } from './types.ts'

export interface TransportHandlers {
  /** In the order of their sending, checked for form; `from` is who the peer says it is. */
  readonly onMessages: (from: RaftId, messages: readonly Message[]) => void
  /** Messages to `peer` were dropped or may be lost. */
  readonly onUnreachable: (peer: RaftId) => void
  /**
   * The connection to `peer` closed and a reconnect at once failed. `refused`: its process has ended: nobody listens at
   * its address any more, or already another process does.
   */
  readonly onConnectionLost: (peer: RaftId, refused: boolean) => void
  /** `peer` does not accept this node (any more): removed, demoted, or its certificate is not valid. */
  readonly onForbidden: (peer: RaftId) => void
  /**
   * A snapshot arrives. The stream advances as chunks are consumed. Resolves when the snapshot is installed or not
   * needed; the sender hears of a rejection.
   */
  readonly onSnapshot: (message: SnapshotMessage, chunks: AsyncIterable<Uint8Array>) => Promise<void>
}

export type SnapshotMessage = Extract<Message, { readonly kind: 'install-snapshot' }>

export interface RaftTransport {
  /** Called once, before anything else. Peers may be heard from now on. */
  start(handlers: TransportHandlers): void
  /** The address book. Connections to those who left it, or whose address changed, are closed. */
  setMembers(members: readonly Member[]): void
  /** Queues and never throws: what cannot be sent is dropped and reported by `onUnreachable`. */
  send(to: RaftId, messages: readonly Message[]): void
  /**
   * Streams a snapshot over a connection of its own; resolves when the peer has installed it.
   * @throws {CodedError} RAFT_SNAPSHOT_FAILED (retryable)
   */
  sendSnapshot(message: SnapshotMessage, chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>
  /** Says goodbye to every peer. Nothing is heard afterwards. */
  close(): void
}

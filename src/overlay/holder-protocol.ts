// What the holder and the server say to each other over their channel. Both may be of different versions for a moment.

import type { SocketSpec } from './raw-socket.ts'

/** Raised when either side would not understand the other; a server replaces a holder of another number. */
export const HOLDER_PROTOCOL = 1

/** The sockets of a swarmd-net, by their names in messages. */
export const LOCK_SOCKET = 'lock'
export const STATE_LOCK_SOCKET = 'state-lock'
export const CONTROL_SOCKET = 'control'
export const PLUGIN_SOCKET = 'plugin'
export const DNS_UDP_SOCKET = 'dns-udp'
export const DNS_TCP_SOCKET = 'dns-tcp'

export type FromHolder =
  /** with a handle */
  | { readonly kind: 'socket'; readonly name: string }
  /** after the sockets: everything that is held has been sent */
  | { readonly kind: 'start'; readonly protocol: number; readonly pid: number }
  /** the answer to `open`; sockets that could be opened came before */
  | { readonly kind: 'opened'; readonly id: number; readonly failures: readonly OpenFailure[] }
  | { readonly kind: 'ping' }
  | { readonly kind: 'stop' }

export interface OpenFailure {
  readonly name: string
  readonly code: string
  readonly message: string
}

export type FromServer =
  | { readonly kind: 'hello'; readonly pid: number }
  | { readonly kind: 'pong' }
  /** Replaces held sockets of the same names. `netns`: path of a network namespace; empty: the holder's own. */
  | { readonly kind: 'open'; readonly id: number; readonly netns: string; readonly sockets: readonly SocketSpec[] }
  /** Closes held sockets: what they keep alive (a network namespace) may go. */
  | { readonly kind: 'drop'; readonly names: readonly string[] }
  /** The next server is to be of this program; the one that asks ends when the holder tells it. */
  | { readonly kind: 'replace-server'; readonly program: string }
  /** Ends the holder; the server lives on with another. */
  | { readonly kind: 'release' }
  /** Ends everything: nothing is to be started again. */
  | { readonly kind: 'end' }
  /** From a server that starts a holder: with a handle, then `held`. */
  | { readonly kind: 'hold'; readonly name: string }
  | { readonly kind: 'held' }

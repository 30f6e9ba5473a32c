// Which keys a node has, over time. A generation is announced cluster-wide by whoever makes its key first; every node that
// sees a higher one than its own follows, and gives up the older key when nothing needs it any more. Pure.

import type { Peer } from '../../api/data-plane.ts'
import { parseAnnouncements } from './announcement.ts'

export interface RotationInput {
  /** Newest first, at most two. */
  readonly generations: readonly number[]
  readonly peers: Iterable<Pick<Peer, 'encryptionKeys'>>
  /** Tunnels.settled since, in monotonic milliseconds; undefined: not now. */
  readonly settledAtMs: number | undefined
  /** When this process first saw the newest key. */
  readonly newestAtMs: number
  readonly nowMs: number
}

export type RotationStep =
  | { readonly kind: 'none' }
  /** Make a key of this generation; what is left of the others are those in `keep`. */
  | { readonly kind: 'make'; readonly generation: number; readonly keep: readonly number[] }
  | { readonly kind: 'drop'; readonly generation: number }

/** Peers look for finished handshakes every second: after this all of them have moved over, too. */
export const LINGER_MS = 30_000
/** A peer that is away does not keep an old key alive for longer; when it returns it sees the new generation and follows. */
export const ROTATION_MAX_MS = 600_000

export function nextRotation({ generations, peers, settledAtMs, newestAtMs, nowMs }: RotationInput): RotationStep {
  const own = generations[0] ?? 0
  let wanted = Math.max(own, 1)
  for (const peer of peers) wanted = Math.max(wanted, parseAnnouncements(peer.encryptionKeys)[0]?.generation ?? 0)
  // Of three keys only the two newest could have a device, and the middle one only where parity leaves it one.
  if (wanted > own) return { kind: 'make', generation: wanted, keep: own > 0 && (wanted - own) % 2 === 1 ? [own] : [] }
  const older = generations[1]
  if (older === undefined) return { kind: 'none' }
  const lingered = settledAtMs !== undefined && nowMs - settledAtMs >= LINGER_MS
  return lingered || nowMs - newestAtMs >= ROTATION_MAX_MS ? { kind: 'drop', generation: older } : { kind: 'none' }
}

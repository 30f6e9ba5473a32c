// Join tokens as Swarm's: `SWMTKN-1-<sha256 of the root, base 36, padded to 50>-<128 random bits, base 36, padded to 25>`.
// The digest lets a joining node know the cluster by its root, the secret lets the cluster know the node's role.

import { createHash, timingSafeEqual } from 'node:crypto'
import { CodedError } from '../../lib/errors.ts'
import type { Random } from '../../lib/random.ts'

const PREFIX = 'SWMTKN-1-'
const DIGEST_LENGTH = 50
const SECRET_LENGTH = 25
const SECRET_BYTES = 16

export interface JoinToken {
  /** sha256 of the root's PEM, in base 36: see `rootDigest`. */
  readonly digest: string
  readonly secret: string
}

/** What tokens and `Cluster.rootCa.digest` say of a root: sha256 of its PEM text, in base 36 padded to 50. */
export function rootDigest(certPem: string): string {
  return base36(createHash('sha256').update(certPem).digest(), DIGEST_LENGTH)
}

export function makeJoinToken(digest: string, random: Random): string {
  return `${PREFIX}${digest}-${base36(random.bytes(SECRET_BYTES), SECRET_LENGTH)}`
}

/**
 * Takes a token apart. The message never repeats it.
 * @throws {CodedError} INVALID_JOIN_TOKEN
 */
export function parseJoinToken(token: string): JoinToken {
  const match = /^SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})$/.exec(token)
  if (!match) throw new CodedError('INVALID_JOIN_TOKEN', 'invalid join token')
  return { digest: match[1]!, secret: match[2]! }
}

/** Takes the same time whatever differs. */
export function sameToken(given: string, expected: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(hash(given), hash(expected))
}

function base36(bytes: Uint8Array, length: number): string {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
    .toString(36)
    .padStart(length, '0')
}

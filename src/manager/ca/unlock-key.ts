// The key that managers' disks are sealed with while autolock is on, as Swarm writes it for people: `SWMKEY-1-<base64>`.

import { CodedError } from '../../lib/errors.ts'
import { SEAL_KEY_BYTES } from '../../lib/key-seal.ts'
import type { Random } from '../../lib/random.ts'

const PREFIX = 'SWMKEY-1-'

/** As `Cluster.unlockKey` holds it: base64. */
export function newUnlockKey(random: Random): string {
  return Buffer.from(random.bytes(SEAL_KEY_BYTES)).toString('base64')
}

/** For people; empty where there is none. */
export function showUnlockKey(stored: string): string {
  return stored === '' ? '' : `${PREFIX}${stored.replace(/=+$/, '')}`
}

/** undefined: autolock is off. */
export function unlockKeyBytes(stored: string | undefined): Uint8Array | undefined {
  return stored ? Buffer.from(stored, 'base64') : undefined
}

/** @throws {CodedError} INVALID_PARAMETER; the message never repeats the key */
export function parseUnlockKey(text: string): Uint8Array {
  const match = /^SWMKEY-1-([A-Za-z0-9+/]+)$/.exec(text)
  if (!match) throw new CodedError('INVALID_PARAMETER', 'invalid key string')
  return Buffer.from(match[1]!, 'base64')
}

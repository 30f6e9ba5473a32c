// Seals a small secret with a key of 32 bytes, bound to what it is: for keys that stand on a disk.

import { createCipheriv, createDecipheriv } from 'node:crypto'
import type { Random } from './random.ts'

export const SEAL_KEY_BYTES = 32

const ALGORITHM = 'chacha20-poly1305'
const FORMAT = 1
const NONCE_BYTES = 12
const TAG_BYTES = 16
const HEADER_BYTES = 1 + NONCE_BYTES + TAG_BYTES

/**
 * Base64 of: format (1), nonce (12), tag (16), ciphertext. A random nonce each time: for a key that seals some thousands of
 * secrets in its life, not for records by the million.
 * @param context what is sealed; `openSealed` needs the same
 */
export function seal(key: Uint8Array, context: string, plain: string, random: Random): string {
  const nonce = random.bytes(NONCE_BYTES)
  const bytes = Buffer.from(plain, 'utf8')
  const cipher = createCipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(context), { plaintextLength: bytes.length })
  const body = Buffer.concat([cipher.update(bytes), cipher.final()])
  return Buffer.concat([Uint8Array.of(FORMAT), nonce, cipher.getAuthTag(), body]).toString('base64')
}

/** undefined: sealed with another key or for another context, damaged, or of a format that this build does not know. */
export function openSealed(key: Uint8Array, context: string, sealed: string): string | undefined {
  const bytes = Buffer.from(sealed, 'base64')
  if (key.length !== SEAL_KEY_BYTES || bytes.length < HEADER_BYTES || bytes[0] !== FORMAT) return undefined
  const body = bytes.subarray(HEADER_BYTES)
  try {
    const nonce = bytes.subarray(1, 1 + NONCE_BYTES)
    const decipher = createDecipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(context), { plaintextLength: body.length })
    decipher.setAuthTag(bytes.subarray(1 + NONCE_BYTES, HEADER_BYTES))
    return Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8')
  } catch {
    return undefined
  }
}

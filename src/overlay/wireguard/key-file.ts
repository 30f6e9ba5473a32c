// This node's own WireGuard keys: made here, kept in the data root for root's eyes only, never sent anywhere.

import { generateKeyPairSync } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { OwnKey } from './plan.ts'

export function makeKey(generation: number): OwnKey {
  const { d = '', x = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' })
  const base64 = (url: string) => Buffer.from(url, 'base64url').toString('base64')
  return { generation, publicKey: base64(x), privateKey: base64(d) }
}

/**
 * Newest first; empty where there are none yet.
 * @throws {CodedError} WIREGUARD_KEYS_UNREADABLE
 */
export async function readKeys(path: string): Promise<readonly OwnKey[]> {
  try {
    const content: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (!Array.isArray(content) || !content.every(isKey)) throw new Error('it holds something else')
    return content
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return []
    throw new CodedError('WIREGUARD_KEYS_UNREADABLE', `${path} cannot be read: ${errorMessage(error)}`, {
      cause: error,
    })
  }
}

/** They are on the disk when it resolves: other nodes hear only of keys that outlast a power loss. */
export async function writeKeys(path: string, keys: readonly OwnKey[]): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.chmod(0o600)
    await file.writeFile(`${JSON.stringify(keys)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}

function isKey(value: unknown): value is OwnKey {
  if (typeof value !== 'object' || value === null) return false
  const { generation, publicKey, privateKey } = value as Record<string, unknown>
  return Number.isInteger(generation) && typeof publicKey === 'string' && typeof privateKey === 'string'
}

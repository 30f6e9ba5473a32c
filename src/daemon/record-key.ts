// The key that seals this node's Raft records: made once, in a file that only the daemon's user reads.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Random } from '../lib/random.ts'
import { RECORD_KEY_BYTES, type RecordKey } from '../raft/record-codec.ts'
import { writeFileDurably } from './json-file.ts'

const FILE_NAME = 'raft.key'

/**
 * The key, made where there is none.
 * @throws {CodedError} STATE_UNREADABLE
 */
export async function loadRecordKey(directory: string, random: Random): Promise<RecordKey> {
  const path = join(directory, FILE_NAME)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') {
      throw new CodedError('STATE_UNREADABLE', `${path} cannot be read: ${errorMessage(error)}`, { cause: error })
    }
    text = `node:${Buffer.from(random.bytes(RECORD_KEY_BYTES)).toString('base64')}\n`
    await writeFileDurably(path, text, 0o600)
  }
  const [id = '', key = ''] = text.trim().split(':')
  const bytes = Buffer.from(key, 'base64')
  if (!id || bytes.length !== RECORD_KEY_BYTES) {
    throw new CodedError('STATE_UNREADABLE', `${path} holds no key of ${RECORD_KEY_BYTES} bytes`)
  }
  return { id, key: bytes }
}

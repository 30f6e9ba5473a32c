// Seals every record of a store with the current key, so that keys of before may be forgotten. Only while nobody else uses it.

import type { RecordCodec } from './record-codec.ts'
import type { RecordOperation, RecordStore } from './record-store.ts'

const SLICE = 200

/**
 * Durable when it resolves: no record needs a previous key any more. May be broken off at any point and done again.
 * @throws {CodedError} RAFT_STORAGE_LOCKED, RAFT_STORAGE_FAILED; RAFT_RECORD_CORRUPT, RAFT_KEY_UNKNOWN, RAFT_FORMAT_UNKNOWN
 */
export async function resealRecords(records: RecordStore, codec: RecordCodec): Promise<void> {
  await records.open()
  try {
    let slice: RecordOperation[] = []
    for await (const [key, record] of records.range('', '\uffff')) {
      if (codec.keyIdOf(record) === codec.currentKeyId) continue
      slice.push({ kind: 'put', key, value: codec.seal(key, codec.open(key, record)) })
      if (slice.length < SLICE) continue
      await records.write(slice, { sync: true })
      slice = []
    }
    if (slice.length > 0) await records.write(slice, { sync: true })
  } finally {
    await records.close()
  }
}

// What every RecordStore must give RaftStorage, as facts that each implementation has to pass.

import type { Test } from 'tap'
import { SystemClock } from '../../src/lib/clock.ts'
import { encode } from '../../src/lib/codec.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { type KeyRing, RecordCodec } from '../../src/raft/record-codec.ts'
import type { RecordOperation, RecordStore } from '../../src/raft/record-store.ts'
import { resealRecords } from '../../src/raft/reseal-records.ts'
import { FORMAT_KEY } from '../../src/raft/stored-records.ts'
import type { ConfState, Entry, SnapshotMeta, StoredState } from '../../src/raft/types.ts'

/** A disk that one process after the other opens. */
export interface Disk {
  /** A new handle, not open yet; the last one is closed. */
  attach(): RecordStore
}

const KEY = { id: 'k1', key: new Uint8Array(32).fill(1) }
const CONF: ConfState = {
  voters: ['a', 'b'],
  learners: ['c'],
  outgoing: [],
  learnersNext: [],
  members: [
    { id: 'a', address: '10.0.0.1:2377' },
    { id: 'b', address: '10.0.0.2:2377' },
    { id: 'c', address: '[fd00::1]:2377' },
  ],
}

export function storageOn(records: RecordStore, keys: KeyRing = { current: KEY }): RaftStorage {
  const codec = new RecordCodec({ keys, random: new SeededRandom(1) })
  return new RaftStorage({ records, codec, clock: new SystemClock() })
}

export function entry(index: number, term: number, text = `${index}/${term}`): Entry {
  return { index, term, kind: index % 5 === 0 ? 'config' : 'normal', data: Buffer.from(text) }
}

export function meta(index: number, term: number): SnapshotMeta {
  return { index, term, conf: CONF }
}

export async function* chunks(...texts: string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield Buffer.from(text)
}

/** As plain data, whatever kind of byte array holds it. */
export function readable({ hardState, snapshot, entries }: StoredState) {
  return {
    hardState,
    snapshot,
    entries: entries.map(({ index, term, kind, data }) => [index, term, kind, Buffer.from(data).toString()]),
  }
}

async function opened(disk: Disk, keys?: KeyRing) {
  const storage = storageOn(disk.attach(), keys)
  const state = readable(await storage.open())
  return { storage, state }
}

async function snapshotText(storage: RaftStorage, index?: number): Promise<string[]> {
  const reader = storage.readSnapshot(index)
  const texts: string[] = []
  for await (const chunk of reader?.chunks() ?? []) texts.push(Buffer.from(chunk).toString())
  reader?.release()
  return texts
}

async function keysOf(records: RecordStore, from = ' ', to = '~'): Promise<string[]> {
  const keys: string[] = []
  for await (const [key] of records.range(from, to)) keys.push(key)
  return keys
}

/** Changes a closed disk behind the storage's back. */
async function tamper(disk: Disk, change: (records: RecordStore) => Promise<readonly RecordOperation[]>) {
  const records = disk.attach()
  await records.open()
  await records.write(await change(records), { sync: true })
  await records.close()
}

const E = (index: number) => `entry/${index.toString(16).padStart(14, '0')}`
const HARD = { term: 2, vote: 'a', commit: 3 }

export function storageConformance(t: Test, makeDisk: (t: Test) => Promise<Disk>): void {
  t.test('a new disk holds the empty state', async (t) => {
    const { storage, state } = await opened(await makeDisk(t))
    t.ok(storage.isEmpty)
    t.same(state.hardState, { term: 0, vote: '', commit: 0 })
    t.same(state.entries, [])
    t.equal(storage.readSnapshot(), undefined)
    await storage.close()
  })

  t.test('what was written is there after the next start', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    await first.storage.write({ hardState: HARD, entries: [entry(1, 1), entry(2, 1), entry(3, 2)] })
    await first.storage.write({ entries: [entry(4, 2), entry(5, 2)] })
    await first.storage.close()
    const { storage, state } = await opened(disk)
    t.notOk(storage.isEmpty)
    t.same(state.hardState, HARD)
    t.same(
      state.entries,
      [entry(1, 1), entry(2, 1), entry(3, 2), entry(4, 2), entry(5, 2)].map((e) => [
        e.index,
        e.term,
        e.kind,
        e.data.toString(),
      ]),
    )
    await storage.close()
  })

  t.test('entries replace all that is there from their index on', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    await first.storage.write({ entries: [1, 2, 3, 4, 5, 6].map((index) => entry(index, 1)) })
    await first.storage.write({ entries: [entry(3, 2), entry(4, 2)] })
    await first.storage.close()
    const { storage, state } = await opened(disk)
    t.same(
      state.entries.map(([index, term]) => [index, term]),
      [
        [1, 1],
        [2, 1],
        [3, 2],
        [4, 2],
      ],
    )
    await storage.write({ entries: [entry(5, 3)] })
    await storage.close()
  })

  t.test('writes that come during a sync share the next one', async (t) => {
    const { storage } = await opened(await makeDisk(t))
    const syncs: number[] = []
    storage.onSync = (_durationMs, records) => syncs.push(records)
    const first = storage.write({ entries: [entry(1, 1)] })
    await Promise.resolve() // the first sync has begun
    await Promise.resolve()
    const order: number[] = []
    const others = Array.from({ length: 500 }, async (_, i) => {
      await storage.write({ entries: [entry(i + 2, 1)] })
      order.push(i)
    })
    await Promise.all([first, ...others])
    t.equal(syncs.length, 2)
    t.equal(syncs[1], 501, '500 entries and the hard state')
    t.same(
      order,
      order.map((_, i) => i),
      'and are reported in their order',
    )
    await storage.close()
  })

  t.test('a write without content waits for those before it and needs no sync of its own', async (t) => {
    const { storage } = await opened(await makeDisk(t))
    let syncs = 0
    storage.onSync = () => syncs++
    const order: string[] = []
    const entries = storage.write({ entries: [entry(1, 1)] }).then(() => order.push('entries'))
    const nothing = storage.write({}).then(() => order.push('nothing'))
    await Promise.all([entries, nothing])
    await storage.write({})
    t.same(order, ['entries', 'nothing'])
    t.equal(syncs, 1)
    await storage.close()
  })

  t.test('an own snapshot replaces the log before the first entry that is kept', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    const entries = Array.from({ length: 2_500 }, (_, i) => entry(i + 1, 1))
    await first.storage.write({ hardState: { term: 1, vote: '', commit: 2_400 }, entries })
    const saved = await first.storage.saveSnapshot(meta(2_400, 1), chunks('x', '', 'yz'))
    t.ok(await first.storage.adoptSnapshot(saved, 2_398))
    await first.storage.write({ entries: [entry(2_501, 2)] })
    await first.storage.close()
    const { storage, state } = await opened(disk)
    t.same(state.snapshot, meta(2_400, 1))
    t.equal(state.entries[0]?.[0], 2_398)
    t.equal(state.entries.at(-1)?.[0], 2_501)
    t.same(await snapshotText(storage), ['x', '', 'yz'], 'chunks come back as they were given')
    await storage.close()
  })

  t.test('a received snapshot takes the place of the whole log', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    await first.storage.write({ entries: [1, 2, 3].map((index) => entry(index, 1)) })
    const snapshot = await first.storage.saveSnapshot(meta(50, 4), chunks('state'))
    await first.storage.write({ snapshot, hardState: { term: 5, vote: '', commit: 50 }, entries: [entry(51, 5)] })
    await first.storage.close()
    const { storage, state } = await opened(disk)
    t.same(state.hardState, { term: 5, vote: '', commit: 50 })
    t.same(state.snapshot, meta(50, 4))
    t.same(
      state.entries.map(([index]) => index),
      [51],
    )
    t.same(await snapshotText(storage), ['state'])
    await storage.close()
  })

  t.test('a snapshot that nothing refers to is gone after the next start', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    await first.storage.write({ entries: [1, 2, 3].map((index) => entry(index, 1)) })
    const adopted = await first.storage.saveSnapshot(meta(2, 1), chunks('kept'))
    await first.storage.adoptSnapshot(adopted, 3)
    await first.storage.saveSnapshot(meta(3, 1), chunks('lost', 'lost'))
    await first.storage.close()
    const { storage } = await opened(disk)
    t.same(await snapshotText(storage), ['kept'])
    await storage.close()
    const records = disk.attach()
    await records.open()
    t.equal((await keysOf(records, 'chunk/', 'chunk0')).length, 1)
    await records.close()
  })

  t.test('a snapshot stays readable while it is read, and goes afterwards', async (t) => {
    const disk = await makeDisk(t)
    const { storage } = await opened(disk)
    await storage.write({ entries: [1, 2, 3].map((index) => entry(index, 1)) })
    await storage.adoptSnapshot(await storage.saveSnapshot(meta(1, 1), chunks('old', 'older')), 2)
    const reader = storage.readSnapshot()
    const iterator = reader!.chunks()[Symbol.asyncIterator]()
    await iterator.next()
    await storage.adoptSnapshot(await storage.saveSnapshot(meta(3, 1), chunks('new')), 4)
    const second = await iterator.next()
    t.equal(Buffer.from(second.value as Uint8Array).toString(), 'older')
    reader!.release()
    t.same(await snapshotText(storage), ['new'])
    await storage.close()
    const records = disk.attach()
    await records.open()
    t.equal((await keysOf(records, 'chunk/', 'chunk0')).length, 1)
    await records.close()
  })

  t.test('as many replaced snapshots stay as are wanted, over a restart and a change of the key too', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    await first.storage.write({ entries: [1, 2, 3, 4, 5].map((index) => entry(index, 1)) })
    const take = async (storage: RaftStorage, index: number) =>
      storage.adoptSnapshot(await storage.saveSnapshot(meta(index, 1), chunks(`state ${index}`, 'end')), index + 1)
    const indexes = (storage: RaftStorage) => storage.snapshots().map(({ index }) => index)
    await take(first.storage, 1)
    await take(first.storage, 2)
    t.same(indexes(first.storage), [2], 'none unless asked for')
    first.storage.keepSnapshots(2)
    for (const index of [3, 4, 5]) await take(first.storage, index)
    t.same(indexes(first.storage), [5, 4, 3])
    t.match(first.storage.snapshots(), [{ replacedMs: undefined, sizeBytes: 10 }, { replacedMs: Number }, {}])
    await first.storage.close()

    const next = { id: 'k2', key: new Uint8Array(32).fill(2) }
    const codec = new RecordCodec({ keys: { current: next, previous: [KEY] }, random: new SeededRandom(1) })
    await resealRecords(disk.attach(), codec)
    const { storage } = await opened(disk, { current: next })
    t.same(indexes(storage), [5, 4, 3])
    t.same(await snapshotText(storage), ['state 5', 'end'])
    t.same(await snapshotText(storage, 3), ['state 3', 'end'])
    t.equal(storage.readSnapshot(2), undefined)
    const reader = storage.readSnapshot(3)!
    storage.keepSnapshots(1)
    t.same(indexes(storage), [5, 4])
    const texts: string[] = []
    for await (const chunk of reader.chunks()) texts.push(Buffer.from(chunk).toString())
    t.same(texts, ['state 3', 'end'], 'what is read stays until it is')
    reader.release()
    await storage.close()

    await tamper(disk, async (records) => {
      t.equal((await keysOf(records, 'chunk/', 'chunk0')).length, 4)
      t.equal((await keysOf(records, 'kept/', 'kept0')).length, 1)
      // as a build that knows of none leaves it
      const [oldest = ''] = await keysOf(records, 'chunk/', 'chunk0')
      return [{ kind: 'delete', key: oldest }]
    })
    const last = await opened(disk, { current: next })
    t.same(indexes(last.storage), [5])
    await last.storage.close()
    await tamper(disk, async (records) => {
      t.same(await keysOf(records, 'kept/', 'kept0'), [])
      t.equal((await keysOf(records, 'chunk/', 'chunk0')).length, 2, 'what is left of the other is gone')
      return []
    })
  })

  t.test('an older snapshot does not replace a newer one', async (t) => {
    const { storage } = await opened(await makeDisk(t))
    const own = await storage.saveSnapshot(meta(10, 1), chunks('own'))
    const received = await storage.saveSnapshot(meta(20, 1), chunks('received'))
    await storage.write({ snapshot: received })
    t.notOk(await storage.adoptSnapshot(own, 11))
    t.same(await snapshotText(storage), ['received'])
    await storage.close()
  })

  t.test('a chunk above the limit is refused and leaves nothing', async (t) => {
    const { storage } = await opened(await makeDisk(t))
    const large = async function* () {
      yield new Uint8Array(10)
      yield new Uint8Array(1024 * 1024 + 1)
    }
    await t.rejects(storage.saveSnapshot(meta(1, 1), large()), { code: 'RAFT_SNAPSHOT_CHUNK_TOO_LARGE' })
    await storage.close()
  })

  t.test('a cluster is made only on an empty disk', async (t) => {
    const disk = await makeDisk(t)
    const first = await opened(disk)
    const state = { hardState: { term: 1, vote: '', commit: 1 }, snapshot: meta(1, 1), entries: [] }
    await first.storage.bootstrap(state, chunks('initial'))
    await first.storage.close()
    const { storage, state: recovered } = await opened(disk)
    t.same(recovered, state)
    t.same(await snapshotText(storage), ['initial'])
    await t.rejects(storage.bootstrap(state, chunks()), { code: 'RAFT_STORAGE_NOT_EMPTY' })
    await storage.close()
  })

  t.test('what is damaged or missing is noticed', async (t) => {
    const damages: Record<string, (records: RecordStore) => Promise<readonly RecordOperation[]>> = {
      'an entry in the middle is missing': async () => [{ kind: 'delete', key: E(3) }],
      'the last entry is missing': async () => [{ kind: 'delete', key: E(5) }],
      'the hard state is missing': async () => [{ kind: 'delete', key: 'state' }],
      'two entries have changed places': async (records) => [
        { kind: 'put', key: E(2), value: records.get(E(3))! },
        { kind: 'put', key: E(3), value: records.get(E(2))! },
      ],
      'a byte has changed': async (records) => {
        const value = Uint8Array.from(records.get(E(4))!)
        value[value.length - 1]! ^= 1
        return [{ kind: 'put', key: E(4), value }]
      },
      'a record is cut short': async (records) => [
        { kind: 'put', key: E(4), value: records.get(E(4))!.subarray(0, 9) },
      ],
      'the format record is missing': async () => [{ kind: 'delete', key: FORMAT_KEY }],
    }
    for (const [what, damage] of Object.entries(damages)) {
      const disk = await makeDisk(t)
      const { storage } = await opened(disk)
      await storage.write({ hardState: HARD, entries: [1, 2, 3, 4, 5].map((index) => entry(index, 1)) })
      await storage.close()
      await tamper(disk, damage)
      const again = storageOn(disk.attach())
      await t.rejects(again.open(), { code: 'RAFT_RECORD_CORRUPT' }, what)
      await again.close()
    }
  })

  t.test('an entry of an older term in the place of a lost one is noticed', async (t) => {
    const disk = await makeDisk(t)
    const { storage } = await opened(disk)
    await storage.write({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] })
    await storage.close()
    let old: Uint8Array | undefined
    await tamper(disk, async (records) => {
      old = records.get(E(2))
      return []
    })
    const second = await opened(disk)
    await second.storage.write({ entries: [entry(2, 2), entry(3, 2)] })
    await second.storage.close()
    await tamper(disk, async () => [{ kind: 'put', key: E(2), value: old! }])
    const third = storageOn(disk.attach())
    await t.rejects(third.open(), { code: 'RAFT_RECORD_CORRUPT', message: /follows an entry of term 2/ })
    await third.close()
  })

  t.test('records open with their own key only, also after a change of the current one', async (t) => {
    const disk = await makeDisk(t)
    const next = { id: 'k2', key: new Uint8Array(32).fill(2) }
    const first = await opened(disk)
    await first.storage.write({ entries: [entry(1, 1)] })
    await first.storage.close()
    const second = await opened(disk, { current: next, previous: [KEY] })
    t.equal(second.state.entries.length, 1)
    await second.storage.write({ entries: [entry(2, 1)] })
    await second.storage.close()
    const onlyNew = storageOn(disk.attach(), { current: next })
    await t.rejects(onlyNew.open(), { code: 'RAFT_KEY_UNKNOWN', details: { keyId: 'k1' } })
    await onlyNew.close()
    const wrongBytes = storageOn(disk.attach(), { current: { id: 'k2', key: KEY.key }, previous: [KEY] })
    await t.rejects(wrongBytes.open(), { code: 'RAFT_RECORD_CORRUPT' })
    await wrongBytes.close()
    const both = await opened(disk, { current: next, previous: [KEY] })
    t.equal(both.state.entries.length, 2)
    await both.storage.close()
  })

  t.test('an unknown format version is refused with a message that says what to do', async (t) => {
    const codec = new RecordCodec({ keys: { current: KEY }, random: new SeededRandom(2) })
    const newer: Record<string, (records: RecordStore) => RecordOperation> = {
      'of a sealed record': (records) => {
        const value = Uint8Array.from(records.get(E(1))!)
        value[0] = 2
        return { kind: 'put', key: E(1), value }
      },
      'of the store': () => ({ kind: 'put', key: FORMAT_KEY, value: codec.seal(FORMAT_KEY, encode([2])) }),
      'of the hard state': () => ({ kind: 'put', key: 'state', value: codec.seal('state', encode([2, 'other'])) }),
      'of an entry': () => ({ kind: 'put', key: E(1), value: codec.seal(E(1), Uint8Array.of(2, 9, 9)) }),
    }
    for (const [what, change] of Object.entries(newer)) {
      const disk = await makeDisk(t)
      const { storage } = await opened(disk)
      await storage.write({ entries: [entry(1, 1)] })
      await storage.close()
      await tamper(disk, async (records) => [change(records)])
      const again = storageOn(disk.attach())
      await t.rejects(again.open(), { code: 'RAFT_FORMAT_UNKNOWN', message: /newer version of swarmd/ }, what)
      await again.close()
    }
  })
}

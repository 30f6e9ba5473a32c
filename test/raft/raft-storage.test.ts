import { spawn } from 'node:child_process'
import { readdir, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { SystemClock } from '../../src/lib/clock.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { LevelRecordStore } from '../../src/raft/level-record-store.ts'
import { MemoryRecordStore } from '../../src/raft/memory-record-store.ts'
import { SimulatedDisk } from '../sim/disk.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { startProposer } from './proposer.ts'
import { chunks, entry, meta, readable, storageConformance, storageOn } from './storage-conformance.ts'

t.test('in memory', async (t) => {
  storageConformance(t, async () => {
    const records = new MemoryRecordStore()
    return { attach: () => records }
  })
})

t.test('on LevelDB', async (t) => {
  let made = 0
  storageConformance(t, async () => {
    const directory = join(t.testdir(), String(made++))
    return { attach: () => new LevelRecordStore(directory) }
  })
})

t.test('on the simulated disk', async (t) => {
  storageConformance(t, async () => {
    const faults = { syncMs: [0, 0], writeMs: [0, 0] } as const
    const disk = new SimulatedDisk({ clock: new SystemClock(), random: new SeededRandom(1), faults })
    return { attach: () => disk.attach() }
  })
})

t.test('a torn last write on LevelDB was never acknowledged and is not missed', async (t) => {
  const directory = join(t.testdir(), 'raft')
  const first = storageOn(new LevelRecordStore(directory))
  await first.open()
  for (const index of [1, 2, 3]) await first.write({ entries: [entry(index, 1)] })
  await first.close()
  await tearTail(directory, 5)
  const second = storageOn(new LevelRecordStore(directory))
  const { entries } = await second.open()
  t.same(
    entries.map(({ index }) => index),
    [1, 2],
  )
  await second.write({ entries: [entry(3, 2)] })
  await second.close()
})

t.test('a second process is told that the disk is in use', async (t) => {
  const directory = join(t.testdir(), 'raft')
  const first = storageOn(new LevelRecordStore(directory))
  await first.open()
  const second = storageOn(new LevelRecordStore(directory))
  await t.rejects(second.open(), { code: 'RAFT_STORAGE_LOCKED', message: /in use by another process/ })
  await second.close()
  await first.close()
})

t.test('a LevelDB that cannot be opened says so', async (t) => {
  const directory = t.testdir({ raft: { CURRENT: 'MANIFEST-000001\n', 'MANIFEST-000001': 'garbage' } })
  const storage = storageOn(new LevelRecordStore(join(directory, 'raft')))
  await t.rejects(storage.open(), { code: 'RAFT_STORAGE_FAILED', message: /cannot be opened/ })
})

t.test('the simulated disk loses only what was not synced', async (t) => {
  let lost = 0
  for (let seed = 1; seed <= 40; seed++) {
    const clock = new VirtualClock()
    const disk = new SimulatedDisk({ clock, random: new SeededRandom(seed) })
    const storage = storageOn(disk.attach())
    await clock.wait(storage.open(), 100)
    await clock.wait(storage.write({ hardState: { term: 1, vote: 'a', commit: 0 }, entries: [entry(1, 1)] }), 100)
    storage.write({ entries: [entry(2, 1)] }).catch(() => {})
    await clock.settle()
    disk.losePower()
    const again = storageOn(disk.attach())
    const state = await clock.wait(again.open(), 100)
    t.equal(state.hardState.vote, 'a')
    t.ok(state.entries.length >= 1)
    if (state.entries.length === 1) lost++
  }
  t.ok(lost > 5 && lost < 35, 'what was under way is sometimes there and sometimes not')
})

t.test('after a failed write nothing is acknowledged any more', async (t) => {
  const clock = new VirtualClock()
  const disk = new SimulatedDisk({ clock, random: new SeededRandom(1) })
  const storage = storageOn(disk.attach())
  await clock.wait(storage.open(), 100)
  disk.broken = true
  await t.rejects(storage.write({ entries: [entry(1, 1)] }), { code: 'RAFT_STORAGE_FAILED' })
  disk.broken = false
  await t.rejects(storage.write({ entries: [entry(2, 1)] }), { code: 'RAFT_STORAGE_FAILED' })
})

t.test('a crash between a snapshot and the deletion of its log leaves a log that recovers', async (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    const clock = new VirtualClock()
    const random = new SeededRandom(seed)
    const disk = new SimulatedDisk({ clock, random })
    const storage = storageOn(disk.attach())
    await clock.wait(storage.open(), 100)
    const entries = Array.from({ length: 3_500 }, (_, i) => entry(i + 1, 1))
    await clock.wait(storage.write({ hardState: { term: 1, vote: '', commit: 3_400 }, entries }), 100)
    const saved = await clock.wait(storage.saveSnapshot(meta(3_400, 1), chunks('a', 'b')), 100)
    void storage.adoptSnapshot(saved, 3_390)
    for (let steps = random.below(8); steps > 0; steps--) await clock.step()
    disk.losePower()
    const again = storageOn(disk.attach())
    const state = readable(await clock.wait(again.open(), 100))
    t.ok([0, 3_400].includes(state.snapshot.index))
    t.equal(state.entries.at(-1)?.[0], 3_500)
    t.ok(Number(state.entries[0]?.[0]) <= 3_401, `seed ${seed}`)
  }
})

t.test('kill -9 under a stream of proposals loses nothing that was acknowledged', async (t) => {
  const directory = join(t.testdir(), 'raft')
  let acknowledged = 0
  for (const stopAfter of [50, 400, 900])
    acknowledged = await proposeUntilKilled(t, directory, acknowledged + stopAfter)
  const { texts, abort, ended } = await recovered(directory)
  t.ok(texts.length >= acknowledged, `${acknowledged} acknowledged, ${texts.length} there`)
  t.same(
    texts,
    texts.map((_, i) => String(i + 1)),
    'in their order, once each',
  )
  abort.abort()
  await ended
})

/** Runs the proposer until it has acknowledged number `until`, kills it, and returns the last number it acknowledged. */
async function proposeUntilKilled(t: Test, directory: string, until: number): Promise<number> {
  const script = fileURLToPath(new URL('./proposer-process.js', import.meta.url))
  const child = spawn(process.execPath, [script, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = new Promise<NodeJS.Signals | null>((resolve) => child.on('exit', (_code, signal) => resolve(signal)))
  let last = 0
  for await (const line of createInterface({ input: child.stdout })) {
    last = Number(line)
    if (last >= until && !child.killed) child.kill('SIGKILL')
  }
  t.equal(await exited, 'SIGKILL')
  return last
}

async function recovered(directory: string) {
  const { machine, leading, abort, ended } = startProposer(directory)
  await leading
  return { texts: machine.texts, abort, ended }
}

/** Cuts the end of LevelDB's write-ahead log, as a crash of the machine in the middle of a write does. */
async function tearTail(directory: string, bytes: number): Promise<void> {
  const logs = (await readdir(directory)).filter((name) => name.endsWith('.log')).sort()
  const path = join(directory, logs.at(-1)!)
  const { size } = await stat(path)
  await truncate(path, size - bytes)
}

// What a worker remembers: the same facts of the storage on disk and of the one in memory.

import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Level } from 'level'
import t from 'tap'
import type { TaskStatus } from '../../src/api/objects.ts'
import { encode } from '../../src/lib/codec.ts'
import { errorCode } from '../../src/lib/errors.ts'
import { LevelWorkerStorage } from '../../src/worker/level-worker-storage.ts'
import { MemoryWorkerStorage } from '../../src/worker/memory-worker-storage.ts'
import { StorageWriter } from '../../src/worker/storage-writer.ts'
import type { WorkerChange, WorkerStorage } from '../../src/worker/worker-storage.ts'
import { makeConfig, makeSecret, makeTask } from './task-factory.ts'

const sync = { sync: true }
const status: TaskStatus = { ...makeTask({ id: 'a' }).status, state: 'running', message: 'started' }

function conformance(
  name: string,
  make: () => { readonly storage: WorkerStorage; readonly again: () => WorkerStorage },
) {
  t.test(`${name} remembers assignments, statuses, managers and the session`, async (t) => {
    const { storage, again } = make()
    t.match(await storage.open(), { assigned: [], managers: [], sessionId: '' })
    await storage.write(
      [
        { kind: 'assigned', assigned: { kind: 'task', task: makeTask({ id: 'a' }) } },
        { kind: 'assigned', assigned: { kind: 'task', task: makeTask({ id: 'b' }) } },
        { kind: 'assigned', assigned: { kind: 'config', config: makeConfig('c1', 'text') } },
        { kind: 'status', taskId: 'a', known: { status, unhealthy: true } },
        { kind: 'status', taskId: 'b', known: { status, unhealthy: false } },
        { kind: 'managers', managers: [{ nodeId: 'm1', address: '10.0.0.1:2377' }] },
        { kind: 'session', sessionId: 's1' },
      ],
      sync,
    )
    await storage.write([{ kind: 'removed', key: { kind: 'task', id: 'b' } }], sync)
    await storage.close()
    const reopened = again()
    const state = await reopened.open()
    t.strictSame(
      state.assigned.map(({ kind }) => kind),
      ['config', 'task'],
    )
    t.strictSame(state.assigned[1], { kind: 'task', task: makeTask({ id: 'a' }) })
    t.strictSame([...state.statuses], [['a', { status, unhealthy: true }]])
    t.strictSame(state.managers, [{ nodeId: 'm1', address: '10.0.0.1:2377' }])
    t.equal(state.sessionId, 's1')
    await reopened.close()
  })

  t.test(`${name} keeps no payload of a secret and no credentials`, async (t) => {
    const { storage, again } = make()
    await storage.open()
    await storage.write(
      [
        { kind: 'assigned', assigned: { kind: 'secret', secret: makeSecret('s1', 'PAYLOAD') } },
        { kind: 'assigned', assigned: { kind: 'registry-auth', serviceId: 'x', auth: 'AUTH' } },
      ],
      sync,
    )
    await storage.close()
    const reopened = again()
    const { assigned } = await reopened.open()
    t.match(assigned, [{ kind: 'secret', secret: { id: 's1', spec: { Name: 's1' } } }])
    t.equal(assigned.length, 1)
    t.notOk(JSON.stringify(assigned).includes(Buffer.from('PAYLOAD').toString('base64')))
    await reopened.close()
  })
}

conformance('the storage in memory', () => {
  const storage = new MemoryWorkerStorage()
  return { storage, again: () => storage }
})

const root = t.testdir()
conformance('the storage on disk', () => {
  const directory = mkdtempSync(join(root, 'level-'))
  return { storage: new LevelWorkerStorage(directory), again: () => new LevelWorkerStorage(directory) }
})

t.test('no byte of a secret comes to the disk', async (t) => {
  const directory = join(t.testdir(), 'level')
  const storage = new LevelWorkerStorage(directory)
  await storage.open()
  await storage.write([{ kind: 'assigned', assigned: { kind: 'secret', secret: makeSecret('s1', 'PAYLOAD') } }], sync)
  await storage.close()
  const bytes = Buffer.concat(readdirSync(directory).map((file) => readFileSync(join(directory, file))))
  t.ok(bytes.includes('s1'))
  t.notOk(bytes.includes(Buffer.from('PAYLOAD').toString('base64')))
})

t.test('a second opener, and a record of a newer release, are refused with a code', async (t) => {
  const directory = join(t.testdir(), 'level')
  const storage = new LevelWorkerStorage(directory)
  await storage.open()
  const second = new LevelWorkerStorage(directory)
  t.equal(await second.open().then(() => undefined, errorCode), 'WORKER_STORAGE_LOCKED')
  await storage.close()
  const level = new Level<string, Uint8Array>(directory, { valueEncoding: 'view' })
  await level.put('assigned/task/x', encode([99, {}]))
  await level.close()
  const older = new LevelWorkerStorage(directory)
  t.equal(await older.open().then(() => undefined, errorCode), 'WORKER_STORAGE_UNKNOWN_FORMAT')
  await older.close()
})

t.test('a writer writes in order, together what comes together, and says when it is durable', async (t) => {
  const batches: { readonly changes: readonly WorkerChange[]; readonly sync: boolean }[] = []
  let release = () => {}
  const storage: WorkerStorage = {
    open: () => new MemoryWorkerStorage().open(),
    close: async () => {},
    write: (changes, options) => {
      batches.push({ changes, sync: options.sync })
      return new Promise((resolve) => {
        release = resolve
      })
    },
  }
  const writer = new StorageWriter(storage)
  const abort = new AbortController()
  const running = writer.run(abort.signal)
  const session = (sessionId: string): WorkerChange => ({ kind: 'session', sessionId })
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  writer.add([session('1')])
  await settle()
  let durable = false
  writer.add([session('2')])
  writer.addDurable([session('3')], () => {
    durable = true
  })
  writer.add([session('4')])
  await settle()
  t.equal(batches.length, 1, 'one at a time')
  release()
  await settle()
  t.strictSame(batches[1], { changes: [session('2'), session('3'), session('4')], sync: true })
  t.notOk(durable)
  release()
  await settle()
  t.ok(durable)
  writer.add([session('5')])
  abort.abort()
  await settle()
  release()
  await running
  t.strictSame(batches[2]?.changes, [session('5')], 'what is left at the end is written too')
})

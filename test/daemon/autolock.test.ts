// Autolock on one machine's disk: what stands there with and without an unlock key, and that every crash on the way from one
// to the other leaves a disk that one key opens.

import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Autolock } from '../../src/daemon/identity/autolock.ts'
import { IdentityFile } from '../../src/daemon/identity/identity-file.ts'
import { RecordKeyFile } from '../../src/daemon/record-key.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { openSealed, seal } from '../../src/lib/key-seal.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { newUnlockKey, parseUnlockKey, showUnlockKey, unlockKeyBytes } from '../../src/manager/ca/unlock-key.ts'
import { LevelRecordStore } from '../../src/raft/level-record-store.ts'
import { type KeyRing, RecordCodec } from '../../src/raft/record-codec.ts'
import { resealRecords } from '../../src/raft/reseal-records.ts'
import { TestAuthority } from '../support/credentials.ts'

const random = new SystemRandom()
const clock = new SystemClock()
const authority = new TestAuthority()

const root = mkdtempSync(join(tmpdir(), 'autolock-'))
t.teardown(() => rmSync(root, { recursive: true }))
let machines = 0

const aKey = () => unlockKeyBytes(newUnlockKey(random))!

/** What a start of the daemon does with a disk, up to the consensus. */
async function start(directory: string, unlockKey?: Uint8Array) {
  const identityFile = new IdentityFile(directory, random)
  const identity = await identityFile.load(unlockKey)
  const recordKeys = new RecordKeyFile(directory, random)
  const stored = await recordKeys.load(identityFile.unlockKey)
  const codec = new RecordCodec({ keys: stored.ring, random })
  const autolock = new Autolock({ identityFile, recordKeys, codec, stored, clock, log: silentLog })
  return { identity, identityFile, recordKeys, stored, codec, autolock }
}

async function aMachine() {
  const directory = join(root, String(machines++))
  const identity = authority.credentials({ role: 'manager' })
  await new IdentityFile(directory, random).save(identity)
  return { directory, ...(await start(directory)), identity }
}

const textOf = (directory: string) =>
  readdirSync(directory)
    .map((name) => readFileSync(join(directory, name), 'utf8'))
    .join('\n')

t.test('an unlock key is shown as Swarm shows it, and what is none is refused without being repeated', async (t) => {
  const key = newUnlockKey(random)
  t.match(showUnlockKey(key), /^SWMKEY-1-[A-Za-z0-9+/]{43}$/)
  t.same(parseUnlockKey(showUnlockKey(key)), unlockKeyBytes(key))
  t.equal(showUnlockKey(''), '')
  for (const bad of ['', 'SWMKEY-1-', 'SWMKEY-2-abcd', key, 'SWMKEY-1-ab cd'])
    t.throws(() => parseUnlockKey(bad), { code: 'INVALID_PARAMETER', message: 'invalid key string' })
})

t.test('what is sealed opens with its key, for its purpose, and whole', async (t) => {
  const key = aKey()
  const sealed = seal(key, 'a', 'text', random)
  t.equal(openSealed(key, 'a', sealed), 'text')
  t.not(seal(key, 'a', 'text', random), sealed)
  t.equal(openSealed(aKey(), 'a', sealed), undefined)
  t.equal(openSealed(key, 'b', sealed), undefined)
  t.equal(openSealed(Buffer.alloc(5), 'a', sealed), undefined)
  const bytes = Buffer.from(sealed, 'base64')
  for (const at of [0, 5, 20, bytes.length - 1]) {
    const damaged = Buffer.from(bytes)
    damaged[at]! ^= 1
    t.equal(openSealed(key, 'a', damaged.toString('base64')), undefined)
  }
  t.equal(openSealed(key, 'a', bytes.subarray(0, 10).toString('base64')), undefined)
})

t.test('with autolock no private key is on the disk, and only the unlock key opens it', async (t) => {
  const { directory, identity, autolock, stored } = await aMachine()
  const first = Buffer.from(stored.ring.current.key).toString('base64')
  t.match(textOf(directory), 'PRIVATE KEY')
  t.match(textOf(directory), first)
  const key = aKey()
  await autolock.settle(key)
  t.ok(autolock.isSettled(key))
  t.notMatch(textOf(directory), 'PRIVATE KEY')
  t.notOk(textOf(directory).includes(first))
  for (const name of readdirSync(directory)) t.equal(statSync(join(directory, name)).mode & 0o777, 0o600, name)

  await t.rejects(start(directory), { code: 'SWARM_LOCKED' })
  await t.rejects(start(directory, aKey()), {
    code: 'INVALID_UNLOCK_KEY',
    message: 'swarm could not be unlocked: invalid key provided',
  })
  const again = await start(directory, key)
  t.same(again.identity, identity)
  t.ok(again.autolock.isSettled(key), 'nothing is left to write')
  t.not(Buffer.from(again.stored.ring.current.key).toString('base64'), first, 'what stood in clear seals nothing new')
  t.equal(Buffer.from(again.stored.ring.previous![0]!.key).toString('base64'), first)

  const renewed = authority.credentials({ role: 'manager', nodeId: identity.nodeId })
  await again.identityFile.save(renewed)
  t.notMatch(textOf(directory), 'PRIVATE KEY', 'a renewed key is sealed as well')

  const other = aKey()
  await again.autolock.settle(other)
  await t.rejects(start(directory, key), { code: 'INVALID_UNLOCK_KEY' })
  const rotated = await start(directory, other)
  t.same(rotated.identity, renewed)
  t.same(rotated.stored.ring, again.stored.ring, 'another unlock key changes no record key')
  t.equal(rotated.stored.unlockKeys, 1)

  await rotated.autolock.settle(undefined)
  const open = await start(directory)
  t.same(open.identity, renewed)
  t.ok(open.autolock.isSettled(undefined))
  t.same(open.stored.ring, again.stored.ring)
})

t.test('a file of a version before autolock is read, and one of a version after is refused', async (t) => {
  const { directory, recordKeys } = await aMachine()
  const bytes = random.bytes(32)
  writeFileSync(join(directory, 'raft.key'), `node:${Buffer.from(bytes).toString('base64')}\n`)
  const { ring, unlockKeys } = await recordKeys.load(undefined)
  t.match(ring.current.id, 'node')
  t.same(Buffer.from(ring.current.key), Buffer.from(bytes))
  t.equal(unlockKeys, 0)
  for (const [bad, message] of [
    ['{"format":3,"sealed":[]}', /has a format that this version of swarmd does not know/],
    ['{"format":2,"sealed":["x"]}', /is sealed with another unlock key/],
    ['{', /is damaged/],
    ['node:abcd\n', /holds no key of 32 bytes/],
  ] as const) {
    writeFileSync(join(directory, 'raft.key'), bad)
    await t.rejects(recordKeys.load(aKey()), { code: 'STATE_UNREADABLE', message })
  }
  await recordKeys.remove()
  t.notOk(existsSync(join(directory, 'raft.key')))
})

t.test(
  'whatever step a crash comes after, one of the two keys opens everything, and the rest is done then',
  async (t) => {
    const [one, two] = [aKey(), aKey()]
    for (const [from, to] of [
      [undefined, one],
      [one, two],
      [one, undefined],
    ] as const) {
      const { directory, autolock, identity } = await aMachine()
      await autolock.settle(from)
      // The disk after each of the writes.
      const disks: string[] = []
      const copy = () => {
        const disk = join(root, String(machines++))
        cpSync(directory, disk, { recursive: true })
        disks.push(disk)
      }
      const machine = await start(directory, from)
      for (const file of [machine.identityFile, machine.recordKeys] as { write?: unknown; seal?: unknown }[])
        for (const name of ['write', 'seal'] as const) {
          const real = file[name] as ((...given: unknown[]) => Promise<void>) | undefined
          if (!real) continue
          file[name] = async (...given: unknown[]) => {
            await real.apply(file, given)
            copy()
          }
        }
      await machine.autolock.settle(to)
      t.ok(disks.length >= 2)
      for (const disk of disks) {
        const opened = await start(disk, to).catch(() => start(disk, from))
        t.same(opened.identity, identity)
        const known = [opened.stored.ring.current, ...(opened.stored.ring.previous ?? [])].map(({ id }) => id)
        t.ok(known.includes(machine.stored.ring.current.id), 'no key that a record may need is lost')
        await opened.autolock.settle(to)
        t.same((await start(disk, to)).identity, identity)
        t.ok(opened.autolock.isSettled(to))
        if (to) t.notMatch(textOf(disk), 'PRIVATE KEY')
      }
    }
  },
)

t.test('records are sealed anew with the current key, also where that was broken off once', async (t) => {
  const directory = join(root, String(machines++))
  const [first, second] = [0, 1].map((id) => ({ id: String(id), key: random.bytes(32) }))
  const before: KeyRing = { current: first! }
  const ring: KeyRing = { current: second!, previous: [first!] }
  const old = new RecordCodec({ keys: before, random })
  const store = new LevelRecordStore(directory)
  await store.open()
  const keys = Array.from({ length: 450 }, (_, index) => `entry/${index}`)
  const put = (key: string) => ({ kind: 'put', key, value: old.seal(key, Buffer.from(key)) }) as const
  await store.write(keys.map(put), { sync: true })
  await store.close()
  const codec = new RecordCodec({ keys: ring, random })
  await resealRecords(store, codec)
  await store.open()
  await store.write([put('entry/7')], { sync: true })
  await store.close()
  await resealRecords(store, codec)
  const current = new RecordCodec({ keys: { current: second! }, random })
  await store.open()
  for (const key of keys) t.equal(Buffer.from(current.open(key, store.get(key)!)).toString(), key)
  await store.close()
})

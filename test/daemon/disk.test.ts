// When a disk counts as full, what a manager keeps of it, and what a node says of it.

import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { pressureText } from '../../src/api/disk-pressure.ts'
import { parsePressure, parseReserve } from '../../src/daemon/disk/disk-flags.ts'
import { type DiskSpace, nextPressure, nextReserve } from '../../src/daemon/disk/disk-level.ts'
import { type DiskState, DiskWatch } from '../../src/daemon/disk/disk-watch.ts'
import { ReserveFile } from '../../src/daemon/disk/reserve-file.ts'
import { parseOptions } from '../../src/daemon/options.ts'
import { silentLog } from '../../src/lib/log.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30

t.test('a manager is low with less than its reserve beside it, until that is twice as much', (t) => {
  const made = { isMade: true, isLow: false }
  t.same(nextReserve(made, 64 * MIB, 64 * MIB), { isLow: false, make: false })
  t.same(nextReserve(made, 63 * MIB, 64 * MIB), { isLow: true, make: false })
  t.same(nextReserve({ ...made, isLow: true }, 127 * MIB, 64 * MIB), { isLow: true, make: false })
  t.same(nextReserve({ ...made, isLow: true }, 128 * MIB, 64 * MIB), { isLow: false, make: false })
  t.end()
})

t.test('a reserve that was given up is made again where as much stays free, which ends nothing by itself', (t) => {
  const given = { isMade: false, isLow: true }
  t.same(nextReserve(given, 127 * MIB, 64 * MIB), { isLow: true, make: false })
  t.same(nextReserve(given, 128 * MIB, 64 * MIB), { isLow: true, make: true })
  t.same(nextReserve(given, 192 * MIB, 64 * MIB), { isLow: false, make: true })
  t.end()
})

const space = (path: string, freeBytes: number, device = 1, sizeBytes = 100 * GIB): DiskSpace => ({
  path,
  device,
  freeBytes,
  sizeBytes,
})
const limit = { share: 0.05, atMostBytes: 5 * GIB }

t.test('pressure begins below the limit and ends half as much again above it', (t) => {
  const under = nextPressure([], [space('/d', 4 * GIB)], limit, undefined)
  t.same(under, [{ Path: '/d', FreeBytes: 4 * GIB, SizeBytes: 100 * GIB }])
  t.same(nextPressure([], [space('/d', 6 * GIB)], limit, undefined), [])
  t.equal(nextPressure(under, [space('/d', 7 * GIB)], limit, undefined).length, 1)
  t.same(nextPressure(under, [space('/d', 8 * GIB)], limit, undefined), [])
  t.same(nextPressure([], [space('/d', 0)], undefined, undefined), [], 'nothing is pressure where it is off')
  t.end()
})

t.test('of a large disk a share is bounded', (t) => {
  t.same(nextPressure([], [space('/d', 6 * GIB, 1, 10_000 * GIB)], limit, undefined), [])
  t.end()
})

t.test('what was said of a disk stands until it has changed much: each change is a write of the cluster', (t) => {
  const said = nextPressure([], [space('/d', 4 * GIB)], limit, undefined)
  t.equal(nextPressure(said, [space('/d', 3.5 * GIB)], limit, undefined), said)
  t.equal(nextPressure(said, [space('/d', 2 * GIB)], limit, undefined)[0]?.FreeBytes, 2 * GIB)
  t.end()
})

t.test('two paths on one disk are one disk, but a manager that refuses says so of its own', (t) => {
  const spaces = [space('/docker', GIB), space('/swarmd', GIB)]
  t.same(
    nextPressure([], spaces, limit, undefined).map(({ Path }) => Path),
    ['/docker'],
  )
  t.same(
    nextPressure([], spaces, limit, '/swarmd').map(({ Path, RefusesWrites }) => [Path, RefusesWrites]),
    [
      ['/docker', false],
      ['/swarmd', true],
    ].map(([path, refuses]) => [path, refuses || undefined]),
  )
  const apart = [space('/docker', 50 * GIB), space('/swarmd', GIB, 2)]
  t.same(
    nextPressure([], apart, limit, undefined).map(({ Path }) => Path),
    ['/swarmd'],
  )
  t.end()
})

t.test('pressure in words', (t) => {
  const disk = { Path: '/var/lib/docker', FreeBytes: 1.2 * GIB, SizeBytes: 40 * GIB }
  t.equal(pressureText(disk), 'disk pressure: 1.2 GiB (3 %) left on /var/lib/docker')
  t.equal(
    pressureText({ Path: '/d', FreeBytes: 64 * MIB, SizeBytes: 0 }),
    'disk pressure: 64 MiB (0 %) left on /d',
    'a file system that does not say how large it is',
  )
  t.end()
})

t.test('values of the flags', async (t) => {
  t.equal(parseReserve('64m'), 64 * MIB)
  t.equal(parseReserve('1.5GiB'), 1.5 * GIB)
  t.equal(parseReserve('0'), 0)
  for (const wrong of ['', 'x', '-1', '8m', '5%']) t.equal(parseReserve(wrong), undefined, wrong)
  t.same(parsePressure('5%'), { kind: 'limit', limit: { share: 0.05, atMostBytes: 5 * GIB } })
  t.same(parsePressure('2g'), { kind: 'limit', limit: { share: 1, atMostBytes: 2 * GIB } })
  t.same(parsePressure('off'), { kind: 'off' })
  for (const wrong of ['', '100%', '5 percent', '-2g']) t.equal(parsePressure(wrong), undefined, wrong)
  const { diskReserveBytes, diskPressure } = await parseOptions([], '1')
  t.same([diskReserveBytes, diskPressure], [64 * MIB, limit])
  await t.rejects(parseOptions(['--disk-reserve', '5%'], '1'), { code: 'INVALID_FLAG' })
  await t.rejects(parseOptions(['--disk-pressure', 'x'], '1'), { code: 'INVALID_FLAG' })
})

t.test('a reserve occupies its blocks, and one of another size is made anew', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-disk-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'reserve')
  const reserve = new ReserveFile(path, 3 * MIB + 5)
  t.equal(await reserve.isMade(), false)
  await reserve.make()
  t.equal(await reserve.isMade(), true)
  t.ok(statSync(path).blocks * 512 >= 3 * MIB, 'not a hole')
  t.same(readdirSync(folder), ['reserve'])
  writeFileSync(path, 'small')
  t.equal(await reserve.isMade(), false)
  t.same(readdirSync(folder), [])
})

t.test('a watch makes the reserve, gives it up when a write finds no room, and makes it again', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-disk-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const reserve = new ReserveFile(join(folder, 'reserve'), MIB)
  let free = 10 * MIB
  const clock = new VirtualClock()
  const watch = new DiskWatch({
    dataRoot: '/data',
    reserve,
    engineRoot: async () => '/engine',
    pressureLimit: { share: 1, atMostBytes: MIB },
    clock,
    log: silentLog,
    measure: async (path) => space(path, path === '/data' ? free : 20 * MIB, path === '/data' ? 1 : 2, 40 * MIB),
  })
  const told: DiskState[] = []
  watch.subscribe((state) => told.push(state))
  await watch.look()
  t.equal(await reserve.isMade(), false, 'a worker has none')
  t.same(watch.state.manager, { kind: 'room' })

  watch.keepReserve()
  await watch.look()
  t.equal(await reserve.isMade(), true)
  t.same(
    watch.state.spaces.map(({ path }) => path),
    ['/engine', '/data'],
  )
  t.equal(told.length, 0, 'nobody is told that all is well')

  free = 0
  await watch.full()
  t.equal(await reserve.isMade(), false, 'its room is for what has to be written')
  free = MIB / 2
  await watch.look()
  t.match(watch.state.manager, { kind: 'low', freeBytes: MIB / 2, wantedBytes: 2 * MIB, isStalled: false })
  t.match(told.at(-1)?.pressure, [{ Path: '/data', RefusesWrites: true }])
  await watch.full()
  await watch.look()
  t.match(watch.state.manager, { kind: 'low', isStalled: true }, 'there is nothing more to give up')

  free = 10 * MIB
  await watch.look()
  t.equal(await reserve.isMade(), true)
  t.same(watch.state.manager, { kind: 'room' })
  t.same(told.at(-1)?.pressure, [])

  await watch.dropReserve()
  t.equal(await reserve.isMade(), false, 'who is no manager any more keeps nothing')
})

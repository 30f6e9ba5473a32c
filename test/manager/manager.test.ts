// One manager alone, on a disk in memory: what it does with its own member of the consensus.

import t from 'tap'
import { CodedError, errorCode } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { Seat } from '../../src/manager/membership/seat.ts'
import { encodeEntry, encodeTransaction } from '../../src/manager/store/entry.ts'
import { Store } from '../../src/manager/store/store.ts'
import { StoreMachine } from '../../src/manager/store/store-machine.ts'
import { bootstrapState } from '../../src/raft/core.ts'
import { encodeEnvelope } from '../../src/raft/proposal-envelope.ts'
import { SimulatedDisk } from '../sim/disk.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { aCluster, aNode, aService } from '../support/objects.ts'
import { startManager, storageOn } from './support/one-manager.ts'

t.test("snapshots are taken as often as the cluster's spec says, from the moment that it says so", async (t) => {
  const clock = new VirtualClock()
  const disk = new SimulatedDisk({ clock, random: new SeededRandom(2) })
  const often = { SnapshotInterval: 30, LogEntriesForSlowFollowers: 5 }
  const before = await startManager(clock, disk, {})
  await before.write(50, 'a')
  t.equal(before.manager.raft.metrics.snapshotsTaken, 0)
  const cluster = before.manager.store.cluster()!
  const object = { ...cluster, spec: { ...cluster.spec, Raft: often } }
  const change = [{ kind: 'update', object, expectedVersion: cluster.meta.version }] as const
  await clock.wait(before.manager.proposer.propose(change), 1_000, 'the update')
  await before.write(20, 'b')
  t.equal(before.manager.raft.metrics.snapshotsTaken, 1, 'long due')
  const { firstIndex, lastIndex } = before.manager.raft.status()
  t.ok(lastIndex - firstIndex <= 30 + 5, 'five entries stay beside a snapshot')
  await before.stop()

  const after = await startManager(clock, disk, undefined)
  await after.write(40, 'c')
  t.ok(after.manager.raft.metrics.snapshotsTaken >= 1, 'a restart keeps to it')
  await after.stop()
})

t.test('a manager that is not let in by one asks the next; what can not pass ends it', async (t) => {
  const clock = new VirtualClock()
  const { manager, stop } = await startManager(clock, new SimulatedDisk({ clock, random: new SeededRandom(2) }), {})
  const managers = ['m1', 'm2', 'm3'].map((nodeId) => ({ nodeId, address: `${nodeId}:2377` }))
  const joins = async (...answers: readonly (string | undefined)[]) => {
    const asked: string[] = []
    const seat = new Seat({
      manager,
      raftId: 'n1-1',
      address: '127.0.0.1:2377',
      joined: false,
      managers: () => managers,
      ask: async ({ nodeId }, what) => {
        const code = answers[asked.push(`${what} ${nodeId}`) - 1]
        const details = code === 'NOT_LEADER' ? { leader: managers[2] } : {}
        if (code !== undefined) throw new CodedError(code, code, { details, retryable: code === 'NOT_LEADER' })
      },
      clock,
      log: silentLog,
    })
    await clock.wait(seat.join(new AbortController().signal), 10_000, 'its place')
    return asked
  }
  t.same(await joins('CONNECTION_UNTRUSTED', 'role', 'expired'), ['add m1', 'add m2', 'add m3', 'add m1'])
  t.same(await joins('NOT_LEADER'), ['add m1', 'add m3'])
  await t.rejects(joins('CONNECTION_LOST', 'FEATURE_LEVEL'), { code: 'FEATURE_LEVEL' })
  await stop()
})

t.test(
  'replaced snapshots are kept as the spec says, unless the disk is nearly full, and one of them is gone on with',
  async (t) => {
    const clock = new VirtualClock()
    const disk = new SimulatedDisk({ clock, random: new SeededRandom(2) })
    const Raft = { SnapshotInterval: 20, LogEntriesForSlowFollowers: 5, KeepOldSnapshots: 2 }
    const first = await startManager(clock, disk, { Raft })
    await first.write(25, 'a')
    await first.write(25, 'b')
    await first.write(25, 'c')
    const kept = first.manager.raft.snapshots()
    t.equal(kept.length, 3)
    const [, , { index: oldest } = { index: 0 }] = kept
    let turns = 0
    const setTimer = clock.setTimer.bind(clock)
    clock.setTimer = (delayMs, fire) => {
      if (delayMs === 0) turns++
      return setTimer(delayMs, fire)
    }
    const then = (await clock.wait(first.manager.snapshotState(oldest), 1_000, 'its contents')).list('service')
    t.ok(turns > 0, 'a manager that lives reads it in slices')
    clock.setTimer = setTimer
    t.ok(then.length > 0 && then.length < first.manager.store.list('service').length)
    await t.rejects(first.manager.snapshotState(3), {
      code: 'RAFT_SNAPSHOT_UNKNOWN',
      message: `this manager has no snapshot at index 3: it has ${kept.map(({ index }) => index).join(', ')}`,
    })
    await first.stop()

    const before = (manager: Manager) => manager.beginAnew(7, {}, oldest)
    const back = await startManager(clock, disk, undefined, { raftId: 'n1-2', before })
    t.same(
      back.manager.store.list('service').map(({ id }) => id),
      then.map(({ id }) => id),
    )
    t.ok(back.manager.store.index > (kept[0]?.index ?? 0), 'versions go on')
    await back.write(25, 'd')
    const size = back.manager.raft.snapshots().length
    t.equal(size, 3)
    back.manager.setDisk({ kind: 'low', path: '/', freeBytes: 1, wantedBytes: 2, isStalled: false })
    t.equal(back.manager.raft.snapshots().length, 1)
    await back.stop()
  },
)

t.test('a manager that the consensus has lost is told so when it asks', async (t) => {
  const clock = new VirtualClock()
  const disk = new SimulatedDisk({ clock, random: new SeededRandom(2) })
  const { manager, stop } = await startManager(clock, disk, {})
  const stranger = { nodeId: 'n2', raftId: 'n2-1', address: '127.0.0.2:2377', featureLevel: 1 }
  const answer = manager.refreshMember(stranger).then(() => undefined, errorCode)
  t.equal(await clock.wait(answer, 1_000), 'MEMBER_REMOVED')
  t.ok(manager.mayJudge('n2'), 'a leader knows who is a manager')
  await stop()
  t.notOk(manager.mayJudge('n2'), 'who takes part no more does not')
})

t.test(
  'a manager whose majority is lost goes on alone with all that is on its disk, and the others are workers',
  async (t) => {
    const clock = new VirtualClock()
    const disk = new SimulatedDisk({ clock, random: new SeededRandom(2) })
    const anew = (manager: Manager) =>
      manager.beginAnew(7, { Orchestration: { TaskHistoryRetentionLimit: 2 }, Dispatcher: { HeartbeatPeriod: 0 } })
    const meta = { version: 1, createdAt: '', updatedAt: '' }
    const managers = ['n1', 'n2', 'n3'].map((id, index) =>
      aNode(id, {
        meta,
        number: index + 1,
        role: 'manager',
        spec: { Role: 'manager', Availability: 'active', Labels: { of: id } },
        manager: { raftId: `${id}-1`, address: `${id}:2377`, featureLevel: 3 },
      }),
    )
    const store = new Store()
    const worker = aNode('w1', { meta, number: 9 })
    const cluster = aCluster({ meta, featureLevel: 3, spec: { Name: 'default', Dispatcher: { HeartbeatPeriod: 9e9 } } })
    store.restore(0, [cluster, ...managers, worker])
    const storage = storageOn(clock, disk)
    await clock.wait(storage.open(), 1_000, 'the disk')
    const members = managers.map(({ id }) => ({ id: `${id}-1`, address: `${id}:2377` }))
    const conf = { voters: members.map(({ id }) => id), learners: [], outgoing: [], learnersNext: [], members }
    const snapshot = new StoreMachine({ store, log: silentLog }).snapshot()
    await clock.wait(storage.bootstrap(bootstrapState(conf), snapshot), 1_000, 'the first state')
    // Three entries of its leader's: whether any was committed this member never heard.
    const entries = [2, 3, 4].map((index) => {
      const object = aService(`s${index}`, { spec: { Name: `s${index}` } })
      const transaction = encodeTransaction([{ kind: 'create', object }])
      const data = encodeEnvelope({
        session: 1,
        requestId: index,
        data: encodeEntry(clock.wallMs(), undefined, [transaction]),
      })
      return { index, term: 5, kind: 'normal' as const, data }
    })
    await clock.wait(storage.write({ hardState: { term: 6, vote: 'n3-1', commit: 1 }, entries }), 1_000, 'the log')
    await clock.wait(storage.close(), 1_000, 'the end')

    const alone = await startManager(clock, disk, undefined, { raftId: 'n1-2', before: anew })
    const check = (manager: Manager) => {
      t.same(
        manager.store.list('service').map(({ id }) => id),
        ['s2', 's3', 's4'],
      )
      t.same(manager.raft.status().conf.voters, ['n1-2'])
      t.match(manager.store.get('node', 'n1'), {
        role: 'manager',
        manager: { raftId: 'n1-2', address: '127.0.0.1:2377', featureLevel: 7 },
      })
      for (const id of ['n2', 'n3'])
        t.match(manager.store.get('node', id), {
          role: 'worker',
          manager: undefined,
          spec: { Role: 'worker', Labels: { of: id } },
        })
      t.same(manager.store.get('node', 'w1'), worker)
      t.match(manager.store.cluster(), {
        featureLevel: 7,
        spec: { Orchestration: { TaskHistoryRetentionLimit: 2 }, Dispatcher: { HeartbeatPeriod: 9e9 } },
      })
    }
    check(alone.manager)
    t.ok(alone.manager.raft.status().term > 6, 'of a later term than any that its disk knows')
    await alone.write(3, 'after')
    t.ok(alone.manager.store.get('service', 'after2')!.meta.version > 5, 'versions go on where they were')
    await alone.stop()
    const again = await startManager(clock, disk, undefined, { raftId: 'n1-2' })
    t.equal(again.manager.store.list('service').length, 6)
    await again.stop()

    const twice = await startManager(clock, disk, undefined, { raftId: 'n1-3', before: anew })
    t.same(twice.manager.raft.status().conf.voters, ['n1-3'], 'it can be done again')
    await twice.stop()
    const empty = new SimulatedDisk({ clock, random: new SeededRandom(3) })
    await t.rejects(startManager(clock, empty, undefined, { raftId: 'n1-1', before: anew }), {
      code: 'RAFT_STORAGE_EMPTY',
    })
  },
)

// One manager alone, on a disk in memory: what it does with its own member of the consensus.

import t from 'tap'
import { errorCode } from '../../src/lib/errors.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { SimulatedDisk } from '../sim/disk.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { startManager } from './support/one-manager.ts'

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

// One manager alone, on a disk in memory: what it does with its own member of the consensus.

import t from 'tap'
import type { SwarmSpec } from '../../src/api/spec.ts'
import { errorCode } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { Manager } from '../../src/manager/manager.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import type { RaftTransport } from '../../src/raft/transport.ts'
import { SimulatedDisk } from '../sim/disk.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'
import { aCluster, aNode, aService } from '../support/objects.ts'

const NO_PEERS: RaftTransport = {
  start: () => {},
  setMembers: () => {},
  send: () => {},
  sendSnapshot: () => Promise.resolve(),
  close: () => {},
}

async function startManager(clock: VirtualClock, disk: SimulatedDisk, spec: SwarmSpec | undefined) {
  const random = new SeededRandom(1)
  const keys = { current: { id: 'k1', key: new Uint8Array(32).fill(7) } }
  const manager = new Manager({
    nodeId: 'n1',
    raftId: 'n1-1',
    address: '127.0.0.1:2377',
    storage: new RaftStorage({ records: disk.attach(), codec: new RecordCodec({ keys, random }), clock }),
    transport: NO_PEERS,
    clock,
    random,
    log: silentLog,
  })
  if (spec) {
    const address = '127.0.0.1:2377'
    const node = aNode('n1', { role: 'manager', manager: { raftId: 'n1-1', address, featureLevel: 1 } })
    manager.store.restore(0, [aCluster({ spec: { Name: 'default', ...spec }, meta: first }), { ...node, meta: first }])
    await clock.wait(manager.raft.bootstrap({ id: 'n1-1', address }), 1_000, 'bootstrap')
  }
  const abort = new AbortController()
  const ended = manager.run({ signal: abort.signal })
  await clock.until(() => manager.isLeader, 10_000, 'the manager to lead')
  const write = async (count: number, prefix: string) => {
    for (let i = 0; i < count; i++) {
      const object = aService(`${prefix}${i}`, {
        spec: { Name: `${prefix}${i}`, Mode: { Replicated: { Replicas: 0 } } },
      })
      await clock.wait(manager.proposer.propose([{ kind: 'create', object }]), 1_000, 'a write')
    }
    await clock.advance(100)
  }
  const stop = async () => {
    abort.abort()
    await clock.wait(ended, 10_000, 'the end')
  }
  return { manager, write, stop }
}

const first = { version: 1, createdAt: '', updatedAt: '' }

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

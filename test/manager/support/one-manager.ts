// One real manager alone, on a disk in memory and on virtual time.

import type { SwarmSpec } from '../../../src/api/spec.ts'
import { silentLog } from '../../../src/lib/log.ts'
import { SeededRandom } from '../../../src/lib/random.ts'
import { Manager } from '../../../src/manager/manager.ts'
import { RaftStorage } from '../../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../../src/raft/record-codec.ts'
import type { RaftTransport } from '../../../src/raft/transport.ts'
import type { SimulatedDisk } from '../../sim/disk.ts'
import type { VirtualClock } from '../../sim/virtual-clock.ts'
import { aCluster, aNode, aService } from '../../support/objects.ts'

const NO_PEERS: RaftTransport = {
  start: () => {},
  setMembers: () => {},
  send: () => {},
  sendSnapshot: () => Promise.resolve(),
  close: () => {},
}

export function storageOn(clock: VirtualClock, disk: SimulatedDisk): RaftStorage {
  const keys = { current: { id: 'k1', key: new Uint8Array(32).fill(7) } }
  return new RaftStorage({
    records: disk.attach(),
    codec: new RecordCodec({ keys, random: new SeededRandom(1) }),
    clock,
  })
}

/** Leads when this resolves. @param spec of a new cluster; undefined: goes on with what is on the disk */
export async function startManager(
  clock: VirtualClock,
  disk: SimulatedDisk,
  spec: SwarmSpec | undefined,
  options: { readonly raftId?: string; readonly before?: (manager: Manager) => Promise<void> } = {},
) {
  const random = new SeededRandom(1)
  const manager = new Manager({
    nodeId: 'n1',
    raftId: options.raftId ?? 'n1-1',
    address: '127.0.0.1:2377',
    storage: storageOn(clock, disk),
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
  if (options.before) await clock.wait(options.before(manager), 1_000, 'what comes before')
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

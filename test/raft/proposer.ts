// A cluster of one on LevelDB, for tests that run it in a process of its own.

import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { LevelRecordStore } from '../../src/raft/level-record-store.ts'
import { RaftNode } from '../../src/raft/raft-node.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import type { RaftTransport } from '../../src/raft/transport.ts'
import { TextList } from './simulated-cluster.ts'

const nobody: RaftTransport = {
  start: () => {},
  setMembers: () => {},
  send: () => {},
  sendSnapshot: () => Promise.resolve(),
  close: () => {},
}

export function startProposer(directory: string, options: { readonly bootstrap?: boolean } = {}) {
  const clock = new SystemClock()
  const random = new SystemRandom()
  const codec = new RecordCodec({ keys: { current: { id: 'k', key: new Uint8Array(32).fill(3) } }, random })
  const storage = new RaftStorage({ records: new LevelRecordStore(directory), codec, clock })
  const machine = new TextList()
  const config = { snapshotInterval: 300, keepEntries: 20 }
  const node = new RaftNode<number>({
    id: 'n1',
    storage,
    stateMachine: machine,
    transport: nobody,
    clock,
    random,
    log: silentLog,
    config,
  })
  const abort = new AbortController()
  const leading = new Promise<void>((resolve) => {
    node.subscribe((event) => {
      if (event.kind === 'leadership' && event.isLeader) resolve()
    })
  })
  const start = async () => {
    if (options.bootstrap) await node.bootstrap({ id: 'n1', address: '127.0.0.1:1' }).catch(ignoreExisting)
    await node.run({ signal: abort.signal })
  }
  return { node, machine, leading, abort, ended: start() }
}

function ignoreExisting(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'RAFT_STORAGE_NOT_EMPTY')) throw error
}

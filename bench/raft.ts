// How many proposals a second Raft commits, with LevelDB synced on this machine's disk: one node, and three nodes that
// share one process (and so its one thread: three machines have three). `node build/bench/raft.js [seconds]`.

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SystemClock, sleep } from '../src/lib/clock.ts'
import { silentLog } from '../src/lib/log.ts'
import { SeededRandom, SystemRandom } from '../src/lib/random.ts'
import { ConnectionRaftTransport } from '../src/raft/connection-raft-transport.ts'
import { LevelRecordStore } from '../src/raft/level-record-store.ts'
import { RaftNode } from '../src/raft/raft-node.ts'
import type { StateMachine } from '../src/raft/raft-node-types.ts'
import { RaftStorage } from '../src/raft/raft-storage.ts'
import { RecordCodec } from '../src/raft/record-codec.ts'
import { SimulatedNetwork } from '../test/sim/network.ts'

const seconds = Number(process.argv[2] ?? 3)
const DATA = new Uint8Array(300).fill(1)
const clock = new SystemClock()
const random = new SystemRandom()

class Counter implements StateMachine<number> {
  #count = 0
  apply(): number {
    return ++this.#count
  }
  async *snapshot(): AsyncIterable<Uint8Array> {
    yield Buffer.from(String(this.#count))
  }
  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of chunks) this.#count = Number(Buffer.from(chunk).toString())
  }
}

async function cluster(size: number, directory: string) {
  const network = new SimulatedNetwork({
    clock,
    random: new SeededRandom(1),
    faults: { latencyMs: [0, 0], bytesPerMs: Number.POSITIVE_INFINITY },
  })
  const abort = new AbortController()
  const runs: Promise<void>[] = []
  const nodes: RaftNode<number>[] = []
  for (let i = 1; i <= size; i++) {
    const id = `n${i}`
    const codec = new RecordCodec({ keys: { current: { id: 'k', key: random.bytes(32) } }, random })
    const storage = new RaftStorage({ records: new LevelRecordStore(join(directory, id)), codec, clock })
    const transport = new ConnectionRaftTransport({ id, dialer: network.dialer(id), clock, random, log: silentLog })
    const node = new RaftNode<number>({
      id,
      storage,
      stateMachine: new Counter(),
      transport,
      clock,
      random,
      log: silentLog,
    })
    const member = { id, address: `${id}:2377` }
    network.listen(member.address, (connection, path) => transport.accept(connection, path))
    if (i === 1) await node.bootstrap(member)
    const leads = new Promise<void>((resolve) => {
      node.subscribe((event) => {
        if (event.kind === 'leadership' && event.isLeader) resolve()
      })
    })
    runs.push(node.run({ signal: abort.signal }))
    await node.ready
    if (i === 1) await leads
    else await nodes[0]!.changeMembership({ steps: [{ kind: 'add-voter', member }] })
    nodes.push(node)
  }
  return {
    nodes,
    stop: async () => {
      abort.abort()
      await Promise.all(runs)
    },
  }
}

async function measure(size: number, clients: number, at: 'leader' | 'follower'): Promise<void> {
  const directory = await mkdtemp('/var/tmp/raft-bench-')
  const { nodes, stop } = await cluster(size, directory)
  const node = at === 'leader' ? nodes[0]! : nodes[1]!
  await sleep(clock, 300)
  const latenciesMs: number[] = []
  let done = false
  const client = async () => {
    while (!done) {
      const startedMs = clock.nowMs()
      await node.propose(DATA)
      latenciesMs.push(clock.nowMs() - startedMs)
    }
  }
  const syncs = node.metrics.sync.count
  const startedMs = clock.nowMs()
  const cpu = process.cpuUsage()
  const running = Array.from({ length: clients }, client)
  await sleep(clock, seconds * 1_000)
  done = true
  await Promise.all(running)
  const elapsedS = (clock.nowMs() - startedMs) / 1_000
  const used = process.cpuUsage(cpu)
  latenciesMs.sort((a, b) => a - b)
  const quantile = (q: number) => (latenciesMs[Math.floor(latenciesMs.length * q)] ?? 0).toFixed(1)
  const { sync, campaigns } = node.metrics
  console.log(
    `${size} node${size > 1 ? 's' : ' '} ${String(clients).padStart(3)} clients at ${at.padEnd(8)}: ` +
      `${(latenciesMs.length / elapsedS).toFixed(0).padStart(6)}/s, ` +
      `p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms, ` +
      `${(latenciesMs.length / (sync.count - syncs)).toFixed(1)} per sync, mean sync ${(sync.sumMs / sync.count).toFixed(2)} ms, ` +
      `cpu ${((used.user + used.system) / 1e4 / elapsedS).toFixed(0)} %, elections ${campaigns}`,
  )
  await stop()
  await rm(directory, { recursive: true })
}

for (const [size, at] of [
  [1, 'leader'],
  [3, 'leader'],
  [3, 'follower'],
] as const)
  for (const clients of [1, 8, 32, 256]) await measure(size, clients, at)

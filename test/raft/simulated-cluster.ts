// RaftNodes with their storage and transport as in production, on the simulator's time, network and disks.

import { errorCode } from '../../src/lib/errors.ts'
import type { Log } from '../../src/lib/log.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { ConnectionRaftTransport } from '../../src/raft/connection-raft-transport.ts'
import { RaftNode } from '../../src/raft/raft-node.ts'
import type { RaftConfig, RaftNodeEvent, StateMachine } from '../../src/raft/raft-node-types.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import type { Member } from '../../src/raft/types.ts'
import { SimulatedDisk } from '../sim/disk.ts'
import { SimulatedNetwork } from '../sim/network.ts'
import { VirtualClock } from '../sim/virtual-clock.ts'

/** Keeps every entry's text; answers with how many there are. */
export class TextList implements StateMachine<number> {
  texts: string[] = []
  restores = 0

  apply({ data }: { readonly data: Uint8Array }): number {
    this.texts.push(Buffer.from(data).toString())
    return this.texts.length
  }

  async *snapshot(): AsyncIterable<Uint8Array> {
    const texts = [...this.texts]
    for (let start = 0; start < texts.length; start += 100)
      yield Buffer.from(JSON.stringify(texts.slice(start, start + 100)))
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    this.restores++
    const texts: string[] = []
    for await (const chunk of chunks) texts.push(...(JSON.parse(Buffer.from(chunk).toString()) as string[]))
    this.texts = texts
  }
}

export interface RunningNode {
  readonly node: RaftNode<number>
  readonly machine: TextList
  readonly transport: ConnectionRaftTransport
  readonly events: RaftNodeEvent[]
  readonly abort: AbortController
  /** What run() ended with, once it has; undefined for a normal end. */
  readonly ended: Promise<unknown>
}

export class SimulatedCluster {
  readonly clock = new VirtualClock()
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly disks = new Map<string, SimulatedDisk>()
  readonly running = new Map<string, RunningNode>()
  readonly #config: Partial<RaftConfig>
  readonly #log: Log

  constructor(seed: number, config: Partial<RaftConfig> = {}, log: Log = silentLog) {
    this.random = new SeededRandom(seed)
    this.network = new SimulatedNetwork({ clock: this.clock, random: this.random.fork() })
    this.#config = config
    this.#log = log
  }

  member(id: string): Member {
    return { id, address: `${id}:2377` }
  }

  disk(id: string): SimulatedDisk {
    let disk = this.disks.get(id)
    if (!disk) {
      disk = new SimulatedDisk({ clock: this.clock, random: this.random.fork() })
      this.disks.set(id, disk)
    }
    return disk
  }

  storage(id: string): RaftStorage {
    return new RaftStorage({
      records: this.disk(id).attach(),
      codec: new RecordCodec({ keys: { current: { id: 'k1', key: new Uint8Array(32).fill(7) } }, random: this.random }),
      clock: this.clock,
    })
  }

  /** Starts `id` on its disk; `bootstrap` makes a cluster of it first. */
  async start(id: string, options: { readonly bootstrap?: boolean } = {}): Promise<RunningNode> {
    const { clock } = this
    const random = this.random.fork()
    const machine = new TextList()
    const log = this.#log.child({ id })
    const transport = new ConnectionRaftTransport({ id, dialer: this.network.dialer(id), clock, random, log })
    const node = new RaftNode<number>({
      id,
      storage: this.storage(id),
      stateMachine: machine,
      transport,
      clock,
      random,
      log,
      config: this.#config,
    })
    const events: RaftNodeEvent[] = []
    node.subscribe((event) => events.push(event))
    const abort = new AbortController()
    this.network.listen(this.member(id).address, (connection, path) => transport.accept(connection, path))
    if (options.bootstrap) await clock.wait(node.bootstrap(this.member(id)), 1_000, 'bootstrap')
    const ended = node.run({ signal: abort.signal }).catch((error: unknown) => error ?? new Error('no error'))
    const running: RunningNode = { node, machine, transport, events, abort, ended }
    this.running.set(id, running)
    await clock.wait(node.ready, 60_000, `${id} to recover`)
    return running
  }

  /** A cluster of `count` voters n1, n2, …; n1 leads. */
  async grow(count: number): Promise<RunningNode[]> {
    const nodes = [await this.start('n1', { bootstrap: true })]
    await this.leader()
    for (let i = 2; i <= count; i++) {
      nodes.push(await this.start(`n${i}`))
      const change = { steps: [{ kind: 'add-voter' as const, member: this.member(`n${i}`) }] }
      await this.clock.wait(nodes[0]!.node.changeMembership(change), 10_000, `n${i} to become a member`)
    }
    await this.converged()
    return nodes
  }

  /** SIGKILL: peers are refused, the disk keeps what the kernel has. */
  kill(id: string): void {
    this.network.killProcess(id)
    this.disk(id).killProcess()
    this.#bury(id)
  }

  /** The machine fails: peers hear nothing, the disk keeps what was synced. */
  powerOff(id: string): void {
    this.network.powerOff(id)
    this.disk(id).losePower()
    this.#bury(id)
  }

  get(id: string): RunningNode {
    return this.running.get(id)!
  }

  /** The node that leads, once one does and can take proposals. */
  async leader(limitMs = 10_000): Promise<RunningNode> {
    const find = () => [...this.running.values()].find(({ events }) => leads(events))
    await this.clock.until(() => find() !== undefined, limitMs, 'a leader')
    return find()!
  }

  /** All running nodes have applied the same last entry. */
  async converged(limitMs = 20_000): Promise<void> {
    await this.clock.until(
      () => {
        const states = [...this.running.values()].map(({ node }) => node.status())
        const last = Math.max(...states.map((status) => status.lastIndex))
        return states.every((status) => status.applied === last)
      },
      limitMs,
      'convergence',
    )
  }

  wait<T>(promise: Promise<T>, limitMs = 30_000): Promise<T> {
    return this.clock.wait(promise, limitMs)
  }

  /** The code of the error that `promise` ends with. */
  codeOf(promise: Promise<unknown>, limitMs?: number): Promise<string | undefined> {
    return this.wait(errorCodeOf(promise), limitMs)
  }

  /** The dead process' code runs on in this one: what it can still do must reach nobody. */
  #bury(id: string): void {
    this.running.get(id)?.abort.abort()
    this.running.delete(id)
  }
}

/** Undefined if there is none. */
export function errorCodeOf(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(() => undefined, errorCode)
}

function leads(events: readonly RaftNodeEvent[]): boolean {
  const last = events.filter((event) => event.kind === 'leadership').at(-1)
  return last?.kind === 'leadership' && last.isLeader
}

// A simulated cluster of whole RaftNodes: the production driver, storage and transport on virtual time, with networks
// that break and stall, processes and machines that die, disks that lose what was not synced, clocks that drift, and an
// operator who changes the membership. Slower than raft-simulation.ts, which runs the core alone; the same promises.

import { createHash } from 'node:crypto'
import { CodedError, errorCode } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { ConnectionRaftTransport } from '../../src/raft/connection-raft-transport.ts'
import { RaftNode } from '../../src/raft/raft-node.ts'
import { RaftStorage } from '../../src/raft/raft-storage.ts'
import { RecordCodec } from '../../src/raft/record-codec.ts'
import type { ConfChangeStep, Member, RaftId } from '../../src/raft/types.ts'
import { CALM_DISK, SimulatedDisk } from './disk.ts'
import type { RegisterOperation } from './linearizability.ts'
import { CALM, SimulatedNetwork } from './network.ts'
import { RaftCheckers, Violation } from './raft-checkers.ts'
import { History } from './raft-clients.ts'
import { RegisterMachine } from './raft-register-machine.ts'
import { encodeOperation } from './raft-registers.ts'
import type { SimulationResult } from './raft-simulation.ts'
import { DriftingClock, VirtualClock } from './virtual-clock.ts'

interface Running {
  readonly id: RaftId
  readonly node: RaftNode<string>
  readonly machine: RegisterMachine
  readonly abort: AbortController
}

const RECOVERY_MS = 60_000
const REQUEST_TIMEOUT_MS = 3_000
/** Without effect, whatever happens. */
const NONE = new Set(['PROPOSAL_DROPPED', 'NO_LEADER', 'NOT_LEADER', 'PROPOSAL_QUEUE_FULL', 'RAFT_NOT_RUNNING'])

export async function simulateNodes(options: {
  readonly seed: number
  readonly onTrace?: (line: string) => void
}): Promise<SimulationResult> {
  return new NodeSimulation(options.seed, options.onTrace ?? (() => {})).run()
}

class NodeSimulation {
  readonly #random: SeededRandom
  readonly #clock = new VirtualClock()
  readonly #network: SimulatedNetwork
  readonly #disks = new Map<RaftId, SimulatedDisk>()
  readonly #clocks = new Map<RaftId, DriftingClock>()
  readonly #running = new Map<RaftId, Running>()
  readonly #checkers = new RaftCheckers()
  readonly #history = new History()
  readonly #digest = createHash('sha256')
  readonly #onTrace: (line: string) => void
  readonly #durationMs: number
  readonly #voters: number
  readonly #drift: number
  readonly #snapshotInterval: number
  readonly #keepEntries: number
  /** Removed members, which stay away once they know. */
  readonly #gone = new Set<RaftId>()
  #members = 0
  #healed = false
  #events = 0
  #highestTerm = 0
  #failure: Error | undefined

  constructor(seed: number, onTrace: (line: string) => void) {
    const random = new SeededRandom(seed)
    this.#random = random
    this.#onTrace = onTrace
    this.#durationMs = 10_000 + random.float() * 20_000
    this.#voters = 3 + random.below(3)
    this.#drift = random.float() < 0.5 ? 1 + random.float() * 0.4 : 1
    this.#snapshotInterval = random.float() < 0.7 ? 5 + random.below(60) : 10_000
    this.#keepEntries = random.below(20)
    this.#network = new SimulatedNetwork({ clock: this.#clock, random: random.fork() })
  }

  async run(): Promise<SimulationResult> {
    try {
      await this.#grow()
      this.#startFaults()
      await this.#stepUntil(() => false, this.#durationMs)
      await this.#recover()
      this.#history.check()
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error))
      this.#trace(`FAILED ${this.#failure.message}`)
    }
    this.#trace(`${this.#events} events, ${this.#history.describe()}`)
    for (const { id, machine } of this.#running.values()) this.#trace(`${id} ends with ${machine.chain}`)
    for (const { abort } of this.#running.values()) abort.abort()
    return {
      digest: this.#digest.digest('hex'),
      failure: this.#failure,
      virtualMs: Math.round(this.#clock.nowMs()),
      events: this.#events,
      acknowledged: this.#history.acknowledged,
      applied: this.#checkers.highestApplied,
      terms: this.#highestTerm,
      members: this.#members,
    }
  }

  async #grow(): Promise<void> {
    const first = await this.#launch()
    await this.#stepUntil(() => statusOf(first)?.leadsInTerm !== undefined, 5_000, 'the first leader')
    while (this.#members < this.#voters) {
      const { id } = await this.#launch()
      const change = { steps: [{ kind: 'add-voter', member: memberOf(id) } as const] }
      await this.#wait(first.node.changeMembership(change), 10_000)
    }
  }

  async #launch(): Promise<Running> {
    const id = `n${++this.#members}`
    const disk = new SimulatedDisk({ clock: this.#clock, random: this.#random.fork() })
    this.#disks.set(id, disk)
    const rate = this.#drift ** (2 * this.#random.float() - 1)
    this.#clocks.set(id, new DriftingClock(this.#clock, { rate, offsetMs: this.#random.float() * 1_000 }))
    return this.#start(id, this.#members === 1)
  }

  async #start(id: RaftId, bootstrap = false): Promise<Running> {
    this.#trace(`${id} starts`)
    const clock = this.#clocks.get(id)!
    const random = this.#random.fork()
    const key = { id: 'k', key: new Uint8Array(32) }
    const storage = new RaftStorage({
      records: this.#disks.get(id)!.attach(),
      codec: new RecordCodec({ keys: { current: key }, random }),
      clock,
    })
    const dialer = this.#network.dialer(id)
    const transport = new ConnectionRaftTransport({ id, dialer, clock, random, log: silentLog })
    const machine = new RegisterMachine(id, this.#checkers)
    const node = new RaftNode<string>({
      id,
      storage,
      stateMachine: machine,
      transport,
      clock,
      random,
      log: silentLog,
      config: {
        snapshotInterval: this.#snapshotInterval,
        keepEntries: this.#keepEntries,
        requestTimeoutMs: REQUEST_TIMEOUT_MS,
      },
    })
    const running: Running = { id, node, machine, abort: new AbortController() }
    node.subscribe((event) => {
      if (event.kind === 'leadership' && event.isLeader) this.#trace(`${id} leads term ${event.term}`)
      if (event.kind === 'removed') this.#clock.setTimer(50, () => this.#retire(running))
    })
    this.#network.listen(memberOf(id).address, (connection, path) => transport.accept(connection, path))
    if (bootstrap) await this.#wait(node.bootstrap(memberOf(id)), 5_000)
    this.#running.set(id, running)
    void node.run({ signal: running.abort.signal }).catch((error: unknown) => {
      // The code of a killed process runs on here and may fail; that of a living one must not.
      if (this.#running.get(id) === running) this.#fail(error)
    })
    return running
  }

  #retire(running: Running): void {
    if (this.#running.get(running.id) !== running) return
    this.#trace(`${running.id} is removed`)
    this.#gone.add(running.id)
    this.#stop(running.id, 'kill')
  }

  #stop(id: RaftId, how: 'kill' | 'power'): void {
    this.#trace(`${id} dies: ${how}`)
    if (how === 'kill') this.#network.killProcess(id)
    else this.#network.powerOff(id)
    if (how === 'kill') this.#disks.get(id)!.killProcess()
    else this.#disks.get(id)!.losePower()
    const running = this.#running.get(id)
    this.#running.delete(id)
    running?.abort.abort()
  }

  #startFaults(): void {
    const random = this.#random
    const sometimes = (share: number, draw: () => number, otherwise: number) =>
      random.float() < share ? draw() : otherwise
    const between = (low: number, high: number) => low + random.float() * (high - low)
    this.#network.faults = {
      ...CALM,
      latencyMs: [0.1, between(1, 40)],
      breakRate: sometimes(0.6, () => random.float() * 0.02, 0),
      dialTimeoutRate: sometimes(0.5, () => random.float() * 0.2, 0),
      stallMs: [500, between(1_000, 8_000)],
    }
    const diskFaults = {
      ...CALM_DISK,
      syncMs: [0.2, between(1, 30)] as const,
      stallRate: sometimes(0.5, () => random.float() * 0.05, 0),
      stallMs: between(100, 2_000),
    }
    for (const disk of this.#disks.values()) disk.faults = diskFaults
    this.#every(
      sometimes(0.7, () => between(1_000, 8_000), Infinity),
      () => this.#crash(),
    )
    this.#every(
      sometimes(0.6, () => between(1_000, 8_000), Infinity),
      () => this.#partition(),
    )
    this.#every(
      sometimes(0.6, () => between(1_000, 6_000), Infinity),
      () => this.#changeMembership(),
    )
    this.#every(
      sometimes(0.4, () => between(1_000, 6_000), Infinity),
      () => this.#transfer(),
    )
    const thinkMs = between(20, 400)
    const clients = 2 + random.below(4)
    for (let client = 0; client < clients; client++) this.#clientLater(thinkMs)
  }

  #every(meanMs: number, act: () => void): void {
    if (meanMs === Infinity) return
    this.#clock.setTimer(-Math.log(1 - this.#random.float()) * meanMs, () => {
      if (this.#healed || this.#failure) return
      act()
      this.#every(meanMs, act)
    })
  }

  #crash(): void {
    const leader = this.#leader()
    const victim = leader && this.#random.float() < 0.4 ? leader : this.#pick([...this.#running.values()])
    if (!victim) return
    const how = this.#random.float() < 0.5 ? 'kill' : 'power'
    const all = how === 'power' && this.#random.float() < 0.3
    for (const { id } of all ? [...this.#running.values()] : [victim]) {
      this.#stop(id, how)
      this.#clock.setTimer(this.#random.float() * 4_000, () => this.#restart(id))
    }
  }

  #restart(id: RaftId): void {
    if (this.#running.has(id) || this.#gone.has(id)) return
    this.#network.powerOn(id)
    this.#start(id).catch((error: unknown) => this.#fail(error))
  }

  #partition(): void {
    const ids = [...this.#disks.keys()]
    const a = this.#pick(ids)!
    const others = ids.filter((id) => id !== a && this.#random.float() < 0.6)
    const kind = this.#random.float()
    this.#trace(`cut ${a} from ${others.join(' ')} (${kind.toFixed(2)})`)
    for (const b of others) {
      if (kind < 0.2) this.#network.disconnect(a, b)
      else if (kind < 0.5) this.#network.cutOneWay(a, b)
      else this.#network.cut(a, b)
    }
    this.#clock.setTimer(this.#random.float() * 5_000, () => {
      for (const b of others) this.#network.heal(a, b)
    })
  }

  #transfer(): void {
    const to = this.#pick([...this.#running.keys()])
    if (to) this.#leader()?.node.transferLeadership(to).catch(ignoreCoded)
  }

  #changeMembership(): void {
    const leader = this.#leader()
    if (!leader) return
    const { conf } = leader.node.status()
    const known = this.#pick(conf.members)
    const kind = this.#random.float()
    const change = (step: ConfChangeStep) => {
      this.#trace(`${leader.id} is asked for ${JSON.stringify(step)}`)
      leader.node.changeMembership({ steps: [step] }).catch(ignoreCoded)
    }
    if (kind < 0.45 && conf.members.length < 7 && this.#members < 12) {
      this.#launch().then(
        ({ id }) => change({ kind: this.#random.float() < 0.6 ? 'add-voter' : 'add-learner', member: memberOf(id) }),
        (error: unknown) => this.#fail(error),
      )
    } else if (known && kind < 0.6) change({ kind: 'add-voter', member: known })
    else if (known && conf.voters.length > 2) {
      change(kind < 0.75 ? { kind: 'add-learner', member: known } : { kind: 'remove', id: known.id })
    }
  }

  #clientLater(thinkMs: number): void {
    this.#clock.setTimer(this.#random.float() * thinkMs, () => {
      if (this.#healed || this.#failure) return
      const running = this.#pick([...this.#running.values()])
      const key = `k${this.#random.below(2)}`
      if (running) this.#perform(running, key, this.#drawOperation(), () => this.#clientLater(thinkMs))
      else this.#clientLater(thinkMs)
    })
  }

  #drawOperation(): RegisterOperation {
    const kind = this.#random.float()
    if (kind < 0.45) return { kind: 'read' }
    if (kind < 0.8) return { kind: 'write', value: this.#history.freshValue() }
    return { kind: 'swap', expected: this.#history.recentValue(this.#random), value: this.#history.freshValue() }
  }

  #perform(
    running: Running,
    key: string,
    operation: RegisterOperation,
    onOutcome: (acknowledged: boolean) => void,
  ): void {
    const { node, machine, id } = running
    const item = this.#history.call(key, operation, onOutcome)
    const isRead = operation.kind === 'read'
    const outcome = isRead
      ? node.readIndex().then(() => machine.values[key] ?? '')
      : node.propose(encodeOperation(key, operation))
    outcome.then(
      (found) => {
        if (this.#running.get(id) !== running) return // its process is dead and says nothing
        this.#history.returns(item, operation.kind === 'write' ? undefined : found)
      },
      (error: unknown) => {
        const dead = this.#running.get(id) !== running
        this.#history.fails(item, isRead || (!dead && NONE.has(errorCode(error) ?? '')))
      },
    )
    // A dead process answers nothing.
    this.#clock.setTimer(REQUEST_TIMEOUT_MS * 2, () => {
      if (item.returned === Infinity) this.#history.fails(item, false)
    })
  }

  async #recover(): Promise<void> {
    this.#trace('healed')
    this.#healed = true
    this.#network.faults = CALM
    this.#network.healAll()
    for (const [id, disk] of this.#disks) {
      disk.faults = CALM_DISK
      this.#restart(id)
    }
    const done = new Set<RaftId>()
    const poll = () => {
      const leader = this.#leader()
      for (const { id } of leader?.node.status().conf.members ?? []) {
        const running = this.#running.get(id)
        if (!running || done.has(id)) continue
        this.#perform(running, 'recovery', { kind: 'write', value: this.#history.freshValue() }, (acknowledged) => {
          if (acknowledged) done.add(id)
        })
      }
      this.#clock.setTimer(1_000, poll)
    }
    poll()
    await this.#stepUntil(() => this.#recovered(done), RECOVERY_MS, 'recovery')
  }

  #recovered(done: ReadonlySet<RaftId>): boolean {
    const leader = this.#leader()
    if (!leader || done.size === 0) return false
    const { conf, lastIndex, applied } = leader.node.status()
    if (conf.outgoing.length > 0 || applied !== lastIndex) return false
    return conf.members.every(({ id }) => done.has(id) && this.#running.get(id)?.machine.chain === leader.machine.chain)
  }

  /** Steps until `condition` or for `limitMs`, looking at every node after each step. A name makes the limit a failure. */
  async #stepUntil(condition: () => boolean, limitMs: number, name?: string): Promise<void> {
    const endMs = this.#clock.nowMs() + limitMs
    while (!condition()) {
      if (!(await this.#clock.step(endMs))) {
        if (name) throw new Violation('liveness', `${name} took more than ${limitMs} ms`)
        return
      }
      this.#events++
      this.#observe()
      if (this.#failure) throw this.#failure
    }
  }

  async #wait(promise: Promise<void>, limitMs: number): Promise<void> {
    let settled = false
    const done = () => {
      settled = true
    }
    promise.then(done, done)
    await this.#stepUntil(() => settled, limitMs, 'growing the cluster')
    await promise
  }

  #observe(): void {
    for (const running of this.#running.values()) {
      const status = statusOf(running)
      if (!status) continue
      this.#highestTerm = Math.max(this.#highestTerm, status.term)
      if (status.role === 'leader') this.#checkers.leads(running.id, status.term, HIDDEN_LOG)
    }
  }

  #leader(): Running | undefined {
    const leaders = [...this.#running.values()].filter((running) => statusOf(running)?.role === 'leader')
    return leaders.sort((a, b) => b.node.status().term - a.node.status().term)[0]
  }

  #fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[this.#random.below(items.length)]
  }

  #trace(line: string): void {
    const stamped = `${this.#clock.nowMs().toFixed(1)} ${line}`
    this.#digest.update(stamped)
    this.#onTrace(stamped)
  }
}

/** What a node's log holds is its own affair; the checkers judge by what it applies. */
const HIDDEN_LOG = { snapshotIndex: Infinity, entryAt: () => undefined }

/** Undefined while the node recovers. */
function statusOf({ node }: Running) {
  try {
    return node.status()
  } catch (error) {
    if (errorCode(error) === 'RAFT_NOT_RUNNING') return undefined
    throw error
  }
}

function memberOf(id: RaftId): Member {
  return { id, address: `${id}:2377` }
}

function ignoreCoded(error: unknown): void {
  if (!(error instanceof CodedError)) throw error
}

// A whole simulated cluster: production's managers and workers on simulated machines, network and time, its users and its
// faults, all from one seed. First calm, then a storm, then everything is healed and has to converge.

import { REBALANCE_AT_ONCE_LABEL, REBALANCE_LABEL } from '../../src/api/cluster-settings.ts'
import type { ManagerAddress } from '../../src/api/dispatcher.ts'
import type { Node } from '../../src/api/objects.ts'
import { CodedError, errorCode, errorMessage } from '../../src/lib/errors.ts'
import { SeededRandom } from '../../src/lib/random.ts'
import { nextNodeNumber } from '../../src/manager/allocator/node-number.ts'
import { createCluster, newNode } from '../../src/manager/ca/create-cluster.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { OWN_FEATURE_LEVEL } from '../../src/manager/membership/feature-level.ts'
import type { StoreEvent, Transaction } from '../../src/manager/store/types.ts'
import { aCluster } from '../support/objects.ts'
import { AvailabilityWatch } from './cluster-availability.ts'
import { issueCertificate } from './cluster-certificate.ts'
import { ClusterCheckers } from './cluster-checkers.ts'
import { complaints } from './cluster-convergence.ts'
import { DataPlaneWatch } from './cluster-data-plane.ts'
import { loseMajority } from './cluster-disaster.ts'
import { ClusterFaults } from './cluster-faults.ts'
import { Transcript, transcriptLog } from './cluster-log.ts'
import { SimMachine } from './cluster-machine.ts'
import { Operator, type OperatorContext } from './cluster-operator.ts'
import { type ClusterProfile, drawClusterProfile } from './cluster-profile.ts'
import { ClusterViolation } from './cluster-violation.ts'
import { SimulatedNetwork } from './network.ts'
import { DriftingClock, VirtualClock } from './virtual-clock.ts'

export interface ClusterSimulationOptions {
  readonly seed: number
  /** Replaces what the seed would draw. */
  readonly profile?: Partial<ClusterProfile>
  readonly onTrace?: (line: string) => void
}

export interface ClusterSimulationResult {
  /** Of everything that happened: two runs of one seed have the same. */
  readonly digest: string
  readonly failure: Error | undefined
  /** The end of the transcript. */
  readonly lastEvents: readonly string[]
  readonly virtualMs: number
  readonly entries: number
  readonly operations: number
  readonly acknowledged: number
  readonly machines: number
  /** How long it took from the end of the faults until all was well. */
  readonly convergedMs: number
}

/** Everything has to be well again within this time. */
const CONVERGENCE_MS = 600_000
/** … and to stay so. */
const STABLE_LOOKS = 10
const LOOK_MS = 1_000
const AVAILABILITY_LOOK_MS = 100
const FORMATION_MS = 60_000
const OPERATION_LIMIT_MS = 300_000

export function simulateCluster(options: ClusterSimulationOptions): Promise<ClusterSimulationResult> {
  return new ClusterSimulation(options).run()
}

class ClusterSimulation {
  readonly #clock = new VirtualClock()
  readonly #random: SeededRandom
  readonly #profile: ClusterProfile
  readonly #network: SimulatedNetwork
  readonly #transcript: Transcript
  readonly #checkers = new ClusterCheckers()
  readonly #availability = new AvailabilityWatch()
  readonly #dataPlanes = new DataPlaneWatch()
  readonly #operator: Operator
  readonly #machines: SimMachine[] = []
  readonly #faults: ClusterFaults
  readonly #pending = new Map<
    number,
    { readonly text: string; readonly sinceMs: number; readonly machine: SimMachine }
  >()
  readonly #operationRandom: SeededRandom
  #phase: 'forming' | 'calm' | 'storm' | 'healed' = 'forming'
  #failure: Error | undefined
  /** Members of a cluster that was given up: what they know is not the state of this one. */
  #oldRaftIds: ReadonlySet<string> = new Set()
  #operations = 0
  #lateMs = 0
  #acknowledged = 0
  #convergedMs = 0

  constructor({ seed, profile, onTrace }: ClusterSimulationOptions) {
    this.#random = new SeededRandom(seed)
    this.#profile = { ...drawClusterProfile(this.#random), ...profile }
    this.#network = new SimulatedNetwork({ clock: this.#clock, random: this.#random.fork() })
    this.#transcript = new Transcript(() => this.#clock.nowMs(), onTrace)
    this.#operator = new Operator(this.#random.fork(), this.#profile)
    this.#operationRandom = this.#random.fork()
    const { managers, workers } = this.#profile
    for (let n = 1; n <= managers + workers; n++) this.#machines.push(this.#machine(n <= managers ? `m${n}` : `w${n}`))
    this.#faults = new ClusterFaults({
      clock: this.#clock,
      random: this.#random.fork(),
      profile: this.#profile,
      network: this.#network,
      machines: this.#machines,
      trace: (host, what) => this.#transcript.write(host, what),
    })
  }

  async run(): Promise<ClusterSimulationResult> {
    const unhandled = (error: unknown) =>
      this.#fail(new ClusterViolation('nothing fails unseen', `unhandled: ${stackOf(error)}`))
    process.on('unhandledRejection', unhandled)
    process.on('uncaughtException', unhandled)
    try {
      await this.#form()
      this.#phase = 'calm'
      this.#lateMs = this.#clock.nowMs() + this.#profile.calmMs / 3
      this.#operateLater()
      this.#lookLater()
      await this.#advance(this.#profile.calmMs)
      this.#phase = 'storm'
      this.#transcript.write('', 'faults begin')
      this.#availability.forget()
      this.#faults.begin()
      await this.#advance(this.#profile.stormMs)
      if (this.#profile.losesMajority) await this.#loseMajority()
      else this.#heal()
      await this.#converge()
    } catch (error) {
      this.#fail(error)
    } finally {
      // What runs on would disturb whatever runs next.
      for (const machine of this.#machines) machine.powerOff()
      await this.#clock.advance(100)
      process.off('unhandledRejection', unhandled)
      process.off('uncaughtException', unhandled)
    }
    return {
      digest: this.#transcript.digest(),
      failure: this.#failure,
      lastEvents: this.#failure ? this.#transcript.end(60) : [],
      virtualMs: Math.round(this.#clock.nowMs()),
      entries: this.#checkers.highestIndex,
      operations: this.#operations,
      acknowledged: this.#acknowledged,
      machines: this.#machines.length,
      convergedMs: this.#convergedMs,
    }
  }

  #machine(host: string): SimMachine {
    const { clockOffsetMs, clockDrift, snapshotInterval, keepEntries } = this.#profile
    const rate = clockDrift ** (2 * this.#random.float() - 1)
    const clock = new DriftingClock(this.#clock, { rate, offsetMs: this.#random.float() * clockOffsetMs })
    return new SimMachine({
      host,
      clock,
      random: this.#random.fork(),
      network: this.#network,
      raftConfig: { snapshotInterval, keepEntries },
      log: (isAlive) =>
        transcriptLog(this.#transcript, host, isAlive, (message) =>
          this.#fail(new ClusterViolation('nothing fails unseen', message)),
        ),
      onManager: ({ files }, manager) => {
        if (!this.#oldRaftIds.has(files?.raftId ?? '')) this.#follow(host, manager)
      },
      onStopSignal: (_machine, taskId) => this.#stopSignal(taskId),
      onFailure: (_machine, error) =>
        this.#fail(new ClusterViolation('nothing fails unseen', `swarmd on ${host} ended: ${stackOf(error)}`)),
    })
  }

  #follow(host: string, manager: Manager): void {
    const check = (act: () => void) => {
      try {
        act()
      } catch (error) {
        this.#fail(error)
      }
    }
    manager.store.subscribe((events) =>
      check(() => this.#checkers.observe(host, manager.store, events, () => this.#trace(events))),
    )
  }

  #stopSignal(taskId: string): void {
    const store = this.#leader()?.manager?.store
    if (this.#phase !== 'calm' || !store) return
    try {
      this.#dataPlanes.stopSignal(taskId, store, this.#machines, this.#clock.nowMs())
    } catch (error) {
      this.#fail(error)
    }
  }

  #trace(events: readonly StoreEvent[]): void {
    const isOneHistory = this.#oldRaftIds.size === 0
    for (const event of events) {
      // What ran by a history that is lost is unknown to the managers until its node has come back.
      if (isOneHistory) this.#dataPlanes.observe(event, this.#machines, this.#clock.nowMs())
      const line = describeEvent(event)
      if (line) this.#transcript.write('', line)
    }
  }

  #fail(error: unknown): void {
    if (this.#failure) return
    this.#failure = error instanceof Error ? error : new Error(String(error))
    this.#transcript.write('', `FAILED ${this.#failure.message}`)
  }

  async #advance(durationMs: number): Promise<void> {
    const endMs = this.#clock.nowMs() + durationMs
    while (this.#clock.nowMs() < endMs) {
      if (this.#failure) throw this.#failure
      await this.#clock.advance(Math.min(250, endMs - this.#clock.nowMs()))
    }
    if (this.#failure) throw this.#failure
  }

  async #until(condition: () => boolean, limitMs: number, what: string): Promise<void> {
    const endMs = this.#clock.nowMs() + limitMs
    while (!condition()) {
      if (this.#clock.nowMs() >= endMs) throw new ClusterViolation('convergence', `${what} within ${limitMs} ms`)
      await this.#advance(50)
    }
  }

  // ---- the cluster forms ----

  async #form(): Promise<void> {
    const [first, ...others] = this.#machines
    const { rebalanceOnJoin, rebalanceAtOnce } = this.#profile
    const Labels = {
      [REBALANCE_AT_ONCE_LABEL]: `${rebalanceAtOnce}`,
      ...(rebalanceOnJoin && { [REBALANCE_LABEL]: 'on-join' }),
    }
    const cluster = aCluster({
      id: this.#random.id(),
      meta: { version: 1, createdAt: '', updatedAt: '' },
      spec: { Name: 'default', Labels, Orchestration: { TaskHistoryRetentionLimit: this.#profile.taskHistory } },
      featureLevel: OWN_FEATURE_LEVEL,
      rootCa: createCluster({ wallMs: this.#clock.wallMs(), random: this.#random, featureLevel: OWN_FEATURE_LEVEL })
        .rootCa,
    })
    const node = this.#newNode(first!, 'manager')
    const raftId = `${node.id}-${this.#random.id().slice(0, 8)}`
    const manager = { raftId, address: first!.address, featureLevel: OWN_FEATURE_LEVEL }
    const certificate = issueCertificate(cluster)
    const files = {
      nodeId: node.id,
      clusterId: cluster.id,
      role: 'manager' as const,
      certificate,
      raftId,
      joined: true,
    }
    const made = { ...node, number: 1, manager, meta: { ...node.meta, version: 1 } }
    const booted = first!.bootstrap(cluster, made, files)
    let up = false
    void booted.then(() => {
      up = true
    })
    await this.#until(() => up && this.#leader() !== undefined, FORMATION_MS, 'the first manager leads')
    const early = others.slice(0, others.length - this.#profile.lateWorkers)
    for (const machine of early) await this.#join(machine)
    const isFormed = () => complaints(this.#machines, new Set()).length === 0
    await this.#until(isFormed, FORMATION_MS, 'the cluster forms')
  }

  #newNode(machine: SimMachine, role: 'manager' | 'worker'): Node {
    const { host } = machine
    const wallMs = this.#clock.wallMs()
    const view = this.#leader()?.manager?.store
    const number = (view && nextNodeNumber(view)) ?? 1
    return newNode({ id: this.#random.id(), role, availability: 'active', number, address: host, wallMs })
  }

  /** As the CA does it: the record first, then the node comes with its certificate. */
  async #join(
    machine: SimMachine,
    role: 'manager' | 'worker' = machine.host.startsWith('m') ? 'manager' : 'worker',
  ): Promise<void> {
    const leader = this.#leader()
    if (!leader) return
    const node = this.#newNode(machine, role)
    let done = false
    const joined = this.#propose(leader, [{ kind: 'create', object: node }])
    joined.then(
      () => {
        done = true
      },
      () => {},
    )
    await this.#until(() => done, FORMATION_MS, `${machine.host} joins`)
    this.#giveCertificate(machine, node)
  }

  #giveCertificate(machine: SimMachine, node: Node): void {
    // The leader may have fallen since: any manager has the cluster, and who has an older one issues by it.
    const clusters = this.#machines.flatMap((one) => one.manager?.store.cluster() ?? [])
    const [cluster] = clusters.toSorted((a, b) => b.meta.version - a.meta.version)
    if (!cluster) return
    const certificate = issueCertificate(cluster)
    const files = { nodeId: node.id, clusterId: cluster.id, role: node.role, certificate, raftId: '', joined: false }
    machine.join(files, this.#managers())
  }

  #managers(): readonly ManagerAddress[] {
    return this.#machines.flatMap(({ files, address }) =>
      files?.role === 'manager' ? [{ nodeId: files.nodeId, address }] : [],
    )
  }

  /** @param by users' writes are refused where there is no room */
  async #propose(
    machine: SimMachine,
    transaction: Transaction,
    by: 'proposer' | 'userProposer' = 'proposer',
  ): Promise<number> {
    const manager = machine.manager!
    const index = await manager[by].propose(transaction)
    if (machine.manager === manager) this.#checkers.acknowledged(index, manager.store)
    this.#acknowledged++
    return index
  }

  #leader(): SimMachine | undefined {
    return this.#machines.find((machine) => machine.manager?.isLeader)
  }

  // ---- its users ----

  #operateLater(): void {
    const meanMs = this.#profile.operationEveryMs
    this.#clock.setTimer(-Math.log(1 - this.#operationRandom.float()) * meanMs, () => {
      if (this.#phase === 'healed') return
      this.#operate()
      this.#operateLater()
    })
  }

  #operate(): void {
    // Some ask a manager that leads no more and does not know it yet.
    const leaders = this.#machines.filter((machine) => machine.manager?.isLeader)
    const machine = leaders[this.#operationRandom.below(leaders.length)]
    if (!machine?.manager) return
    const { manager } = machine
    const mayJoin = this.#phase !== 'calm' || this.#clock.nowMs() > this.#lateMs
    const idle = mayJoin ? this.#machines.find((one) => one.on && !one.files) : undefined
    if (idle) {
      void this.#rejoin(machine, idle)
      return
    }
    const context = this.#contextOf(machine, manager)
    const operation = this.#operator.draw(context, this.#phase === 'calm')
    const { scope, image } = operation
    if (scope.kind === 'node') this.#availability.forget()
    if (scope.kind === 'service') {
      const service = manager.store.byName('service', scope.name)
      if (service && image) this.#availability.updating(scope.name, service, image)
      else this.#availability.changing(scope.name)
    }
    void this.#track(machine, operation.text, () => operation.perform(context)).finally(() => {
      if (scope.kind === 'service') this.#availability.changed(scope.name)
    })
  }

  #contextOf(machine: SimMachine, manager: Manager): OperatorContext {
    return {
      view: manager.store,
      proposer: { propose: (transaction) => this.#propose(machine, transaction, 'userProposer') },
      clock: this.#clock,
      random: this.#operationRandom,
      objectId: this.#operationRandom.id(),
      sight: { leaderId: manager.nodeId, reachability: (nodeId) => manager.reachability(nodeId) },
    }
  }

  async #track(machine: SimMachine, text: string, perform: () => Promise<unknown>): Promise<void> {
    const number = ++this.#operations
    const name = `#${number}`
    this.#pending.set(number, { text, sinceMs: this.#clock.nowMs(), machine })
    this.#transcript.write(name, `${text} (asked of ${machine.host})`)
    try {
      await perform()
      this.#transcript.write(name, 'done')
    } catch (error) {
      if (error instanceof CodedError || error instanceof ClusterViolation)
        this.#transcript.write(name, `${errorCode(error) ?? 'failed'}: ${errorMessage(error)}`)
      if (!(error instanceof CodedError)) this.#fail(error)
    } finally {
      this.#pending.delete(number)
    }
  }

  /** A machine whose node was removed comes back as another node. */
  async #rejoin(machine: SimMachine, idle: SimMachine): Promise<void> {
    const node = this.#newNode(idle, 'worker')
    await this.#track(machine, `${idle.host} joins anew`, async () => {
      await this.#propose(machine, [{ kind: 'create', object: node }])
      if (idle.on && !idle.files) this.#giveCertificate(idle, node)
    })
  }

  #lookLater(): void {
    this.#clock.setTimer(AVAILABILITY_LOOK_MS, () => {
      if (this.#phase !== 'calm') return
      const leader = this.#leader()?.manager
      try {
        if (leader) this.#availability.look(leader.store, this.#machines)
      } catch (error) {
        this.#fail(error)
      }
      this.#lookLater()
    })
  }

  #heal(): void {
    this.#phase = 'healed'
    this.#transcript.write('', 'everything is healed')
    this.#faults.heal()
  }

  async #loseMajority(): Promise<void> {
    await loseMajority({
      machines: this.#machines,
      random: this.#operationRandom,
      advance: (durationMs) => this.#advance(durationMs),
      until: (...what) => this.#until(...what),
      trace: (host, what) => this.#transcript.write(host, what),
      cut: (a, b) => this.#network.cut(a.host, b.host),
      heal: () => this.#heal(),
      onBegin: (oldRaftIds) => {
        this.#oldRaftIds = oldRaftIds
        this.#checkers.beginAnew()
      },
      contextOf: (leader) => this.#contextOf(leader, leader.manager!),
      join: (machine, role) => this.#join(machine, role),
    })
  }

  // ---- convergence ----

  async #converge(): Promise<void> {
    const startMs = this.#clock.nowMs()
    const orphans = new Set<string>()
    let open: readonly string[] = ['not looked at yet']
    let wellSinceMs = startMs
    for (let looks = 0; looks < STABLE_LOOKS; ) {
      await this.#advance(LOOK_MS)
      open = [...complaints(this.#machines, orphans), ...this.#hanging()]
      if (open.length === 0) {
        if (looks++ === 0) wellSinceMs = this.#clock.nowMs()
        continue
      }
      looks = 0
      if (this.#clock.nowMs() - startMs > CONVERGENCE_MS)
        throw new ClusterViolation('convergence', open.slice(0, 12).join('; '))
    }
    this.#convergedMs = Math.round(wellSinceMs - startMs)
    for (const machine of this.#machines) if (machine.manager) this.#checkers.finish(machine.manager.store)
  }

  /** Requests without an outcome, of machines that live. */
  #hanging(): readonly string[] {
    return [...this.#pending.values()].flatMap(({ text, sinceMs, machine }) =>
      machine.up && this.#clock.nowMs() - sinceMs > OPERATION_LIMIT_MS ? [`'${text}' has no outcome`] : [],
    )
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function describeEvent({ kind, objectKind, id, old, new: next }: StoreEvent): string | undefined {
  if (next?.kind === 'task') {
    const before = old?.kind === 'task' ? `${old.status.state}/${old.desiredState}` : 'none'
    const { serviceName, slot, nodeId, status, desiredState } = next
    return `task ${id} ${serviceName}.${slot} on ${nodeId || '-'}: ${before} → ${status.state}/${desiredState} ${status.error}`
  }
  if (next?.kind === 'node') {
    const { status, role, spec, description, manager } = next
    return `node ${id} ${description.Hostname}: ${status.state} ${role}/${spec.Role} ${spec.Availability} ${manager?.raftId ?? ''}`
  }
  if (next?.kind === 'service')
    return `service ${next.spec.Name} v${next.specVersion} ${next.updateStatus?.State ?? ''} ${next.updateStatus?.Message ?? ''}`
  return `${kind} ${objectKind} ${id}`
}

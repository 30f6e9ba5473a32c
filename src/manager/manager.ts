// One manager: its member of the consensus, its copy of the state, and, while it leads, the loops that lead the cluster.
// It knows neither disks nor sockets: storage and connections are given to it, so that the simulator runs it as it is.

import type { LogOptions, ManagerAddress, StreamRequest } from '../api/dispatcher.ts'
import type { ProbeAnswer, ProbeRequest } from '../api/network-check.ts'
import type { Task } from '../api/objects.ts'
import type { SwarmSpec } from '../api/spec.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import type { Connection } from '../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Histogram } from '../lib/histogram.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import type { RaftMetrics } from '../raft/raft-metrics.ts'
import { RaftNode } from '../raft/raft-node.ts'
import { DEFAULT_RAFT_CONFIG, type RaftNodeOptions, type RaftNodeStatus } from '../raft/raft-node-types.ts'
import type { AddressUse } from './allocator/address-pool.ts'
import { DiskGuard, type ManagerDisk } from './disk-guard.ts'
import { Dispatcher, redirect } from './dispatcher/dispatcher.ts'
import { updateNode } from './dispatcher/node-writer.ts'
import type { SecretDrivers } from './dispatcher/secret-request.ts'
import { Leadership } from './leadership.ts'
import type { Problem } from './loop/controller.ts'
import { forcedChanges } from './membership/forced-cluster.ts'
import { SchedulingDelay } from './scheduling-delay.ts'
import { Store } from './store/store.ts'
import { StoreMachine } from './store/store-machine.ts'
import { type ProposerMetrics, StoreProposer } from './store/store-proposer.ts'
import type { Proposer, StoreView, TransactionResult } from './store/types.ts'

/** How long a new member may take to catch up; then it has to ask again. */
const CATCH_UP_TIMEOUT_MS = 60_000
const CATCH_UP_POLL_MS = 20
/** The sizes of so many entries are remembered; their bytes are bounded in any case. */
const MAX_KEPT_ENTRIES = 1_000_000
/** A learner this close to the end of the log is as good as caught up. */
const CATCH_UP_ENTRIES = 100

export interface ManagerOptions {
  readonly nodeId: string
  /** `<node id>-<anything>`: another one for each time that the node becomes a manager. */
  readonly raftId: string
  /** host:port of this node's control port, as others dial it */
  readonly address: string
  readonly storage: RaftNodeOptions<readonly TransactionResult[]>['storage']
  readonly transport: RaftNodeOptions<readonly TransactionResult[]>['transport']
  /** Goes before what the cluster's spec says of snapshots. */
  readonly raftConfig?: RaftNodeOptions<readonly TransactionResult[]>['config']
  /** Asked while it leads; undefined: none. */
  readonly secretDrivers?: SecretDrivers | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** What a manager says of itself. */
export interface MemberRequest {
  readonly nodeId: string
  readonly raftId: string
  /** host:port */
  readonly address: string
  readonly featureLevel: number
}

/** What a manager has counted since its start, and how much it has to do now. */
export interface ManagerMetrics {
  readonly raft: RaftMetrics
  readonly proposer: ProposerMetrics
  readonly schedulingDelay: Histogram
  /** Of a leader; empty otherwise. */
  readonly loops: readonly {
    readonly name: string
    readonly queued: number
    readonly inFlight: number
    /** Keys that can't go on, and why. */
    readonly problems: ReadonlyMap<string, Problem>
  }[]
  /** Of a leader: how full networks are, per subnet. */
  readonly addresses: readonly (AddressUse & { readonly networkId: string })[]
}

/** For changes that may be asked for again: then an outcome that nobody knows is only a reason to do so. */
async function repeatable(change: () => Promise<void>): Promise<void> {
  try {
    await change()
  } catch (error) {
    if (errorCode(error) !== 'PROPOSAL_UNKNOWN') throw error
    throw new CodedError('PROPOSAL_UNKNOWN', errorMessage(error), { retryable: true, cause: error })
  }
}

/** The node that a member of the consensus runs on. */
export function nodeOfRaftId(raftId: string): string {
  return raftId.slice(0, raftId.indexOf('-'))
}

export class Manager {
  readonly nodeId: string
  readonly store = new Store()
  readonly raft: RaftNode<readonly TransactionResult[]>
  readonly dispatcher: Dispatcher
  readonly proposer: StoreProposer
  /** For what users ask: as `proposer`, and RESOURCE_EXHAUSTED for what makes the store grow while the disk is nearly full. */
  readonly userProposer: Proposer
  readonly #disk: DiskGuard
  readonly #options: ManagerOptions
  readonly #raftId: string
  readonly #address: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #leadership: Leadership
  readonly #schedulingDelay = new SchedulingDelay()
  #recovered = false

  constructor(options: ManagerOptions) {
    this.#options = options
    this.nodeId = options.nodeId
    this.#raftId = options.raftId
    this.#address = options.address
    this.#clock = options.clock
    this.#log = options.log
    const machine = new StoreMachine({ store: this.store, log: options.log, clock: options.clock })
    this.raft = new RaftNode({
      id: options.raftId,
      storage: options.storage,
      stateMachine: machine,
      transport: options.transport,
      clock: options.clock,
      random: options.random,
      log: options.log,
      ...(options.raftConfig ? { config: options.raftConfig } : {}),
    })
    this.proposer = new StoreProposer({
      propose: (data) => this.raft.proposeAsLeader(data, this.#leadership.term ?? 0),
      takeCheckpoint: () => machine.takeCheckpoint(),
      clock: options.clock,
    })
    this.#disk = new DiskGuard({
      nodeId: options.nodeId,
      view: this.store,
      raft: {
        status: () => this.status(),
        transferLeadership: (to) => this.raft.transferLeadership(to),
        setReluctant: (isReluctant) => this.raft.setReluctant(isReluctant),
      },
      nodeOf: nodeOfRaftId,
      clock: options.clock,
      log: options.log,
    })
    this.userProposer = this.#disk.guarded(this.proposer)
    this.dispatcher = new Dispatcher({
      view: this.store,
      subscribe: (listener) => this.store.subscribe(listener),
      proposer: this.proposer,
      secretDrivers: options.secretDrivers,
      clock: options.clock,
      random: options.random,
      log: options.log,
    })
    this.#leadership = new Leadership({
      store: this.store,
      proposer: this.proposer,
      dispatcher: this.dispatcher,
      consensus: {
        ownRaftId: options.raftId,
        members: () => this.status()?.conf.members.map(({ id }) => ({ raftId: id, nodeId: nodeOfRaftId(id) })) ?? [],
        remove: (raftId) => this.#removeMember(raftId),
        transferLeadership: () => this.raft.transferLeadership(),
      },
      clock: options.clock,
      random: options.random,
      log: options.log,
    })
  }

  metrics(): ManagerMetrics {
    return {
      raft: this.raft.metrics,
      proposer: this.proposer.metrics(),
      schedulingDelay: this.#schedulingDelay.histogram,
      loops: this.#leadership.loops.map((loop) => ({ name: loop.name, ...loop.depth(), problems: loop.problems() })),
      addresses: [...(this.#leadership.allocator?.addressUse() ?? [])],
    }
  }

  /** How much is left on the disk of this manager. */
  setDisk(disk: ManagerDisk): void {
    this.#disk.set(disk)
    this.#followRaftSettings()
  }

  /** True while this manager leads and its state is complete. */
  get isLeader(): boolean {
    return this.#leadership.term !== undefined
  }

  /** Its member of the consensus; undefined before it has recovered and after its end. */
  status(): RaftNodeStatus | undefined {
    if (!this.#recovered) return undefined
    try {
      return this.raft.status()
    } catch (error) {
      if (errorCode(error) === 'RAFT_NOT_RUNNING') return undefined // it is about to end
      throw error
    }
  }

  /**
   * Whether this manager's state may judge a node: it leads, or has applied all that it knows to be committed. What a
   * follower lacks only its leader can send, so it never judges the leader.
   */
  mayJudge(nodeId?: string): boolean {
    if (this.isLeader) return true
    const { leader, applied = 0, commit = 0 } = this.status() ?? {}
    return leader !== undefined && nodeOfRaftId(leader) !== nodeId && applied > 0 && applied >= commit
  }

  /** Where the leader is, as far as this manager knows. */
  leader(): ManagerAddress | undefined {
    if (this.isLeader) return { nodeId: this.nodeId, address: this.#address }
    const { leader, leaderAddress } = this.status() ?? {}
    if (!leader || !leaderAddress || leader === this.#raftId) return undefined
    return { nodeId: nodeOfRaftId(leader), address: leaderAddress }
  }

  /** What this manager sees of another; only a leader hears of all. */
  reachability(nodeId: string): 'reachable' | 'unreachable' | 'unknown' {
    if (nodeId === this.nodeId) return 'reachable'
    const status = this.status()
    const peer = status?.peers.find((entry) => nodeOfRaftId(entry.id) === nodeId)
    if (peer) return peer.recentActive ? 'reachable' : 'unreachable'
    return nodeOfRaftId(status?.leader ?? '') === nodeId ? 'reachable' : 'unknown'
  }

  /**
   * Runs until `signal` aborts.
   * @throws {CodedError} what stops a manager: an unknown format, a diverged state, a failed disk; MEMBER_REMOVED when it was
   *   taken out of the consensus
   */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const scope = new Scope(signal)
    const unsubscribe = this.raft.subscribe((change) => {
      if (change.kind === 'leadership' && change.isLeader) {
        this.#disk.leads()
        this.#leadership.begin(change.term, scope.signal, (error) =>
          scope.spawn('leadership', () => Promise.reject(error)),
        )
      } else if (change.kind === 'leadership') void this.#leadership.end()
      if (change.kind === 'removed') {
        scope.spawn('membership', async () => {
          throw new CodedError('MEMBER_REMOVED', 'this node was removed from the consensus of the managers')
        })
      }
    })
    const unfollow = this.store.subscribe((events) => {
      if (events.some(({ objectKind }) => objectKind === 'cluster')) this.#followRaftSettings()
      if (this.isLeader) this.#schedulingDelay.observe(events)
    })
    this.#followRaftSettings()
    scope.spawn('raft', async (raftSignal) => {
      try {
        await this.raft.run({ signal: raftSignal })
      } finally {
        this.#recovered = false
      }
    })
    scope.spawn('disk', (diskSignal) => this.#disk.run(diskSignal))
    scope.spawn('recovery', async () => {
      await this.raft.ready
      this.#recovered = true
    })
    try {
      await scope.wait()
    } finally {
      unsubscribe()
      unfollow()
      await this.#leadership.end()
      await scope.close()
    }
  }

  /**
   * Goes on alone with what this disk has of a cluster whose majority is lost: in place of a member's recovery, before `run`.
   * @param given settings that replace what is there, as far as they are not empty
   * @param from index of a kept snapshot to begin with; undefined: all that the disk has
   * @throws {CodedError} as RaftNode.beginAnew
   */
  async beginAnew(featureLevel: number, given: SwarmSpec, from?: number): Promise<void> {
    const raftId = this.#raftId
    const address = this.#address
    const { clock, random } = this.#options
    const change = (index: number) => {
      const changes = forcedChanges(this.store, this.nodeId, { raftId, address, featureLevel }, given, random)
      const [result] = this.store.apply(index, clock.wallMs(), [changes])
      if (result?.kind === 'refused') throw new CodedError(result.code, result.message)
    }
    await this.raft.beginAnew({ id: raftId, address }, change, from)
  }

  /** What a snapshot of this disk holds. @throws {CodedError} RAFT_SNAPSHOT_UNKNOWN; what reading it throws */
  async snapshotState(index: number): Promise<StoreView> {
    const reader = this.raft.readSnapshot(index)
    try {
      const store = new Store()
      await new StoreMachine({ store, log: this.#log, clock: this.#clock }).restore(reader.chunks())
      return store
    } finally {
      reader.release()
    }
  }

  /** Takes a worker's `/session` connection. */
  acceptSession(connection: Connection): void {
    if (this.isLeader) this.dispatcher.accept(connection)
    else redirect(connection, this.leader(), this.store)
  }

  /**
   * On the leader: makes the caller, a node with a manager's certificate, a voter. It has started its member already.
   * Resolves when the node is one; a node that is one already is no error.
   * @throws {CodedError} NODE_FORBIDDEN, NO_LEADER …
   */
  addMember(member: MemberRequest): Promise<void> {
    return repeatable(() => this.#addMember(member))
  }

  async #addMember(member: MemberRequest): Promise<void> {
    const node = this.store.get('node', member.nodeId)
    if (node?.role !== 'manager' || node.spec.Role !== 'manager' || nodeOfRaftId(member.raftId) !== member.nodeId) {
      throw new CodedError('NODE_FORBIDDEN', `node ${member.nodeId} is not a manager`)
    }
    this.#requireLevel(member.featureLevel)
    const { raftId, address, featureLevel } = member
    // What the node was before it lost its disk or its role, also where a join broke off before its record was written.
    const stale = this.raft.status().conf.members.filter(({ id }) => nodeOfRaftId(id) === node.id && id !== raftId)
    for (const { id } of stale) await this.#removeMember(id)
    const conf = this.raft.status().conf
    if (!conf.voters.includes(raftId)) {
      if (!conf.learners.includes(raftId)) {
        await this.raft.changeMembership({ steps: [{ kind: 'add-learner', member: { id: raftId, address } }] })
      }
      await this.#caughtUp(raftId)
      await this.raft.changeMembership({ steps: [{ kind: 'add-voter', member: { id: raftId, address } }] })
    }
    await updateNode(this.store, this.proposer, member.nodeId, (current) => ({
      ...current,
      manager: { raftId, address, featureLevel },
    }))
  }

  /**
   * On the leader: a running manager says where it is now and what it can do; the address book follows.
   */
  refreshMember(member: MemberRequest): Promise<void> {
    return repeatable(() => this.#refreshMember(member))
  }

  async #refreshMember(member: MemberRequest): Promise<void> {
    const { raftId, address, featureLevel } = member
    this.#requireLevel(featureLevel)
    const known = this.raft.status().conf.members.find((entry) => entry.id === raftId)
    if (!known) throw new CodedError('MEMBER_REMOVED', 'this manager was removed from the consensus while it was away')
    if (known.address !== address) {
      await this.raft.changeMembership({ steps: [{ kind: 'update', member: { id: raftId, address } }] })
    }
    await updateNode(this.store, this.proposer, member.nodeId, (node) =>
      node.manager?.raftId === raftId &&
      (node.manager.address !== address || node.manager.featureLevel !== featureLevel)
        ? { ...node, manager: { raftId, address, featureLevel } }
        : undefined,
    )
    this.#log.info({ nodeId: member.nodeId, address, featureLevel }, 'manager is back')
  }

  /** A manager that can do less than the cluster may ask of it would have to skip what it does not know. */
  #requireLevel(featureLevel: number): void {
    const level = this.store.cluster()?.featureLevel ?? 0
    if (featureLevel >= level) return
    throw new CodedError(
      'FEATURE_LEVEL',
      `this version of swarmd supports feature level ${featureLevel}, the cluster is at ${level}: upgrade swarmd on this node`,
    )
  }

  /** On the leader: the node leaves the cluster, and so the consensus first; its record stays, as a worker's. */
  releaseMember(member: Pick<MemberRequest, 'nodeId' | 'raftId'>): Promise<void> {
    return repeatable(() => this.#releaseMember(member))
  }

  async #releaseMember(member: Pick<MemberRequest, 'nodeId' | 'raftId'>): Promise<void> {
    if (nodeOfRaftId(member.raftId) !== member.nodeId) {
      throw new CodedError('NODE_FORBIDDEN', `node ${member.nodeId} may not speak for another`)
    }
    await this.#removeMember(member.raftId)
    await updateNode(this.store, this.proposer, member.nodeId, (node) => ({
      ...node,
      manager: undefined,
      role: 'worker',
      spec: { ...node.spec, Role: 'worker' },
    }))
  }

  /** On the leader: the engine's log frames of a task, from its node. */
  taskLogs(task: Task, options: LogOptions, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const request: StreamRequest = { kind: 'task-logs', taskId: task.id, options }
    return this.dispatcher.openStream(task.nodeId, request, signal)
  }

  /** On the leader: what a node finds when it tries what it can reach. @throws {CodedError} also with what the node says */
  async probe(nodeId: string, request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer> {
    const chunks: Uint8Array[] = []
    for await (const chunk of this.dispatcher.openStream(nodeId, { kind: 'probe', request }, signal)) chunks.push(chunk)
    if (signal.aborted) throw new CodedError('PROBE_TIMEOUT', 'the node did not answer in time', { retryable: true })
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) as ProbeAnswer
  }

  /** What `docker swarm update --snapshot-interval` says holds on every manager, at once. */
  #followRaftSettings(): void {
    const cluster = this.store.cluster()
    const { SnapshotInterval, LogEntriesForSlowFollowers, KeepOldSnapshots = 0 } = cluster?.spec.Raft ?? {}
    // Before the state is there nobody knows; what is kept is the first to make room on a disk that is nearly full.
    if (cluster) this.raft.keepSnapshots(this.#disk.disk.kind === 'low' ? 0 : KeepOldSnapshots)
    const { raftConfig } = this.#options
    this.raft.setSnapshotPolicy({
      snapshotInterval: raftConfig?.snapshotInterval ?? (SnapshotInterval || DEFAULT_RAFT_CONFIG.snapshotInterval),
      keepEntries: Math.min(
        raftConfig?.keepEntries ?? (LogEntriesForSlowFollowers || DEFAULT_RAFT_CONFIG.keepEntries),
        MAX_KEPT_ENTRIES,
      ),
    })
  }

  async #removeMember(raftId: string): Promise<void> {
    if (!this.raft.status().conf.members.some((member) => member.id === raftId)) return
    await this.raft.changeMembership({ steps: [{ kind: 'remove', id: raftId }] })
  }

  async #caughtUp(raftId: string): Promise<void> {
    const deadlineMs = this.#clock.nowMs() + CATCH_UP_TIMEOUT_MS
    while (this.#clock.nowMs() < deadlineMs) {
      const { role, peers, lastIndex } = this.raft.status()
      if (role !== 'leader') throw new CodedError('NOT_LEADER', 'this manager leads no more', { retryable: true })
      const peer = peers.find((entry) => entry.id === raftId)
      if (peer && peer.match > 0 && peer.match + CATCH_UP_ENTRIES >= lastIndex) return
      await sleep(this.#clock, CATCH_UP_POLL_MS)
    }
    throw new CodedError(
      'MEMBER_UNREACHABLE',
      `the new manager ${nodeOfRaftId(raftId)} can not be reached from the leader: is its control port open?`,
      { retryable: true },
    )
  }
}

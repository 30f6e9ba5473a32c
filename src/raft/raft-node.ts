// A member of a Raft cluster: drives the deterministic core with a clock, a disk and a network, and executes what is
// committed. The only thing of this folder that others use, beside the storage and the transport they hand to it.

import { sleep, type Timer } from '../lib/clock.ts'
import { assert, CodedError } from '../lib/errors.ts'
import { Scope } from '../lib/scope.ts'
import { ApplyQueue } from './apply-queue.ts'
import { isJoint } from './conf-change.ts'
import { bootstrapState, RaftCore } from './core.ts'
import { CoreDriver } from './core-driver.ts'
import type { ProposalResult, Ready, SoftState } from './core-types.ts'
import { LeaderWatch } from './leader-watch.ts'
import { MembershipWaiters } from './membership-waiters.ts'
import { NodeEvents } from './node-events.ts'
import { addressOf, describeStatus, transferTarget } from './node-status.ts'
import { decodeEnvelope, encodeEnvelope, MAX_SESSION } from './proposal-envelope.ts'
import { notLeader, ProposalTracker, queueFull, refusal, unknown } from './proposal-tracker.ts'
import { newRaftMetrics, type RaftMetrics } from './raft-metrics.ts'
import {
  DEFAULT_RAFT_CONFIG,
  MAX_PROPOSAL_BYTES,
  type RaftConfig,
  type RaftNodeEvent,
  type RaftNodeOptions,
  type RaftNodeStatus,
} from './raft-node-types.ts'
import type { SnapshotReader, StoredSnapshot } from './raft-storage.ts'
import { ReadTracker } from './read-tracker.ts'
import { SnapshotKeeper } from './snapshot-keeper.ts'
import { beginningAt } from './stored-state.ts'
import type { ConfChange, ConfState, Entry, Member, RaftId, StoredState } from './types.ts'

/** Executed in one synchronous slice: some milliseconds. */
const ENTRIES_PER_SLICE = 50

/**
 * Life: `bootstrap` (only a new cluster's first member; or `beginAnew`), then `run` once. Requests before `ready` and after the end are
 * refused with RAFT_NOT_RUNNING.
 */
export class RaftNode<Result> {
  readonly id: RaftId
  readonly metrics: RaftMetrics = newRaftMetrics()
  /**
   * Resolves when requests are taken and the state machine holds what this node knew to be committed when it last wrote;
   * what it acknowledged after that comes with the first `leadership` event, here or elsewhere. Rejects if `run` fails before.
   */
  readonly ready: Promise<void>
  readonly #options: RaftNodeOptions<Result>
  #config: RaftConfig
  readonly #session: number
  readonly #proposals = new ProposalTracker<Result>()
  readonly #reads = new ReadTracker()
  readonly #memberships = new MembershipWaiters()
  readonly #events: NodeEvents
  readonly #scope = new Scope()
  #becomeReady: { readonly resolve: () => void; readonly reject: (error: unknown) => void } | undefined
  #stored: StoredState | undefined
  #core: RaftCore | undefined
  #apply: ApplyQueue<Result> | undefined
  #snapshots: SnapshotKeeper | undefined
  #driver: CoreDriver | undefined
  #leaderWatch: LeaderWatch | undefined
  #soft: SoftState = { role: 'follower', term: 0, leader: '' }
  #conf: ConfState | undefined
  #applied = 0
  #appliedTerm = 0
  #recoveredTo = 0
  #nextRequestId = 1
  #tick: Timer | undefined
  #isReluctant = false

  constructor(options: RaftNodeOptions<Result>) {
    this.id = options.id
    this.#options = options
    this.#events = new NodeEvents(options.id)
    this.#config = { ...DEFAULT_RAFT_CONFIG, ...options.config }
    const { random } = options
    this.#session = random.below(2 ** 24) * 2 ** 24 + random.below(2 ** 24)
    assert(this.#session < MAX_SESSION, 'a session has 48 bits')
    this.ready = new Promise((resolve, reject) => {
      this.#becomeReady = { resolve, reject }
    })
    this.ready.catch(() => {}) // run() reports it as well
    options.storage.onSync = (durationMs, records) => this.#onSync(durationMs, records)
  }

  /**
   * Makes a new cluster of which this is the only member; durable when it resolves. The state machine's present state is
   * the cluster's first one.
   * @throws {CodedError} RAFT_STORAGE_NOT_EMPTY, and what opening the storage throws.
   */
  async bootstrap(member: Member): Promise<void> {
    assert(member.id === this.id, 'a cluster begins with the member that makes it')
    await this.#open()
    const state = bootstrapState(onlyMember(member))
    await this.#options.storage.bootstrap(state, this.#options.stateMachine.snapshot())
    this.#stored = state
  }

  /**
   * Makes a cluster of which this is the only member out of what a member of another one left in this storage, whose quorum
   * is lost for good. As if that one had been elected, its whole log is executed, also what it did not know to be
   * committed: nothing that was acknowledged and has reached this disk is lost. Durable when it resolves, in one step;
   * before `run`, in place of `bootstrap`.
   * @param member with an id that the old cluster does not know: its members, should they come back, are strangers
   * @param change of the state machine, at the given index, before it becomes the new cluster's first state
   * @param from index of a kept snapshot, to begin with that state and none of the log
   * @throws {CodedError} RAFT_STORAGE_EMPTY where nothing was left; RAFT_SNAPSHOT_UNKNOWN; what opening the storage, executing or
   *   `change` throws
   */
  async beginAnew(member: Member, change: (index: number) => void, from?: number): Promise<void> {
    assert(member.id === this.id, 'a cluster begins with the member that makes it')
    const { storage, stateMachine, clock } = this.#options
    const { hardState, snapshot, entries } = await this.#open()
    const reader = this.readSnapshot(from)
    try {
      await stateMachine.restore(reader.chunks())
    } finally {
      reader.release()
    }
    for (const [at, entry] of (from === undefined ? entries : []).entries()) {
      if (entry.index <= snapshot.index || entry.kind === 'config' || entry.data.length === 0) continue
      const { data } = decodeEnvelope(entry.index, entry.data)
      stateMachine.apply({ index: entry.index, term: entry.term, data })
      if (at % ENTRIES_PER_SLICE === 0) await sleep(clock, 0)
    }
    const last = entries.at(-1) ?? snapshot
    const index = Math.max(last.index, snapshot.index) + 1
    change(index)
    const state = beginningAt(index, Math.max(hardState.term, last.term) + 1, onlyMember(member))
    await storage.replace(state, stateMachine.snapshot())
    this.#stored = state
  }

  /**
   * Recovers and takes part until `signal` aborts. Whoever stops a leader calls `transferLeadership` before. Closes the
   * storage and the transport.
   * @throws {CodedError} what stops a node: RAFT_FORMAT_UNKNOWN, RAFT_RECORD_CORRUPT, RAFT_KEY_UNKNOWN,
   *   RAFT_STORAGE_FAILED, RAFT_STORAGE_LOCKED; or a broken invariant.
   */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { storage, transport } = this.#options
    const scope = this.#scope
    const stop = () => void scope.close('stopped')
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    try {
      scope.spawn('raft', async () => {
        await this.#recover()
        await new Promise<void>((resolve) => {
          if (scope.signal.aborted) resolve()
          else scope.signal.addEventListener('abort', () => resolve(), { once: true })
        })
      })
      await scope.wait()
    } catch (error) {
      this.#becomeReady?.reject(error)
      throw error
    } finally {
      signal.removeEventListener('abort', stop)
      this.#tick?.cancel()
      this.#driver?.stop()
      this.#apply?.stop()
      this.#core = undefined
      transport.close()
      const stopped = notRunning()
      this.#becomeReady?.reject(stopped)
      // What was proposed may have reached others: its fate is theirs.
      this.#proposals.close(unknown('this manager stopped'))
      this.#reads.close(stopped)
      this.#memberships.close(unknown('this manager stopped'))
      this.#leaderWatch?.stop(stopped)
      this.#events.leads(undefined)
      await scope.close()
      await storage.close()
    }
  }

  /**
   * Resolves with what the local state machine's `apply` returned for it. Works on every member: a follower forwards.
   * @param data at most MAX_PROPOSAL_BYTES.
   * @throws {CodedError} NO_LEADER (retryable); PROPOSAL_DROPPED (retryable: it was not and will not be applied);
   *   PROPOSAL_UNKNOWN (it may have been or may yet be applied); PROPOSAL_TOO_LARGE; PROPOSAL_QUEUE_FULL (retryable).
   */
  propose(data: Uint8Array): Promise<Result> {
    return this.#propose(data, undefined)
  }

  /**
   * As `propose`, but only appended if this node is leader in exactly `term`, that of a `leadership` event. When the
   * term ends, proposals without an outcome end with PROPOSAL_UNKNOWN at once.
   * @throws {CodedError} also NOT_LEADER (retryable)
   */
  proposeAsLeader(data: Uint8Array, term: number): Promise<Result> {
    return this.#propose(data, term)
  }

  /**
   * A linearizable read: when it resolves, the local state machine holds every write that was acknowledged anywhere
   * before the call.
   * @returns the index that the read saw at least.
   * @throws {CodedError} NO_LEADER (retryable)
   */
  async readIndex(): Promise<number> {
    const core = this.#running()
    const requestId = this.#nextRequestId++
    const read = this.#reads.add(requestId, this.#deadlineMs())
    core.readIndex(requestId)
    this.#driver?.schedule()
    return read
  }

  /**
   * Changes the membership; resolves when the change is in force here. Several steps are one change (through a joint
   * configuration). Only on the leader.
   * @throws {CodedError} NOT_LEADER, MEMBERSHIP_CHANGE_PENDING, PROPOSAL_DROPPED (retryable);
   *   MEMBERSHIP_CHANGE_INVALID; PROPOSAL_UNKNOWN.
   */
  async changeMembership(change: ConfChange): Promise<void> {
    const core = this.#running()
    const result = core.proposeConfChange(change)
    this.#driver?.schedule()
    if (result.kind === 'refused') throw refusal(result.code, this.#leader())
    await this.#memberships.add(result.index, result.term, this.#deadlineMs())
  }

  /**
   * Hands leadership over, by default to the voter that knows most; resolves when this node leads no more.
   * @throws {CodedError} NOT_LEADER; TRANSFER_IMPOSSIBLE when there is nobody to take over; TRANSFER_FAILED (retryable)
   *   when the other did not take over within an election timeout.
   */
  async transferLeadership(to?: RaftId): Promise<void> {
    const core = this.#running()
    const status = core.status()
    if (status.role !== 'leader') throw notLeader(this.#leader())
    const target = transferTarget(status, to)
    const code = core.transferLeadership(target)
    this.#driver?.schedule()
    if (code) throw refusal(code, this.#leader())
    await this.#leaderWatch?.transferred()
  }

  status(): RaftNodeStatus {
    return describeStatus(this.#running().status(), {
      applied: this.#applied,
      leadsInTerm: this.#events.leadsInTerm,
    })
  }

  /** From now on a snapshot is made after so many entries, and so many stay beside it for slow followers. */
  setSnapshotPolicy(policy: Pick<RaftConfig, 'snapshotInterval' | 'keepEntries'>): void {
    this.#config = { ...this.#config, ...policy }
  }

  /** From now on so many of the snapshots that newer ones replace stay on this disk. */
  keepSnapshots(count: number): void {
    this.#options.storage.keepSnapshots(count)
  }

  /** On this disk: the current one, and those that were kept, the newest first. */
  snapshots(): readonly StoredSnapshot[] {
    return this.#options.storage.snapshots()
  }

  /** One of `snapshots`, for who releases it. @throws {CodedError} RAFT_SNAPSHOT_UNKNOWN */
  readSnapshot(index?: number): SnapshotReader {
    const { storage } = this.#options
    const reader = storage.readSnapshot(index)
    if (reader) return reader
    if (index === undefined)
      throw new CodedError('RAFT_STORAGE_EMPTY', 'there is no state here that a cluster could go on with')
    const there = storage.snapshots().map((snapshot) => snapshot.index)
    throw new CodedError(
      'RAFT_SNAPSHOT_UNKNOWN',
      `this manager has no snapshot at index ${index}: it has ${there.join(', ') || 'none'}`,
    )
  }

  /**
   * A reluctant member leaves it to others to campaign, and does so itself only where none of them does; it votes, and takes a
   * leadership that is handed to it. May be called at any time.
   */
  setReluctant(isReluctant: boolean): void {
    this.#isReluctant = isReluctant
    this.#core?.setReluctant(isReluctant)
    this.#leaderWatch?.setReluctant(isReluctant)
  }

  /** Proposals of this node that have no outcome yet. */
  get pendingProposals(): number {
    return this.#proposals.size
  }

  /** Calls `listener` with every event from now on, between two entries; it must not throw. Returns how to end that. */
  subscribe(listener: (event: RaftNodeEvent) => void): () => void {
    return this.#events.subscribe(listener)
  }

  async #open(): Promise<StoredState> {
    this.#stored ??= await this.#options.storage.open()
    return this.#stored
  }

  async #recover(): Promise<void> {
    const { id, random, storage, stateMachine, transport, clock, log } = this.#options
    const stored = await this.#open()
    const reader = storage.readSnapshot()
    if (reader) {
      try {
        await stateMachine.restore(reader.chunks())
      } finally {
        reader.release()
      }
    }
    if (this.#scope.signal.aborted) return
    const { commitNewsMs } = this.#config
    const limits = { commitNewsWaits: commitNewsMs > 0, ...this.#config.limits }
    const core = new RaftCore({ id, random, stored, limits })
    const schedule = () => this.#driver?.schedule()
    const onError = (error: unknown) => this.#fail(error)
    const snapshots = new SnapshotKeeper({
      storage,
      stateMachine,
      transport,
      config: () => this.#config,
      metrics: this.metrics,
      clock,
      log,
      spawn: (name, task) => this.#scope.spawn(name, task),
      snapshotMeta: () => core.snapshotMeta(),
      onCompacted: (meta, firstKept) => core.compact(meta, firstKept),
      onSent: (to, ok) => driver.input(() => core.reportSnapshot(to, ok)),
    })
    const apply = new ApplyQueue({
      stateMachine,
      storage,
      clock,
      sliceMs: this.#config.applySliceMs,
      session: this.#session,
      onEntry: (entry, requestId, result) => this.#onEntry(entry, requestId, result),
      onRestored: (meta) => {
        snapshots.restored(meta.index)
        this.#proposals.restored(meta.index, meta.term)
      },
      onApplied: (index, durationMs) => this.#onApplied(index, durationMs),
      onError,
    })
    const driver = new CoreDriver({
      core,
      storage,
      transport,
      clock,
      metrics: this.metrics,
      snapshots,
      apply,
      commitNewsMs,
      onConf: (conf) => this.#onConf(conf),
      onReady: (ready) => this.#onReady(ready),
      onError,
    })
    const { leaderLossJitterMs } = this.#config
    const leaderWatch = new LeaderWatch({ core, clock, random, log, jitterMs: leaderLossJitterMs, schedule })
    this.#core = core
    this.#snapshots = snapshots
    this.#apply = apply
    this.#driver = driver
    this.#leaderWatch = leaderWatch
    this.setReluctant(this.#isReluctant)
    this.#applied = stored.snapshot.index
    this.#recoveredTo = core.status().commit
    transport.start({
      onMessages: (_from, messages) => driver.step(messages),
      onUnreachable: (peer) => driver.input(() => core.reportUnreachable(peer)),
      onConnectionLost: (peer, refused) => leaderWatch.connectionLost(peer, refused),
      onForbidden: (by) => this.#events.emit({ kind: 'forbidden', by }),
      onSnapshot: (message, chunks) =>
        snapshots.receive(message, chunks, this.#scope.signal, () => {
          driver.step([message])
          driver.work() // so that it shows at once whether the core wants it
        }),
    })
    // A cluster of one need not wait for anybody's silence.
    const { conf } = core.status()
    if (conf.voters.length === 1 && conf.voters[0] === id && !isJoint(conf)) core.campaignNow()
    this.#becomeReadyIfRecovered()
    this.#scheduleTick()
    driver.schedule()
  }

  async #propose(data: Uint8Array, asLeaderIn: number | undefined): Promise<Result> {
    const core = this.#running()
    if (data.length > MAX_PROPOSAL_BYTES)
      throw new CodedError('PROPOSAL_TOO_LARGE', `a proposal has at most ${MAX_PROPOSAL_BYTES} bytes`, {
        details: { sizeBytes: data.length, limitBytes: MAX_PROPOSAL_BYTES },
      })
    if (this.#proposals.size >= this.#config.maxPendingProposals) throw queueFull()
    const { role, term } = core.softState()
    if (asLeaderIn !== undefined && (role !== 'leader' || term !== asLeaderIn)) throw notLeader(this.#leader())
    const requestId = this.#nextRequestId++
    this.metrics.proposals++
    const outcome = this.#proposals.add(requestId, { term, asLeaderIn, deadlineMs: this.#deadlineMs() })
    core.propose(encodeEnvelope({ session: this.#session, requestId, data }), requestId)
    this.#driver?.schedule()
    return outcome
  }

  #onReady(ready: Ready): void {
    for (const result of ready.proposals) this.#onProposal(result)
    if (ready.softState) this.#onSoftState(ready.softState)
    for (const result of ready.reads) this.#reads.report(result, this.#applied)
  }

  #onProposal(result: ProposalResult): void {
    if (result.kind === 'refused') this.metrics.proposalsRefused++
    this.#proposals.report(result, this.#leader())
  }

  #onEntry(entry: Entry, requestId: number | undefined, result: Result | undefined): void {
    this.metrics.appliedEntries++
    this.#appliedTerm = entry.term
    this.#snapshots?.count(entry)
    this.#proposals.applied(entry, requestId, result)
    this.#memberships.applied(entry)
  }

  #onApplied(index: number, durationMs: number): void {
    const core = this.#core
    if (!core) return
    this.#applied = index
    this.metrics.maxApplySliceMs = Math.max(this.metrics.maxApplySliceMs, durationMs)
    core.applied(index)
    this.#reads.applied(index)
    this.#snapshots?.takeIfDue(index)
    this.#becomeReadyIfRecovered()
    // The first entry of its term is applied, and everything older lies before it.
    if (this.#soft.role === 'leader' && this.#appliedTerm === this.#soft.term) this.#events.leads(this.#soft.term)
    this.#driver?.schedule()
  }

  #onSoftState(soft: SoftState): void {
    const before = this.#soft
    this.#soft = soft
    if (soft.role === 'candidate' && (before.role !== 'candidate' || before.term !== soft.term))
      this.metrics.campaigns++
    if (before.role === 'leader' && (soft.role !== 'leader' || soft.term !== before.term)) {
      this.#events.leads(undefined)
      this.#proposals.leadershipLost()
      this.#memberships.leadershipLost()
    }
    this.#leaderWatch?.changed(soft)
    if (soft.leader === before.leader && soft.term === before.term) return
    if (soft.leader !== '' && this.#core) {
      const core = this.#core
      this.metrics.leaderChanges++
      this.#reads.askAgain(() => {
        const requestId = this.#nextRequestId++
        core.readIndex(requestId)
        return requestId
      })
    }
    const leader = this.#leader()
    this.#options.log.info({ leader, term: soft.term, role: soft.role }, 'raft leader')
    this.#events.emit({ kind: 'leader', leader, address: addressOf(this.#conf, leader), term: soft.term })
  }

  #onConf(conf: ConfState): void {
    this.#conf = conf
    this.#memberships.conf(conf)
    this.#events.membership(conf)
  }

  #becomeReadyIfRecovered(): void {
    if (this.#applied < this.#recoveredTo) return
    this.#becomeReady?.resolve()
    this.#becomeReady = undefined
  }

  #scheduleTick(): void {
    const { clock } = this.#options
    this.#tick = clock.setTimer(this.#config.tickMs, () => {
      this.#scheduleTick()
      const nowMs = clock.nowMs()
      this.#driver?.input((core) => core.tick())
      this.#leaderWatch?.tick()
      this.#proposals.expire(nowMs)
      this.#reads.expire(nowMs)
      this.#memberships.expire(nowMs)
    })
  }

  #deadlineMs(): number {
    return this.#options.clock.nowMs() + this.#config.requestTimeoutMs
  }

  #leader(): RaftId | undefined {
    return this.#soft.leader === '' ? undefined : this.#soft.leader
  }

  #running(): RaftCore {
    if (!this.#core || this.#becomeReady) throw notRunning()
    return this.#core
  }

  /** Nothing is taken in or given out any more; run() rejects. */
  #fail(error: unknown): void {
    this.#core = undefined
    this.#driver?.stop()
    this.#apply?.stop()
    this.#scope.spawn('raft', () => Promise.reject(error))
  }

  #onSync(durationMs: number, records: number): void {
    this.metrics.sync.observe(durationMs)
    this.metrics.syncedRecords += records
  }
}

function notRunning(): CodedError {
  return new CodedError('RAFT_NOT_RUNNING', 'this node does not take part in Raft now', { retryable: true })
}

function onlyMember(member: Member): ConfState {
  return { voters: [member.id], learners: [], outgoing: [], learnersNext: [], members: [member] }
}

// One term of leading: replication to the others, commitment, reads, membership changes and transfer. Made when an
// election is won, dropped when the term ends, so that nothing of it can leak into the next one.

import { applyConfChange, isJoint, LEAVE_JOINT } from './conf-change.ts'
import { encodeConfChange } from './conf-change-codec.ts'
import type { CoreContext } from './context.ts'
import type { PeerStatus } from './core-types.ts'
import { DuplicateFilter } from './duplicates.ts'
import { entryBytes } from './log.ts'
import { Progress } from './progress.ts'
import { hasQuorum, quorumValue } from './quorum.ts'
import { ReadRounds, refuseReads } from './read-rounds.ts'
import { type ConfChange, type Entry, MAX_ENTRY_BYTES, type Message, type RaftId, type RefusalCode } from './types.ts'

export type AppendResult =
  | { readonly kind: 'appended'; readonly index: number; readonly term: number }
  | { readonly kind: 'refused'; readonly code: RefusalCode }

type MessageOf<K extends Message['kind']> = Extract<Message, { readonly kind: K }>

interface EarlyRead {
  readonly from: RaftId
  readonly session: number
  readonly requestIds: readonly number[]
}

export class Leadership {
  readonly #context: CoreContext
  readonly #peers = new Map<RaftId, Progress>()
  readonly #reads: ReadRounds
  readonly #duplicates = new DuplicateFilter()
  /** The entry that opens the term: once it is committed, so is everything before it. */
  readonly #firstIndex: number
  /** No membership change is appended before the entry here is committed. */
  #pendingConfIndex: number
  /**
   * Once the entry here is committed, a quorum of the configuration in force knows, durably, that it is in force: appends
   * carry the commit index that is stored with them. Before that those who left may still be needed to elect a leader.
   */
  #settleIndex: number
  /** Removed members that are to be told so then. */
  readonly #leaving = new Map<RaftId, Progress>()
  /** Reads that came before the first entry was committed. */
  #earlyReads: EarlyRead[] = []
  #transferee: RaftId | '' = ''
  #heartbeatElapsed = 0
  #checkElapsed = 0
  #transferElapsed = 0
  #heartbeatDue = false
  /** Where news of a commit waits: others are to hear of what is committed up to here, whether or not it goes with anything. */
  #tellTo = 0

  constructor(context: CoreContext) {
    this.#context = context
    this.#reads = new ReadRounds(context)
    this.#matchPeers()
    this.#firstIndex = context.log.append(context.ballot.term, 'normal', new Uint8Array()).index
    this.#pendingConfIndex = this.#firstIndex
    this.#settleIndex = this.#firstIndex
    this.commit()
  }

  get transferee(): RaftId | '' {
    return this.#transferee
  }

  get peers(): readonly PeerStatus[] {
    return [...this.#peers].map(([id, { state, match, next, recentlyActive }]) => ({
      id,
      state,
      match,
      next,
      recentlyActive,
    }))
  }

  /** Returns false if a quorum was silent for a whole election timeout: then this leader must step down. */
  tick(): boolean {
    const { limits } = this.#context
    if (++this.#heartbeatElapsed >= limits.heartbeatTicks) {
      this.#heartbeatElapsed = 0
      this.#heartbeatDue = true
    }
    if (++this.#transferElapsed >= limits.electionTicks) this.#transferee = ''
    if (++this.#checkElapsed < limits.electionTicks) return true
    this.#checkElapsed = 0
    return this.#checkQuorum()
  }

  propose(proposals: readonly Uint8Array[]): AppendResult {
    const { log, limits, ballot } = this.#context
    if (this.#transferee !== '') return refused('RAFT_TRANSFER')
    if (proposals.some((data) => data.byteLength > MAX_ENTRY_BYTES)) return refused('RAFT_ENTRY_TOO_LARGE')
    const sizeBytes = proposals.reduce((sum, data) => sum + entryBytes({ data }), 0)
    // A batch that is larger than the bound passes when nothing else is waiting.
    if (log.uncommittedBytes > 0 && log.uncommittedBytes + sizeBytes > limits.maxUncommittedBytes) {
      return refused('RAFT_BACKPRESSURE')
    }
    const index = log.lastIndex + 1
    for (const data of proposals) log.append(ballot.term, 'normal', data)
    return { kind: 'appended', index, term: ballot.term }
  }

  /** Undefined for a copy of a batch that was answered before. */
  proposeForwarded(from: RaftId, session: number, requestIds: readonly number[], proposals: readonly Uint8Array[]) {
    const first = requestIds[0]
    if (first === undefined || !this.#duplicates.isNew(from, session, first)) return undefined
    return this.propose(proposals)
  }

  proposeConfChange(change: ConfChange): AppendResult {
    const { log, membership } = this.#context
    if (this.#transferee !== '') return refused('RAFT_TRANSFER')
    if (this.#pendingConfIndex > log.commit || isJoint(membership.conf)) return refused('RAFT_CONF_PENDING')
    if (change.steps.length === 0) return refused('RAFT_CONF_INVALID')
    if (applyConfChange(membership.conf, change).kind === 'invalid') return refused('RAFT_CONF_INVALID')
    return this.#appendConfChange(change)
  }

  readIndex(from: RaftId, session: number, requestIds: readonly number[]): void {
    const { limits, log } = this.#context
    if (this.#reads.count + this.#earlyReads.length >= limits.maxPendingRequests) {
      refuseReads(this.#context, from, session, requestIds, 'RAFT_BACKPRESSURE')
    } else if (log.commit < this.#firstIndex) {
      // Only with an entry of its own term committed does a leader know the cluster's commit index (paper §8).
      this.#earlyReads.push({ from, session, requestIds })
    } else {
      this.#reads.add(from, session, requestIds)
      // It waits for what it is to see, so for the news of that.
      if (from !== this.#context.id) this.tellCommit(log.commit)
    }
  }

  /** The highest commit index that somebody has not been told of, for no other reason than that it waits for company. */
  get owedCommit(): number {
    const { log } = this.#context
    for (const progress of this.#peers.values())
      if (!progress.paused && progress.sentCommit < Math.min(log.commit, progress.next - 1)) return log.commit
    return 0
  }

  /** What is committed up to `index` is told with the next flush. */
  tellCommit(index: number): void {
    this.#tellTo = Math.max(this.#tellTo, index)
  }

  transfer(to: RaftId): RefusalCode | undefined {
    const { id, membership } = this.#context
    if (to === id) return undefined
    if (!membership.conf.voters.includes(to)) return 'RAFT_NOT_A_VOTER'
    if (this.#transferee === to) return undefined
    this.#transferee = to
    this.#transferElapsed = 0
    this.#resume(to)
    this.#continueTransfer(to)
    return undefined
  }

  appendReply(message: MessageOf<'append-reply'>): void {
    const progress = this.#peers.get(message.from)
    if (!progress) return
    progress.heard()
    const { log } = this.#context
    if (message.reject) {
      // Beyond the hint the logs differ for sure; in this log they also do where terms are higher than the hint's.
      const hint = log.lastAgreeing(message.hintIndex, message.hintTerm).index
      progress.rejected(message.index, hint)
      return
    }
    progress.acknowledged(message.index, log.firstIndex)
    this.commit()
    this.#continueTransfer(message.from)
  }

  heartbeatReply(message: MessageOf<'heartbeat-reply'>): void {
    const progress = this.#peers.get(message.from)
    if (!progress) return
    progress.heard()
    progress.heartbeatAnswered(message.readContext)
    // Something sent earlier may be lost: an append, even an empty one, shows it.
    if (progress.match < this.#context.log.lastIndex && progress.state !== 'snapshot') {
      this.#sendAppend(message.from, progress, true)
    }
    this.#confirmReads()
  }

  unreachable(peer: RaftId): void {
    this.#peers.get(peer)?.unreachable()
  }

  snapshotEnded(peer: RaftId, ok: boolean): void {
    this.#peers.get(peer)?.snapshotEnded(ok)
  }

  /** Commits what a quorum has (paper §5.3, §5.4.2), and what becomes possible by that. */
  commit(): void {
    const { id, log, rules, ballot, membership } = this.#context
    const own = rules.ownMatch(log.durable, log.lastIndex)
    const matchOf = (voter: RaftId) => (voter === id ? own : (this.#peers.get(voter)?.match ?? 0))
    const index = Math.min(quorumValue(membership.sets, matchOf), log.lastIndex)
    if (index <= log.commit || !rules.mayCommit(log.termAt(index)!, ballot.term)) return
    log.commitTo(index)
    if (log.commit >= this.#firstIndex) {
      for (const { from, session, requestIds } of this.#earlyReads) this.#reads.add(from, session, requestIds)
      this.#earlyReads = []
    }
    if (this.settled) this.#dismiss()
  }

  /** Whether the others can do without those who left, this member perhaps among them. */
  get settled(): boolean {
    return this.#context.log.commit >= this.#settleIndex
  }

  /** The configuration in force changed: another quorum counts, others are to be reached. */
  confChanged(): void {
    const { log, ballot, membership } = this.#context
    this.#matchPeers()
    if (membership.shrank || this.#leaving.size > 0) {
      this.#settleIndex = log.append(ballot.term, 'normal', new Uint8Array()).index
    }
    if (this.#transferee !== '' && !this.#context.membership.conf.voters.includes(this.#transferee))
      this.#transferee = ''
    this.commit()
    this.#confirmReads()
  }

  /** Leaves a joint configuration as soon as that is allowed (dissertation §4.3). */
  leaveJoint(): void {
    const { log, membership } = this.#context
    if (isJoint(membership.conf) && this.#pendingConfIndex <= log.commit) this.#appendConfChange(LEAVE_JOINT)
  }

  /** Sends whatever is due, in as few messages as possible; called once for each Ready. */
  flush(): void {
    if (this.#reads.begin(this.#heartbeatDue)) this.#heartbeatDue = true
    if (this.#heartbeatDue) {
      this.#heartbeatDue = false
      this.#sendHeartbeats()
    }
    for (const [id, progress] of this.#peers) {
      while (this.#sendAppend(id, progress, false)) {}
    }
  }

  /**
   * Leadership ends. `handOver` (this member leaves the voters): the one who knows most takes over at once
   * (dissertation §4.2.2).
   */
  end(handOver: boolean): void {
    if (handOver) {
      this.tellCommit(this.#context.log.commit)
      this.flush()
      const [heir] = this.#context.membership.conf.voters
        .map((id) => ({ id, match: this.#peers.get(id)?.match ?? 0 }))
        .sort((a, b) => b.match - a.match)
      if (heir) this.#context.outbox.send(heir.id, { kind: 'timeout-now' })
    }
    this.#reads.refuse('RAFT_LEADER_CHANGED')
    for (const { from, session, requestIds } of this.#earlyReads) {
      refuseReads(this.#context, from, session, requestIds, 'RAFT_LEADER_CHANGED')
    }
  }

  #checkQuorum(): boolean {
    const { id, membership } = this.#context
    const active = new Set([...this.#peers].filter(([, peer]) => peer.takeRecentlyActive()).map(([peer]) => peer))
    return hasQuorum(membership.sets, (voter) => voter === id || active.has(voter))
  }

  #confirmReads(): void {
    this.#reads.confirm((id) => this.#peers.get(id)?.readContext ?? 0)
  }

  #appendConfChange(change: ConfChange): AppendResult {
    const { log, ballot } = this.#context
    const { index, term } = log.append(ballot.term, 'config', encodeConfChange(change))
    this.#pendingConfIndex = index
    return { kind: 'appended', index, term }
  }

  #continueTransfer(peer: RaftId): void {
    const { log, outbox } = this.#context
    if (peer !== this.#transferee || this.#peers.get(peer)?.match !== log.lastIndex) return
    outbox.send(peer, { kind: 'timeout-now' })
  }

  #resume(peer: RaftId): void {
    const progress = this.#peers.get(peer)
    progress?.heartbeatAnswered(progress.readContext)
  }

  #sendHeartbeats(): void {
    const { log, outbox } = this.#context
    for (const [id, progress] of this.#peers) {
      const commit = Math.min(progress.match, log.commit)
      outbox.send(id, { kind: 'heartbeat', commit, readContext: this.#reads.round })
      progress.sentHeartbeat(commit)
    }
    this.#confirmReads() // with nobody else to ask
  }

  #needsAppend(progress: Progress): boolean {
    if (progress.paused) return false
    const { log, limits } = this.#context
    const commit = limits.commitNewsWaits ? this.#tellTo : log.commit
    return progress.next <= log.lastIndex || progress.sentCommit < Math.min(commit, progress.next - 1)
  }

  /** Returns whether there may be more to send. `probe`: also if it would be empty, and although the window is full. */
  #sendAppend(to: RaftId, progress: Progress, probe: boolean): boolean {
    if (!probe && !this.#needsAppend(progress)) return false
    const { log, limits, outbox } = this.#context
    const prevIndex = progress.next - 1
    const prevTerm = log.termAt(prevIndex)
    if (prevTerm === undefined) {
      progress.sentSnapshot(log.snapshot.index)
      outbox.send(to, { kind: 'install-snapshot', meta: log.snapshot })
      return false
    }
    const entries: readonly Entry[] = progress.paused
      ? []
      : log.slice(prevIndex + 1, log.lastIndex, limits.maxMessageBytes)
    outbox.send(to, { kind: 'append', prevIndex, prevTerm, entries, commit: log.commit })
    progress.sent(
      entries.length,
      entries.reduce((sum, entry) => sum + entryBytes(entry), 0),
      log.commit,
    )
    return progress.state === 'replicate'
  }

  /** The last message from this cluster tells a removed member so, as far as it is up to date. */
  #dismiss(): void {
    const { log, outbox } = this.#context
    for (const [id, progress] of this.#leaving) {
      if (progress.state === 'replicate') this.#sendAppend(id, progress, true)
      outbox.send(id, { kind: 'heartbeat', commit: Math.min(progress.match, log.commit), readContext: 0 })
    }
    this.#leaving.clear()
  }

  #peerIds(): ReadonlySet<RaftId> {
    const { membership } = this.#context
    return new Set([...membership.voters(), ...membership.conf.members.map((member) => member.id)])
  }

  /** One Progress for each other member. */
  #matchPeers(): void {
    const { id: self, log, limits } = this.#context
    const wanted = this.#peerIds()
    for (const [id, progress] of this.#peers) {
      if (wanted.has(id)) continue
      this.#peers.delete(id)
      this.#leaving.set(id, progress)
    }
    for (const id of wanted) {
      this.#leaving.delete(id)
      if (id === self || this.#peers.has(id)) continue
      const { maxInflightMessages, maxInflightBytes } = limits
      this.#peers.set(id, new Progress({ next: log.lastIndex + 1, maxInflightMessages, maxInflightBytes }))
    }
  }
}

function refused(code: RefusalCode): AppendResult {
  return { kind: 'refused', code }
}

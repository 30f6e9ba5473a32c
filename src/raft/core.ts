// The deterministic Raft core: no clock, no disk, no network. Messages, ticks and requests go in; Ready batches come out,
// and their driver tells what became of them. The log since the last compaction is in memory, so the driver compacts by
// entries and by bytes (`status().logBytes`). See docs/raft.md.

import { assert } from '../lib/errors.ts'
import { Ballot } from './ballot.ts'
import type { CoreContext } from './context.ts'
import { type CoreOptions, type CoreStatus, DEFAULT_LIMITS, type Ready, type SoftState } from './core-types.ts'
import { Election } from './election.ts'
import { type AppendResult, Leadership } from './leadership.ts'
import { RaftLog } from './log.ts'
import { Membership } from './membership.ts'
import { Outbox } from './outbox.ts'
import type { VoteResult } from './quorum.ts'
import { refuseReads } from './read-rounds.ts'
import { Requests } from './requests.ts'
import { SAFETY_RULES } from './rules.ts'
import type { ConfChange, ConfState, HardState, Message, RaftId, RefusalCode, Role, SnapshotMeta } from './types.ts'
import { WriteQueue } from './write-queue.ts'

export { bootstrapState, EMPTY_STATE } from './stored-state.ts'

type MessageOf<K extends Message['kind']> = Extract<Message, { readonly kind: K }>
type Campaign = 'pre-vote' | 'vote' | 'transfer'

/** Enough for two others to split their votes once. */
const RELUCTANT_TIMEOUTS = 3

export class RaftCore {
  readonly #context: CoreContext
  readonly #election: Election
  readonly #requests: Requests
  readonly #writes = new WriteQueue()
  #role: Role = 'follower'
  #leader: RaftId | '' = ''
  #leadership: Leadership | undefined
  /** Election timeouts without a leader that a reluctant member lets pass, and has. */
  #campaignsToPass = 0
  #campaignsPassed = 0
  /** A snapshot that replaced the log and was not handed out yet. */
  #restored: SnapshotMeta | undefined
  /** What the last Ready said, to say only what changed. */
  #lastHardState: HardState
  #lastSoftState: SoftState
  #lastConf: ConfState | undefined

  constructor(options: CoreOptions) {
    const { id, random, stored, rules = SAFETY_RULES } = options
    const ballot = new Ballot(stored.hardState.term, stored.hardState.vote)
    const log = new RaftLog(stored)
    this.#context = {
      id,
      random,
      rules,
      ballot,
      log,
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      membership: new Membership(rules, log),
      outbox: new Outbox(id, () => ballot.term),
    }
    this.#election = new Election(this.#context)
    this.#requests = new Requests(this.#context)
    this.#lastHardState = stored.hardState
    this.#lastSoftState = this.softState()
  }

  tick(): void {
    this.#requests.tick()
    if (this.#leadership) {
      if (!this.#leadership.tick()) this.#follow('')
    } else if (this.#election.tick()) {
      this.#lead('')
      if (this.#campaignsPassed < this.#campaignsToPass) this.#campaignsPassed++
      else this.#campaign('pre-vote')
    }
    this.#settle()
  }

  /** A reluctant member lets some election timeouts pass, so that others campaign before it. */
  setReluctant(isReluctant: boolean): void {
    const timeouts = isReluctant ? RELUCTANT_TIMEOUTS : 0
    if (timeouts === this.#campaignsToPass) return
    this.#campaignsToPass = timeouts
    this.#campaignsPassed = 0
  }

  step(message: Message): void {
    if (this.#admit(message)) this.#handle(message)
    this.#settle()
  }

  /** The outcome comes in Ready.proposals. Followers forward. The `requestId`s of one core must rise. */
  propose(data: Uint8Array, requestId: number): void {
    const { outbox } = this.#context
    if (this.#leadership) {
      outbox.proposal({ ...this.#leadership.propose([data]), requestId })
    } else if (this.#leader !== '') {
      this.#requests.propose(data, requestId)
    } else {
      outbox.proposal({ kind: 'refused', requestId, code: 'RAFT_NO_LEADER' })
    }
  }

  /** Only on the leader. The change is in force on each member once it knows that the entry is committed. */
  proposeConfChange(change: ConfChange): AppendResult {
    return this.#leadership?.proposeConfChange(change) ?? { kind: 'refused', code: 'RAFT_NOT_LEADER' }
  }

  /** The outcome comes in Ready.reads. Followers ask the leader. The `requestId`s of one core must rise. */
  readIndex(requestId: number): void {
    const { id, outbox } = this.#context
    if (this.#leadership) this.#leadership.readIndex(id, this.#requests.session, [requestId])
    else if (this.#leader !== '') this.#requests.readIndex(requestId)
    else outbox.read({ kind: 'refused', requestId, code: 'RAFT_NO_LEADER' })
  }

  /**
   * Undefined: under way, `status().transferee` names the target; proposals are refused until it leads or an election
   * timeout has passed.
   */
  transferLeadership(to: RaftId): RefusalCode | undefined {
    return this.#leadership ? this.#leadership.transfer(to) : 'RAFT_NOT_LEADER'
  }

  /**
   * The connection to `leader` closed and a reconnect was refused: this member no longer holds its vote back for it
   * (the lease of dissertation §4.2.3), so that others who lost it too can win a pre-vote.
   */
  leaderLost(leader: RaftId): void {
    if (this.#role === 'follower' && this.#leader === leader) this.#lead('')
  }

  /**
   * Starts a pre-vote at once. For a lost leader: after a jitter of tens of ms, if `status().leader` is still ''; and
   * again after another, since those who have not noticed yet do not answer. Harmless elsewhere; leaders and learners ignore it.
   */
  campaignNow(): void {
    if (this.#role !== 'leader') this.#campaign('pre-vote')
    this.#settle()
  }

  /** What others have not been told of yet, if anything: the commit index to give to `tellCommit` after a moment; else 0. */
  get owedCommit(): number {
    return this.#leadership?.owedCommit ?? 0
  }

  /** Where news of commits waits (`CoreLimits.commitNewsWaits`): so far it has waited long enough. */
  tellCommit(index: number): void {
    this.#leadership?.tellCommit(index)
  }

  /** A message to `peer` was dropped, or its connection closed. */
  reportUnreachable(peer: RaftId): void {
    this.#leadership?.unreachable(peer)
  }

  /** The stream that an install-snapshot message announced ended. Every such message needs this call, sooner or later. */
  reportSnapshot(peer: RaftId, ok: boolean): void {
    this.#leadership?.snapshotEnded(peer, ok)
  }

  /** The next batch of work, undefined if there is none. To be called after inputs; taking it is accepting it. */
  ready(): Ready | undefined {
    if (this.#leadership) this.#leadership.flush()
    else if (this.#leader !== '') this.#requests.flush(this.#leader)
    const { log, limits, outbox, membership } = this.#context
    const entries = log.takeUnwritten()
    const snapshot = this.#restored
    const hardState = this.#changedHardState(entries.length > 0 || snapshot !== undefined)
    const softState = this.#changedSoftState()
    const conf = membership.conf === this.#lastConf ? undefined : membership.conf
    const committed = log.takeCommitted(limits.maxReadyBytes)
    const writes = hardState !== undefined || snapshot !== undefined || entries.length > 0
    if (!writes && committed.length === 0 && outbox.empty && !softState && !conf) return undefined
    this.#restored = undefined
    this.#lastHardState = hardState ?? this.#lastHardState
    this.#lastSoftState = softState ?? this.#lastSoftState
    this.#lastConf = membership.conf
    const seq = this.#writes.nextSeq()
    const said = outbox.take()
    const mustPersist = writes || (said.messagesAfterPersist.length > 0 && !this.#writes.empty)
    if (mustPersist) {
      const logEnd = entries.length > 0 || snapshot ? log.lastIndex : 0
      this.#writes.push({ seq, logEnd, ownVoteTerm: hardState?.vote === this.#context.id ? hardState.term : 0 })
    } else {
      said.messages.push(...said.messagesAfterPersist.splice(0))
    }
    return { seq, mustPersist, hardState, snapshot, entries, committed, softState, conf, ...said }
  }

  /** Ready `seq` and all before it are durable. */
  persisted(seq: number): void {
    for (const write of this.#writes.takeUpTo(seq)) {
      this.#context.log.written(write.logEnd)
      if (this.#role === 'candidate' && write.ownVoteTerm === this.#context.ballot.term) {
        this.#tally(this.#election.record(this.#context.id, true))
      }
    }
    this.#leadership?.commit()
    this.#settle()
  }

  /** The state machine holds everything up to `index`. */
  applied(index: number): void {
    this.#context.log.appliedTo(index)
    this.#context.membership.appliedTo(index)
  }

  /**
   * What a snapshot of the state machine as it is now is to be called; take the view of the state in the same turn.
   * Undefined while the state is being replaced by a snapshot.
   */
  snapshotMeta(): SnapshotMeta | undefined {
    const { log, membership } = this.#context
    const term = log.termAt(log.applied)
    return term === undefined ? undefined : { index: log.applied, term, conf: membership.appliedConf }
  }

  /** `snapshot` is durable: entries before `firstKept` go from memory. What the disk keeps is the driver's decision. */
  compact(snapshot: SnapshotMeta, firstKept: number): void {
    this.#context.log.compact(snapshot, firstKept)
  }

  /** The part of `status` that every proposal asks for. */
  softState(): SoftState {
    return { role: this.#role, term: this.#context.ballot.term, leader: this.#leader }
  }

  status(): CoreStatus {
    const { id, ballot, log, membership } = this.#context
    return {
      ...this.softState(),
      retired: !this.#leadership && membership.wasRemoved(id) && !this.#mayLead(),
      id,
      vote: ballot.vote,
      commit: log.commit,
      applied: log.applied,
      firstIndex: log.firstIndex,
      lastIndex: log.lastIndex,
      logBytes: log.sizeBytes,
      conf: membership.conf,
      transferee: this.#leadership?.transferee ?? '',
      peers: this.#leadership?.peers ?? [],
    }
  }

  /** Compares terms (paper §5.1). Returns false if the message is done with. */
  #admit(message: Message): boolean {
    const { ballot } = this.#context
    if (message.term === ballot.term) return true
    if (message.term < ballot.term) {
      this.#answerStale(message)
      return false
    }
    if (message.kind === 'vote') {
      const lease = this.#role === 'leader' || (this.#leader !== '' && this.#election.leaseHolds)
      if (lease && !message.transfer) return false
      if (message.pre) return true // asks about a term that has not begun
    }
    if (message.kind === 'vote-reply' && message.pre && message.granted) return true
    this.#follow(fromLeader(message) ? message.from : '', message.term)
    return true
  }

  /** The sender learns the present term: a leader of an older one steps down, a candidate can catch up. */
  #answerStale(message: Message): void {
    const { outbox } = this.#context
    switch (message.kind) {
      case 'append':
      case 'heartbeat':
      case 'install-snapshot':
        outbox.send(message.from, { kind: 'append-reply', index: 0, reject: true, hintIndex: 0, hintTerm: 0 })
        break
      case 'vote':
        outbox.send(message.from, { kind: 'vote-reply', pre: message.pre, granted: false })
        break
      case 'propose':
      case 'read-index':
        this.#refuseForwarded(message)
        break
      case 'append-reply':
      case 'heartbeat-reply':
      case 'vote-reply':
      case 'timeout-now':
      case 'propose-reply':
      case 'read-index-reply':
        break
    }
  }

  #handle(message: Message): void {
    switch (message.kind) {
      case 'append':
        this.#heard(message.from)
        this.#append(message)
        break
      case 'heartbeat':
        this.#heard(message.from)
        this.#context.log.commitTo(message.commit)
        this.#context.outbox.send(message.from, { kind: 'heartbeat-reply', readContext: message.readContext })
        break
      case 'install-snapshot':
        this.#heard(message.from)
        this.#install(message.from, message.meta)
        break
      case 'timeout-now':
        this.#campaign('transfer')
        break
      case 'append-reply':
        this.#leadership?.appendReply(message)
        break
      case 'heartbeat-reply':
        this.#leadership?.heartbeatReply(message)
        break
      case 'vote':
        this.#election.answer(message, this.#leader)
        break
      case 'vote-reply':
        this.#voteReply(message)
        break
      case 'propose':
      case 'read-index':
        this.#forwarded(message)
        break
      case 'propose-reply':
        this.#requests.proposeReply(message)
        break
      case 'read-index-reply':
        this.#requests.readIndexReply(message)
        break
    }
  }

  /** A message of this term's leader: whatever this member was about to do, it follows. */
  #heard(leader: RaftId): void {
    assert(this.#role !== 'leader', `two leaders in term ${this.#context.ballot.term}: this one and ${leader}`)
    if (this.#role !== 'follower' || this.#leader !== leader) this.#follow(leader)
    this.#election.heardLeader()
  }

  #append({ from, prevIndex, prevTerm, entries, commit }: MessageOf<'append'>): void {
    const { log, outbox } = this.#context
    const accept = (index: number) =>
      outbox.sendAfterPersist(from, { kind: 'append-reply', index, reject: false, hintIndex: 0, hintTerm: 0 })
    if (prevIndex < log.commit) {
      accept(log.commit) // an old message: the leader has at least what is committed
      return
    }
    const last = log.appendAfter(prevIndex, prevTerm, entries)
    if (last === undefined) {
      const hint = log.lastAgreeing(prevIndex, prevTerm)
      const body = { kind: 'append-reply', index: prevIndex, reject: true } as const
      outbox.send(from, { ...body, hintIndex: hint.index, hintTerm: hint.term })
      return
    }
    this.#writes.cutAfter(log.writing)
    log.commitTo(Math.min(commit, last))
    accept(last)
  }

  #install(from: RaftId, meta: SnapshotMeta): void {
    const { log, outbox, rules, membership } = this.#context
    const wanted = rules.mayRestore(meta.index, log.commit)
    if (wanted && log.termAt(meta.index) === meta.term) {
      log.commitTo(meta.index) // the log has it all
    } else if (wanted) {
      log.restore(meta)
      membership.restore(meta)
      this.#writes.cutAfter(0)
      this.#restored = meta
    }
    outbox.sendAfterPersist(from, { kind: 'append-reply', index: log.commit, reject: false, hintIndex: 0, hintTerm: 0 })
  }

  #voteReply({ pre, granted, from, term }: MessageOf<'vote-reply'>): void {
    if (this.#role !== (pre ? 'pre-candidate' : 'candidate')) return
    // A granted pre-vote carries the term that was asked about.
    if (pre && granted && term !== this.#context.ballot.term + 1) return
    this.#tally(this.#election.record(from, granted))
  }

  #forwarded(message: MessageOf<'propose'> | MessageOf<'read-index'>): void {
    const { from, session, requestIds } = message
    if (!this.#leadership) {
      this.#refuseForwarded(message)
    } else if (message.kind === 'read-index') {
      this.#leadership.readIndex(from, session, requestIds)
    } else {
      const result = this.#leadership.proposeForwarded(from, session, requestIds, message.proposals)
      if (result === undefined) return
      const { index, code } =
        result.kind === 'appended' ? { index: result.index, code: '' as const } : { index: 0, code: result.code }
      this.#context.outbox.send(from, { kind: 'propose-reply', session, requestIds, index, code })
    }
  }

  /** This may be a late copy of something that was accepted: no claim that it was not. */
  #refuseForwarded({ kind, from, session, requestIds }: MessageOf<'propose'> | MessageOf<'read-index'>): void {
    const code = 'RAFT_LEADER_CHANGED'
    if (kind === 'read-index') refuseReads(this.#context, from, session, requestIds, code)
    else this.#context.outbox.send(from, { kind: 'propose-reply', session, requestIds, index: 0, code })
  }

  #campaign(campaign: Campaign): void {
    const { id, ballot } = this.#context
    if (this.#leadership || !this.#mayLead()) return
    this.#lead('')
    this.#election.reset()
    if (campaign === 'pre-vote') {
      this.#role = 'pre-candidate'
      this.#election.ask(true, false)
      this.#tally(this.#election.record(id, true))
      return
    }
    this.#role = 'candidate'
    ballot.advance(ballot.term + 1)
    ballot.cast(id) // counts once it is durable: see persisted()
    this.#election.ask(false, campaign === 'transfer')
  }

  #mayLead(): boolean {
    const { id, log, membership } = this.#context
    // A member whose log is being replaced by a snapshot has nothing to show to the voters yet.
    if (log.durable < log.snapshot.index) return false
    // Whoever just lost its vote with more in its log than the others may have is the only one who can lead them until
    // they know of it (dissertation §4.2.2): they may still count it among those whose vote they need.
    return membership.isVoter(id) || (membership.lostVote(id) && log.lastIndex > log.commit)
  }

  #tally(result: VoteResult): void {
    if (result === 'pending') return
    if (result === 'lost') this.#follow('')
    else if (this.#role === 'pre-candidate') this.#campaign('vote')
    else {
      this.#role = 'leader'
      this.#lead(this.#context.id)
      this.#leadership = new Leadership(this.#context)
    }
  }

  #follow(leader: RaftId | '', term = this.#context.ballot.term, handOver = false): void {
    this.#leadership?.end(handOver)
    this.#leadership = undefined
    if (term > this.#context.ballot.term) this.#context.ballot.advance(term)
    this.#role = 'follower'
    this.#lead(leader)
    this.#election.reset()
  }

  #lead(leader: RaftId | ''): void {
    if (leader === this.#leader) return
    this.#leader = leader
    if (leader !== '') this.#campaignsPassed = 0
    this.#requests.leaderChanged()
  }

  /** After every input: puts committed membership changes in force, which may commit more. */
  #settle(): void {
    const { id, membership } = this.#context
    while (membership.activate()) this.#leadership?.confChanged()
    if (!this.#leadership) return
    this.#leadership.leaveJoint()
    if (!membership.isVoter(id) && this.#leadership.settled) this.#follow('', undefined, true)
  }

  #changedSoftState(): SoftState | undefined {
    const now = this.softState()
    const last = this.#lastSoftState
    return now.role !== last.role || now.term !== last.term || now.leader !== last.leader ? now : undefined
  }

  /**
   * The commit index alone is not worth a write, for it is learned again from the leader; but it goes with every write,
   * so that a stored membership change always finds the one before it committed (see membership.ts).
   */
  #changedHardState(writes: boolean): HardState | undefined {
    const { ballot, log } = this.#context
    const last = this.#lastHardState
    const changed = ballot.term !== last.term || ballot.vote !== last.vote || (writes && log.commit !== last.commit)
    return changed ? { term: ballot.term, vote: ballot.vote, commit: log.commit } : undefined
  }
}

function fromLeader(message: Message): boolean {
  return message.kind === 'append' || message.kind === 'heartbeat' || message.kind === 'install-snapshot'
}

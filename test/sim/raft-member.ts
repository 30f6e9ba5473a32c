// One member of a simulated cluster: the core with the smallest driver that keeps its contract (core-types.ts), on a
// simulated disk. Crashes forget all but what the disk holds.

import type { SeededRandom } from '../../src/lib/random.ts'
import { RaftCore } from '../../src/raft/core.ts'
import type { CoreLimits, ProposalResult, ReadResult, Ready } from '../../src/raft/core-types.ts'
import type { SafetyRules } from '../../src/raft/rules.ts'
import type { Entry, Message, RaftId, StoredState } from '../../src/raft/types.ts'
import type { RaftCheckers } from './raft-checkers.ts'
import { type DiskWrite, SimDisk, type StoredSnapshot } from './raft-disk.ts'
import type { EventQueue } from './raft-events.ts'
import type { Profile } from './raft-profile.ts'
import { applyOperation, EMPTY_REGISTERS } from './raft-registers.ts'

/** What a member needs of the world around it. */
export interface MemberEnvironment {
  readonly events: EventQueue
  readonly profile: Profile
  readonly checkers: RaftCheckers
  readonly rules: SafetyRules
  /** Breaks the contract: promises leave before the disk has them. */
  readonly answerBeforeSync: boolean
  /** True once faults are over. */
  readonly healed: () => boolean
  readonly send: (message: Message, snapshot: StoredSnapshot | undefined) => void
  readonly trace: (line: string) => void
}

export interface MemberListener {
  readonly onProposal: (result: ProposalResult) => void
  readonly onRead: (result: ReadResult) => void
  readonly onApplied: (entry: Entry, found: string) => void
  readonly onRestored: (index: number) => void
  readonly onCrash: () => void
}

type Work =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | { readonly kind: 'restore'; readonly snapshot: StoredSnapshot }

export class SimMember {
  readonly id: RaftId
  readonly #environment: MemberEnvironment
  readonly #random: SeededRandom
  readonly #disk: SimDisk
  readonly #tickMs: number
  #core: RaftCore | undefined
  #retired = false
  /** Rises with each start, so that what was under way before a crash is dropped. */
  #life = 0
  #listener: MemberListener | undefined
  #values: Readonly<Record<string, string>> = {}
  #chain = ''
  #appliedIndex = 0
  #diskFreeMs = 0
  #work: Work[] = []
  #working = false
  #snapshotting = false
  /** States that came with install-snapshot messages, by index and term. */
  readonly #incoming = new Map<string, StoredSnapshot>()

  constructor(id: RaftId, stored: StoredState, random: SeededRandom, environment: MemberEnvironment) {
    this.id = id
    this.#environment = environment
    this.#random = random
    this.#disk = new SimDisk(stored, EMPTY_REGISTERS)
    const { drift } = environment.profile
    this.#tickMs = 100 * drift ** (2 * random.float() - 1)
  }

  get up(): boolean {
    return this.#core !== undefined
  }
  /** Stopped for good, since the cluster removed it and said so. */
  get retired(): boolean {
    return this.#retired
  }
  get core(): RaftCore | undefined {
    return this.#core
  }
  get appliedIndex(): number {
    return this.#appliedIndex
  }
  get chain(): string {
    return this.#chain
  }
  get values(): Readonly<Record<string, string>> {
    return this.#values
  }

  start(listener: MemberListener): void {
    const { stored, snapshot } = this.#disk
    const { rules, profile } = this.#environment
    this.#life++
    this.#listener = listener
    this.#values = snapshot.state.values
    this.#chain = snapshot.state.chain
    this.#appliedIndex = snapshot.meta.index
    this.#diskFreeMs = 0
    this.#work = []
    this.#working = false
    this.#snapshotting = false
    this.#incoming.clear()
    const limits: Partial<CoreLimits> = profile.limits
    this.#core = new RaftCore({ id: this.id, random: this.#random.fork(), stored, limits, rules })
    this.#environment.trace(`${this.id} starts at ${stored.snapshot.index}+${stored.entries.length}`)
    this.#tickLater()
    this.#pump()
  }

  crash(): void {
    this.#environment.trace(`${this.id} crashes`)
    this.#life++
    this.#core = undefined
    this.#disk.crash((bound) => this.#random.below(bound))
    this.#listener?.onCrash()
    this.#listener = undefined
  }

  /** Gives the core an input and performs what comes of it; nothing if the member is down. */
  input(act: (core: RaftCore) => void): void {
    if (!this.#core) return
    act(this.#core)
    this.#pump()
  }

  receive(message: Message, snapshot: StoredSnapshot | undefined): void {
    if (snapshot) this.#incoming.set(`${snapshot.meta.index}/${snapshot.meta.term}`, snapshot)
    this.input((core) => core.step(message))
  }

  /** Runs `act` after `delayMs`, unless the member has crashed meanwhile. */
  later(delayMs: number, act: () => void): void {
    const life = this.#life
    this.#environment.events.after(delayMs, () => {
      if (life === this.#life) act()
    })
  }

  #tickLater(): void {
    this.later(this.#tickMs, () => {
      this.#tickLater()
      this.input((core) => core.tick())
      if (!this.#core?.status().retired || this.#random.float() < 0.5) return
      this.#retired = true
      this.crash()
    })
  }

  #pump(): void {
    for (;;) {
      const ready = this.#core?.ready()
      if (!ready) return
      this.#perform(ready)
    }
  }

  #perform(ready: Ready): void {
    const { checkers, trace, answerBeforeSync } = this.#environment
    trace(`${this.id} ${describeReady(ready)}`)
    const { snapshot, entries, softState } = ready
    const restored = snapshot && this.#incoming.get(`${snapshot.index}/${snapshot.term}`)
    const first = entries[0]
    if (first) {
      const view = this.#disk.view()
      const previousTerm = snapshot?.index === first.index - 1 ? snapshot.term : view.termAt(first.index - 1)
      checkers.writes(this.id, previousTerm, entries)
    }
    for (const message of ready.messages) this.#send(message)
    if (ready.mustPersist) {
      const early = answerBeforeSync ? ready.messagesAfterPersist : []
      for (const message of early) this.#send(message)
      this.#write({ kind: 'ready', ready, restored }, () => {
        if (!answerBeforeSync) for (const message of ready.messagesAfterPersist) this.#send(message)
        if (restored) this.#enqueue({ kind: 'restore', snapshot: restored })
        this.#core?.persisted(ready.seq)
      })
    }
    if (softState?.role === 'leader') checkers.leads(this.id, softState.term, this.#disk.view())
    if (ready.committed.length > 0) this.#enqueue({ kind: 'entries', entries: ready.committed })
    for (const result of ready.proposals) this.#listener?.onProposal(result)
    for (const result of ready.reads) this.#listener?.onRead(result)
  }

  #send(message: Message): void {
    const { send } = this.#environment
    if (message.kind !== 'install-snapshot') {
      send(message, undefined)
      return
    }
    // What the disk has may be newer than what was announced.
    const { snapshot } = this.#disk
    send({ ...message, meta: snapshot.meta }, snapshot)
  }

  /** `done` runs, and the core is asked for more work, when the write and all before it are synced. */
  #write(write: DiskWrite, done: () => void): void {
    const { events, profile, healed } = this.#environment
    const stalls = !healed() && this.#random.float() < profile.diskStallRate
    const takesMs = this.#random.float() * (stalls ? profile.diskStallMs : profile.diskMs)
    this.#diskFreeMs = Math.max(this.#diskFreeMs, events.nowMs + takesMs)
    this.#disk.submit(write)
    this.later(this.#diskFreeMs - events.nowMs, () => {
      this.#disk.complete()
      done()
      this.#pump()
    })
  }

  #enqueue(work: Work): void {
    this.#work.push(work)
    if (!this.#working) this.#workLater()
  }

  #workLater(): void {
    const { profile } = this.#environment
    this.#working = this.#work.length > 0
    if (!this.#working) return
    this.later(this.#random.float() * profile.applyMs, () => {
      const work = this.#work.shift()!
      if (work.kind === 'restore') this.#restore(work.snapshot)
      else for (const entry of work.entries) this.#apply(entry)
      this.#core?.applied(this.#appliedIndex)
      this.#snapshotIfDue()
      this.#workLater()
      this.#pump()
    })
  }

  #apply(entry: Entry): void {
    const { checkers } = this.#environment
    this.#chain = checkers.applies(this.id, this.#appliedIndex, this.#chain, entry)
    this.#appliedIndex = entry.index
    const { values, found } =
      entry.kind === 'normal' ? applyOperation(this.#values, entry.data) : { values: this.#values, found: '' }
    this.#values = values
    this.#listener?.onApplied(entry, found)
  }

  #restore({ meta, state }: StoredSnapshot): void {
    this.#environment.checkers.restores(this.id, this.#appliedIndex, meta, state.chain)
    this.#values = state.values
    this.#chain = state.chain
    this.#appliedIndex = meta.index
    this.#listener?.onRestored(meta.index)
  }

  #snapshotIfDue(): void {
    const { snapshotEvery, snapshotKept } = this.#environment.profile
    if (this.#snapshotting || this.#appliedIndex - this.#disk.snapshot.meta.index < snapshotEvery) return
    const meta = this.#core?.snapshotMeta()
    if (!meta) return
    this.#snapshotting = true
    const firstKept = Math.max(meta.index - snapshotKept, 1)
    const snapshot = { meta, state: { values: this.#values, chain: this.#chain } }
    this.#write({ kind: 'snapshot', snapshot, firstKept }, () => {
      this.#snapshotting = false
      this.#core?.compact(meta, firstKept)
    })
  }
}

function describeReady(ready: Ready): string {
  const parts = [`ready ${ready.seq}`]
  const { hardState, snapshot, entries, committed, softState, conf } = ready
  if (softState) parts.push(`${softState.role} ${softState.term} (${softState.leader})`)
  if (hardState) parts.push(`state ${hardState.term}/${hardState.vote}/${hardState.commit}`)
  if (snapshot) parts.push(`snapshot ${snapshot.index}/${snapshot.term}`)
  if (entries.length > 0) parts.push(`writes ${describeEntries(entries)}`)
  if (committed.length > 0) parts.push(`applies ${describeEntries(committed)}`)
  if (conf) parts.push(`conf ${describeConf(conf)}`)
  return parts.join(', ')
}

function describeEntries(entries: readonly Entry[]): string {
  return entries.map((entry) => `${entry.index}/${entry.term}${entry.kind === 'config' ? 'c' : ''}`).join(' ')
}

function describeConf(conf: {
  readonly voters: readonly RaftId[]
  readonly outgoing: readonly RaftId[]
  readonly learners: readonly RaftId[]
}): string {
  return [conf.voters, conf.outgoing, conf.learners].map((ids) => ids.join(' ')).join('|')
}

// A small cluster that a script drives step by step, and that says in plain lines what happens: the transcripts in
// test/raft/transcripts are its scripts with their outcome. Nothing happens by itself: messages wait until they are
// delivered, and with `hold` writes wait for `sync`.

import { SeededRandom } from '../../src/lib/random.ts'
import { RaftCore } from '../../src/raft/core.ts'
import type { CoreLimits, Ready } from '../../src/raft/core-types.ts'
import { SAFETY_RULES, type SafetyRules } from '../../src/raft/rules.ts'
import { bootstrapState, EMPTY_STATE } from '../../src/raft/stored-state.ts'
import type { ConfChangeStep, ConfState, Entry, Message, RaftId, StoredState } from '../../src/raft/types.ts'
import { RaftCheckers } from '../sim/raft-checkers.ts'
import { SimDisk } from '../sim/raft-disk.ts'

interface ScriptMember {
  readonly id: RaftId
  readonly disk: SimDisk
  core: RaftCore | undefined
  /** Batches whose write waits for `sync`. */
  readonly held: Ready[]
  holds: boolean
  applied: number
  chain: string
}

export class ScriptCluster {
  readonly #members = new Map<RaftId, ScriptMember>()
  readonly #rules: (id: RaftId) => SafetyRules
  readonly #checkers = new RaftCheckers()
  /** Chains by index, as snapshots would carry them. */
  readonly #chains = new Map<number, string>([[1, '']])
  readonly #cuts = new Set<string>()
  #waiting: Message[] = []
  #lines: string[] = []
  #requestId = 0
  #limits: Partial<CoreLimits> = {}

  constructor(rules: (id: RaftId) => SafetyRules = () => SAFETY_RULES) {
    this.#rules = rules
  }

  /** Executes one command and returns what happened. */
  run(command: string): readonly string[] {
    const [name, ...words] = command.trim().split(/\s+/)
    this.#lines = []
    this.#execute(name ?? '', words)
    return this.#lines
  }

  #execute(name: string, words: readonly string[]): void {
    const [first = '', second = ''] = words
    switch (name) {
      case 'cluster':
        for (const id of words) this.#start(id, bootstrapState(confOf(words)))
        this.#lines = []
        break
      case 'elect':
        // Where the election is not what the scene is about.
        this.#input(first, (core) => core.campaignNow())
        this.#deliver([])
        this.#lines = this.#lines.filter((line) => line.startsWith(`${first} is leader`))
        break
      case 'single':
        this.#limits = { maxMessageBytes: 1 } // each entry in a message of its own
        break
      case 'join':
        this.#start(first, EMPTY_STATE)
        break
      case 'tick':
        for (let n = Number(second || 1); n > 0; n--) this.#input(first, (core) => core.tick())
        break
      case 'campaign':
        this.#input(first, (core) => core.campaignNow())
        break
      case 'lost':
        this.#input(first, (core) => core.leaderLost(second))
        break
      case 'propose':
        for (const text of words.slice(1))
          this.#input(first, (core) => core.propose(Buffer.from(text), ++this.#requestId))
        break
      case 'read':
        this.#input(first, (core) => core.readIndex(++this.#requestId))
        break
      case 'transfer':
        this.#input(first, (core) => {
          this.#say(`${first} transfers: ${core.transferLeadership(second) ?? 'under way'}`)
        })
        break
      case 'conf':
        this.#input(first, (core) => {
          const result = core.proposeConfChange({ steps: words.slice(1).map(stepOf) })
          this.#say(
            `${first} ${result.kind === 'appended' ? `appends the change at ${result.index}` : `refuses: ${result.code}`}`,
          )
        })
        break
      case 'deliver':
        this.#deliver(words)
        break
      case 'drop':
        for (const message of this.#take(words)) this.#say(`lost: ${describe(message)}`)
        break
      case 'double':
        this.#waiting = this.#waiting.flatMap((message) => (message.kind === first ? [message, message] : [message]))
        break
      case 'cut':
        for (const other of words.slice(1)) this.#cuts.add(pair(first, other))
        break
      case 'heal':
        this.#cuts.clear()
        break
      case 'hold':
        this.#member(first).holds = true
        break
      case 'sync':
        this.#sync(this.#member(first))
        break
      case 'crash':
        this.#crash(this.#member(first))
        break
      case 'restart':
        this.#boot(this.#member(first))
        break
      case 'compact':
        this.#compact(this.#member(first), Number(second))
        break
      case 'status':
        this.#status(first)
        break
      default:
        throw new Error(`unknown command ${name}`)
    }
  }

  #start(id: RaftId, stored: StoredState): void {
    const disk = new SimDisk(stored, { values: {}, chain: '' })
    const member: ScriptMember = { id, disk, core: undefined, held: [], holds: false, applied: 0, chain: '' }
    this.#members.set(id, member)
    this.#boot(member)
  }

  #boot(member: ScriptMember): void {
    const { stored, snapshot } = member.disk
    const random = new SeededRandom(member.id.charCodeAt(0))
    member.core = new RaftCore({ id: member.id, random, stored, limits: this.#limits, rules: this.#rules(member.id) })
    member.applied = stored.snapshot.index
    member.chain = snapshot.state.chain
    member.holds = false
    this.#pump(member)
  }

  #crash(member: ScriptMember): void {
    member.core = undefined
    member.held.length = 0
    member.disk.crash(() => 0)
    this.#waiting = this.#waiting.filter((message) => message.from !== member.id && message.to !== member.id)
  }

  #input(id: RaftId, act: (core: RaftCore) => void): void {
    const member = this.#member(id)
    if (!member.core) return
    act(member.core)
    this.#pump(member)
  }

  #pump(member: ScriptMember): void {
    for (let ready = member.core?.ready(); ready; ready = member.core?.ready()) this.#perform(member, ready)
  }

  #perform(member: ScriptMember, ready: Ready): void {
    const { id, disk } = member
    const { softState, entries, snapshot } = ready
    if (softState)
      this.#say(`${id} is ${softState.role} in term ${softState.term}, leader ${softState.leader || 'unknown'}`)
    if (ready.conf) this.#say(`${id} is in ${describeConf(ready.conf)}`)
    if (entries[0])
      this.#checkers.writes(
        id,
        entries[0].index - 1 === snapshot?.index ? snapshot.term : this.#termBefore(member, entries[0]),
        entries,
      )
    this.#waiting.push(...ready.messages)
    for (const result of ready.proposals) {
      this.#say(
        `${id}: request ${result.requestId} ${result.kind === 'appended' ? `appended at ${result.index}/${result.term}` : `refused: ${result.code}`}`,
      )
    }
    for (const result of ready.reads) {
      this.#say(
        `${id}: request ${result.requestId} ${result.kind === 'confirmed' ? `may read at ${result.index}` : `refused: ${result.code}`}`,
      )
    }
    if (ready.mustPersist) {
      const restored = snapshot && {
        meta: snapshot,
        state: { values: {}, chain: this.#chains.get(snapshot.index) ?? '' },
      }
      disk.submit({ kind: 'ready', ready, restored })
      member.held.push(ready)
    }
    if (softState?.role === 'leader') this.#checkers.leads(id, softState.term, disk.view())
    for (const entry of ready.committed) this.#apply(member, entry)
    member.core?.applied(member.applied)
    if (!member.holds) this.#sync(member)
  }

  #termBefore(member: ScriptMember, entry: Entry): number {
    return member.disk.view().termAt(entry.index - 1)
  }

  #sync(member: ScriptMember): void {
    for (let ready = member.held.shift(); ready; ready = member.held.shift()) {
      member.disk.complete()
      this.#waiting.push(...ready.messagesAfterPersist)
      if (ready.snapshot) this.#restore(member, ready.snapshot.index)
      member.core?.persisted(ready.seq)
    }
    this.#pump(member)
  }

  #apply(member: ScriptMember, entry: Entry): void {
    member.chain = this.#checkers.applies(member.id, member.applied, member.chain, entry)
    member.applied = entry.index
    this.#chains.set(entry.index, member.chain)
    const what = entry.kind === 'config' ? 'a membership change' : `"${Buffer.from(entry.data).toString()}"`
    this.#say(`${member.id} applies ${entry.index}/${entry.term} ${what}`)
  }

  #restore(member: ScriptMember, index: number): void {
    const { snapshot } = member.disk
    this.#checkers.restores(member.id, member.applied, snapshot.meta, snapshot.state.chain)
    member.applied = index
    member.chain = snapshot.state.chain
    this.#say(`${member.id} restores the snapshot at ${index}/${snapshot.meta.term}`)
    member.core?.applied(index)
  }

  #compact(member: ScriptMember, kept: number): void {
    const meta = member.core?.snapshotMeta()
    if (!meta) throw new Error(`${member.id} can't take a snapshot now`)
    const firstKept = meta.index - kept + 1
    member.disk.submit({ kind: 'snapshot', snapshot: { meta, state: { values: {}, chain: member.chain } }, firstKept })
    member.disk.complete()
    member.core?.compact(meta, firstKept)
    this.#say(
      `${member.id} has a snapshot at ${meta.index}/${meta.term} and entries from ${member.core?.status().firstIndex} on`,
    )
  }

  /** Without words everything, until nothing is left; else only what matches, once. */
  #deliver(words: readonly string[]): void {
    let rounds = 0
    for (let batch = this.#take(words); batch.length > 0; batch = words.length > 0 ? [] : this.#take([])) {
      if (++rounds > 200) throw new Error('messages without end')
      for (const message of batch) {
        const target = this.#members.get(message.to)
        if (this.#cuts.has(pair(message.from, message.to)) || !target?.core) continue
        this.#say(describe(message))
        this.#input(message.to, (core) => core.step(message))
        if (message.kind === 'install-snapshot')
          this.#input(message.from, (core) => core.reportSnapshot(message.to, true))
      }
    }
  }

  /** `a>b`, `a>` or `>b`, or a kind of message; nothing for everything. */
  #take(filters: readonly string[]): readonly Message[] {
    const matches = (message: Message) =>
      filters.length === 0 ||
      filters.some((filter) => {
        if (!filter.includes('>')) return message.kind === filter
        const [from, to] = filter.split('>')
        return (!from || from === message.from) && (!to || to === message.to)
      })
    const taken = this.#waiting.filter(matches)
    this.#waiting = this.#waiting.filter((message) => !matches(message))
    return taken
  }

  #status(id: RaftId): void {
    const status = this.#member(id).core?.status()
    if (!status) return
    const { role, term, vote, commit, lastIndex, firstIndex, transferee } = status
    this.#say(
      `${id}: ${role} in term ${term}, vote ${vote || 'none'}, log ${firstIndex} to ${lastIndex}, commit ${commit}${transferee ? `, transfers to ${transferee}` : ''}${status.retired ? ', retired' : ''}`,
    )
    for (const peer of status.peers) this.#say(`  ${peer.id}: ${peer.state}, match ${peer.match}, next ${peer.next}`)
  }

  #member(id: RaftId): ScriptMember {
    const member = this.#members.get(id)
    if (!member) throw new Error(`no member ${id}`)
    return member
  }

  #say(line: string): void {
    this.#lines.push(line)
  }
}

function confOf(ids: readonly RaftId[]): ConfState {
  const members = ids.map((id) => ({ id, address: `${id}:2377` }))
  return { voters: ids, learners: [], outgoing: [], learnersNext: [], members }
}

/** `+d` adds or promotes a voter, `~d` adds a learner or demotes to one, `-d` removes. */
function stepOf(word: string): ConfChangeStep {
  const id = word.slice(1)
  if (word.startsWith('-')) return { kind: 'remove', id }
  return { kind: word.startsWith('+') ? 'add-voter' : 'add-learner', member: { id, address: `${id}:2377` } }
}

function pair(a: RaftId, b: RaftId): string {
  return [a, b].sort((x, y) => (x < y ? -1 : 1)).join('-')
}

function describeConf(conf: ConfState): string {
  const parts = [`voters ${conf.voters.join(' ')}`]
  if (conf.outgoing.length > 0) parts.push(`outgoing ${conf.outgoing.join(' ')}`)
  if (conf.learners.length > 0) parts.push(`learners ${conf.learners.join(' ')}`)
  if (conf.learnersNext.length > 0) parts.push(`learners next ${conf.learnersNext.join(' ')}`)
  return parts.join(', ')
}

function describe(message: Message): string {
  return `${message.from} > ${message.to} term ${message.term}: ${describeBody(message)}`
}

function describeBody(message: Message): string {
  switch (message.kind) {
    case 'append': {
      const entries = message.entries.map((entry) => `${entry.index}/${entry.term}`).join(' ')
      return `append after ${message.prevIndex}/${message.prevTerm} [${entries}] commit ${message.commit}`
    }
    case 'append-reply':
      return message.reject
        ? `append refused at ${message.index}, hint ${message.hintIndex}/${message.hintTerm}`
        : `appended to ${message.index}`
    case 'heartbeat':
      return `heartbeat commit ${message.commit} round ${message.readContext}`
    case 'heartbeat-reply':
      return `heartbeat answered, round ${message.readContext}`
    case 'vote':
      return `${message.pre ? 'pre-vote' : 'vote'}? log ends at ${message.lastIndex}/${message.lastTerm}${message.transfer ? ', transfer' : ''}`
    case 'vote-reply':
      return `${message.pre ? 'pre-vote' : 'vote'} ${message.granted ? 'granted' : 'refused'}`
    case 'install-snapshot':
      return `snapshot ${message.meta.index}/${message.meta.term}`
    case 'timeout-now':
      return 'timeout now'
    case 'propose':
      return `proposes ${message.proposals.map((data) => `"${Buffer.from(data).toString()}"`).join(' ')}`
    case 'propose-reply':
      return message.code === ''
        ? `appended your proposals at ${message.index}`
        : `refuses your proposals: ${message.code}`
    case 'read-index':
      return 'asks for a read index'
    case 'read-index-reply':
      return message.code === '' ? `read index ${message.index}` : `refuses the read: ${message.code}`
  }
}

// A whole simulated cluster of cores: members, network, faults, clients and an operator who changes the membership, all
// from one seed. A run has a phase with faults and one in which they are healed and the cluster has to recover.

import { createHash } from 'node:crypto'
import { SeededRandom } from '../../src/lib/random.ts'
import { SAFETY_RULES, type SafetyRules } from '../../src/raft/rules.ts'
import { bootstrapState, EMPTY_STATE } from '../../src/raft/stored-state.ts'
import type { ConfChangeStep, ConfState, Member, Message, RaftId } from '../../src/raft/types.ts'
import type { RegisterOperation } from './linearizability.ts'
import { RaftCheckers, Violation } from './raft-checkers.ts'
import { History, MemberRequests } from './raft-clients.ts'
import type { StoredSnapshot } from './raft-disk.ts'
import { EventQueue } from './raft-events.ts'
import { type MemberEnvironment, SimMember } from './raft-member.ts'
import { drawProfile, type Profile } from './raft-profile.ts'

export interface SimulationOptions {
  readonly seed: number
  /** Breaks one of Raft's rules, for the tests of the checkers. Default: none. */
  readonly rules?: (id: RaftId) => SafetyRules
  readonly answerBeforeSync?: boolean
  /** Replaces what the seed would draw. */
  readonly profile?: Partial<Profile>
  readonly onTrace?: (line: string) => void
}

export interface SimulationResult {
  /** Of everything that happened: two runs of one seed have the same. */
  readonly digest: string
  /** The first broken promise, of Raft or (an assertion) of the program. */
  readonly failure: Error | undefined
  readonly virtualMs: number
  readonly events: number
  readonly acknowledged: number
  readonly applied: number
  readonly terms: number
  readonly members: number
}

const MAX_MEMBERS = 7
/** Time to recover once everything works again. */
const RECOVERY_MS = 120_000

export function simulate(options: SimulationOptions): SimulationResult {
  const simulation = new Simulation(options)
  return simulation.run()
}

class Simulation {
  readonly #random: SeededRandom
  readonly #profile: Profile
  readonly #options: SimulationOptions
  readonly #events = new EventQueue()
  readonly #checkers = new RaftCheckers()
  readonly #history = new History()
  readonly #members = new Map<RaftId, SimMember>()
  readonly #requests = new Map<RaftId, MemberRequests>()
  readonly #digest = createHash('sha256')
  /** Directions that are cut, by partition. */
  readonly #partitions = new Set<(from: RaftId, to: RaftId) => boolean>()
  #healed = false
  #eventCount = 0
  #highestTerm = 0

  constructor(options: SimulationOptions) {
    this.#options = options
    this.#random = new SeededRandom(options.seed)
    this.#profile = { ...drawProfile(this.#random), ...options.profile }
  }

  run(): SimulationResult {
    let failure: Error | undefined
    try {
      this.#start()
      while (this.#step(this.#profile.durationMs)) {}
      this.#heal()
      this.#recover()
      this.#history.check()
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error))
      this.#trace(`FAILED ${failure.message}`)
    }
    return {
      digest: this.#digest.digest('hex'),
      failure,
      virtualMs: Math.round(this.#events.nowMs),
      events: this.#eventCount,
      acknowledged: this.#history.acknowledged,
      applied: this.#checkers.highestApplied,
      terms: this.#highestTerm,
      members: this.#members.size,
    }
  }

  #start(): void {
    const members = Array.from({ length: this.#profile.voters }, (_, n) => memberOf(`n${n + 1}`))
    const conf: ConfState = {
      voters: members.map((member) => member.id),
      learners: [],
      outgoing: [],
      learnersNext: [],
      members,
    }
    for (const { id } of members) this.#launch(id, bootstrapState(conf))
    const { crashEveryMs, partitionEveryMs, membershipEveryMs, transferEveryMs, clients } = this.#profile
    for (let client = 0; client < clients; client++) this.#clientLater()
    this.#every(crashEveryMs, () => this.#crash())
    this.#every(partitionEveryMs, () => this.#partition())
    this.#every(membershipEveryMs, () => this.#changeMembership())
    this.#every(transferEveryMs, () => this.#transfer())
  }

  #step(limitMs: number): boolean {
    this.#eventCount++
    return this.#events.step(limitMs)
  }

  /** At random times while faults last, `meanMs` apart on average. */
  #every(meanMs: number, act: () => void): void {
    if (meanMs === Infinity) return
    this.#events.after(-Math.log(1 - this.#random.float()) * meanMs, () => {
      if (this.#healed) return
      act()
      this.#every(meanMs, act)
    })
  }

  #launch(id: RaftId, stored = EMPTY_STATE): void {
    const environment: MemberEnvironment = {
      events: this.#events,
      profile: this.#profile,
      checkers: this.#checkers,
      rules: this.#options.rules?.(id) ?? SAFETY_RULES,
      answerBeforeSync: this.#options.answerBeforeSync ?? false,
      healed: () => this.#healed,
      send: (message, snapshot) => this.#send(message, snapshot),
      trace: (line) => this.#trace(line),
    }
    const member = new SimMember(id, stored, this.#random.fork(), environment)
    this.#members.set(id, member)
    this.#boot(member)
  }

  #boot(member: SimMember): void {
    const requests = new MemberRequests(member, this.#history, this.#checkers)
    this.#requests.set(member.id, requests)
    member.start(requests)
  }

  #send(message: Message, snapshot: StoredSnapshot | undefined): void {
    const { lossRate, doubleRate, lateRate, lateMs, delayMs, noticeRate } = this.#profile
    const { from, to } = message
    this.#highestTerm = Math.max(this.#highestTerm, message.term)
    const faulty = !this.#healed
    const sender = this.#members.get(from)!
    const lost = [...this.#partitions].some((cuts) => cuts(from, to)) || (faulty && this.#random.float() < lossRate)
    const copies = lost ? 0 : faulty && this.#random.float() < doubleRate ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const late = faulty && this.#random.float() < lateRate ? this.#random.float() * lateMs : 0
      const first = copy === 0
      this.#events.after(late + this.#random.float() * delayMs, () => {
        const target = this.#members.get(to)
        this.#trace(`${from} > ${to} ${describe(message)}`)
        target?.receive(message, snapshot)
        if (snapshot && first)
          sender.later(delayMs, () => sender.input((core) => core.reportSnapshot(to, target?.up ?? false)))
      })
    }
    if (!lost) return
    if (snapshot) sender.later(2_000, () => sender.input((core) => core.reportSnapshot(to, false)))
    else if (this.#random.float() < noticeRate)
      sender.later(delayMs, () => sender.input((core) => core.reportUnreachable(to)))
  }

  /** A client does one thing after another; an answer that does not come in time it gives up for good. */
  #clientLater(): void {
    const { thinkMs, patienceMs, keys } = this.#profile
    this.#events.after(this.#random.float() * thinkMs, () => {
      if (this.#healed) return
      const member = this.#pick(this.#upMembers())
      if (!member) {
        this.#clientLater()
        return
      }
      const key = `k${this.#random.below(keys)}`
      const next = () => this.#events.after(0, () => this.#clientLater())
      const operation = this.#requests.get(member.id)!.perform(key, this.#drawOperation(), next)
      this.#events.after(patienceMs, () => {
        if (operation.abandoned || operation.returned !== Infinity) return
        operation.abandoned = true
        this.#clientLater()
      })
    })
  }

  #drawOperation(): RegisterOperation {
    const kind = this.#random.float()
    if (kind < 0.45) return { kind: 'read' }
    if (kind < 0.8) return { kind: 'write', value: this.#history.freshValue() }
    return { kind: 'swap', expected: this.#history.recentValue(this.#random), value: this.#history.freshValue() }
  }

  #crash(): void {
    const up = this.#upMembers()
    const leader = this.#leader()
    const victim = leader && this.#random.float() < 0.4 ? leader : this.#pick(up)
    if (!victim) return
    const powerFails = this.#random.float() < this.#profile.powerFailureShare
    for (const member of powerFails ? up : [victim]) this.#crashOne(member)
  }

  #crashOne(victim: SimMember): void {
    victim.crash()
    for (const member of this.#upMembers()) {
      if (this.#random.float() < this.#profile.noticeRate) this.#notice(member, victim.id)
    }
    this.#events.after(this.#random.float() * this.#profile.downMs, () => {
      if (!victim.up && !victim.retired) this.#boot(victim)
    })
  }

  /** A connection to a dead process is refused at once: whoever followed it campaigns after a jitter. */
  #notice(member: SimMember, dead: RaftId): void {
    member.later(this.#random.float() * 10, () => {
      if (member.core?.status().leader !== dead) return
      member.input((core) => core.leaderLost(dead))
      member.later(this.#random.float() * 60, () => {
        if (member.core?.status().leader === '') member.input((core) => core.campaignNow())
      })
    })
  }

  #partition(): void {
    const ids = [...this.#members.keys()]
    const side = new Set(ids.filter(() => this.#random.float() < 0.5))
    const oneWay = this.#random.float() < 0.3
    const cuts = (from: RaftId, to: RaftId) =>
      (side.has(from) && !side.has(to)) || (!oneWay && !side.has(from) && side.has(to))
    this.#trace(`partition ${[...side].join(' ')}${oneWay ? ' one way' : ''}`)
    this.#partitions.add(cuts)
    // A broken connection can look like a dead leader.
    for (const member of this.#upMembers()) {
      const leader = member.core?.status().leader
      if (leader && cuts(leader, member.id) && this.#random.float() < this.#profile.noticeRate / 2)
        this.#notice(member, leader)
    }
    this.#events.after(this.#random.float() * this.#profile.partitionMs, () => this.#partitions.delete(cuts))
  }

  #transfer(): void {
    const to = this.#pick([...this.#members.keys()])
    if (to) this.#leader()?.input((core) => core.transferLeadership(to))
  }

  #changeMembership(): void {
    const leader = this.#leader()
    const conf = leader?.core?.status().conf
    if (!leader || !conf) return
    const steps: ConfChangeStep[] = []
    const count = this.#random.float() < 0.5 ? 1 : 1 + this.#random.below(3)
    while (steps.length < count) steps.push(this.#drawStep(conf))
    // At times a cluster shrinks to one or two voters, but never to none.
    const leaving = steps.filter((step) => step.kind === 'remove' || step.kind === 'add-learner').length
    if (conf.voters.length - leaving < 1) return
    this.#trace(`${leader.id} is asked for ${steps.map(describeStep).join(', ')}`)
    leader.input((core) => {
      core.proposeConfChange({ steps })
    })
  }

  #drawStep(conf: ConfState): ConfChangeStep {
    const kind = this.#random.float()
    const known = this.#pick(conf.members)!
    if (kind < 0.35 && conf.members.length < MAX_MEMBERS && this.#members.size < 3 * MAX_MEMBERS) {
      const id = `n${this.#members.size + 1}`
      this.#launch(id)
      return { kind: this.#random.float() < 0.5 ? 'add-voter' : 'add-learner', member: memberOf(id) }
    }
    if (kind < 0.6) return { kind: 'add-voter', member: known }
    if (kind < 0.75) return { kind: 'add-learner', member: known }
    if (kind < 0.8) return { kind: 'update', member: known }
    return { kind: 'remove', id: known.id }
  }

  #heal(): void {
    this.#trace('healed')
    this.#healed = true
    this.#partitions.clear()
    for (const member of this.#members.values()) if (!member.up && !member.retired) this.#boot(member)
  }

  /** Liveness: a leader, a write through each of its members, and all of them in the same state. */
  #recover(): void {
    const limitMs = this.#events.nowMs + RECOVERY_MS
    const done = new Set<RaftId>()
    const poll = () => {
      for (const { id } of this.#leader()?.core?.status().conf.members ?? []) {
        if (done.has(id)) continue
        const write = { kind: 'write', value: this.#history.freshValue() } as const
        this.#requests.get(id)!.perform('recovery', write, (acknowledged) => {
          if (acknowledged) done.add(id)
        })
      }
      this.#events.after(1_000, poll)
    }
    this.#events.after(1_000, poll)
    while (!this.#recovered(done)) {
      if (!this.#step(limitMs)) throw new Violation('liveness', `not recovered after ${RECOVERY_MS} ms`)
    }
  }

  #recovered(done: ReadonlySet<RaftId>): boolean {
    if (done.size === 0) return false
    const leader = this.#leader()
    const status = leader?.core?.status()
    if (!leader || !status || status.conf.outgoing.length > 0 || leader.appliedIndex !== status.lastIndex) return false
    return status.conf.members.every(({ id }) => done.has(id) && this.#members.get(id)?.chain === leader.chain)
  }

  #leader(): SimMember | undefined {
    const leaders = this.#upMembers().filter((member) => member.core?.status().role === 'leader')
    return this.#healed ? leaders.sort((a, b) => b.core!.status().term - a.core!.status().term)[0] : this.#pick(leaders)
  }

  #upMembers(): SimMember[] {
    return [...this.#members.values()].filter((member) => member.up)
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[this.#random.below(items.length)]
  }

  #trace(line: string): void {
    const stamped = `${this.#events.nowMs.toFixed(1)} ${line}`
    this.#digest.update(stamped)
    this.#options.onTrace?.(stamped)
  }
}

function memberOf(id: RaftId): Member {
  return { id, address: `${id}:2377` }
}

function describeStep(step: ConfChangeStep): string {
  return `${step.kind} ${step.kind === 'remove' ? step.id : step.member.id}`
}

function describe(message: Message): string {
  const { kind, from: _from, to: _to, ...rest } = message
  const fields = Object.entries(rest).map(([name, value]) => {
    if (name === 'entries')
      return `entries=${message.kind === 'append' ? message.entries.map((e) => `${e.index}/${e.term}`).join(' ') : ''}`
    return `${name}=${typeof value === 'object' ? (Array.isArray(value) ? value.length : JSON.stringify(value)) : value}`
  })
  return `${kind} ${fields.join(' ')}`
}

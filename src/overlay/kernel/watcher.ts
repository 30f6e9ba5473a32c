// Looks on while the kernel tells what happens to it (`ip monitor`, `nft monitor` in the fabric; in the host's namespace only what
// is deleted, since much happens there that is not ours), to notice at once what the plan did not do. Whether a line tells of a
// loss is pure; a periodic audit finds what no line tells.

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { type Clock, sleep, type Timer } from '../../lib/clock.ts'
import type { Log } from '../../lib/log.ts'
import type { EntryMap } from './entry.ts'
import { MAIN_TABLE } from './entry.ts'

/** True where a line of `ip monitor link address route neigh rule` says that something planned is no more as planned. */
export function tellsOfLoss(line: string, desired: EntryMap, fabricLink: string): boolean {
  const link = /^(Deleted )?\d+: ([^:@ ]+)[:@\s]/.exec(line)
  if (link) {
    const [, deleted, device = ''] = link
    const address = /^Deleted \d+: \S+\s+inet6? (\S+)/.exec(line)?.[1]
    if (address) return desired.has(`address ${device} ${address}`)
    // `noop`: a link that is being made or removed, and not one that went down.
    if (deleted) return line.includes('noop') && (desired.has(`link ${device}`) || device === fabricLink)
    const flags = /<([^>]*)>/.exec(line)?.[1]?.split(',') ?? []
    if (device === fabricLink && flags.includes('NO-CARRIER')) return true
    const wasUp = line.includes(' qdisc ') && !line.includes(' noop ')
    return desired.has(`device ${device}`) && flags.length > 0 && !flags.includes('UP') && wasUp
  }
  if (!line.startsWith('Deleted ')) return false
  const rule = /^Deleted (\d+):\t/.exec(line)
  if (rule) return desired.has(`rule 4 ${rule[1]}`) || desired.has(`rule 6 ${rule[1]}`)
  const neighbour = /^Deleted (?:(\S+) )?dev (\S+) (?:lladdr (\S+) )?/.exec(line)
  if (neighbour && !line.includes('table local') && !line.includes(' proto kernel')) {
    const [, address = '', device = '', mac = ''] = neighbour
    if (desired.has(`neighbour ${device} ${address}`) || desired.has(`tunnel-fdb ${device} ${mac}`)) return true
    const port = desired.get(`device ${device}`)
    if (mac !== '' && port?.kind === 'device' && desired.has(`bridge-fdb ${port.master} ${mac}`)) return true
  }
  const route = /^Deleted (?:unreachable )?(\S+) (?:via|dev) /.exec(line)
  if (!route) return false
  const table = /\btable (\d+)/.exec(line)?.[1] ?? String(MAIN_TABLE)
  return desired.has(`route 4 ${table} ${route[1]}`) || desired.has(`route 6 ${table} ${route[1]}`)
}

/** True where a line of `nft monitor destroy` in the host's namespace tells that something of our table (of family inet) was deleted. */
export function tellsOfHostLoss(line: string, hostTable: string): boolean {
  return HOST_LOSS.exec(line)?.[1] === hostTable
}

const HOST_LOSS = /^delete (?:table|chain|rule|set|element|counter) inet (\S+)/

export interface WatcherOptions {
  readonly namespacePath: string
  /** Empty: this process's own namespace. */
  readonly hostNamespacePath: string
  /** Of family inet, in the host's namespace. */
  readonly hostTable: string
  readonly desired: () => EntryMap
  readonly fabricLink: string
  /** How often this process changed the fabric's ruleset so far, counted before it does. */
  readonly ownGenerations: () => number
  /** Changes the fabric's ruleset to what it is. */
  readonly touchRules: () => Promise<void>
  /** Something planned was lost, or somebody else changed the rules. Called once for a burst. */
  readonly lost: () => void
  /** Something of the host's table was deleted: by somebody, or because this process changes it. Called once for a burst. */
  readonly hostLost: () => void
  readonly clock: Clock
  readonly log: Log
}

type Watched = 'links' | 'rules' | 'host'

/** What `nft monitor` says when the kernel's news came faster than it read them. */
const EVENTS_LOST = '# ERROR: We lost some netlink events'
const SETTLE_MS = 30
const RESTART_MS = 2000
const READY_TRIES = 10
const READY_POLLS = 10
const READY_POLL_MS = 10
const QUIET_MS = 150
const QUIET_MAX_MS = 3000

export class Watcher {
  readonly #options: WatcherOptions
  readonly #children = new Map<Watched, ChildProcess>()
  readonly #restarts = new Map<Watched, Timer>()
  #settling: Timer | undefined
  #settlingHost: Timer | undefined
  /** Generations of the ruleset that the kernel told of, and how many of them were not counted by us or not told. */
  #seen = 0
  #offset = 0
  #toldMs = 0
  #calibrated = false
  #started = false
  #closed = false

  constructor(options: WatcherOptions) {
    this.#options = options
  }

  /** Looks at the namespace that the path names now. Nobody may change its rules until this resolves. */
  async start(): Promise<void> {
    const { namespacePath, hostNamespacePath } = this.#options
    this.#stopChildren()
    this.#watch('links', namespacePath, ['ip', 'monitor', 'link', 'address', 'route', 'neigh', 'rule'], (line) => {
      const { desired, fabricLink } = this.#options
      if (tellsOfLoss(line, desired(), fabricLink)) this.#notice()
    })
    this.#watch('rules', namespacePath, ['nft', 'monitor'], (line) => {
      // Then nobody knows how many generations there were.
      if (line.startsWith(EVENTS_LOST)) this.#calibrated = false
      else if (line.startsWith('# new generation ')) this.#seen++
      else return
      this.#toldMs = this.#options.clock.nowMs()
      if (this.blind || this.foreignRules) this.#notice()
    })
    this.#watch('host', hostNamespacePath, ['nft', 'monitor', 'destroy'], (line) => {
      if (tellsOfHostLoss(line, this.#options.hostTable)) this.#noticeHost()
    })
    await this.#calibrate()
  }

  /** It has looked on, and has missed something since: whether rules are as they were left is not known. */
  get blind(): boolean {
    return this.#started && !this.#calibrated && this.#children.has('rules')
  }

  /** Looks on again. Nobody may change the rules until this resolves. */
  regain(): Promise<void> {
    return this.#calibrate()
  }

  /** Somebody else changed the fabric's rules since `start` or `forgetForeign`. */
  get foreignRules(): boolean {
    return this.#calibrated && this.#seen - this.#offset > this.#options.ownGenerations()
  }

  /** Forgets what others changed so far. Nobody may change the rules until this resolves. */
  async forgetForeign(): Promise<void> {
    await this.#quiet()
    this.#offset = this.#seen - this.#options.ownGenerations()
  }

  /** Until the kernel has told all of what was done: news come late on a busy machine. */
  async #quiet(): Promise<void> {
    const { clock } = this.#options
    const startMs = clock.nowMs()
    this.#toldMs = startMs
    while (clock.nowMs() - this.#toldMs < QUIET_MS && clock.nowMs() - startMs < QUIET_MAX_MS) {
      await sleep(clock, QUIET_MS / 5)
    }
  }

  close(): void {
    this.#closed = true
    this.#settling?.cancel()
    this.#settlingHost?.cancel()
    this.#stopChildren()
  }

  /** From when on the kernel's news arrive, none says. */
  async #calibrate(): Promise<void> {
    const { clock, touchRules, log } = this.#options
    this.#calibrated = false
    this.#seen = 0
    let touches = 0
    while (touches < READY_TRIES && this.#seen === 0) {
      await touchRules()
      touches++
      for (let polls = 0; polls < READY_POLLS && this.#seen === 0; polls++) await sleep(clock, READY_POLL_MS)
    }
    if (this.#seen === 0) log.warn({}, 'the kernel tells nothing of its rules; they are looked at now and then')
    // The first of several touches may be told of late.
    if (touches > 1) await this.#quiet()
    this.#offset = this.#seen - this.#options.ownGenerations()
    this.#calibrated = this.#seen > 0
    this.#started = this.#calibrated
  }

  #notice(): void {
    this.#settling ??= this.#options.clock.setTimer(SETTLE_MS, () => {
      this.#settling = undefined
      if (!this.#closed) this.#options.lost()
    })
  }

  #noticeHost(): void {
    this.#settlingHost ??= this.#options.clock.setTimer(SETTLE_MS, () => {
      this.#settlingHost = undefined
      if (!this.#closed) this.#options.hostLost()
    })
  }

  /** @param namespacePath empty: this process's own */
  #watch(what: Watched, namespacePath: string, command: readonly string[], line: (text: string) => void): void {
    const { clock, log } = this.#options
    const within = namespacePath === '' ? [] : ['nsenter', `--net=${namespacePath}`]
    // It ends with this process, also when that is killed.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...within, ...command], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    this.#children.set(what, child)
    createInterface({ input: child.stdout }).on('line', line)
    child.on('error', (error) => log.warn({ what, reason: error.message }, 'the kernel is not watched'))
    child.on('close', () => {
      if (this.#closed || this.#children.get(what) !== child) return
      this.#children.delete(what)
      this.#calibrated = this.#calibrated && what !== 'rules'
      const restart = clock.setTimer(RESTART_MS, () => {
        this.#watch(what, namespacePath, command, line)
        // What happened meanwhile nobody told.
        this.#notice()
      })
      this.#restarts.set(what, restart)
    })
  }

  #stopChildren(): void {
    for (const timer of this.#restarts.values()) timer.cancel()
    this.#restarts.clear()
    const children = [...this.#children.values()]
    this.#children.clear()
    for (const child of children) child.kill('SIGTERM')
  }
}

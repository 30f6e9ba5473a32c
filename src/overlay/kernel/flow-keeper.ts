// Has conntrack forget what ../rules says is stale. Looking for it walks the whole table of connections, which a change of the rules
// need not wait for: those who ask meanwhile share the next look. A look at all of it tells besides which replies are to be noted.

import { type Clock, sleep } from '../../lib/clock.ts'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { noteKnown } from '../rules/balanced-replies.ts'
import { type FlowFlush, flowDeletions, flowListings } from '../rules/stale-flows.ts'
import type { Commands } from './commands.ts'

/** A look costs some 10 ms of a core, however few connections there are: changes that come one after the other share it. */
const GATHER_MS = 40

const isOfStart = ({ kind }: FlowFlush): boolean => kind === 'others'

export class FlowKeeper {
  readonly #commands: Commands
  readonly #clock: Clock
  readonly #log: Log
  readonly #load: (script: string) => Promise<unknown>
  #pending: readonly FlowFlush[] = []
  #running: Promise<void> | undefined

  /** @param load runs a script of nft in the fabric's namespace */
  constructor(commands: Commands, load: (script: string) => Promise<unknown>, clock: Clock, log: Log) {
    this.#commands = commands
    this.#load = load
    this.#clock = clock
    this.#log = log
  }

  /** Resolves when the kernel has forgotten these and all that were asked for before. Never rejects. */
  forget(flows: readonly FlowFlush[]): Promise<void> {
    const before = flows.some(isOfStart) ? this.#pending.filter((flow) => !isOfStart(flow)) : this.#pending
    this.#pending = [...before, ...flows]
    return this.settled()
  }

  /** Resolves when nothing is left to forget. */
  settled(): Promise<void> {
    if (this.#pending.length > 0) this.#running ??= this.#run()
    return this.#running ?? Promise.resolve()
  }

  async #run(): Promise<void> {
    while (this.#pending.length > 0) {
      if (!this.#pending.some(isOfStart)) await sleep(this.#clock, GATHER_MS)
      const flows = this.#pending
      this.#pending = []
      await this.#flush(flows)
    }
    this.#running = undefined
  }

  async #flush(flows: readonly FlowFlush[]): Promise<void> {
    try {
      const listings = await Promise.all(flowListings(flows).map((args) => this.#commands.fabric('conntrack', args)))
      const listing = listings.map(({ stdout }) => stdout).join('\n')
      const virtualIps = flows.flatMap((flow) => (flow.kind === 'others' ? flow.virtualIps : []))
      const known = noteKnown(listing, new Set(virtualIps))
      if (known !== '') await this.#load(known)
      const deletions = flowDeletions(flows, listing)
      await Promise.all(deletions.map(({ place, args }) => this.#commands[place]('conntrack', args)))
    } catch (error) {
      // Without the tool a datagram's flow ends 30 s after its last packet, by itself; a connection when its client gives up.
      this.#log.warn({ reason: errorMessage(error) }, 'datagrams and connections may stay with tasks that are gone')
    }
  }
}

// Runs the texts that ../rules makes: nftables of both namespaces, and what conntrack is to forget with them. Knows whether the
// kernel's tables are still those that it loaded.

import type { DataPlaneKey } from '../../api/data-plane.ts'
import type { Clock } from '../../lib/clock.ts'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { inSlices } from '../../lib/slices.ts'
import type { DesiredState, LocalAttachment } from '../desired-state.ts'
import { connectionListing, DRAINING_QUERIES, drainingPackets, hasConnections } from '../rules/draining.ts'
import { PRESENCE_QUERIES } from '../rules/fabric-tables.ts'
import { hostHoles, rulesByChain } from '../rules/host-holes.ts'
import { hostTable } from '../rules/host-table.ts'
import type { PortsHere } from '../rules/published-ports.ts'
import { type RuleChange, RuleSet, type TaskAddresses } from '../rules/rule-set.ts'
import { type CommandResult, type Commands, succeed } from './commands.ts'
import { inboundSockets } from './container-sockets.ts'
import { FABRIC_TABLE, type FabricConfig } from './fabric-config.ts'
import { FlowKeeper } from './flow-keeper.ts'

/** A task whose packets are counted. */
export interface CountedTask extends TaskAddresses {
  /** Path of its container's network namespace; empty: not known. */
  readonly sandbox: string
}

export interface Traffic {
  /** Of the task's end points on this node; those that are closing count for nothing. */
  readonly connections: number
  /** Rises while packets of them move. */
  readonly packets: number
}

const NOTHING_INBOUND = { connections: 0, segments: 0 }

/** As the engine names bridges that nobody named. A host's own may be called `br-lan`. */
const ENGINE_BRIDGE = /^br-[0-9a-f]{12}$/

export interface RuleKeeperOptions {
  readonly commands: Commands
  readonly config: FabricConfig
  /** TCP ports that containers may reach on no node. */
  readonly controlPorts: readonly number[]
  readonly portsHere: PortsHere | undefined
  readonly clock: Clock
  readonly log: Log
}

export class RuleKeeper {
  readonly #commands: Commands
  readonly #config: FabricConfig
  readonly #clock: Clock
  readonly #log: Log
  readonly #rules: RuleSet
  readonly #flows: FlowKeeper
  /** Tasks whose packets are counted, and whether somebody asked since the last `forgetDrained`. */
  readonly #counted = new Map<string, boolean>()
  /** Scripts of the fabric's namespace that the kernel took: each makes one generation of its ruleset. */
  #generations = 0
  /** Names of the engine's bridges that the rules know. */
  #guarded = ''
  /** How many rules each chain of the host's table has. */
  readonly #hostRules: ReadonlyMap<string, number>
  #counting: Promise<ReadonlyMap<string, number>> | undefined
  /** The host's table as it was first seen after our last change of it. */
  #hostSeen: string | undefined

  constructor({ commands, config, controlPorts, portsHere, clock, log }: RuleKeeperOptions) {
    this.#commands = commands
    this.#config = config
    this.#clock = clock
    this.#log = log
    this.#rules = new RuleSet({ config, controlPorts, portsHere })
    this.#flows = new FlowKeeper(commands, (script) => this.#fabricScript(script), clock, log)
    this.#hostRules = rulesByChain(hostTable(config))
  }

  get generations(): number {
    return this.#generations
  }

  /** Replaces all tables, each namespace's at once: nothing passes unfiltered, no connection breaks. */
  async load(state: DesiredState, locals: Iterable<LocalAttachment>): Promise<void> {
    const full = await inSlices(this.#rules.fullSteps(state, locals), this.#clock)
    await this.#run(full)
    await this.#flows.forget(full.flows)
  }

  /** Resolves when conntrack has forgotten all that it was to forget. */
  settled(): Promise<void> {
    return this.#flows.settled()
  }

  /** A change that changes nothing, for who counts changes. */
  async touch(): Promise<void> {
    const chain = `chain inet ${FABRIC_TABLE} touched`
    await this.#fabricScript(`add ${chain}\ndelete ${chain}\n`)
  }

  /** What of the fabric's own is missing in the kernel. */
  async damage(): Promise<readonly string[]> {
    const { hostTable: table } = this.#config
    const [answers, host] = await Promise.all([
      Promise.all(PRESENCE_QUERIES.map(({ args }) => this.#commands.fabric('nft', args))),
      this.#commands.host('nft', ['-s', 'list', 'table', 'inet', table]),
    ])
    const missing = PRESENCE_QUERIES.flatMap(({ table }, at) => (answers[at]?.status === 0 ? [] : [table]))
    if (host.status !== 0) return [...missing, `table inet ${table} of the host`]
    const holes = hostHoles(host.stdout, this.#hostRules, this.#rules.hostElements())
    if (holes.length > 0) return [...missing, `table inet ${table} of the host: ${holes.join(', ')}`]
    if (this.#hostSeen !== undefined && this.#hostSeen !== host.stdout) {
      return [...missing, `table inet ${table} of the host: changed by somebody`]
    }
    this.#hostSeen = host.stdout
    return missing
  }

  change(state: DesiredState, keys: readonly DataPlaneKey[], locals: () => Iterable<LocalAttachment>): Promise<void> {
    return this.#runOrLoad(this.#rules.change(state, keys), state, locals)
  }

  attach(state: DesiredState, local: LocalAttachment, locals: () => Iterable<LocalAttachment>): Promise<void> {
    return this.#runOrLoad(this.#rules.attach(state, local), state, locals)
  }

  detach(state: DesiredState, endpointId: string, locals: () => Iterable<LocalAttachment>): Promise<void> {
    return this.#runOrLoad(this.#rules.detach(state, endpointId), state, locals)
  }

  setPortsHere(state: DesiredState, here: PortsHere, locals: () => Iterable<LocalAttachment>): Promise<void> {
    return this.#runOrLoad(this.#rules.setPortsHere(state, here), state, locals)
  }

  /** Takes note of the engine's networks: what stands on them is not for tasks. */
  async guardEngineBridges(state: DesiredState, locals: () => Iterable<LocalAttachment>): Promise<void> {
    const { stdout } = await this.#commands.host('ip', ['-j', 'link', 'show', 'type', 'bridge'])
    const links = JSON.parse(stdout.trim() || '[]') as readonly { readonly ifname?: string }[]
    const names = links.flatMap(({ ifname = '' }) => (ENGINE_BRIDGE.test(ifname) ? [ifname] : []))
    if (names.join() === this.#guarded) return
    await this.#runOrLoad(this.#rules.setEngineBridges(state, names), state, locals)
    this.#guarded = names.join()
  }

  /** Counts the task's packets from the first call on. */
  async count(state: DesiredState, taskId: string, locals: () => Iterable<LocalAttachment>): Promise<CountedTask> {
    if (!this.#counted.has(taskId)) await this.#runOrLoad(this.#rules.drain(state, taskId), state, locals)
    this.#counted.set(taskId, true)
    const addresses = this.#rules.addressesOf(state, taskId)
    const all = new Set([...addresses.routed, ...addresses.bridged])
    const own = [...locals()].find((local) => local.addresses.some((address) => all.has(address)))
    return { ...addresses, sandbox: own?.sandbox ?? '' }
  }

  /** Of a task that is counted. Changes nothing, and asks nothing that a change may be about to change. */
  async traffic({ routed, bridged, sandbox }: CountedTask): Promise<Traffic> {
    // Those who ask at the same time share a look.
    this.#counting ??= this.#countedPackets().finally(() => {
      this.#counting = undefined
    })
    const [listings, packets, inbound] = await Promise.all([
      Promise.all(routed.map((address) => this.#connections(address))),
      this.#counting,
      bridged.length === 0 ? NOTHING_INBOUND : inboundSockets(this.#commands, sandbox, bridged),
    ])
    const tracked = listings.filter((listing) => listing === undefined || hasConnections(listing)).length
    return {
      connections: tracked + (inbound?.connections ?? 1),
      packets: routed.reduce((sum, address) => sum + (packets.get(address) ?? 0), 0) + (inbound?.segments ?? 0),
    }
  }

  async #countedPackets(): Promise<ReadonlyMap<string, number>> {
    const counts = await Promise.all(DRAINING_QUERIES.map((query) => this.#commands.fabric('nft', query)))
    return new Map(counts.flatMap(({ stdout }) => [...drainingPackets(stdout)]))
  }

  /** Undefined where nothing can tell: then there may be some, and only the packets say whether they move. */
  async #connections(address: string): Promise<string | undefined> {
    const listing = await this.#commands.fabric('conntrack', connectionListing(address)).catch(() => undefined)
    return listing?.status === 0 ? listing.stdout : undefined
  }

  /** Ends the counting for tasks that nobody asked about since the last call. */
  async forgetDrained(state: DesiredState, locals: () => Iterable<LocalAttachment>): Promise<void> {
    for (const [taskId, asked] of this.#counted) {
      this.#counted.set(taskId, false)
      if (asked) continue
      this.#counted.delete(taskId)
      await this.#runOrLoad(this.#rules.undrain(state, taskId), state, locals)
    }
  }

  /** An increment is refused where a foreign hand was at the tables: then they are loaded anew. */
  async #runOrLoad(change: RuleChange, state: DesiredState, locals: () => Iterable<LocalAttachment>): Promise<void> {
    try {
      await this.#run(change)
    } catch (error) {
      this.#log.warn({ reason: errorMessage(error) }, 'the kernel refused a change of rules; all are loaded anew')
      await this.load(state, locals())
    }
    void this.#flows.forget(change.flows)
  }

  async #run(change: RuleChange): Promise<void> {
    if (change.host !== '') this.#hostSeen = undefined
    const results = await Promise.all([
      change.fabric === '' ? undefined : this.#fabricScript(change.fabric),
      change.host === '' ? undefined : this.#commands.host('nft', ['-f', '-'], change.host),
    ])
    for (const result of results) if (result) succeed(result, 'nft')
  }

  async #fabricScript(script: string): Promise<CommandResult> {
    this.#generations++
    const result = await this.#commands.script(script)
    if (result.status !== 0) this.#generations--
    return result
  }
}

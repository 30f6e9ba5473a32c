// A node's data plane in the kernel: takes over what is there, applies what changes, and mends what others break. Nothing here is
// on a packet's path: without this process everything goes on.

import { existsSync } from 'node:fs'
import type { DataPlaneKey } from '../../api/data-plane.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { inSlices } from '../../lib/slices.ts'
import { Turns } from '../../lib/turns.ts'
import { type DesiredState, EMPTY_STATE, type LocalAttachment } from '../desired-state.ts'
import type { PortsHere } from '../rules/published-ports.ts'
import { Commands } from './commands.ts'
import { bridgeOfLocal, localMtu } from './derive.ts'
import { DesiredKernel } from './desired-kernel.ts'
import type { Drift } from './drift.ts'
import { EntryKeeper } from './entry-keeper.ts'
import { bridgeName, containerPort, type FabricConfig, tunnelName } from './fabric-config.ts'
import { HostLink } from './host-link.ts'
import { FabricNamespace } from './namespace.ts'
import { RuleKeeper, type Traffic } from './rule-keeper.ts'
import { KernelSettings } from './settings.ts'
import { Watcher } from './watcher.ts'

export interface FabricSettings {
  readonly config: FabricConfig
  readonly log: Log
  readonly clock: Clock
  /** TCP ports of the nodes that containers may not reach: the control plane's. */
  readonly controlPorts?: readonly number[]
  /** Published ports that this node serves, until `setPortsHere`; default: every one, of those for some addresses none. */
  readonly portsHere?: PortsHere
  /** Path of the host's network namespace; default: this process's own. */
  readonly hostNamespace?: string
  /** Called after a repair that nobody asked for. */
  readonly onDrift?: (drift: readonly Drift[]) => void
}

interface Repair {
  readonly parts: readonly (() => Promise<void>)[]
  /** What was wrong, when all parts have run. */
  readonly found: () => readonly Drift[]
}

const DEFAULT_CONTROL_PORTS = [2377]
/** Between looks at everything while nothing tells of a loss; in between only links and rules are looked at. */
const THOROUGH_EVERY_MS = 30_000

export class Fabric {
  readonly #config: FabricConfig
  readonly #log: Log
  readonly #clock: Clock
  readonly #commands: Commands
  readonly #namespace: FabricNamespace
  readonly #hostLink: HostLink
  readonly #settings: KernelSettings
  readonly #desired: DesiredKernel
  readonly #rules: RuleKeeper
  readonly #entries: EntryKeeper
  readonly #watcher: Watcher
  readonly #onDrift: (drift: readonly Drift[]) => void
  #state: DesiredState = EMPTY_STATE
  readonly #turns = new Turns()
  #thoroughAtMs = 0
  #suspicious = true
  #watching = false
  #repairs = 0
  #closed = false

  constructor(settings: FabricSettings) {
    const { config, log, clock, hostNamespace = '' } = settings
    this.#config = config
    this.#log = log
    this.#clock = clock
    this.#onDrift = settings.onDrift ?? (() => {})
    this.#commands = new Commands({ fabric: config.namespace, host: hostNamespace }, clock)
    this.#namespace = new FabricNamespace(this.#commands, config.namespace)
    this.#hostLink = new HostLink(this.#commands, config)
    this.#settings = new KernelSettings(this.#commands, config, log)
    this.#desired = new DesiredKernel(config, existsSync('/proc/sys/net/ipv6'))
    this.#rules = new RuleKeeper({
      commands: this.#commands,
      config,
      controlPorts: settings.controlPorts ?? DEFAULT_CONTROL_PORTS,
      portsHere: settings.portsHere,
      clock,
      log,
    })
    this.#entries = new EntryKeeper({
      desired: this.#desired,
      commands: this.#commands,
      namespace: config.namespace,
      allow: (local) => this.#rules.attach(this.#state, local, this.#locals),
      clock,
      log,
    })
    this.#watcher = new Watcher({
      namespacePath: this.#commands.fabricPath,
      hostNamespacePath: hostNamespace,
      hostTable: config.hostTable,
      desired: () => this.#desired.entries,
      fabricLink: config.fabricLink,
      ownGenerations: () => this.#rules.generations,
      touchRules: () => this.#rules.touch(),
      lost: () => void this.#afterLoss(),
      hostLost: () => void this.#lookAgain(() => true),
      clock,
      log,
    })
  }

  /** Repairs so far, of this process. */
  get repairs(): number {
    return this.#repairs
  }

  /**
   * Makes the kernel what `state` and `locals` say, whatever stands there from an earlier run: what is right stays untouched,
   * so that traffic goes on; what nobody knows is removed, containers' leftover links among it. Call it once, before all else.
   */
  open(state: DesiredState, locals: readonly LocalAttachment[]): Promise<void> {
    return this.#turns.take(async () => {
      this.#state = state
      await inSlices(this.#desired.applySteps(state, undefined), this.#clock)
      for (const local of locals) this.#desired.attach(local)
      try {
        const drift = await this.#mendAll(true)
        await this.#watcher.start()
        this.#watching = true
        this.#commands.keepSpare()
        this.#log.info({ namespace: this.#config.namespace, changes: drift.length }, 'the fabric is open')
      } catch (error) {
        this.#watcher.close()
        await this.#namespace.close()
        throw error
      }
    })
  }

  /**
   * Resolves when the kernel has it. `changed`: the keys of what differs from the state of the last call; undefined: compares
   * everything.
   * @throws {CodedError} KERNEL_REFUSED, and the next audit tries again
   */
  apply(state: DesiredState, changed: readonly DataPlaneKey[] | undefined): Promise<void> {
    return this.#turns.take(async () => {
      const startedMs = this.#clock.nowMs()
      const before = this.#state.self
      const mtuBefore = this.#desired.surroundings.underlayMtu
      this.#state = state
      const change = await inSlices(this.#desired.applySteps(state, changed), this.#clock)
      const wide = changed === undefined || JSON.stringify(before) !== JSON.stringify(state.self)
      if (wide) await this.#mendAll(true)
      else await this.#entries.perform(change, () => this.#rules.change(state, changed, this.#locals))
      this.#explainMtu(mtuBefore)
      const count = change.after.size + change.before.size
      this.#log.debug({ entries: count, ms: this.#clock.nowMs() - startedMs }, 'the kernel has a change')
    })
  }

  /**
   * Makes the container's link; its end, named `device`, stands in the host's namespace for the engine to take. Idempotent.
   * @throws {CodedError} NETWORK_UNKNOWN where no record of the network has come; NETWORK_UNUSABLE with what the kernel says of it
   */
  attach(local: LocalAttachment): Promise<{ readonly device: string; readonly mtu: number }> {
    return this.#turns.take(async () => {
      const around = this.#desired.surroundings
      if (bridgeOfLocal(local, around) === undefined) {
        throw new CodedError('NETWORK_UNKNOWN', `the node does not know network ${local.networkId}`, {
          retryable: true,
        })
      }
      const problem = this.#problemOf(local.networkId)
      if (problem !== '') throw new CodedError('NETWORK_UNUSABLE', problem)
      const device = containerPort(local.endpointId)
      if (this.#desired.locals.has(local.endpointId)) {
        const waiting = await this.#commands.host('ip', ['link', 'show', 'dev', device])
        if (waiting.status !== 0) await this.#entries.perform(this.#desired.detach(local.endpointId))
      }
      try {
        await this.#entries.join(local)
      } catch (error) {
        // What the rules know of it goes too: a host-mode port must not lead to a container that never came.
        this.#desired.detach(local.endpointId)
        await this.#rules.detach(this.#state, local.endpointId, this.#locals).catch(() => {})
        void this.#afterLoss()
        throw error
      }
      return { device, mtu: localMtu(local, around) }
    })
  }

  /** No error when it is gone already. */
  detach(endpointId: string): Promise<void> {
    return this.#turns.take(async () => {
      await this.#entries.perform(this.#desired.detach(endpointId), () =>
        this.#rules.detach(this.#state, endpointId, this.#locals),
      )
    })
  }

  /** Networks whose tunnels or bridges the kernel refuses, for people. */
  get problems(): readonly { readonly networkId: string; readonly message: string }[] {
    return [...this.#state.networks.keys()].flatMap((networkId) => {
      const message = this.#problemOf(networkId)
      return message === '' ? [] : [{ networkId, message }]
    })
  }

  /** Empty: none. */
  #problemOf(networkId: string): string {
    const network = this.#state.networks.get(networkId)
    const refused = this.#entries.refusedDevices
    if (!network || refused.size === 0) return ''
    const reason = refused.get(tunnelName(network)) ?? refused.get(bridgeName(network))
    return reason === undefined ? '' : `network ${network.name} can't be made on this node: ${reason}`
  }

  /** Which published ports this node serves, and on which of its addresses. */
  setPortsHere(here: PortsHere): Promise<void> {
    return this.#turns.take(() => this.#rules.setPortsHere(this.#state, here, this.#locals))
  }

  /** Of a task's end points on this node. The first call begins to count packets; no call between two audits ends it. */
  async traffic(taskId: string): Promise<Traffic> {
    const counted = await this.#turns.take(() => this.#rules.count(this.#state, taskId, this.#locals))
    // Many tasks that stop together do not keep changes waiting.
    return this.#rules.traffic(counted)
  }

  /** Compares the kernel with the plan and mends it. Answers what was wrong. Losses that the kernel tells of need no call. */
  async audit(): Promise<readonly Drift[]> {
    await this.#turns.take(() => this.#rules.forgetDrained(this.#state, this.#locals))
    const repair = this.#repair(false)
    // Changes and containers that start need not wait for all of it.
    for (const part of repair.parts) await this.#turns.take(async () => (this.#closed ? undefined : part()))
    return repair.found()
  }

  /** Leaves the kernel as it is. */
  async close(): Promise<void> {
    this.#closed = true
    this.#watcher.close()
    await this.#turns.take(async () => {
      await this.#rules.settled()
      this.#commands.dropSpare()
      await this.#namespace.close()
    })
  }

  /** Removes everything of this node from the kernel. */
  static async remove(config: FabricConfig, hostNamespace = ''): Promise<void> {
    const commands = new Commands({ fabric: config.namespace, host: hostNamespace })
    await new HostLink(commands, config).remove()
    await commands.host('nft', ['delete', 'table', 'inet', config.hostTable])
    // Somebody's open socket can keep the namespace, and the ports of its tunnels, for longer than its name.
    const links = await commands.fabric('ip', ['-br', 'link', 'show'])
    const names = links.stdout.split('\n').map((line) => (line.split(/[\s@]/)[0] ?? '').trim())
    const lines = names.filter((name) => name !== '' && name !== 'lo').map((name) => `link del ${name}`)
    await commands.fabric('ip', ['-force', '-batch', '-'], `${lines.join('\n')}\n`)
    await commands.host('ip', ['netns', 'del', config.namespace])
  }

  readonly #locals = (): Iterable<LocalAttachment> => this.#desired.locals.values()

  #afterLoss(): Promise<void> {
    this.#suspicious = true
    return this.#lookAgain(() => this.#suspicious)
  }

  /** @param due asked when it is its turn: another look may have been there first */
  async #lookAgain(due: () => boolean): Promise<void> {
    try {
      await this.#turns.take(async () => {
        if (this.#closed || !due()) return
        const drift = await this.#mendAll(false)
        if (drift.length > 0) this.#onDrift(drift)
      })
    } catch (error) {
      this.#log.warn({ code: errorCode(error), reason: errorMessage(error) }, 'the kernel could not be mended')
    }
  }

  #explainMtu(before: number): void {
    const { underlayMtu: after } = this.#desired.surroundings
    if (after === before) return
    const smallest = [...this.#state.peers.values()].find(({ mtu }) => mtu === after)
    this.#log.info(
      { before, after, node: smallest?.hostname ?? '' },
      'the MTU of overlays follows the smallest of the nodes',
    )
  }

  async #mendAll(load: boolean): Promise<readonly Drift[]> {
    const repair = this.#repair(load)
    for (const part of repair.parts) await part()
    return repair.found()
  }

  /** In parts, one after the other: after each of them the kernel is in a state that a change can go by. */
  #repair(load: boolean): Repair {
    const notes: string[] = []
    const drift: Drift[] = []
    let renamed = false
    const base = async () => {
      renamed = await this.#namespace.ensure()
      if (renamed) {
        notes.push(`namespace ${this.#config.namespace}`)
        if (this.#watching) this.#commands.keepSpare()
      }
      const [damage] = await Promise.all([load ? [] : this.#damage(), this.#settings.look()])
      notes.push(...(await this.#settings.fabric()), ...damage)
      // Rules before links: what is not filtered yet does not pass.
      if (load || damage.length > 0) await this.#rules.load(this.#state, this.#locals())
      const link = await this.#hostLink.ensure(this.#settings.hostIpv6)
      if (link.length > 0) await this.#settings.look()
      notes.push(...link)
    }
    const entries = async () => {
      const nowMs = this.#clock.nowMs()
      const due = nowMs - this.#thoroughAtMs >= THOROUGH_EVERY_MS
      if (!load && notes.length === 0 && !this.#suspicious && !this.#entries.hasRefused && !due) return
      this.#suspicious = false
      this.#thoroughAtMs = nowMs
      drift.push(...(await this.#entries.mend()))
    }
    const host = async () => {
      const [settings, opened] = await Promise.all([this.#settings.host(), this.#hostLink.openFirewalls()])
      notes.push(...settings, ...opened)
      await this.#rules.guardEngineBridges(this.#state, this.#locals)
      notes.push(...(await this.#settings.forwarding()))
      // Another namespace than the one that is watched.
      if (renamed && this.#watching) await this.#watcher.start()
    }
    const found = () => {
      const all = [...notes.map((what): Drift => ({ kind: 'missing', what, repaired: true })), ...drift]
      if (!load) this.#tell(all)
      return all
    }
    return { parts: [base, entries, host], found }
  }

  #tell(drift: readonly Drift[]): void {
    if (drift.length === 0) return
    this.#repairs += drift.length
    const what = drift.slice(0, 10).map((one) => `${one.kind}: ${one.what}`)
    const fields = { what, count: drift.length, repairs: this.#repairs }
    this.#log.warn(fields, 'the kernel was not as planned, and is mended')
  }

  /** What others did to the rules. */
  async #damage(): Promise<readonly string[]> {
    const damage = [...(await this.#rules.damage())]
    const { foreignRules, blind } = this.#watcher
    if (foreignRules) damage.push('rules of the fabric: changed by somebody')
    if (blind) {
      await this.#watcher.regain()
      damage.push('rules of the fabric: not watched for a while')
    }
    if (damage.length > 0) await this.#watcher.forgetForeign()
    return damage
  }
}

// A node's data plane in the kernel: takes over what is there, applies what changes, and mends what others break. Nothing here is
// on a packet's path: without this process everything goes on.

import type { DataPlaneKey } from '../../api/data-plane.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { DesiredState, LocalAttachment } from '../desired-state.ts'
import { Commands } from './commands.ts'
import { bridgeOfLocal, localMtu } from './derive.ts'
import { DesiredKernel, type KernelChange } from './desired-kernel.ts'
import { describeEntry, type EntryMap } from './entry.ts'
import { containerPort, type FabricConfig, fabricPort } from './fabric-config.ts'
import { HostLink } from './host-link.ts'
import { FabricNamespace } from './namespace.ts'
import { OBSERVE_COMMANDS, observedEntries } from './observe.ts'
import { type Plan, plan } from './plan.ts'
import { KernelSettings } from './settings.ts'

export interface FabricSettings {
  readonly config: FabricConfig
  readonly log: Log
  readonly clock: Clock
  /** Path of the host's network namespace; default: this process's own. */
  readonly hostNamespace?: string
}

/** Something in the kernel that was otherwise than planned. */
export interface Drift {
  /** `missing`: was not there or different; `surplus`: was there and must not */
  readonly kind: 'missing' | 'surplus'
  readonly what: string
  /** False: a container's link is lost, which only a new container mends. */
  readonly repaired: boolean
}

export class Fabric {
  readonly #config: FabricConfig
  readonly #log: Log
  readonly #clock: Clock
  readonly #commands: Commands
  readonly #namespace: FabricNamespace
  readonly #hostLink: HostLink
  readonly #settings: KernelSettings
  readonly #desired: DesiredKernel
  /** Attachments whose links are gone: endpoint ids. */
  readonly #lost = new Set<string>()
  #queue: Promise<unknown> = Promise.resolve()

  constructor({ config, log, clock, hostNamespace = '' }: FabricSettings) {
    this.#config = config
    this.#log = log
    this.#clock = clock
    this.#commands = new Commands({ fabric: config.namespace, host: hostNamespace })
    this.#namespace = new FabricNamespace(this.#commands, config.namespace)
    this.#hostLink = new HostLink(this.#commands, config)
    this.#settings = new KernelSettings(this.#commands, config, log)
    this.#desired = new DesiredKernel(config)
  }

  /**
   * Makes the kernel what `state` and `locals` say, whatever stands there from an earlier run: what is right stays untouched,
   * so that traffic goes on; what nobody knows is removed, containers' leftover links among it. Call it once, before all else.
   */
  open(state: DesiredState, locals: readonly LocalAttachment[]): Promise<void> {
    return this.#serially(async () => {
      this.#desired.apply(state, undefined)
      for (const local of locals) this.#desired.attach(local)
      const drift = await this.#mendAll()
      this.#log.info({ namespace: this.#config.namespace, changes: drift.length }, 'the fabric is open')
    })
  }

  /**
   * Resolves when the kernel has it. `changed`: the keys of what differs from the state of the last call; undefined: compares
   * everything.
   * @throws {CodedError} KERNEL_REFUSED, and the next audit tries again
   */
  apply(state: DesiredState, changed: readonly DataPlaneKey[] | undefined): Promise<void> {
    return this.#serially(async () => {
      const startedMs = this.#clock.nowMs()
      const change = this.#desired.apply(state, changed)
      if (changed === undefined) await this.#mendAll()
      else await this.#perform(change)
      this.#log.debug({ entries: change.after.size, ms: this.#clock.nowMs() - startedMs }, 'the kernel has a change')
    })
  }

  /**
   * Makes the container's link; its end, named `device`, stands in the host's namespace for the engine to take. Idempotent.
   * @throws {CodedError} NETWORK_UNKNOWN where no record of the network has come
   */
  attach(local: LocalAttachment): Promise<{ readonly device: string; readonly mtu: number }> {
    return this.#serially(async () => {
      const around = this.#desired.surroundings
      if (bridgeOfLocal(local, around) === undefined) {
        throw new CodedError('NETWORK_UNKNOWN', `the node does not know network ${local.networkId}`, {
          retryable: true,
        })
      }
      const device = containerPort(local.endpointId)
      if (this.#desired.locals.has(local.endpointId)) {
        const waiting = await this.#commands.host('ip', ['link', 'show', 'dev', device])
        if (waiting.status !== 0) await this.#perform(this.#desired.detach(local.endpointId))
      }
      this.#lost.delete(local.endpointId)
      await this.#perform(this.#desired.attach(local))
      return { device, mtu: localMtu(local, around) }
    })
  }

  /** No error when it is gone already. */
  detach(endpointId: string): Promise<void> {
    return this.#serially(async () => {
      this.#lost.delete(endpointId)
      await this.#perform(this.#desired.detach(endpointId))
    })
  }

  /** Compares the kernel with the plan and mends it. Answers what was wrong. */
  audit(): Promise<readonly Drift[]> {
    return this.#serially(() => this.#mendAll())
  }

  /** Leaves the kernel as it is. */
  async close(): Promise<void> {
    await this.#serially(() => this.#namespace.close())
  }

  /** Removes everything of this node from the kernel. */
  static async remove(config: FabricConfig, hostNamespace = ''): Promise<void> {
    const commands = new Commands({ fabric: config.namespace, host: hostNamespace })
    await new HostLink(commands, config).remove()
    await commands.host('nft', ['delete', 'table', 'inet', config.hostTable])
    await commands.host('ip', ['netns', 'del', config.namespace])
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work)
    this.#queue = result.catch(() => undefined)
    return result
  }

  /** The entries of one change. Where the kernel is not as it was left, the whole is compared. */
  async #perform({ before, after }: KernelChange): Promise<void> {
    const made = plan(after, before, this.#config.namespace)
    if (!made.remakes && (await this.#run(made)).length === 0) return
    await this.#mendEntries()
  }

  async #mendAll(): Promise<readonly Drift[]> {
    const renamed = await this.#namespace.ensure()
    const notes = [
      ...(renamed ? [`namespace ${this.#config.namespace}`] : []),
      ...(await this.#settings.fabric()),
      ...(await this.#hostLink.ensure()),
    ]
    const drift = await this.#mendEntries()
    notes.push(...(await this.#settings.host()), ...(await this.#hostLink.openFirewalls()))
    notes.push(...(await this.#settings.forwarding()))
    return [...notes.map((what): Drift => ({ kind: 'missing', what, repaired: true })), ...drift]
  }

  async #mendEntries(): Promise<readonly Drift[]> {
    const observed = await this.#observe()
    const lost = this.#forgetLost(observed)
    const first = plan(this.#desired.entries, observed, this.#config.namespace)
    const problems = await this.#run(first)
    if (problems.length > 0) {
      const second = plan(this.#desired.entries, await this.#observe(), this.#config.namespace)
      if (second.missing.length + second.surplus.length > 0) {
        const again = await this.#run(second)
        if (again.length > 0) {
          throw new CodedError('KERNEL_REFUSED', `the kernel refuses what is planned: ${again.join('; ')}`, {
            retryable: true,
            details: { missing: second.missing.slice(0, 10).map(describeEntry) },
          })
        }
      }
    }
    return [
      ...lost.map((what): Drift => ({ kind: 'missing', what, repaired: false })),
      ...first.missing.map((entry): Drift => ({ kind: 'missing', what: describeEntry(entry), repaired: true })),
      ...first.surplus.map((entry): Drift => ({ kind: 'surplus', what: describeEntry(entry), repaired: true })),
    ]
  }

  /** The link of a container that runs can't be made anew: its other end would be nowhere. */
  #forgetLost(observed: EntryMap): readonly string[] {
    return [...this.#desired.locals.values()].flatMap((local) => {
      const device = fabricPort(local.endpointId)
      if (observed.has(`link ${device}`) || this.#lost.has(local.endpointId)) return []
      this.#lost.add(local.endpointId)
      this.#desired.detach(local.endpointId)
      return [`link ${device} of endpoint ${local.endpointId}`]
    })
  }

  async #run({ adding, removing }: Plan): Promise<readonly string[]> {
    return [...(await this.#commands.steps(adding)), ...(await this.#commands.steps(removing))]
  }

  async #observe(): Promise<EntryMap> {
    const results = await Promise.all(OBSERVE_COMMANDS.map(({ tool, args }) => this.#commands.fabric(tool, args)))
    return observedEntries(results.map(({ stdout }) => stdout))
  }
}

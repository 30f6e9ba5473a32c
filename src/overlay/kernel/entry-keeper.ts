// Brings the planned entries into the fabric's namespace and keeps them there: the few of one change, or, where the kernel is not as
// it was left, all of them. One entry that the kernel refuses for good (a VXLAN id that a foreign tunnel has) must not keep the
// others from standing: it is a problem of its network.

import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { inSlices, type Steps } from '../../lib/slices.ts'
import type { LocalAttachment } from '../desired-state.ts'
import { type Commands, succeed } from './commands.ts'
import { hasSandbox, plugIn, setContainerMtu } from './container-link.ts'
import { bridgeOfLocal, placementOf } from './derive.ts'
import type { DesiredKernel, KernelChange } from './desired-kernel.ts'
import type { Drift } from './drift.ts'
import { describeEntry, type EntryMap, entryDevice, entryKey } from './entry.ts'
import { fabricPort, GATEWAY_BRIDGE } from './fabric-config.ts'
import { OBSERVE_COMMANDS, observedEntrySteps } from './observe.ts'
import { type Plan, plan, planSteps } from './plan.ts'

export interface EntryKeeperOptions {
  readonly desired: DesiredKernel
  readonly commands: Commands
  readonly namespace: string
  /** Resolves when the rules know what the container's port may send. */
  readonly allow: (local: LocalAttachment) => Promise<void>
  readonly clock: Clock
  readonly log: Log
}

/** Between two places where others may have their turn. */
const STEP_ENTRIES = 100

/** Without these there is no data plane at all. */
const ESSENTIAL = new Set(['lo', 'up0', GATEWAY_BRIDGE])

export class EntryKeeper {
  readonly #desired: DesiredKernel
  readonly #commands: Commands
  readonly #namespace: string
  readonly #allow: (local: LocalAttachment) => Promise<void>
  readonly #clock: Clock
  readonly #log: Log
  /** Keys of entries that the kernel refuses, and what it says of them. */
  #refused: ReadonlyMap<string, string> = new Map()

  constructor(options: EntryKeeperOptions) {
    this.#desired = options.desired
    this.#commands = options.commands
    this.#namespace = options.namespace
    this.#allow = options.allow
    this.#clock = options.clock
    this.#log = options.log
  }

  get hasRefused(): boolean {
    return this.#refused.size > 0
  }

  /** Devices that are not there, or not as they have to be, because the kernel refuses them; and why. */
  get refusedDevices(): ReadonlyMap<string, string> {
    return new Map(
      [...this.#refused].flatMap(([key, reason]): readonly [string, string][] => {
        const entry = this.#desired.entries.get(key)
        return entry?.kind === 'link' || entry?.kind === 'device' ? [[entry.device, reason]] : []
      }),
    )
  }

  /**
   * The entries of one change. `rules` runs in between: what rules send packets to is there before them, and goes after them.
   * @throws {CodedError} KERNEL_REFUSED where there is no data plane at all
   */
  async perform({ before, after }: KernelChange, rules: () => Promise<void> = async () => {}): Promise<void> {
    const made = await this.#plan(after, before)
    if (made.remakes) {
      await rules()
      await this.mend()
      return
    }
    const added = await this.#commands.steps(made.adding)
    await rules()
    const removed = await this.#commands.steps(made.removing)
    await this.#resizeContainers(made, before)
    if (added.length + removed.length > 0) await this.mend()
  }

  /**
   * A container's port joins its bridge when the rules know what it may send; the link is made meanwhile.
   * @throws {CodedError} KERNEL_REFUSED
   */
  async join(local: LocalAttachment): Promise<void> {
    const { before, after } = this.#desired.attach(local)
    const { adding, removing } = plan(after, before, this.#namespace)
    const inHost = adding.filter((step) => step.every((batch) => batch.inHost))
    const inFabric = adding.filter((step) => !inHost.includes(step))
    const [made] = await Promise.all([this.#commands.steps(inHost), this.#allow(local)])
    const joined = await this.#commands.steps([...inFabric, ...removing])
    if (made.length + joined.length === 0) return
    await this.mend(false)
    const port = fabricPort(local.endpointId)
    if (!this.#desired.locals.has(local.endpointId) || this.refusedDevices.has(port)) {
      throw new CodedError('KERNEL_REFUSED', [...made, ...joined].join('; '))
    }
  }

  /**
   * Compares everything, and makes it so.
   * @param plug containers that lost their link get a new one
   * @throws {CodedError} KERNEL_REFUSED where there is no data plane at all
   */
  async mend(plug = true): Promise<readonly Drift[]> {
    const observed = await this.#observe()
    const lost = this.#forgetLost(observed)
    const first = await this.#plan(this.#desired.entries, observed)
    const known = this.#refused
    const problems = await this.#run(first)
    await this.#resizeContainers(first, observed)
    if (problems.length === 0) this.#refused = new Map()
    else await this.#tryAgain()
    const plugged: Drift[] = []
    for (const local of plug ? lost : []) plugged.push(await this.#plugAgain(local))
    return [...plugged, ...(await inSlices(this.#driftSteps(first, known), this.#clock))]
  }

  /** What was told of is not told again. */
  *#driftSteps({ missing, surplus }: Plan, told: ReadonlyMap<string, string>): Steps<readonly Drift[]> {
    const drift: Drift[] = []
    for (const entry of missing) {
      const repaired = !this.#refused.has(entryKey(entry))
      if (repaired || !told.has(entryKey(entry))) drift.push({ kind: 'missing', what: describeEntry(entry), repaired })
      if (drift.length % STEP_ENTRIES === 0) yield
    }
    for (const entry of surplus) {
      drift.push({ kind: 'surplus', what: describeEntry(entry), repaired: true })
      if (drift.length % STEP_ENTRIES === 0) yield
    }
    return drift
  }

  /** What a line refers to may have come with a later one, or be another's that has gone now. */
  async #tryAgain(): Promise<void> {
    const second = await this.#plan(this.#desired.entries, await this.#observe())
    const problems = await this.#run(second)
    if (problems.length === 0) {
      this.#refused = new Map()
      return
    }
    const { missing } = await this.#plan(this.#desired.entries, await this.#observe())
    const reason = problems.join('; ')
    const links = missing.filter(({ kind }) => kind === 'link' || kind === 'device')
    if (links.some((entry) => ESSENTIAL.has(entryDevice(entry)))) {
      throw new CodedError('KERNEL_REFUSED', `the kernel refuses what is planned: ${reason}`, { retryable: true })
    }
    const before = this.#refused
    this.#refused = new Map(missing.map((entry) => [entryKey(entry), reason]))
    const fresh = missing.filter((entry) => !before.has(entryKey(entry)))
    if (fresh.length === 0) return
    const what = fresh.slice(0, 10).map(describeEntry)
    this.#log.error({ what, count: fresh.length, reason }, 'the kernel refuses a part of what is planned')
  }

  /** Of links whose MTU was another one. */
  async #resizeContainers({ missing }: Plan, before: EntryMap): Promise<void> {
    const mtus = new Map(
      missing.flatMap((entry): readonly [string, number][] => {
        const old = before.get(`device ${entry.kind === 'device' ? entry.device : ''}`)
        return entry.kind === 'device' && old?.kind === 'device' && old.mtu !== entry.mtu
          ? [[entry.device, entry.mtu]]
          : []
      }),
    )
    if (mtus.size === 0) return
    const resized = [...this.#desired.locals.values()].flatMap((local) => {
      const mtu = mtus.get(fabricPort(local.endpointId))
      return mtu ? [setContainerMtu(this.#commands, local, mtu, this.#log)] : []
    })
    await Promise.all(resized)
  }

  /** Attachments whose links are gone, and with them the containers' ends: no part of the plan until they are plugged in anew. */
  #forgetLost(observed: EntryMap): readonly LocalAttachment[] {
    const lost = [...this.#desired.locals.values()].filter(
      ({ endpointId }) => !observed.has(`link ${fabricPort(endpointId)}`),
    )
    for (const { endpointId } of lost) this.#desired.detach(endpointId)
    return lost
  }

  /** Gives a container that runs a new link for the one that it lost. */
  async #plugAgain(local: LocalAttachment): Promise<Drift> {
    const what = `link ${fabricPort(local.endpointId)} of end point ${local.endpointId}`
    const around = this.#desired.surroundings
    if (bridgeOfLocal(local, around) === undefined || !(await hasSandbox(local))) {
      return { kind: 'missing', what, repaired: false }
    }
    try {
      await this.join(local)
      await plugIn(this.#commands, local, placementOf(local, around))
      return { kind: 'missing', what, repaired: true }
    } catch (error) {
      this.#log.warn({ endpointId: local.endpointId, reason: errorMessage(error) }, 'a container has lost its network')
      await this.perform(this.#desired.detach(local.endpointId))
      return { kind: 'missing', what, repaired: false }
    }
  }

  async #run({ adding, removing }: Plan): Promise<readonly string[]> {
    return [...(await this.#commands.steps(adding)), ...(await this.#commands.steps(removing))]
  }

  async #observe(): Promise<EntryMap> {
    const results = await Promise.all(OBSERVE_COMMANDS.map(({ tool, args }) => this.#commands.fabric(tool, args)))
    // Nothing to read is not the same as nothing there.
    const texts = results.map((result) => succeed(result, 'cannot read the fabric'))
    return inSlices(observedEntrySteps(texts), this.#clock)
  }

  #plan(desired: EntryMap, observed: EntryMap): Promise<Plan> {
    return inSlices(planSteps(desired, observed, this.#namespace), this.#clock)
  }
}

// This node's data plane as a whole: what is wanted (DesiredStore), the engine's end points, and the parts that make it so: kernel,
// tunnels' encryption, names, held ports.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { AddressedPort, DataPlaneKey, PublishedPort } from '../api/data-plane.ts'
import { type Clock, sleep, type Timer } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Turns } from '../lib/turns.ts'
import type { DataPlaneStatistics, DrainOptions } from './client.ts'
import { DataPathReporter } from './data-path-reporter.ts'
import {
  type DesiredChange,
  type DesiredState,
  DesiredStore,
  EGRESS_NETWORK_ID,
  type HostModePort,
  type LocalAttachment,
} from './desired-state.ts'
import { EngineState } from './driver/engine-state.ts'
import { Leftovers } from './driver/leftovers.ts'
import { FabricNames } from './fabric-names.ts'
import { HeldPorts, type HostPort } from './held-ports.ts'
import type { HolderLink } from './holder-link.ts'
import { hasIpv6Address, hostAddresses, linksIn, ownerOfPort } from './host-facts.ts'
import { Fabric } from './kernel/fabric.ts'
import { type FabricConfig, fabricConfig, fabricPort, gatewayNetwork, namespacePath } from './kernel/fabric-config.ts'
import type { ReportBoard } from './report-board.ts'
import { StateFile } from './state-file.ts'
import { type KernelCounters, kernelCounters } from './statistics.ts'
import { StepQueue } from './step-queue.ts'
import { Encryption } from './wireguard/encryption.ts'

export interface DataPathOptions {
  readonly stateDirectory: string
  readonly instance: number
  readonly holder: HolderLink
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

const AUDIT_EVERY_MS = 5000
/** Audits between looks at what changes seldom: the machine's routes, left-overs of the engine. */
const SELDOM = 6
const NETWORK_TIMEOUT_MS = 8000
const DRAIN_POLL_MS = 100
const DEFAULT_PORT = 4789
/** Between the VXLAN ports of nodes that share a host's network namespace. */
const PORTS_PER_INSTANCE = 10
const NOTHING_COUNTED = { masquerades: 0, isolatedPackets: 0, spoofedPackets: 0, guardedPackets: 0 }

export class DataPath {
  readonly #options: DataPathOptions
  readonly #log: Log
  readonly #stateFile: StateFile
  readonly engine: EngineState
  readonly #report: DataPathReporter
  readonly #ports: HeldPorts
  readonly #names: FabricNames
  readonly #encryption: Encryption
  readonly #leftovers: Leftovers
  #store = new DesiredStore()
  #config: FabricConfig | undefined
  #fabric: Fabric | undefined
  /** An increment is taken only on top of what this process was told completely. */
  #complete = false
  readonly #queue: StepQueue
  /** Of what stands on a fabric: it comes and goes with the node's membership, while an audit may be at work on it. */
  readonly #steps = new Turns()
  #auditTimer: Timer | undefined
  #audits = 0
  #closed = false

  constructor(options: DataPathOptions) {
    const { stateDirectory, instance, holder, clock, random, log } = options
    this.#options = options
    this.#log = log
    this.#stateFile = new StateFile(join(stateDirectory, 'desired.jsonl'), log)
    this.engine = new EngineState(join(stateDirectory, 'engine.json'), log)
    this.#ports = new HeldPorts({ ownerOf: ownerOfPort, addresses: hostAddresses, log })
    const [state, locals] = [() => this.state, () => this.engine.locals()]
    this.#names = new FabricNames({ state, locals, holder, clock, random, log })
    this.#leftovers = new Leftovers({ engine: this.engine, forget: (endpointId) => this.detach(endpointId) })
    this.#encryption = new Encryption({
      config: { instance },
      stateDirectory,
      changed: () => this.#report.tell(),
      clock,
      log,
    })
    this.#report = new DataPathReporter({
      self: () => this.state.self,
      parts: () => ({
        port: this.#configFor(this.state.self?.dataPathPort ?? DEFAULT_PORT).dataPathPort,
        encryptionKeys: this.#encryption.publicKeys(),
        encryptionProblem: this.#encryption.problem(),
        problems: this.#ports.problems,
      }),
    })
    this.#queue = new StepQueue((keys) => this.#step(keys))
  }

  get reports(): ReportBoard {
    return this.#report.board
  }

  /**
   * Containers are to have IPv6 on their way out: this machine has it, too. Where it has not, they are spared it, since engines
   * before 25 start two processes for the first IPv6 address in a container (some 90 ms).
   */
  get ipv6(): boolean {
    return hasIpv6Address()
  }

  get state(): DesiredState {
    return this.#store.state
  }

  /** Goes on from the last state. What the kernel refuses now is tried again and stands in the report. */
  async open(): Promise<void> {
    await Promise.all([this.engine.load(), this.#names.load(), this.#encryption.open()])
    this.#store = await this.#stateFile.load()
    if (this.state.self || this.#wasLeft()) await this.#queue.take(undefined).catch(() => {})
    await this.refresh()
    this.#auditSoon()
  }

  /**
   * Resolves when the kernel and the disk have it.
   * @throws {CodedError} DATA_PLANE_RESYNC for an increment to a process that was not told everything yet; what the kernel said
   */
  async apply(change: DesiredChange): Promise<void> {
    if (!change.complete && !this.#complete) {
      throw new CodedError('DATA_PLANE_RESYNC', 'everything must be told first', { retryable: true })
    }
    const before = this.state.self
    const keys = this.#store.apply(change)
    this.#complete = true
    const same = JSON.stringify(before) === JSON.stringify(change.self)
    await Promise.all([this.#queue.take(same ? keys : undefined), this.#save(change)])
    if (!same) await this.refresh()
  }

  /** @throws {CodedError} NETWORK_UNKNOWN after some seconds */
  async network(networkId: string): Promise<void> {
    const { clock } = this.#options
    const deadlineMs = clock.nowMs() + NETWORK_TIMEOUT_MS
    const known = (): boolean =>
      this.#fabric !== undefined && (networkId === EGRESS_NETWORK_ID || this.state.networks.has(networkId))
    while (!known()) {
      if (clock.nowMs() > deadlineMs) {
        throw new CodedError('NETWORK_UNKNOWN', `the cluster has not told this node of network ${networkId} yet`)
      }
      await sleep(clock, 50)
    }
    await this.#queue.settled()
  }

  async attach(local: LocalAttachment): Promise<{ readonly device: string }> {
    const fabric = this.#fabric
    if (!fabric) throw new CodedError('NOT_IN_CLUSTER', 'this node is in no cluster')
    await this.#ports.claim(local.endpointId, hostPortsOf(local))
    try {
      if (local.ports?.some(({ addresses }) => addresses !== undefined)) await fabric.setPortsHere(this.#ports.here)
      const attached = await fabric.attach(local)
      this.#names.attachmentsChanged()
      return attached
    } catch (error) {
      // The engine takes back what was joined, and nothing else.
      await this.#ports.release(local.endpointId)
      throw error
    }
  }

  async detach(endpointId: string): Promise<void> {
    await this.#fabric?.detach(endpointId)
    await this.#ports.release(endpointId)
    this.#names.attachmentsChanged()
  }

  /** Resolves when nothing moves for the task any more. */
  async drained({ taskId, quietMs, maxMs }: DrainOptions, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    const startMs = clock.nowMs()
    let lastPackets: number | undefined
    let quietSinceMs = startMs
    while (!signal.aborted && this.#fabric) {
      const traffic = await this.#fabric.traffic(taskId)
      const nowMs = clock.nowMs()
      if (traffic.connections === 0) return
      if (traffic.packets !== lastPackets) quietSinceMs = nowMs
      lastPackets = traffic.packets
      if (nowMs - quietSinceMs >= quietMs || nowMs - startMs >= maxMs) return
      await sleep(clock, DRAIN_POLL_MS, signal)
    }
  }

  /** Aborts after so long. */
  after(delayMs: number): AbortSignal {
    const timeout = new AbortController()
    this.#options.clock.setTimer(delayMs, () => timeout.abort())
    return timeout.signal
  }

  /** Looks at the machine again, and tells what it is after the call. */
  refresh(): Promise<void> {
    return this.#report.refresh()
  }

  /** @param counted with what the kernel counts */
  async statistics(counted: boolean): Promise<DataPlaneStatistics> {
    const kernel = counted ? await this.#kernelCounters() : undefined
    return { repairs: this.#fabric?.repairs ?? 0, kernel, problems: this.reports.posted.report.problems }
  }

  async #kernelCounters(): Promise<KernelCounters> {
    return this.#fabric && this.#config ? kernelCounters(this.#config) : NOTHING_COUNTED
  }

  rotateKeys(): Promise<void> {
    return this.#encryption.rotate()
  }

  /** Leaves the kernel as it is. */
  async close(): Promise<void> {
    this.#closed = true
    this.#auditTimer?.cancel()
    await this.#queue.settled()
    this.#names.close()
    this.#ports.close()
    await Promise.all([this.#encryption.close(), this.#fabric?.close()])
    await this.#stateFile.close()
    await this.engine.save()
  }

  async #step(keys: readonly DataPlaneKey[] | undefined): Promise<void> {
    try {
      await this.#steps.take(() => this.#bring(keys))
      this.#report.kernelFailed(undefined)
      this.#heedRefusals()
    } catch (error) {
      this.#log.error({ code: errorCode(error), reason: errorMessage(error) }, 'the kernel does not take the state')
      this.#report.kernelFailed(errorMessage(error))
      throw error
    }
  }

  async #bring(keys: readonly DataPlaneKey[] | undefined): Promise<void> {
    const { self } = this.state
    if (!self) {
      await this.#takeDown()
      return
    }
    const config = this.#configFor(self.dataPathPort)
    if (!this.#fabric || this.#config?.dataPathPort !== config.dataPathPort) {
      await this.#fabric?.close()
      // Should the next one not open, there is none: this one does nothing any more.
      this.#fabric = undefined
      const { clock, log } = this.#options
      this.#config = config
      for (const local of this.engine.locals()) await this.#claimAgain(local)
      await this.#ports.set(this.#publishedPorts())
      await this.#encryption.apply(this.state)
      const onDrift = (): void => void this.#afterDrift()
      const fabric = new Fabric({ config, portsHere: this.#ports.here, clock, log, onDrift })
      await fabric.open(this.state, [...this.engine.locals()])
      this.#fabric = fabric
      await this.#names.open(config)
      return
    }
    const portsMayDiffer = !keys || keys.some(({ kind }) => kind === 'overlay-service' || kind === 'overlay-network')
    // held before traffic is turned to it, so that what another program has stays its own
    if (portsMayDiffer) await this.#holdPorts(this.#fabric)
    await this.#encryption.apply(this.state)
    await this.#fabric.apply(this.state, keys)
    this.#names.changed(keys)
  }

  #configFor(clusterPort: number): FabricConfig {
    const { instance } = this.#options
    return fabricConfig({ instance, dataPathPort: (clusterPort || DEFAULT_PORT) + PORTS_PER_INSTANCE * instance })
  }

  /** Every node listens on every port, on all of its addresses or on some. */
  #publishedPorts(): readonly HostPort[] {
    const gateway = gatewayNetwork(this.state.networks.values())
    return [...this.state.services.values()]
      .filter(({ networkId }) => networkId === gateway?.id)
      .flatMap(({ ports, portsAt = [] }) => [...ports, ...portsAt].map(hostPortOf))
  }

  async #holdPorts(fabric: Fabric): Promise<void> {
    if (!(await this.#ports.set(this.#publishedPorts()))) return
    await fabric.setPortsHere(this.#ports.here)
    this.#report.tell()
  }

  /** Of a container that runs: what it had is its own, whoever listens there now. */
  async #claimAgain(local: LocalAttachment): Promise<void> {
    try {
      await this.#ports.claim(local.endpointId, hostPortsOf(local))
    } catch (error) {
      this.#log.warn({ endpointId: local.endpointId, reason: errorMessage(error) }, 'a host-mode port is not held')
    }
  }

  /** An earlier process was told that the node has left, and has not taken everything down. */
  #wasLeft(): boolean {
    return this.state.revision > 0 && existsSync(namespacePath(this.#configFor(DEFAULT_PORT)))
  }

  /** The node has left its cluster. */
  async #takeDown(): Promise<void> {
    this.#names.end()
    await this.#ports.set([])
    await this.#encryption.apply(this.state)
    const fabric = this.#fabric
    this.#fabric = undefined
    await fabric?.close()
    // Links of the host may be another's by the same name where there is no fabric.
    const config = this.#config ?? this.#configFor(DEFAULT_PORT)
    if (fabric || existsSync(namespacePath(config))) await Fabric.remove(config)
  }

  async #save(change: DesiredChange): Promise<void> {
    try {
      await this.#stateFile.append(change, this.#store)
      this.#report.saveFailed(undefined)
    } catch (error) {
      this.#report.saveFailed(errorMessage(error))
    }
  }

  #auditSoon(): void {
    this.#auditTimer = this.#options.clock.setTimer(AUDIT_EVERY_MS, () => void this.#audit())
  }

  async #audit(): Promise<void> {
    const seldom = this.#audits++ % SELDOM === 0
    try {
      if (this.#queue.isBehind || (this.state.self && !this.#fabric)) await this.#queue.take(undefined)
      await this.#queue.settled()
      if (this.#fabric) {
        await this.#encryption.audit()
        await this.#fabric?.audit()
        await this.#steps.take(() => this.#tend())
        if (seldom) await this.#sweepLeftovers()
      }
    } catch (error) {
      this.#log.warn({ code: errorCode(error), reason: errorMessage(error) }, 'the audit failed')
    }
    if (seldom || (await this.#report.mtuHasChanged())) await this.refresh()
    if (!this.#closed) this.#auditSoon()
  }

  /** What stands on the fabric, where there is one. */
  async #tend(): Promise<void> {
    if (!this.#fabric || !this.#config) return
    await this.#names.audit(this.#config)
    await this.#holdPorts(this.#fabric)
    this.#heedRefusals()
  }

  /** The kernel was mended between two audits. */
  async #afterDrift(): Promise<void> {
    try {
      await this.#steps.take(() => this.#tend())
    } catch (error) {
      this.#log.warn({ code: errorCode(error), reason: errorMessage(error) }, 'names and ports are not as they were')
    }
  }

  async #sweepLeftovers(): Promise<void> {
    if (!this.#config || this.engine.endpoints.size + this.engine.egress.size === 0) return
    const links = await linksIn(namespacePath(this.#config))
    if (links.size === 0) return // nothing is known of them
    const cables = new Set([...this.engine.endpoints.keys()].filter((id) => links.has(fabricPort(id))))
    const gone = await this.#leftovers.sweep(cables, this.#options.clock.nowMs())
    if (gone.length > 0) this.#log.info({ gone }, 'left over by an engine that crashed, and forgotten')
  }

  #heedRefusals(): void {
    this.#report.refused(this.#fabric?.problems ?? [])
  }
}

function hostPortsOf({ ports = [] }: LocalAttachment): readonly HostPort[] {
  return ports.map(hostPortOf)
}

function hostPortOf(port: PublishedPort | AddressedPort | HostModePort): HostPort {
  const { protocol, published } = port
  return { protocol, port: published, ...('addresses' in port && port.addresses && { addresses: port.addresses }) }
}

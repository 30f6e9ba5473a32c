// This node's data plane as a whole: what is wanted (DesiredStore), the engine's end points, and the parts that make it so: kernel,
// tunnels' encryption, names, held ports. Changes of many callers become one step of the kernel.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { DataPathProblem, DataPathReport, DataPlaneKey } from '../api/data-plane.ts'
import { type Clock, sleep, type Timer } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Turns } from '../lib/turns.ts'
import type { DataPlaneStatistics, DrainOptions } from './client.ts'
import {
  type DesiredChange,
  type DesiredState,
  DesiredStore,
  EGRESS_NETWORK_ID,
  type LocalAttachment,
} from './desired-state.ts'
import { DnsServer } from './dns/dns-server.ts'
import { HostNameServers } from './dns/host-name-servers.ts'
import { dropDnsSockets, namespaceId, openDnsSockets } from './dns-sockets.ts'
import { EngineState } from './driver/engine-state.ts'
import { Leftovers } from './driver/leftovers.ts'
import { HeldPorts, type HostPort } from './held-ports.ts'
import type { HolderLink } from './holder-link.ts'
import { hasIpv6Address, hostRoutes, linksIn, mtuOfAddress, ownerOfPort } from './host-facts.ts'
import { Fabric } from './kernel/fabric.ts'
import { DNS_ADDRESS, type FabricConfig, fabricConfig, fabricPort, gatewayNetwork } from './kernel/fabric-config.ts'
import { ReportBoard } from './report-board.ts'
import { StateFile } from './state-file.ts'
import { type KernelCounters, kernelCounters } from './statistics.ts'
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
const NO_SELF: DataPathProblem = { code: 'NOT_IN_CLUSTER', message: 'this node is in no cluster', subject: '' }

const UNKNOWN: DataPathReport = {
  port: 0,
  mtu: 0,
  encryptionKeys: [],
  encryptionProblem: '',
  routes: [],
  problems: [NO_SELF],
}

const NOTHING_COUNTED = { masquerades: 0, isolatedPackets: 0, spoofedPackets: 0, guardedPackets: 0 }

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class DataPath {
  readonly #options: DataPathOptions
  readonly #log: Log
  readonly #stateFile: StateFile
  readonly engine: EngineState
  readonly reports = new ReportBoard(UNKNOWN)
  readonly #ports: HeldPorts
  readonly #nameServers: HostNameServers
  readonly #encryption: Encryption
  readonly #leftovers: Leftovers
  #store = new DesiredStore()
  #config: FabricConfig | undefined
  #fabric: Fabric | undefined
  #dns: DnsServer | undefined
  #dnsNamespace = ''
  /** An increment is taken only on top of what this process was told completely. */
  #complete = false
  #dirty = new Map<string, DataPlaneKey>()
  #all = false
  #waiters: Waiter[] = []
  #programming: Promise<void> | undefined
  /** Of what stands on a fabric: it comes and goes with the node's membership, while an audit may be at work on it. */
  readonly #steps = new Turns()
  #failure: DataPathProblem | undefined
  #saveFailure: DataPathProblem | undefined
  /** Networks that the kernel refuses. */
  #refusals: readonly DataPathProblem[] = []
  #auditTimer: Timer | undefined
  #audits = 0
  #refreshing: Promise<void> | undefined
  #refreshAgain = false
  /** As the machine was when it was last looked at. */
  #machine: Pick<DataPathReport, 'routes' | 'mtu'> | undefined
  #closed = false

  constructor(options: DataPathOptions) {
    const { stateDirectory, instance, clock, log } = options
    this.#options = options
    this.#log = log
    this.#stateFile = new StateFile(join(stateDirectory, 'desired.jsonl'), log)
    this.engine = new EngineState(join(stateDirectory, 'engine.json'), log)
    this.#ports = new HeldPorts({ ownerOf: ownerOfPort, log })
    this.#nameServers = new HostNameServers({ except: [DNS_ADDRESS], clock })
    this.#leftovers = new Leftovers({ engine: this.engine, forget: (endpointId) => this.detach(endpointId) })
    this.#encryption = new Encryption({
      config: { instance },
      stateDirectory,
      changed: () => this.#tell(),
      clock,
      log,
    })
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
    await Promise.all([this.engine.load(), this.#nameServers.load(), this.#encryption.open()])
    this.#store = await this.#stateFile.load()
    if (this.state.self || this.#wasLeft()) await this.#program(undefined).catch(() => {})
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
    await Promise.all([this.#program(same ? keys : undefined), this.#save(change)])
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
    await this.#programming?.catch(() => {})
  }

  async attach(local: LocalAttachment): Promise<{ readonly device: string }> {
    const fabric = this.#fabric
    if (!fabric) throw new CodedError('NOT_IN_CLUSTER', 'this node is in no cluster')
    await this.#ports.claim(local.endpointId, hostPortsOf(local))
    try {
      const attached = await fabric.attach(local)
      this.#dns?.attachmentsChanged()
      return attached
    } catch (error) {
      // The engine takes back what was joined, and nothing else.
      this.#ports.release(local.endpointId)
      throw error
    }
  }

  async detach(endpointId: string): Promise<void> {
    await this.#fabric?.detach(endpointId)
    this.#ports.release(endpointId)
    this.#dns?.attachmentsChanged()
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
    this.#refreshAgain = true
    this.#refreshing ??= this.#refresh()
    return this.#refreshing
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
    await this.#programming?.catch(() => {})
    this.#dns?.close()
    this.#ports.close()
    await Promise.all([this.#encryption.close(), this.#fabric?.close()])
    await this.#stateFile.close()
    await this.engine.save()
  }

  // One step of the kernel after another; what comes meanwhile goes into the next one.

  #program(keys: readonly DataPlaneKey[] | undefined): Promise<void> {
    if (keys) for (const key of keys) this.#dirty.set(`${key.kind}/${key.id}`, key)
    else this.#all = true
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#programming ??= this.#run().finally(() => {
        this.#programming = undefined
      })
    })
  }

  async #run(): Promise<void> {
    while (this.#waiters.length > 0) {
      const waiters = this.#waiters
      const keys = this.#all ? undefined : [...this.#dirty.values()]
      this.#waiters = []
      this.#dirty = new Map()
      this.#all = false
      try {
        await this.#steps.take(() => this.#bring(keys))
        this.#fail(undefined)
        this.#heedRefusals()
        for (const { resolve } of waiters) resolve()
      } catch (error) {
        this.#all = true // the kernel has part of it
        this.#log.error({ code: errorCode(error), reason: errorMessage(error) }, 'the kernel does not take the state')
        this.#fail({ code: 'DATA_PLANE_FAILED', message: errorMessage(error), subject: '' })
        for (const { reject } of waiters) reject(error)
      }
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
      const fabric = new Fabric({ config, clock, log, onDrift })
      await fabric.open(this.state, [...this.engine.locals()])
      await fabric.setUnserved(this.#ports.taken)
      this.#fabric = fabric
      await this.#openDns(config)
      return
    }
    const portsMayDiffer = !keys || keys.some(({ kind }) => kind === 'overlay-service' || kind === 'overlay-network')
    // held before traffic is turned to it, so that what another program has stays its own
    if (portsMayDiffer) await this.#holdPorts(this.#fabric)
    await this.#encryption.apply(this.state)
    await this.#fabric.apply(this.state, keys)
    this.#dns?.changed(keys)
  }

  #configFor(clusterPort: number): FabricConfig {
    const { instance } = this.#options
    return fabricConfig({ instance, dataPathPort: (clusterPort || DEFAULT_PORT) + PORTS_PER_INSTANCE * instance })
  }

  /** Every node listens on every port. */
  #publishedPorts(): readonly HostPort[] {
    const gateway = gatewayNetwork(this.state.networks.values())
    return [...this.state.services.values()]
      .filter(({ networkId }) => networkId === gateway?.id)
      .flatMap(({ ports }) => ports.map(({ protocol, published }) => ({ protocol, port: published })))
  }

  async #holdPorts(fabric: Fabric): Promise<void> {
    if (!(await this.#ports.set(this.#publishedPorts()))) return
    await fabric.setUnserved(this.#ports.taken)
    this.#tell()
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
    return this.state.revision > 0 && existsSync(this.#namespacePath(this.#configFor(DEFAULT_PORT)))
  }

  /** The node has left its cluster. */
  async #takeDown(): Promise<void> {
    this.#dns?.close()
    this.#dns = undefined
    dropDnsSockets(this.#options.holder)
    await this.#ports.set([])
    await this.#encryption.apply(this.state)
    const fabric = this.#fabric
    this.#fabric = undefined
    await fabric?.close()
    // Links of the host may be another's by the same name where there is no fabric.
    const config = this.#config ?? this.#configFor(DEFAULT_PORT)
    if (fabric || existsSync(this.#namespacePath(config))) await Fabric.remove(config)
  }

  async #openDns(config: FabricConfig): Promise<void> {
    const { holder, clock, random, log } = this.#options
    const namespace = this.#namespacePath(config)
    const { udp, tcp, serve } = await openDnsSockets(holder, namespace, config.dnsAddress)
    this.#dns = new DnsServer({
      udp,
      tcp: [tcp],
      state: () => this.state,
      locals: () => this.engine.locals(),
      hostNameServers: () => this.#nameServers.current(),
      clock,
      random,
      log,
    })
    await serve()
    this.#dnsNamespace = await namespaceId(namespace)
  }

  async #save(change: DesiredChange): Promise<void> {
    try {
      await this.#stateFile.append(change, this.#store)
      this.#saveFailure = undefined
    } catch (error) {
      // the kernel has it: what is lost is only the start without swarmd
      this.#saveFailure = {
        code: 'STATE_NOT_SAVED',
        message: `the data plane's state can't be saved: ${errorMessage(error)}`,
        subject: '',
      }
      this.#tell()
    }
  }

  #auditSoon(): void {
    this.#auditTimer = this.#options.clock.setTimer(AUDIT_EVERY_MS, () => void this.#audit())
  }

  async #audit(): Promise<void> {
    const seldom = this.#audits++ % SELDOM === 0
    try {
      if (this.#all || (this.state.self && !this.#fabric)) await this.#program(undefined)
      await this.#programming
      if (this.#fabric) {
        await this.#encryption.audit()
        await this.#fabric?.audit()
        await this.#steps.take(() => this.#tend())
        if (seldom) await this.#sweepLeftovers()
      }
    } catch (error) {
      this.#log.warn({ code: errorCode(error), reason: errorMessage(error) }, 'the audit failed')
    }
    if (seldom) await this.refresh()
    if (!this.#closed) this.#auditSoon()
  }

  /** What stands on the fabric, where there is one. */
  async #tend(): Promise<void> {
    if (!this.#fabric) return
    await this.#auditDns()
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

  /** A fabric that was made anew is another namespace. */
  async #auditDns(): Promise<void> {
    if (!this.#config) return
    if (this.#dns && this.#dnsNamespace === (await namespaceId(this.#namespacePath(this.#config)))) return
    this.#dns?.close()
    this.#dns = undefined
    await this.#openDns(this.#config)
  }

  async #sweepLeftovers(): Promise<void> {
    if (!this.#config || this.engine.endpoints.size + this.engine.egress.size === 0) return
    const links = await linksIn(this.#namespacePath(this.#config))
    if (links.size === 0) return // nothing is known of them
    const cables = new Set([...this.engine.endpoints.keys()].filter((id) => links.has(fabricPort(id))))
    const gone = await this.#leftovers.sweep(cables, this.#options.clock.nowMs())
    if (gone.length > 0) this.#log.info({ gone }, 'left over by an engine that crashed, and forgotten')
  }

  #namespacePath({ namespace }: FabricConfig): string {
    return `/run/netns/${namespace}`
  }

  #fail(problem: DataPathProblem | undefined): void {
    if (problem?.message === this.#failure?.message) return
    this.#failure = problem
    this.#tell()
  }

  #heedRefusals(): void {
    const refusals = (this.#fabric?.problems ?? []).map(
      ({ networkId, message }): DataPathProblem => ({ code: 'NETWORK_UNUSABLE', message, subject: networkId }),
    )
    if (JSON.stringify(refusals) === JSON.stringify(this.#refusals)) return
    this.#refusals = refusals
    this.#tell()
  }

  async #refresh(): Promise<void> {
    try {
      while (this.#refreshAgain) {
        this.#refreshAgain = false
        const { self } = this.state
        const [routes, mtu] = await Promise.all([hostRoutes(), self ? mtuOfAddress(self.address) : 0])
        this.#machine = { routes, mtu }
      }
    } finally {
      this.#refreshing = undefined
    }
    this.#tell()
  }

  /** What has changed in this process: the machine is not looked at for that. */
  #tell(): void {
    if (!this.#machine) return // the first look is about to come
    const { self } = this.state
    const problems = [
      ...(self ? [] : [NO_SELF]),
      ...(this.#failure ? [this.#failure] : []),
      ...(this.#saveFailure ? [this.#saveFailure] : []),
      ...this.#refusals,
      ...this.#ports.problems,
    ]
    const report: DataPathReport = {
      port: this.#configFor(self?.dataPathPort ?? DEFAULT_PORT).dataPathPort,
      mtu: this.#machine.mtu,
      encryptionKeys: this.#encryption.publicKeys(),
      encryptionProblem: this.#encryption.problem(),
      routes: this.#machine.routes,
      problems,
    }
    this.reports.post(report)
  }
}

function hostPortsOf({ ports = [] }: LocalAttachment): readonly HostPort[] {
  return ports.map(({ protocol, published }) => ({ protocol, port: published }))
}

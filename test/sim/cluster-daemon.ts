// One run of a simulated swarmd: the worker always, the manager while its certificate says so. It does what
// src/daemon/cluster-node.ts does, with a certificate that is a word.

import type { ManagerAddress } from '../../src/api/dispatcher.ts'
import type { Cluster, Node } from '../../src/api/objects.ts'
import { type Clock, sleep } from '../../src/lib/clock.ts'
import type { Connection, Dialer, DialOptions } from '../../src/lib/connection.ts'
import { CodedError, errorCode } from '../../src/lib/errors.ts'
import type { Log } from '../../src/lib/log.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import { Scope } from '../../src/lib/scope.ts'
import type { ManagerDisk } from '../../src/manager/disk-guard.ts'
import { OWN_FEATURE_LEVEL } from '../../src/manager/membership/feature-level.ts'
import type { RaftConfig } from '../../src/raft/raft-node-types.ts'
import { Agent, type ClusterMessage } from '../../src/worker/agent.ts'
import type { SimulatedDataPlane } from '../../src/worker/simulated-data-plane.ts'
import type { SimulatedEngine } from '../../src/worker/simulated-engine.ts'
import { SimulatedExecutor } from '../../src/worker/simulated-executor.ts'
import { type Certificate, type CertifiedPeer, isWanted, tlsInfoOf, verifies } from './cluster-certificate.ts'
import { askCertificate, ManagerPart } from './cluster-manager.ts'
import { SimulatedWorkerStorage } from './cluster-storage.ts'
import type { SimulatedDisk } from './disk.ts'
import type { SimulatedNetwork } from './network.ts'

/** What a node's files say: it outlives the process. */
export interface NodeFiles {
  readonly nodeId: string
  readonly clusterId: string
  role: 'manager' | 'worker'
  certificate: Certificate
  raftId: string
  joined: boolean
}

export interface DaemonOptions {
  readonly host: string
  readonly files: NodeFiles
  readonly network: SimulatedNetwork
  readonly engine: SimulatedEngine
  readonly dataPlane: SimulatedDataPlane
  readonly raftDisk: SimulatedDisk
  readonly workerDisk: SimulatedDisk
  /** Managers to begin with. */
  readonly managers: readonly ManagerAddress[]
  readonly raftConfig: Partial<RaftConfig>
  readonly clock: Clock
  readonly random: SeededRandom
  readonly log: Log
  readonly onManager: (part: ManagerPart) => void
  /** The machine has hardly any disk left: see `diskChanged`. */
  readonly isShortOfDisk: () => boolean
}

const LOW: ManagerDisk = { kind: 'low', path: '/data', freeBytes: 1, wantedBytes: 100, isStalled: false }

const MANAGER_RETRY_MS = 1_000
const RENEWAL_RETRY_MS = 1_000

export class Daemon {
  readonly #options: DaemonOptions
  readonly #agent: Agent
  readonly #dialer: Dialer
  readonly #roleListeners = new Set<() => void>()
  #part: ManagerPart | undefined
  #renew: (() => void) | undefined
  #renewalWanted = false

  constructor(options: DaemonOptions) {
    const { host, files, engine, dataPlane, workerDisk, clock, random, log, managers } = options
    this.#options = options
    this.#dialer = { dial: (dial) => this.#dial(dial) }
    this.#agent = new Agent({
      nodeId: files.nodeId,
      dialer: this.#dialer,
      executor: new SimulatedExecutor({ engine, clock }),
      dataPlane,
      storage: new SimulatedWorkerStorage(workerDisk.attach()),
      clock,
      random,
      log,
      managers,
      address: host,
      dataPathAddress: host,
      featureLevel: OWN_FEATURE_LEVEL,
      describe: (description) => ({
        ...description,
        TLSInfo: tlsInfoOf(files.certificate),
        ...(options.isShortOfDisk() && {
          DiskPressure: [{ Path: '/data', FreeBytes: 1, SizeBytes: 100, RefusesWrites: true }],
        }),
      }),
      onClusterChange: (message) => this.#onCluster(message),
    })
  }

  get manager(): ManagerPart['manager'] | undefined {
    return this.#part?.manager
  }

  get managers(): readonly ManagerAddress[] {
    const first = this.#agent.connectedTo
    const known = this.#agent.managers
    return first ? [first, ...known.filter(({ address }) => address !== first.address)] : known
  }

  async bootstrap(cluster: Cluster, node: Node): Promise<void> {
    this.#part = this.#createPart()
    await this.#part.bootstrap(cluster, node)
  }

  /** As `swarm init --force-new-cluster`; before `run`. */
  async beginAnew(): Promise<void> {
    this.#part = this.#createPart()
    await this.#part.beginAnew()
  }

  /**
   * Until `signal` aborts.
   * @throws {CodedError} NODE_REMOVED
   */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const scope = new Scope(signal)
    scope.spawn('agent', (running) => this.#agent.run({ signal: running }))
    scope.spawn('certificate', (running) => this.#renewals(running))
    scope.spawn('manager', (running) => this.#manage(running))
    try {
      await scope.wait()
    } finally {
      await scope.close()
    }
  }

  /** As production's swarmd: its manager stands back, and the node says so. */
  diskChanged(): void {
    this.#part?.manager.setDisk(this.#options.isShortOfDisk() ? LOW : { kind: 'room' })
    this.#agent.refreshDescription()
  }

  async removeContainers(signal: AbortSignal): Promise<void> {
    await this.#agent.removeContainers({ signal })
  }

  async #manage(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#options.files.role === 'manager') await this.#runPart(signal)
      else {
        this.#options.raftDisk.erase()
        await this.#roleChanged(signal)
      }
    }
  }

  async #runPart(signal: AbortSignal): Promise<void> {
    const { files, raftDisk, clock, log } = this.#options
    const part = this.#part ?? this.#createPart()
    this.#part = part
    this.#options.onManager(part)
    this.diskChanged()
    const scope = new Scope(signal)
    try {
      scope.spawn('manager part', (running) => part.run({ signal: running }))
      scope.spawn('join', async (running) => {
        if (files.joined) return
        await part.join(running)
        if (!running.aborted) files.joined = true
      })
      scope.spawn('demotion', async (running) => {
        await this.#roleChanged(running)
        if (!running.aborted) throw new CodedError('DEMOTED', 'this node is a worker now')
      })
      await scope.wait()
    } catch (error) {
      const code = errorCode(error)
      if (code !== 'DEMOTED' && code !== 'MEMBER_REMOVED') throw error
      log.info({ code }, 'this node is no manager any more')
    } finally {
      this.#part = undefined
      await scope.close()
    }
    if (signal.aborted) return
    files.raftId = ''
    files.joined = false
    raftDisk.erase()
    if (files.role === 'manager') {
      this.#requestRenewal()
      await sleep(clock, MANAGER_RETRY_MS, signal)
    }
  }

  #createPart(): ManagerPart {
    const { host, files, network, raftDisk, raftConfig, clock, random, log } = this.#options
    if (files.raftId === '') {
      raftDisk.erase()
      files.raftId = `${files.nodeId}-${random.id().slice(0, 8)}`
      files.joined = false
    }
    return new ManagerPart({
      nodeId: files.nodeId,
      clusterId: files.clusterId,
      raftId: files.raftId,
      joined: files.joined,
      address: `${host}:2377`,
      identity: this.#identity(),
      network,
      dialer: this.#dialer,
      disk: raftDisk,
      managers: () => this.managers.filter(({ nodeId }) => nodeId !== files.nodeId),
      raftConfig,
      clock,
      random,
      log,
    })
  }

  /** What the node's files say whenever somebody looks. */
  #identity(): CertifiedPeer {
    const { files } = this.#options
    const { nodeId, clusterId } = files
    return {
      nodeId,
      clusterId,
      get role() {
        return files.role
      },
      get certificate() {
        return files.certificate
      },
    }
  }

  async #dial(dial: DialOptions): Promise<Connection> {
    const { host, network, files } = this.#options
    const connection = await network.dialer(host, { ...this.#identity() }).dial(dial)
    const { certificate, role, clusterId } = connection.peer as CertifiedPeer
    const isManager = role === 'manager' && clusterId === files.clusterId
    if (isManager && verifies(files.certificate, certificate)) return connection
    connection.destroy()
    throw new CodedError(
      'CONNECTION_UNTRUSTED',
      `${dial.address} is ${isManager ? 'of a root that is not trusted' : 'no manager'}`,
    )
  }

  /** Resolves when a renewed certificate says another role than now, or at the signal. */
  #roleChanged(signal: AbortSignal): Promise<void> {
    const { files } = this.#options
    const before = files.role
    return new Promise((resolve) => {
      const look = () => {
        if (files.role !== before) done()
      }
      const done = (): void => {
        this.#roleListeners.delete(look)
        resolve()
      }
      this.#roleListeners.add(look)
      if (signal.aborted) done()
      else signal.addEventListener('abort', done, { once: true })
    })
  }

  #onCluster(message: ClusterMessage): void {
    const { role, certificate } = this.#options.files
    if (message.role !== role || !isWanted(certificate, message)) this.#requestRenewal()
  }

  #requestRenewal(): void {
    this.#renewalWanted = true
    this.#renew?.()
  }

  /** Asks the managers, one after the other, until one of them has a certificate for this node. */
  async #renewals(signal: AbortSignal): Promise<void> {
    const { files, clock, log } = this.#options
    signal.addEventListener('abort', () => this.#renew?.(), { once: true })
    for (let attempt = 0; !signal.aborted; ) {
      if (!this.#renewalWanted) {
        await new Promise<void>((resolve) => {
          this.#renew = resolve
        })
        continue
      }
      const { managers } = this
      const target = managers[attempt++ % Math.max(managers.length, 1)]
      try {
        if (target) {
          // What is asked for from here on was said of another certificate than the one that comes.
          this.#renewalWanted = false
          const renewed = await askCertificate({ dialer: this.#dialer, clock }, target, signal)
          files.role = renewed.role
          files.certificate = renewed.certificate
          this.#agent.refreshDescription()
          attempt = 0
          log.info({ role: files.role }, 'certificate renewed')
          for (const listener of [...this.#roleListeners]) listener()
          continue
        }
      } catch (error) {
        if (!(error instanceof CodedError)) throw error
        this.#renewalWanted = true
      }
      await sleep(clock, RENEWAL_RETRY_MS, signal)
    }
  }
}

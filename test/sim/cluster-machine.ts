// A simulated machine: its disks, its engine and its files outlive the swarmd that runs on it, which may be stopped, killed
// or lose its power with all else.

import type { ManagerAddress } from '../../src/api/dispatcher.ts'
import type { Cluster, Node } from '../../src/api/objects.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { errorCode, errorMessage } from '../../src/lib/errors.ts'
import type { Log } from '../../src/lib/log.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import type { Manager } from '../../src/manager/manager.ts'
import type { RaftConfig } from '../../src/raft/raft-node-types.ts'
import { SimulatedDataPlane } from '../../src/worker/simulated-data-plane.ts'
import { SimulatedEngine } from '../../src/worker/simulated-engine.ts'
import { Daemon, type NodeFiles } from './cluster-daemon.ts'
import { behaviourOf } from './cluster-programs.ts'
import { type DiskFaults, SimulatedDisk } from './disk.ts'
import type { SimulatedNetwork } from './network.ts'

export interface MachineOptions {
  readonly host: string
  readonly clock: Clock
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly raftConfig: Partial<RaftConfig>
  readonly log: (isAlive: () => boolean) => Log
  readonly onManager: (machine: SimMachine, manager: Manager) => void
  /** A container that runs is told to stop. */
  readonly onStopSignal: (machine: SimMachine, taskId: string) => void
  /** swarmd has ended by itself, with an error that no swarmd should end with. */
  readonly onFailure: (machine: SimMachine, error: unknown) => void
}

interface Running {
  readonly daemon: Daemon
  readonly abort: AbortController
  readonly ended: Promise<void>
  alive: boolean
}

export class SimMachine {
  readonly host: string
  readonly engine: SimulatedEngine
  readonly dataPlane: SimulatedDataPlane
  readonly raftDisk: SimulatedDisk
  readonly workerDisk: SimulatedDisk
  readonly #options: MachineOptions
  files: NodeFiles | undefined
  #managers: readonly ManagerAddress[] = []
  #running: Running | undefined
  #isShortOfDisk = false
  /** The machine itself is on; something may be happening to it. */
  on = true
  busy = false
  /** It stays off, whatever is healed. */
  isLost = false

  constructor(options: MachineOptions) {
    const { host, clock, random } = options
    this.host = host
    this.#options = options
    this.raftDisk = new SimulatedDisk({ clock, random: random.fork() })
    this.workerDisk = new SimulatedDisk({ clock, random: random.fork() })
    const programs = random.fork()
    this.engine = new SimulatedEngine({
      clock,
      description: {
        Hostname: host,
        Platform: { OS: 'linux', Architecture: 'x86_64' },
        Resources: { NanoCPUs: 4e9, MemoryBytes: 8e9 },
        Engine: { EngineVersion: '28.0.0', Labels: {}, Plugins: [] },
      },
      behaviour: (task) => behaviourOf(task.spec, programs),
    })
    this.engine.onStopSignal = (taskId) => options.onStopSignal(this, taskId)
    this.dataPlane = new SimulatedDataPlane({ clock })
    const connections = random.fork()
    this.dataPlane.busyMs = () => (connections.float() < 0.4 ? connections.float() * 3_000 : 0)
  }

  get address(): string {
    return `${this.host}:2377`
  }

  get up(): boolean {
    return this.#running?.alive === true
  }

  /** swarmd here knows that a manager is, or was, at the address. */
  knows(address: string): boolean {
    return this.#running?.daemon.managers.some((manager) => manager.address === address) === true
  }

  get manager(): Manager | undefined {
    return this.up ? this.#running?.daemon.manager : undefined
  }

  set isShortOfDisk(isShort: boolean) {
    this.#isShortOfDisk = isShort
    this.#running?.daemon.diskChanged()
  }

  setDiskFaults(faults: DiskFaults): void {
    this.raftDisk.faults = faults
    this.workerDisk.faults = faults
  }

  /** A new cluster with this machine as its first manager. */
  async bootstrap(cluster: Cluster, node: Node, files: NodeFiles): Promise<void> {
    this.files = files
    this.#managers = [{ nodeId: files.nodeId, address: this.address }]
    const daemon = this.#make()
    await daemon.bootstrap(cluster, node)
    this.#run(daemon)
  }

  /** swarmd goes on as the only manager, with another member of the consensus, on what this machine's disk has. */
  async beginAnew(raftId: string): Promise<void> {
    const { files } = this
    if (!files) throw new Error(`${this.host} is in no cluster`)
    await this.stop()
    files.raftId = raftId
    files.joined = true
    this.#managers = [{ nodeId: files.nodeId, address: this.address }]
    const daemon = this.#make()
    await daemon.beginAnew()
    this.#run(daemon)
  }

  /** Another machine takes the place of this one, which is off for good. */
  replace(): void {
    this.files = undefined
    this.raftDisk.erase()
    this.workerDisk.erase()
    for (const { taskId } of this.engine.containers()) this.engine.destroy(taskId)
  }

  /** The node's record is in the store: it has a certificate. */
  join(files: NodeFiles, managers: readonly ManagerAddress[]): void {
    this.files = files
    this.#managers = managers
    this.raftDisk.erase()
    this.workerDisk.erase()
    this.start()
  }

  start(): void {
    if (this.#running || !this.files || !this.on) return
    this.#run(this.#make())
  }

  /** SIGKILL. */
  kill(): void {
    if (!this.#running) return
    this.#options.network.killProcess(this.host)
    this.raftDisk.killProcess()
    this.workerDisk.killProcess()
    this.#bury()
  }

  /** SIGTERM: resolves when swarmd has ended. */
  async stop(): Promise<void> {
    const running = this.#running
    if (!running) return
    running.abort.abort()
    await running.ended
    if (this.#running !== running) return // killed meanwhile
    running.alive = false
    this.#running = undefined
    this.#options.network.killProcess(this.host)
  }

  powerOff(): void {
    this.on = false
    this.#options.network.powerOff(this.host)
    this.raftDisk.losePower()
    this.workerDisk.losePower()
    this.#bury()
    this.engine.goDown()
  }

  powerOn(): void {
    if (this.isLost) return
    this.on = true
    this.#options.network.powerOn(this.host)
    this.engine.goUp()
    this.start()
  }

  #make(): Daemon {
    const { host, clock, random, network, raftConfig, onManager } = this.#options
    return new Daemon({
      host,
      files: this.files!,
      network,
      engine: this.engine,
      dataPlane: this.dataPlane,
      raftDisk: this.raftDisk,
      workerDisk: this.workerDisk,
      managers: this.#managers,
      raftConfig,
      clock,
      random: random.fork(),
      log: this.#options.log(() => this.up),
      onManager: ({ manager }) => onManager(this, manager),
      isShortOfDisk: () => this.#isShortOfDisk,
    })
  }

  #run(daemon: Daemon): void {
    const abort = new AbortController()
    const run = async (): Promise<void> => {
      try {
        await daemon.run({ signal: abort.signal })
      } catch (error) {
        if (running.alive) await this.#ended(daemon, running, error)
      }
    }
    const running: Running = { daemon, abort, ended: Promise.resolve().then(run), alive: true }
    this.#running = running
  }

  /** As production's swarmd: a removed node takes its containers with it and is no node any more. */
  async #ended(daemon: Daemon, running: Running, error: unknown): Promise<void> {
    if (errorCode(error) !== 'NODE_REMOVED') {
      this.#options.log(() => true).error({ code: errorCode(error), error: errorMessage(error) }, 'swarmd failed')
      this.#options.onFailure(this, error)
      return
    }
    this.#options.log(() => true).info({}, 'the node was removed: its containers go')
    await daemon.removeContainers(running.abort.signal)
    if (!running.alive) return
    running.alive = false
    this.#running = undefined
    this.files = undefined
    this.#options.network.killProcess(this.host)
  }

  /** The dead process' code runs on in this one: what it can still do must reach nobody. */
  #bury(): void {
    const running = this.#running
    this.#running = undefined
    if (!running) return
    running.alive = false
    running.abort.abort()
  }
}

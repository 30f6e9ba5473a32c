// What goes wrong in a simulated cluster: processes, machines, engines and containers that end, and the network between them.

import type { Clock } from '../../src/lib/clock.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import type { SimMachine } from './cluster-machine.ts'
import type { ClusterProfile } from './cluster-profile.ts'
import { CALM_DISK } from './disk.ts'
import { CALM, type SimulatedNetwork } from './network.ts'

const DISK_FULL_MS = 12_000

interface FaultsOptions {
  readonly clock: Clock
  readonly random: SeededRandom
  readonly profile: ClusterProfile
  readonly network: SimulatedNetwork
  readonly machines: readonly SimMachine[]
  readonly trace: (host: string, what: string) => void
}

export class ClusterFaults {
  readonly #options: FaultsOptions
  readonly #random: SeededRandom
  #active = false

  constructor(options: FaultsOptions) {
    this.#options = options
    this.#random = options.random
    this.#calmDown()
  }

  begin(): void {
    const { profile, network, machines } = this.#options
    const { latencyMs, breakRate, dialTimeoutRate, syncMs, diskStallRate: stallRate, diskStallMs: stallMs } = profile
    this.#active = true
    network.faults = { ...CALM, latencyMs: [0.2, latencyMs], breakRate, dialTimeoutRate }
    for (const machine of machines)
      machine.setDiskFaults({ syncMs: [0.2, syncMs], writeMs: [0.01, 0.1], stallRate, stallMs })
    this.#every(profile.crashEveryMs, () => this.#kill())
    this.#every(profile.powerEveryMs, () => this.#powerOff())
    this.#every(profile.restartEveryMs, () => this.#restart())
    this.#every(profile.partitionEveryMs, () => this.#partition())
    this.#every(profile.disconnectEveryMs, () => this.#disconnect())
    this.#every(profile.engineEveryMs, () => this.#stopEngine())
    this.#every(profile.dataPlaneEveryMs, () => this.#stopDataPlane())
    this.#every(profile.containerEveryMs, () => this.#harmContainer())
    this.#every(profile.transferEveryMs, () => this.#transfer())
    this.#every(profile.diskFullEveryMs, () => this.#fillDisk())
  }

  /** Everything that is broken works again. */
  heal(): void {
    const { network, machines } = this.#options
    this.#active = false
    this.#calmDown()
    network.healAll()
    for (const machine of machines) {
      if (machine.isLost) continue
      if (!machine.on) machine.powerOn()
      if (!machine.engine.up) machine.engine.goUp()
      machine.dataPlane.goUp()
      machine.isShortOfDisk = false
      machine.start()
    }
  }

  #calmDown(): void {
    const { network, machines } = this.#options
    network.faults = CALM
    for (const machine of machines) machine.setDiskFaults(CALM_DISK)
  }

  /** At random times while faults last, `meanMs` apart on average. */
  #every(meanMs: number, act: () => void): void {
    if (meanMs === Infinity) return
    this.#options.clock.setTimer(-Math.log(1 - this.#random.float()) * meanMs, () => {
      if (!this.#active) return
      act()
      this.#every(meanMs, act)
    })
  }

  #later(mostMs: number, act: () => void): void {
    this.#options.clock.setTimer(this.#random.float() * mostMs, act)
  }

  /** The leader more often than others. */
  #victim(): SimMachine | undefined {
    const up = this.#options.machines.filter((machine) => machine.up && !machine.busy)
    const leader = up.find((machine) => machine.manager?.isLeader)
    return leader && this.#random.float() < 0.3 ? leader : up[this.#random.below(up.length)]
  }

  #kill(): void {
    const machine = this.#victim()
    if (!machine) return
    this.#options.trace(machine.host, 'swarmd is killed')
    machine.kill()
    this.#later(this.#options.profile.downMs, () => machine.start())
  }

  #powerOff(): void {
    const machine = this.#victim()
    if (!machine) return
    this.#options.trace(machine.host, 'loses its power')
    machine.powerOff()
    this.#later(this.#options.profile.downMs, () => {
      if (!machine.on) machine.powerOn()
    })
  }

  #restart(): void {
    const machine = this.#victim()
    if (!machine) return
    this.#options.trace(machine.host, 'swarmd is stopped')
    machine.busy = true
    const downMs = this.#random.float() * this.#options.profile.downMs
    void machine.stop().then(() => {
      machine.busy = false
      this.#options.clock.setTimer(downMs, () => machine.start())
    })
  }

  #partition(): void {
    const { machines, network, profile, trace } = this.#options
    const side = new Set(machines.filter(() => this.#random.float() < 0.4))
    const oneWay = this.#random.float() < 0.3
    trace('net', `cut off${oneWay ? ' one way' : ''}: ${[...side].map(({ host }) => host).join(' ')}`)
    const pairs = [...side].flatMap((a) => machines.filter((b) => !side.has(b)).map((b) => [a.host, b.host] as const))
    for (const [a, b] of pairs) {
      if (oneWay) network.cutOneWay(a, b)
      else network.cut(a, b)
    }
    this.#later(profile.partitionMs, () => {
      for (const [a, b] of pairs) network.heal(a, b)
    })
  }

  #disconnect(): void {
    const { machines, network } = this.#options
    const a = machines[this.#random.below(machines.length)]!
    const b = machines[this.#random.below(machines.length)]!
    network.disconnect(a.host, b.host)
  }

  #stopEngine(): void {
    const { machines, profile, trace } = this.#options
    const { host, engine } = machines[this.#random.below(machines.length)]!
    if (!engine.up) return
    const liveRestore = this.#random.float() < 0.5
    trace(host, `the engine ends${liveRestore ? ', its containers go on' : ' with its containers'}`)
    engine.goDown({ liveRestore })
    const machine = machines.find((one) => one.host === host)!
    this.#later(profile.engineDownMs, () => {
      if (machine.on) engine.goUp()
    })
  }

  #stopDataPlane(): void {
    const { machines, profile, trace } = this.#options
    const { host, dataPlane } = machines[this.#random.below(machines.length)]!
    trace(host, 'its data plane takes no changes')
    dataPlane.goDown()
    this.#later(profile.engineDownMs, () => dataPlane.goUp())
  }

  #harmContainer(): void {
    const { machines, trace } = this.#options
    const { host, engine } = machines[this.#random.below(machines.length)]!
    const running = engine.containers().filter((container) => container.state === 'running')
    const container = running[this.#random.below(running.length)]
    if (!container) return
    const kind = this.#random.float()
    if (kind < 0.5) {
      trace(host, `container of ${container.taskId} crashes`)
      engine.crash(container.taskId, 137)
    } else if (kind < 0.75 && container.health !== 'none') {
      trace(host, `container of ${container.taskId} turns unhealthy`)
      engine.setHealth(container.taskId, 'unhealthy')
    } else {
      trace(host, `container of ${container.taskId} is removed by hand`)
      engine.destroy(container.taskId)
    }
  }

  /** Often several at a time, all managers among them. */
  #fillDisk(): void {
    const { machines, trace } = this.#options
    const machine = machines[this.#random.below(machines.length)]!
    trace(machine.host, 'its disk is nearly full')
    machine.isShortOfDisk = true
    this.#later(DISK_FULL_MS, () => {
      machine.isShortOfDisk = false
    })
  }

  #transfer(): void {
    const leader = this.#options.machines.find((machine) => machine.manager?.isLeader)?.manager
    leader?.raft.transferLeadership().catch(() => {}) // there may be nobody
  }
}

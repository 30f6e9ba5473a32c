/**
 * A lab: several hosts on this one machine, each with its own network namespace, Docker Engine and `swarmd`.
 * It is what stands on disk and in the kernel: any process can attach to a lab that another brought up.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { removeCgroups } from './cgroups.ts'
import { loadImages } from './engine-api.ts'
import { unpackedEngines } from './engine-releases.ts'
import { buildImages, type ImageSet } from './images.ts'
import { LabHost, swarmdProgram, type UnexpectedExit } from './lab-host.ts'
import * as layout from './layout.ts'
import * as network from './network.ts'
import { preflight } from './preflight.ts'
import { isAlive, type ProcessId, processesInNetns, signal, waitGone } from './processes.ts'
import { type RunOptions, type RunResult, run } from './run.ts'
import * as state from './state.ts'

export interface LabOptions {
  /** Names the lab's namespaces and cgroups; `lab` unless told. Two labs of different names do not meet. */
  readonly name?: string
  /** Where its disks, sockets and logs go; `.lab` or `.lab-NAME` in the project unless told. */
  readonly dir?: string
  readonly managers?: number
  readonly workers?: number
  /** Engines keep containers running while they restart. Not to be had with the engine's own Swarm mode. Default false. */
  readonly liveRestore?: boolean
  /** More flags for every engine. */
  readonly engineArgs?: readonly string[]
  /** Debian releases (`trixie`, `sid`) whose engine a host has, by the host's name; the machine's own unless told. */
  readonly engines?: Readonly<Record<string, string>>
  /** The images that are loaded into every engine; `base` unless told. */
  readonly images?: ImageSet | false
  /** Starts `swarmd` everywhere, with these options. Default: `{}` if it is built, else false. */
  readonly swarmd?: state.SwarmdOptions | false
  /** Told of each step. */
  readonly log?: (line: string) => void
  /** Told when an engine or `swarmd` ends and the lab did not end it. Default: to `log`. */
  readonly onUnexpectedExit?: (exit: UnexpectedExit) => void
}

interface LabParts {
  readonly record: state.LabRecord
  readonly dir: string
  readonly log: (line: string) => void
  readonly onUnexpectedExit: (exit: UnexpectedExit) => void
}

export class Lab {
  readonly name: string
  readonly dir: string
  readonly hosts: readonly LabHost[]
  readonly #log: (line: string) => void

  private constructor(parts: LabParts) {
    const { record, dir } = parts
    this.name = record.name
    this.dir = dir
    this.#log = parts.log
    this.hosts = layout
      .planHosts(record.name, record.managers, record.workers)
      .map((plan) => new LabHost({ labName: record.name, labDir: dir, plan, onUnexpectedExit: parts.onUnexpectedExit }))
  }

  /**
   * Brings a lab up, after removing what is left of an earlier one of its name and directory.
   * @throws with everything that this machine lacks, before anything is made; on a later failure, what was made is
   *   removed again, except logs (in the message).
   */
  static async up(options: LabOptions = {}): Promise<Lab> {
    const name = options.name ?? layout.DEFAULT_LAB_NAME
    layout.checkLabName(name)
    const dir = resolve(options.dir ?? layout.defaultLabDir(name))
    const log = options.log ?? (() => {})
    const managers = options.managers ?? 3
    const workers = options.workers ?? 2
    if (managers + workers < 1 || managers + workers > layout.HOSTS_MAX) {
      throw new Error(`a lab has 1 to ${layout.HOSTS_MAX} hosts, not ${managers + workers}`)
    }
    const plans = layout.planHosts(name, managers, workers)
    const unknown = Object.keys(options.engines ?? {}).find((host) => !plans.some((plan) => plan.name === host))
    if (unknown !== undefined) throw new Error(`no host "${unknown}" in a lab of ${plans.length} to give an engine to`)
    await preflight({ labDir: dir })
    refuseOther(name, dir)
    const engineRoots = await unpackedEngines(options.engines ?? {}, log)
    await Lab.down({ name, dir })

    mkdirSync(join(dir, 'docker-config'), { recursive: true })
    const record: state.LabRecord = {
      format: 1,
      name,
      subnet: `${layout.subnetOf(name)}.0/${layout.SUBNET_PREFIX_LENGTH}`,
      managers,
      workers,
      liveRestore: options.liveRestore ?? false,
      engineArgs: options.engineArgs ?? [],
      client: { netns: layout.clientNetns(name), address: layout.clientAddress(name) },
      hosts: plans.map((plan) => ({
        name: plan.name,
        role: plan.role,
        address: plan.address,
        netns: plan.netns,
        engineSocket: layout.hostPaths(dir, plan.name).engineSocket,
        ...(engineRoots.has(plan.name) && { engineRoot: engineRoots.get(plan.name) ?? '' }),
        swarmdSocket: layout.hostPaths(dir, plan.name).swarmdSocket,
        pids: { init: null, engine: null, swarmd: null },
        startTicks: { init: null, engine: null, swarmd: null },
        swarmd: null,
      })),
    }
    state.writeState(dir, record)
    state.registerDir(name, dir)
    const lab = new Lab({ record, dir, log, onUnexpectedExit: exitReporter(options) })
    try {
      await lab.#start(options)
      return lab
    } catch (error) {
      await Lab.down({ name, dir })
      throw error
    }
  }

  /** The lab that stands in `dir`. @throws if there is none. */
  static attach(options: Pick<LabOptions, 'dir' | 'log' | 'onUnexpectedExit'> = {}): Lab {
    const dir = resolve(options.dir ?? layout.defaultLabDir(layout.DEFAULT_LAB_NAME))
    const record = state.readState(dir)
    if (!record) throw new Error(`no lab in ${dir}: "make lab-up" brings one up`)
    return new Lab({ record, dir, log: options.log ?? (() => {}), onUnexpectedExit: exitReporter(options) })
  }

  /**
   * Removes a lab: processes, namespaces, cgroups, mounts and its directory. Works from names, directory and kernel
   * alone, so also after an interrupted `up`, a crash or a reboot. No lab is no error.
   */
  static async down(options: Pick<LabOptions, 'name' | 'dir'> = {}): Promise<void> {
    const name = options.name ?? layout.DEFAULT_LAB_NAME
    layout.checkLabName(name)
    const dir = resolve(options.dir ?? layout.defaultLabDir(name))
    refuseOther(name, dir)
    const record = state.readState(dir)
    if (record && record.name !== name) throw new Error(`${dir} holds the lab "${record.name}", not "${name}"`)
    const namespaces = (await network.listNetns()).filter((netns) => layout.isNetnsOf(name, netns))
    // the init processes first: with each dies all of its pid namespace, container processes too
    const inits = (record?.hosts ?? [])
      .map((host) => state.recordedProcess(dir, host.name, 'init'))
      .filter((id) => id !== undefined)
    // struck off before they die, so that nobody is told of an unexpected end
    for (const { name: host } of record?.hosts ?? []) {
      for (const process of ['engine', 'swarmd'] as const) state.recordProcess(dir, host, process, undefined)
    }
    for (const init of inits) signal(init, 'SIGKILL')
    for (let round = 0; ; round++) {
      const alive = namespaces.flatMap((netns) => processesInNetns(inodeOf(netns)))
      const all: ProcessId[] = [...inits, ...alive]
      for (const id of alive) signal(id, 'SIGKILL')
      if (await waitGone(all, 10_000)) break
      if (round === 2) throw new Error(`processes ${all.map((id) => id.pid).join(', ')} do not die`)
    }
    await Promise.all(namespaces.map(network.deleteNetns))
    const cgroups = await removeCgroups(`/${name}`)
    if (cgroups.length > 0) throw new Error(`cgroups remain: ${cgroups.join(', ')}`)
    await removeDir(dir)
    state.unregister(name)
  }

  /** The host called `name`. */
  host(name: string): LabHost {
    const found = this.hosts.find((host) => host.name === name)
    if (!found) throw new Error(`no host "${name}" in this lab: ${this.hosts.map((host) => host.name).join(' ')}`)
    return found
  }

  get managers(): readonly LabHost[] {
    return this.hosts.filter((host) => host.role === 'manager')
  }

  get workers(): readonly LabHost[] {
    return this.hosts.filter((host) => host.role === 'worker')
  }

  get clientAddress(): string {
    return layout.clientAddress(this.name)
  }

  /** Runs a command on the client: a machine on the same switch that is no host, with the machine's own files. */
  client(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.clientArgv(argv), options)
  }

  /** The start of a command line on the client, for a caller that spawns by itself. */
  clientArgv(argv: readonly string[]): string[] {
    return [...network.inNetns(layout.clientNetns(this.name)), ...argv]
  }

  /**
   * Cuts what `from` and `to` say to each other (only from → to if `oneWay`), or the whole cable of `from`.
   * A cut is silence: no reset, no refusal.
   */
  async cut(from: string, to?: string, options: { oneWay?: boolean } = {}): Promise<void> {
    await this.#setLink(from, to, options.oneWay ?? false, false)
  }

  /** Undoes a cut; without arguments, all of them. */
  async heal(from?: string, to?: string, options: { oneWay?: boolean } = {}): Promise<void> {
    if (from === undefined) {
      await network.healAll(
        this.name,
        this.hosts.map((host) => host.plan),
      )
    } else await this.#setLink(from, to, options.oneWay ?? false, true)
  }

  /** What is cut now: `n1` for a cable, `n1>n2` for what n1 sends to n2. */
  cuts(): Promise<string[]> {
    return network.listCuts(
      this.name,
      this.hosts.map((host) => host.plan),
    )
  }

  /** Loads a set of images into every engine. */
  async loadImages(set: ImageSet = 'base'): Promise<void> {
    const archive = await buildImages(this.#log, set)
    await Promise.all(this.hosts.map((host) => loadImages(host.paths.engineSocket, archive)))
  }

  down(): Promise<void> {
    return Lab.down({ name: this.name, dir: this.dir })
  }

  async #setLink(from: string, to: string | undefined, oneWay: boolean, open: boolean): Promise<void> {
    const a = this.host(from).plan
    if (to === undefined) return network.setCable(this.name, a, open)
    const b = this.host(to).plan
    await network.setPath(this.name, a, b, open)
    if (!oneWay) await network.setPath(this.name, b, a, open)
  }

  async #start(options: LabOptions): Promise<void> {
    // while engines start
    const archive = options.images === false ? undefined : buildImages(this.#log, options.images)
    archive?.catch(() => {}) // it is awaited below
    await network.createSwitch(this.name)
    await network.connectClient(this.name)
    this.#log(`starting ${this.hosts.length} hosts and their engines`)
    await Promise.all(
      this.hosts.map(async (host) => {
        await host.powerOn()
        await host.startEngine()
      }),
    )
    if (archive) {
      const file = await archive
      this.#log('loading images')
      await Promise.all(this.hosts.map((host) => loadImages(host.paths.engineSocket, file)))
    }
    const swarmd = options.swarmd ?? (existsSync(swarmdProgram) ? {} : false)
    if (swarmd) {
      this.#log('starting swarmd on each')
      await Promise.all(this.hosts.map((host) => host.startSwarmd(swarmd)))
    }
  }
}

const inodeOf = (netns: string): number => statSync(network.netnsPath(netns)).ino

function refuseOther(name: string, dir: string): void {
  const other = state.registeredDir(name)
  if (!other || other === dir) return
  const record = state.readState(other)
  if (record?.name === name && record.hosts.some((host) => isAlive(state.recordedProcess(other, host.name, 'init')))) {
    throw new Error(
      `a lab called "${name}" stands in ${other}: take it down there first, or give this one another name`,
    )
  }
}

function exitReporter(options: Pick<LabOptions, 'log' | 'onUnexpectedExit'>): (exit: UnexpectedExit) => void {
  const log = options.log ?? ((line: string) => process.stderr.write(`${line}\n`))
  return (
    options.onUnexpectedExit ??
    ((exit) => log(`${exit.process} on ${exit.host} ended unexpectedly: ${exit.how}\n${exit.logTail}`))
  )
}

/** Removes what a lab puts into its directory, and the directory if nothing else is in it. */
async function removeDir(dir: string): Promise<void> {
  if (!existsSync(dir)) return
  const below = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point.startsWith(`${dir}/`))
  for (const point of below.toReversed()) await run(['umount', '-l', point])
  for (const entry of readdirSync(dir)) {
    if (/^n\d{1,2}$|^hosts\.json(\.\d+)?$|^docker-config$|^trial-\d+$/.test(entry)) {
      rmSync(join(dir, entry), { recursive: true, force: true, maxRetries: 5 })
    }
  }
  if (readdirSync(dir).length === 0) rmdirSync(dir)
}

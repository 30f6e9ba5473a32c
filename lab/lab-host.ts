/** One host of a lab: its power, its engine, its `swarmd`, and commands on it. Holds no state: that is in hosts.json. */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { delegateControllers, hostCgroup, removeCgroups } from './cgroups.ts'
import { inHost, startInHost, tail } from './host-process.ts'
import { type HostPaths, type HostPlan, hostPaths, projectRoot } from './layout.ts'
import { connectHost, deleteNetns, disconnectHost, inNetns } from './network.ts'
import { childrenOf, isAlive, type ProcessId, resume, signal, waitGone } from './processes.ts'
import { type RunOptions, type RunResult, run } from './run.ts'
import {
  type ProcessName,
  readState,
  recordedProcess,
  recordProcess,
  recordSwarmdOptions,
  type SwarmdOptions,
} from './state.ts'

/** `swarmd` or an engine that ended without the lab having ended it. */
export interface UnexpectedExit {
  readonly host: string
  readonly process: 'engine' | 'swarmd'
  readonly how: string
  readonly logTail: string
}

export interface LabHostOptions {
  readonly labName: string
  readonly labDir: string
  readonly plan: HostPlan
  readonly onUnexpectedExit: (exit: UnexpectedExit) => void
}

/** Where a docker command goes: to the host's own engine, or to its `swarmd`. */
export type Target = 'engine' | 'swarmd'

// an end is noticed at once: these only bound a program that hangs, on a machine that may be busy
const ENGINE_READY_MS = 120_000
const SWARMD_READY_MS = 120_000
const STOP_MS = 90_000

export const swarmdProgram = join(projectRoot, 'dist/swarmd.mjs')
export const swarmctlProgram = join(projectRoot, 'dist/swarmctl.mjs')

export class LabHost {
  readonly plan: HostPlan
  readonly paths: HostPaths
  readonly #labName: string
  readonly #labDir: string
  readonly #onUnexpectedExit: (exit: UnexpectedExit) => void

  constructor(options: LabHostOptions) {
    this.plan = options.plan
    this.paths = hostPaths(options.labDir, options.plan.name)
    this.#labName = options.labName
    this.#labDir = options.labDir
    this.#onUnexpectedExit = options.onUnexpectedExit
  }

  get name(): string {
    return this.plan.name
  }

  get address(): string {
    return this.plan.address
  }

  get role(): 'manager' | 'worker' {
    return this.plan.role
  }

  /** The running process, as the machine numbers it. */
  process(name: ProcessName): ProcessId | undefined {
    const id = recordedProcess(this.#labDir, this.name, name)
    return isAlive(id) ? id : undefined
  }

  // Power

  /** Switches the host on: network cable, namespaces, file systems. Neither engine nor `swarmd` runs yet. */
  async powerOn(): Promise<void> {
    if (this.process('init')) return
    mkdirSync(this.paths.dir, { recursive: true })
    const missing = delegateControllers(this.#labName, this.name)
    if (missing.includes('memory') || missing.includes('pids')) {
      throw new Error(
        `the cgroup controllers ${missing.join(', ')} are not handed down to ${this.name}: ` +
          "run this where / of the cgroups is the machine's own (in a container: --cgroupns=host)",
      )
    }
    await connectHost(this.#labName, this.plan)
    const record = readState(this.#labDir)
    const names = record?.hosts.map((host) => `${host.address} ${host.name}\n`).join('') ?? ''
    writeFileSync(join(this.paths.dir, 'hosts'), `127.0.0.1 localhost\n${names}`)
    recordProcess(this.#labDir, this.name, 'init', await this.#startInit())
  }

  async #startInit(): Promise<ProcessId> {
    const log = openSync(this.paths.initLog, 'a')
    const script = join(projectRoot, 'lab/host-init.sh')
    const flags = ['--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child', '--mount-proc']
    const own = readState(this.#labDir)?.hosts.find((host) => host.name === this.name)
    const init = ['bash', script, this.paths.dir, this.name, own?.engineRoot ?? '']
    const unshare = ['unshare', ...flags, '--propagation', 'private', ...init]
    const [program = '', ...args] = [...inNetns(this.plan.netns), ...unshare]
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', log], env: hostEnv(), cwd: '/' })
    closeSync(log)
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code) =>
        reject(new Error(`${this.name} did not boot: exit code ${code}\n${tail(this.paths.initLog)}`)),
      )
      child.stdout?.once('data', () => resolve())
    })
    child.stdout?.destroy()
    child.unref()
    const [id] = childrenOf(child.pid ?? 0)
    if (!isAlive(id)) throw new Error(`${this.name} went as it had just booted\n${tail(this.paths.initLog)}`)
    return id
  }

  /** A power loss: silence on the network first, then everything on the host dies at once. Its disk stays. */
  async powerOff(): Promise<void> {
    await disconnectHost(this.#labName, this.plan)
    const all = (['init', 'engine', 'swarmd'] as const)
      .map((name) => this.process(name))
      .filter((id) => id !== undefined)
    const init = this.process('init')
    for (const name of ['init', 'engine', 'swarmd'] as const) recordProcess(this.#labDir, this.name, name, undefined)
    signal(init, 'SIGKILL')
    if (!(await waitGone(all, 20_000))) throw new Error(`${this.name}: processes outlived their pid namespace`)
    await deleteNetns(this.plan.netns)
    const left = await removeCgroups(hostCgroup(this.#labName, this.name))
    if (left.length > 0) throw new Error(`${this.name}: cgroups remain: ${left.join(', ')}`)
  }

  /** Power comes back: the host, its engine, and `swarmd` if it ever ran here (unless `swarmd: false`). */
  async boot(options: { swarmd?: boolean } = {}): Promise<void> {
    await this.powerOn()
    await this.startNet()
    await this.startEngine()
    if (options.swarmd ?? this.#lastSwarmd() !== undefined) await this.startSwarmd()
  }

  // The engine

  async startEngine(): Promise<void> {
    if (this.process('engine')) return
    const record = readState(this.#labDir)
    const { paths } = this
    mkdirSync(paths.dir, { recursive: true })
    // a file of its own: /etc/docker/daemon.json is the machine's engine's
    writeFileSync(paths.engineConfig, '{}\n')
    rmSync(paths.engineSocket, { force: true })
    await this.#start('engine', paths.engineSocket, paths.engineLog, ENGINE_READY_MS, {}, [
      'dockerd',
      `--config-file=${paths.engineConfig}`,
      `--data-root=${paths.engineData}`,
      '--exec-root=/run/docker',
      '--pidfile=/run/docker.pid',
      `--host=unix://${paths.engineSocket}`,
      `--cgroup-parent=${hostCgroup(this.#labName, this.name)}`,
      '--exec-opt=native.cgroupdriver=cgroupfs',
      '--storage-driver=overlay2',
      ...(record?.liveRestore ? ['--live-restore'] : []),
      ...(record?.engineArgs ?? []),
    ])
  }

  async killEngine(): Promise<void> {
    await this.#end('engine', 'SIGKILL')
  }

  async stopEngine(): Promise<void> {
    await this.#end('engine', 'SIGTERM')
  }

  async restartEngine(): Promise<void> {
    await this.stopEngine()
    await this.startEngine()
  }

  // swarmd

  /**
   * What systemd's socket units do at a boot: the engine finds its network driver when it starts. Without it, it would wait 15 s for
   * each end point that the power loss has left in its books. Nothing where swarmd never had a data plane here.
   */
  async startNet(): Promise<void> {
    const program = join(dirname(this.#lastSwarmd()?.program ?? swarmdProgram), 'swarmd-net.mjs')
    const state = join(this.paths.swarmdData, 'net')
    if (!existsSync(program) || !existsSync(join(state, 'desired.jsonl'))) return
    const run = '/run/swarmd/net'
    const start = `mkdir -p ${run} && exec "$0" "$@" >>${run}/swarmd-net.log 2>&1`
    const argv = [process.execPath, program, 'start', `--state-dir=${state}`, `--run-dir=${run}`]
    const [file = '', ...args] = [...inHost(this.#init()), 'sh', '-c', start, ...argv]
    spawn(file, args, { detached: true, stdio: 'ignore', env: hostEnv(), cwd: '/' }).unref()
    const answers = `until test -S ${run}/control.sock; do sleep 0.02; done`
    await this.exec(['timeout', '20', 'sh', '-c', answers])
  }

  /** Without options: as it was last started on this host, by whichever process. */
  async startSwarmd(options: SwarmdOptions = this.#lastSwarmd() ?? {}): Promise<void> {
    if (this.process('swarmd')) return
    recordSwarmdOptions(this.#labDir, this.name, options)
    const { paths } = this
    mkdirSync(paths.swarmdData, { recursive: true })
    rmSync(paths.swarmdSocket, { force: true })
    const argv = this.swarmdArgv(options)
    await this.#start('swarmd', paths.swarmdSocket, paths.swarmdLog, SWARMD_READY_MS, options.env ?? {}, argv)
  }

  /** Its command line, for a caller that runs it to an end that it expects. */
  swarmdArgv(options: SwarmdOptions = this.#lastSwarmd() ?? {}): readonly string[] {
    const { paths } = this
    return [
      process.execPath,
      options.program ?? swarmdProgram,
      `--engine=unix://${paths.engineSocket}`,
      `--host=unix://${paths.swarmdSocket}`,
      `--data-root=${paths.swarmdData}`,
      '--exec-root=/run/swarmd',
      '--pidfile=/run/swarmd.pid',
      `--swarm-default-advertise-addr=${this.address}`,
      ...(options.args ?? []),
    ]
  }

  async killSwarmd(): Promise<void> {
    await this.#end('swarmd', 'SIGKILL')
  }

  /** SIGTERM, and waits for its clean end. */
  async stopSwarmd(): Promise<void> {
    await this.#end('swarmd', 'SIGTERM')
  }

  async restartSwarmd(options?: SwarmdOptions): Promise<void> {
    await this.stopSwarmd()
    await this.startSwarmd(options)
  }

  #lastSwarmd(): SwarmdOptions | undefined {
    return readState(this.#labDir)?.hosts.find((host) => host.name === this.name)?.swarmd ?? undefined
  }

  /** Stops a process in its tracks (SIGSTOP): it holds its connections and answers nothing. */
  pause(name: Target): void {
    if (!signal(this.process(name), 'SIGSTOP')) throw new Error(`${this.name} runs no ${name}`)
  }

  resume(name: Target): void {
    if (!resume(this.process(name))) throw new Error(`${this.name} runs no ${name}`)
  }

  // Commands

  /** Runs a command on the host, in all its namespaces. */
  async exec(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run([...inHost(this.#init()), ...argv], { env: hostEnv(), ...options })
  }

  /** The start of a command line on this host, for a caller that spawns by itself (a terminal, a stream). */
  execArgv(argv: readonly string[]): string[] {
    return [...inHost(this.#init()), ...argv]
  }

  /** Runs the machine's docker client against this host's engine, or its `swarmd`. */
  docker(args: readonly string[], options: RunOptions & { to?: Target } = {}): Promise<RunResult> {
    const { to = 'engine', ...rest } = options
    return run(['docker', ...args], { ...rest, env: { ...this.clientEnv(to), ...rest.env } })
  }

  /** Runs `swarmctl` against this host's `swarmd`. */
  swarmctl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const argv = [process.execPath, swarmctlProgram, ...args]
    return run(argv, { ...options, env: { ...this.clientEnv('swarmd'), ...options.env } })
  }

  /** An environment in which docker and swarmctl speak to this host, and the user's own docker settings do not count. */
  clientEnv(to: Target): NodeJS.ProcessEnv {
    const socket = to === 'engine' ? this.paths.engineSocket : this.paths.swarmdSocket
    return {
      ...hostEnv(),
      DOCKER_HOST: `unix://${socket}`,
      DOCKER_CONFIG: join(this.#labDir, 'docker-config'),
      ...(process.env.TERM && { TERM: process.env.TERM }),
    }
  }

  #init(): number {
    const init = this.process('init')
    if (!init) throw new Error(`${this.name} is off`)
    return init.pid
  }

  async #start(
    name: Target,
    socketPath: string,
    logFile: string,
    readyMs: number,
    env: Readonly<Record<string, string>>,
    argv: readonly string[],
  ): Promise<void> {
    const id = await startInHost({
      title: `${name} on ${this.name}`,
      initPid: this.#init(),
      argv,
      env: { ...hostEnv(), ...env },
      logFile,
      socketPath,
      readyMs,
      onExit: (how) => {
        // whoever ends it on purpose, in this process or another, first strikes it off
        const recorded = recordedProcess(this.#labDir, this.name, name)
        if (recorded?.pid !== id.pid || recorded.startTicks !== id.startTicks) return
        this.#onUnexpectedExit({ host: this.name, process: name, how, logTail: tail(logFile) })
      },
    })
    recordProcess(this.#labDir, this.name, name, id)
  }

  async #end(name: Target, by: NodeJS.Signals): Promise<void> {
    const id = this.process(name)
    recordProcess(this.#labDir, this.name, name, undefined)
    if (!id) return
    signal(id, by)
    resume(id)
    if (await waitGone([id], STOP_MS, { reaped: true })) return
    recordProcess(this.#labDir, this.name, name, id)
    throw new Error(`${name} on ${this.name} runs ${STOP_MS} ms after ${by}`)
  }
}

/** What programs on a host see: nothing of a session on the machine (NOTIFY_SOCKET, DOCKER_HOST, proxies). */
function hostEnv(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LANG: 'C.UTF-8' }
}

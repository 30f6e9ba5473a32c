/**
 * One Docker Engine of its own for tests of the worker: private namespaces, a data root below a scratch directory, an
 * image made from busybox. Nothing of it is left after `down`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { removeCgroups } from '../../lab/cgroups.ts'
import { must, run } from '../../lab/run.ts'

export const BOX_IMAGE = 'box:latest'

const START_MS = 60_000

/** The first process of the engine's namespaces: a network and a /run of its own, the machine's cgroups. */
const INIT = `
set -eu
d=$1
ip link set lo up
mkdir -p "$d/cg"
mount --rbind /sys/fs/cgroup "$d/cg"
mount -t sysfs sysfs /sys
mount --rbind "$d/cg" /sys/fs/cgroup
mkdir -p /run/docker /run/containerd /run/netns
mount -t tmpfs tmpfs /run/docker
mount -t tmpfs tmpfs /run/containerd
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready
while :; do sleep 3600 & wait $!; done
`

export class WorkerEngine {
  readonly dir: string
  /** On a memory-backed file system that the engine sees too. */
  readonly execRoot: string
  readonly #cgroup: string
  /** The first process of its namespaces; all others end with it. */
  #initPid = 0
  #daemonParent = 0

  private constructor(dir: string, execRoot: string, cgroup: string) {
    this.dir = dir
    this.execRoot = execRoot
    this.#cgroup = cgroup
  }

  static async up(name: string): Promise<WorkerEngine> {
    const dir = await mkdtemp(`/tmp/${name}-`)
    const execRoot = await mkdtemp(`/dev/shm/${name}-`)
    const engine = new WorkerEngine(dir, execRoot, `/${name}-${process.pid}`)
    await engine.#boot()
    await engine.start()
    await engine.#importBox()
    return engine
  }

  get socket(): string {
    return join(this.dir, 'docker.sock')
  }

  /** Starts the daemon, for the first time or again. */
  async start(flags: readonly string[] = []): Promise<void> {
    const daemon = [
      ...['dockerd', '--data-root', join(this.dir, 'data'), '--exec-root', join(this.dir, 'exec')],
      ...['--pidfile', join(this.dir, 'pid'), '-H', `unix://${this.socket}`, '--storage-driver', 'overlay2'],
      ...['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', this.#cgroup, ...flags],
    ]
    const namespaces = ['--net', '--mount', '--uts', '--pid']
    const child = spawn('nsenter', ['--target', String(this.#initPid), ...namespaces, '--', ...daemon], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const log = createWriteStream(join(this.dir, 'engine.log'), { flags: 'a' })
    child.stdout.pipe(log)
    child.stderr.pipe(log)
    this.#daemonParent = child.pid ?? 0
    for (let waitedMs = 0; !(await this.#answers()); waitedMs += 50) {
      if (waitedMs > START_MS || child.exitCode !== null)
        throw new Error(`dockerd did not start:\n${await readFile(join(this.dir, 'engine.log'), 'utf8')}`)
      await delay(50)
    }
  }

  /** SIGTERM and its end. Without live-restore containers end with it. */
  async stop(): Promise<void> {
    process.kill(await onlyChild(this.#daemonParent), 'SIGTERM')
    await gone(this.#daemonParent, 'dockerd')
  }

  docker(...args: readonly string[]): Promise<string> {
    return must(['docker', '-H', `unix://${this.socket}`, ...args])
  }

  /** Runs a program in the engine's network. */
  inNetwork(argv: readonly string[]): readonly string[] {
    return ['nsenter', `--net=/proc/${this.#initPid}/ns/net`, ...argv]
  }

  async down(): Promise<void> {
    if (existsSync(`/proc/${this.#daemonParent}`)) await this.stop()
    process.kill(this.#initPid, 'SIGKILL')
    await gone(this.#initPid, 'the first process')
    await removeCgroups(this.#cgroup)
    await run(['umount', '-R', '-l', join(this.dir, 'cg')])
    await rm(this.dir, { recursive: true, force: true })
    await rm(this.execRoot, { recursive: true, force: true })
  }

  async #boot(): Promise<void> {
    const namespaces = ['--net', '--mount', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc']
    const init = ['--propagation', 'private', 'bash', '-c', INIT, 'init', this.dir]
    const child = spawn('unshare', [...namespaces, ...init], { stdio: ['ignore', 'pipe', 'ignore'] })
    await once(child.stdout, 'data')
    this.#initPid = await onlyChild(child.pid ?? 0)
  }

  async #importBox(): Promise<void> {
    const root = join(this.dir, 'box')
    for (const folder of ['bin', 'etc', 'tmp']) await mkdir(join(root, folder), { recursive: true })
    await copyFile('/bin/busybox', join(root, 'bin/busybox'))
    const applets = (await must(['/bin/busybox', '--list'])).trim().split('\n')
    for (const applet of applets.filter((name) => name !== 'busybox'))
      await symlink('busybox', join(root, 'bin', applet))
    await must([
      'bash',
      '-c',
      `tar -C "$1" -c . | docker -H "unix://$2" import - ${BOX_IMAGE}`,
      'import',
      root,
      this.socket,
    ])
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const ping = request({ socketPath: this.socket, path: '/_ping' }, (response) => {
        response.resume()
        resolve(response.statusCode === 200)
      })
      ping.once('error', () => resolve(false))
      ping.end()
    })
  }
}

async function onlyChild(parentPid: number): Promise<number> {
  return Number((await must(['pgrep', '-P', String(parentPid)])).trim().split('\n')[0])
}

async function gone(pid: number, what: string): Promise<void> {
  for (let waitedMs = 0; existsSync(`/proc/${pid}`); waitedMs += 20) {
    if (waitedMs > START_MS) throw new Error(`${what} did not end`)
    await delay(20)
  }
}

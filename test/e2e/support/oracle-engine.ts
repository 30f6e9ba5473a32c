// A Docker Engine in Docker's own swarm mode, in namespaces of its own: the oracle for what swarmctl prints. All that it
// makes in the kernel goes with its first process; its disk is a folder that `stop` removes.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'

const exec = promisify(execFile)
const START_DEADLINE_MS = 60_000
const STOP_DEADLINE_MS = 30_000

const BOOT = `
hostname oracle
mkdir -p "$D/cg" && mount --rbind /sys/fs/cgroup "$D/cg" && mount -t sysfs sysfs /sys && mount --rbind "$D/cg" /sys/fs/cgroup
mkdir -p /run/docker /run/containerd && mount -t tmpfs tmpfs /run/docker && mount -t tmpfs tmpfs /run/containerd
ip link set lo up && ip link add br0 type bridge && ip addr add 10.66.1.1/24 dev br0 && ip link set br0 up
exec /usr/sbin/dockerd --data-root "$D/data" --exec-root "$D/exec" --pidfile "$D/pid" -H "unix://$D/docker.sock" \
  --cgroup-parent "/$NAME" --storage-driver overlay2
`

export class OracleEngine {
  readonly socket: string
  readonly #folder: string
  readonly #child: ChildProcess

  private constructor(folder: string, child: ChildProcess) {
    this.#folder = folder
    this.#child = child
    this.socket = join(folder, 'docker.sock')
  }

  /** Starts an engine with the image busybox:latest. Rejects, with the engine's log, if it does not come up. */
  static async start(): Promise<OracleEngine> {
    const folder = mkdtempSync('/var/tmp/cli-oracle-')
    const log = openSync(join(folder, 'log'), 'a')
    const child = spawn(
      'unshare',
      [
        '--net',
        '--mount',
        '--uts',
        '--pid',
        '--fork',
        '--kill-child',
        '--mount-proc',
        '--propagation',
        'private',
        'bash',
        '-c',
        BOOT,
      ],
      { env: { ...process.env, D: folder, NAME: basename(folder) }, stdio: ['ignore', log, log] },
    )
    const engine = new OracleEngine(folder, child)
    const deadline = Date.now() + START_DEADLINE_MS
    while (!existsSync(engine.socket)) {
      if (child.exitCode !== null || Date.now() > deadline) {
        const text = readFileSync(join(folder, 'log'), 'utf8').slice(-2000)
        await engine.stop()
        throw new Error(`the oracle engine did not start: ${text}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    await engine.#importImage()
    return engine
  }

  async #importImage(): Promise<void> {
    const root = join(this.#folder, 'image')
    mkdirSync(join(root, 'bin'), { recursive: true })
    cpSync('/bin/busybox', join(root, 'bin/busybox'))
    for (const name of ['sh', 'sleep', 'echo', 'true', 'false']) symlinkSync('busybox', join(root, 'bin', name))
    await exec('bash', [
      '-c',
      `tar -C "${root}" -c . | docker -H unix://${this.socket} import -c 'CMD ["sh"]' - busybox:latest`,
    ])
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = new Promise((resolve) => this.#child.once('exit', resolve))
      const pid = await this.#enginePid()
      if (pid === undefined) this.#child.kill('SIGKILL')
      else process.kill(pid, 'SIGTERM')
      const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_DEADLINE_MS)
      await ended
      clearTimeout(timer)
    }
    // its empty control groups outlive it
    await exec('find', ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*/${basename(this.#folder)}*`, '-delete'])
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }

  /** The engine is the only child of the process that we started. */
  async #enginePid(): Promise<number | undefined> {
    const children = `/proc/${this.#child.pid}/task/${this.#child.pid}/children`
    const pid = existsSync(children) ? Number(readFileSync(children, 'utf8').trim().split(' ')[0]) : 0
    return pid > 1 ? pid : undefined
  }
}

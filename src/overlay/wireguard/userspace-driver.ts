// WireGuard without the kernel's: a wireguard-go process per device, which outlives this one, so that a restart of the data
// plane's process costs no packet. Its socket lies in our state directory, not in /run/wireguard: device names are only
// unique within a network namespace, and nodes in several of them may share a /run.

import { spawn } from 'node:child_process'
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import type { Command } from './command.ts'
import type { TunnelDriver } from './driver.ts'
import type { DeviceChange, ObservedDevice } from './plan.ts'
import { askUapi, decodeDevice, encodeChanges } from './uapi.ts'

export interface UserspaceDriverOptions {
  /** Holds sockets, process ids and logs. */
  readonly directory: string
  /** Path of the host's network namespace; empty: this process's own. */
  readonly hostNamespace: string
  readonly command: Command
  readonly clock: Clock
  /** The process of a device ended, whether or not it was asked to; not told of those that an earlier process started. */
  readonly ended: (device: string) => void
}

const READY_WITHIN_MS = 5000
const READY_POLL_MS = 20
const ENDED_WITHIN_MS = 1000
/** The folder that wireguard-go puts its sockets into is compiled in: this one's is ours instead. */
const START = 'mkdir -p /var/run/wireguard && mount --bind "$1" /var/run/wireguard && exec wireguard-go -f "$2"'

export class UserspaceDriver implements TunnelDriver {
  readonly kind = 'wireguard-go'
  readonly #options: UserspaceDriverOptions

  constructor(options: UserspaceDriverOptions) {
    this.#options = options
  }

  async create(name: string, mtu: number): Promise<void> {
    await this.remove(name)
    const { directory, hostNamespace, clock, ended } = this.#options
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const log = await open(join(directory, `${name}.log`), 'w', 0o600)
    try {
      const enter = hostNamespace === '' ? [] : ['nsenter', `--net=${hostNamespace}`]
      const [program = '', ...rest] = [...enter, 'unshare', '--mount', '--propagation', 'private']
      const child = spawn(program, [...rest, 'sh', '-c', START, 'sh', directory, name], {
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
        env: { ...process.env, LOG_LEVEL: 'error' },
      })
      let running = true
      const end = () => {
        if (running) ended(name)
        running = false
      }
      child.on('exit', end)
      child.on('error', end)
      child.unref()
      if (child.pid !== undefined) await writeFile(this.#pidFile(name), `${child.pid}\n`)
      const deadline = clock.nowMs() + READY_WITHIN_MS
      while (running && clock.nowMs() < deadline) {
        if (await this.observe(name)) {
          const { status, stderr } = await this.#options.command(['ip', 'link', 'set', name, 'mtu', `${mtu}`])
          if (status === 0) return
          throw new CodedError('WIREGUARD_FAILED', `${name}: ${stderr.trim()}`, { retryable: true })
        }
        await sleep(clock, READY_POLL_MS)
      }
    } finally {
      await log.close()
    }
    const said = (await readFile(join(directory, `${name}.log`), 'utf8')).trim().split('\n').at(-1)
    throw new CodedError('WIREGUARD_FAILED', `wireguard-go did not start for ${name}: ${said || 'it says nothing'}`, {
      retryable: true,
    })
  }

  async observe(name: string): Promise<ObservedDevice | undefined> {
    try {
      return decodeDevice(await this.#ask(name, 'get=1\n\n'))
    } catch {
      return undefined
    }
  }

  async configure(name: string, changes: readonly DeviceChange[]): Promise<void> {
    if (changes.length > 0) await this.#ask(name, encodeChanges(changes))
  }

  async remove(name: string): Promise<void> {
    const { command, clock, directory } = this.#options
    // It ends when its device is gone; one that hangs has to be ended.
    await command(['ip', 'link', 'delete', name])
    const pid = await this.#pid(name)
    const deadline = clock.nowMs() + ENDED_WITHIN_MS
    while (pid !== undefined && (await this.#pid(name)) !== undefined && clock.nowMs() < deadline)
      await sleep(clock, READY_POLL_MS)
    if (pid !== undefined && (await this.#pid(name)) !== undefined) kill(pid)
    await rm(this.#pidFile(name), { force: true })
    await rm(join(directory, `${name}.sock`), { force: true })
  }

  /** Of the process that serves the device; undefined when it is gone, also where another has its number now. */
  async #pid(name: string): Promise<number | undefined> {
    try {
      const pid = Number(await readFile(this.#pidFile(name), 'utf8'))
      const line = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
      return line.some((word) => word.endsWith('wireguard-go')) && line.includes(name) ? pid : undefined
    } catch {
      return undefined
    }
  }

  #ask(name: string, request: string): Promise<string> {
    return askUapi(join(this.#options.directory, `${name}.sock`), request, this.#options.clock)
  }

  #pidFile(name: string): string {
    return join(this.#options.directory, `${name}.pid`)
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it went by itself meanwhile
  }
}

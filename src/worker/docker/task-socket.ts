// The socket that a service gets for /var/run/docker.sock: swarmd's own, in a way that outlives a restart of swarmd. A bind of
// the socket itself would show the old, dead one for ever. So tasks bind a mount point of ours, as slaves of it: what is
// mounted over it later, the socket of the next swarmd, appears in their containers as well.

import { execFile } from 'node:child_process'
import { mkdir, readFile, realpath, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { SocketSource } from './container-body.ts'

const run = promisify(execFile)

/** Of a line of mountinfo: where it is mounted. */
const MOUNT_POINT_FIELD = 4

export class TaskSocket {
  readonly #execRoot: string
  readonly #socketPath: string
  readonly #log: Log
  #made: Promise<SocketSource> | undefined

  /**
   * @param execRoot runtime state; the engine sees it at the same path
   * @param socketPath where swarmd listens
   */
  constructor(options: { readonly execRoot: string; readonly socketPath: string; readonly log: Log }) {
    this.#execRoot = options.execRoot
    this.#socketPath = options.socketPath
    this.#log = options.log
  }

  /** What a task is to bind. Nothing is mounted before the first task asks. */
  source(): Promise<SocketSource> {
    this.#made ??= this.#make()
    return this.#made
  }

  /** After swarmd has begun to listen: tasks of the swarmd before this one get the new socket. */
  async renew(): Promise<void> {
    try {
      const path = await this.#path()
      if (await isMountPoint(path)) await run('mount', ['--bind', this.#socketPath, path])
    } catch (error) {
      this.#log.warn({ reason: errorMessage(error) }, 'tasks that use the socket of this swarmd have to be restarted')
    }
  }

  async #make(): Promise<SocketSource> {
    try {
      const path = await this.#path()
      if (!(await isMountPoint(path))) {
        await writeFile(path, '', { flag: 'a' })
        await run('mount', ['--bind', path, path])
        await run('mount', ['--make-shared', path])
        await run('mount', ['--bind', this.#socketPath, path])
      }
      return { path, isShared: true }
    } catch (error) {
      this.#log.warn({ reason: errorMessage(error) }, 'tasks lose the socket of this swarmd when it restarts')
      return { path: this.#socketPath, isShared: false }
    }
  }

  /** As mountinfo has it. */
  async #path(): Promise<string> {
    await mkdir(this.#execRoot, { recursive: true, mode: 0o755 })
    return join(await realpath(this.#execRoot), 'task.sock')
  }
}

async function isMountPoint(path: string): Promise<boolean> {
  const escaped = path.replaceAll('\\', '\\134').replaceAll(' ', '\\040').replaceAll('\t', '\\011')
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
  return lines.some((line) => line.split(' ')[MOUNT_POINT_FIELD] === escaped)
}

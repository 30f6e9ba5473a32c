// The socket that a service gets for /var/run/docker.sock: one of swarmd's own, in a way that outlives a restart of swarmd. A
// bind of a socket shows that socket for ever, also when nobody listens on it any more. So tasks bind a mount point of ours,
// as slaves of it: what is mounted over it later, the socket of the next swarmd, appears in their containers as well.

import { execFile } from 'node:child_process'
import { link, mkdir, readdir, readFile, realpath, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { SocketSource } from './container-body.ts'

const run = promisify(execFile)

/** Of a line of mountinfo: where it is mounted. */
const MOUNT_POINT_FIELD = 4

export interface TaskSocketOptions {
  /** Runtime state; the engine sees it at the same path. */
  readonly execRoot: string
  /** Serves the Docker API on a unix socket. */
  readonly listen: (path: string) => Promise<void>
  readonly log: Log
}

export class TaskSocket {
  readonly #options: TaskSocketOptions
  #made: Promise<SocketSource> | undefined

  constructor(options: TaskSocketOptions) {
    this.#options = options
  }

  /** What a task is to bind. Nothing is made before the first task asks. */
  source(): Promise<SocketSource> {
    this.#made ??= this.#make().catch((error: unknown) => {
      this.#made = undefined
      throw error
    })
    return this.#made
  }

  /** When swarmd has started: tasks of the one before this get their socket back. */
  async renew(): Promise<void> {
    try {
      if (await isMountPoint(mountPointIn(await this.#directory()))) await this.source()
    } catch (error) {
      this.#options.log.warn(
        { reason: errorMessage(error) },
        'tasks that use the socket of this swarmd must be restarted',
      )
    }
  }

  async #make(): Promise<SocketSource> {
    const directory = await this.#directory()
    const socket = join(directory, 'listen')
    await this.#options.listen(socket)
    try {
      const path = mountPointIn(directory)
      if (!(await isMountPoint(path))) {
        // Private first: what is bound from a shared mount is its peer, and everything would appear at both.
        await run('mount', ['--bind', directory, directory])
        await run('mount', ['--make-private', directory])
        await writeFile(path, '', { flag: 'a' })
        await run('mount', ['--bind', path, path])
        await run('mount', ['--make-shared', path])
      }
      // Nothing can be mounted over a file whose name is gone, as a socket's is when its process has ended: its second
      // name stays.
      const name = join(directory, `socket-${(await readdir(directory)).length}`)
      await link(socket, name)
      await run('mount', ['--bind', name, path])
      return { path, isShared: true }
    } catch (error) {
      this.#options.log.warn({ reason: errorMessage(error) }, 'tasks lose the socket of this swarmd when it restarts')
      return { path: socket, isShared: false }
    }
  }

  /** As mountinfo has it. */
  async #directory(): Promise<string> {
    const directory = join(this.#options.execRoot, 'task-socket')
    await mkdir(directory, { recursive: true, mode: 0o755 })
    return realpath(directory)
  }
}

function mountPointIn(directory: string): string {
  return join(directory, 'docker.sock')
}

async function isMountPoint(path: string): Promise<boolean> {
  const escaped = path.replaceAll('\\', '\\134').replaceAll(' ', '\\040').replaceAll('\t', '\\011')
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
  return lines.some((line) => line.split(' ')[MOUNT_POINT_FIELD] === escaped)
}

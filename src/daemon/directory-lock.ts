// One swarmd at a time on a data root. The lock names its process by id and start time, so that one left by a crash or a
// power loss is never taken for a living process that has the same number by now.

import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError } from '../lib/errors.ts'

const FILE = 'swarmd.lock'
/** Of /proc/PID/stat, counted behind the command's name, which may hold spaces: the start time in ticks since boot. */
const START_TIME_FIELD = 19

async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD]
}

export class DirectoryLock {
  readonly #path: string

  private constructor(path: string) {
    this.#path = path
  }

  /** @throws {CodedError} ALREADY_RUNNING */
  static async take(directory: string): Promise<DirectoryLock> {
    const path = join(directory, FILE)
    const [pid = '', started] = (await readFile(path, 'utf8').catch(() => '')).trim().split(' ')
    if (pid !== '' && Number(pid) !== process.pid && (await startTime(Number(pid))) === started) {
      throw new CodedError(
        'ALREADY_RUNNING',
        `${directory} is in use by swarmd with process id ${pid}: stop it first, or give this one its own --data-root`,
      )
    }
    await writeFile(path, `${process.pid} ${await startTime(process.pid)}\n`)
    return new DirectoryLock(path)
  }

  async release(): Promise<void> {
    await rm(this.#path, { force: true })
  }
}

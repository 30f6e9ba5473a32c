// One swarmd at a time on a data root. The lock names its process by id and start time, so that one left by a crash or a
// power loss is never taken for a living process that has the same number by now.

import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CodedError, errorCode } from '../lib/errors.ts'

const FILE = 'swarmd.lock'
/** Of /proc/PID/stat, counted behind the command's name, which may hold spaces: the start time in ticks since boot. */
const START_TIME_FIELD = 19

async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[START_TIME_FIELD]
}

/** As a lock says it: `PID STARTED`. */
async function isAlive(holder: string): Promise<boolean> {
  const [pid = '', started] = holder.split(' ')
  return pid !== '' && Number(pid) !== process.pid && (await startTime(Number(pid))) === started
}

/** undefined: there is no such file (any more). */
async function holderOf(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  return text?.trim()
}

/** Gives the file a second name, which nobody else has given another one. */
async function isLinked(file: string, name: string): Promise<boolean> {
  try {
    await link(file, name)
    return true
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false
    throw error
  }
}

export class DirectoryLock {
  readonly #path: string

  private constructor(path: string) {
    this.#path = path
  }

  /**
   * Of several that try it at the same time one succeeds: the lock appears with its content, and who takes over from a dead process
   * has first made a file of that process' name, which only one can make.
   * @throws {CodedError} ALREADY_RUNNING
   */
  static async take(directory: string): Promise<DirectoryLock> {
    const path = join(directory, FILE)
    const own = `${path}.${process.pid}`
    // One that a crash has left may be the lock itself.
    await rm(own, { force: true })
    await writeFile(own, `${process.pid} ${await startTime(process.pid)}\n`)
    try {
      while (!(await isLinked(own, path))) {
        const holder = await holderOf(path)
        if (holder === undefined) continue
        await requireDead(directory, holder)
        if (await takeOver(directory, path, own, holder)) break
      }
    } finally {
      await rm(own, { force: true })
    }
    return new DirectoryLock(path)
  }

  async release(): Promise<void> {
    await rm(this.#path, { force: true })
  }
}

/** @returns false where somebody was faster, and perhaps has gone again */
async function takeOver(directory: string, path: string, own: string, holder: string): Promise<boolean> {
  const claims: string[] = []
  // Who was about to take over may have died as well: then the claim is to be taken over from that one.
  for (let dead = holder; ; ) {
    const claim = `${path}.after-${dead.replace(/\D+/g, '-')}`
    const isMine = await isLinked(own, claim)
    const claimant = isMine ? undefined : await holderOf(claim)
    if (claimant !== undefined) await requireDead(directory, claimant)
    else if (!isMine) return false
    claims.push(claim)
    if (isMine) break
    dead = claimant ?? ''
  }
  // Only who has the claim replaces that holder, so it is still there, or was replaced before the claim was made.
  const isUnchanged = (await holderOf(path)) === holder
  if (isUnchanged) await rename(own, path)
  for (const claim of claims) await rm(claim, { force: true })
  return isUnchanged
}

async function requireDead(directory: string, holder: string): Promise<void> {
  if (!(await isAlive(holder))) return
  const [pid] = holder.split(' ')
  throw new CodedError(
    'ALREADY_RUNNING',
    `${directory} is in use by swarmd with process id ${pid}: stop it first, or give this one its own --data-root`,
  )
}

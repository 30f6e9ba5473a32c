// One swarmd at a time on a data root. What a crash or a power loss leaves behind is never taken for a living process, and a disk
// without room keeps nobody from starting.

import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import { CodedError } from '../lib/errors.ts'
import { holderOf, SocketLock } from '../lib/socket-lock.ts'

const TRIES = 100
/** Every user of the machine may take the name of an abstract socket. */
const NAMELESS = 'a process that does not say who it is'

/**
 * Of several that try it at the same time one succeeds.
 * @throws {CodedError} ALREADY_RUNNING
 */
export async function lockDirectory(directory: string): Promise<SocketLock> {
  const hash = createHash('sha256').update(await realpath(directory))
  const path = `\0swarmd-of-${hash.digest('hex').slice(0, 32)}`
  let pid: string | undefined
  // Who ends between the two questions has left it free.
  for (let i = 0; i < TRIES && pid === undefined; i++) {
    const lock = await SocketLock.take(path, String(process.pid))
    if (lock) return lock
    pid = await holderOf(path)
  }
  const [holder, own] = pid ? [`swarmd with process id ${pid}`, 'this one'] : [NAMELESS, 'this swarmd']
  throw new CodedError(
    'ALREADY_RUNNING',
    `${directory} is in use by ${holder}: stop it first, or give ${own} its own --data-root`,
  )
}

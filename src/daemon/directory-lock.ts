// One swarmd at a time on a data root. What a crash or a power loss leaves behind is never taken for a living process, and a disk
// without room keeps nobody from starting.

import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import { CodedError } from '../lib/errors.ts'
import { holderOf, SocketLock } from '../lib/socket-lock.ts'

/**
 * Of several that try it at the same time one succeeds.
 * @throws {CodedError} ALREADY_RUNNING
 */
export async function lockDirectory(directory: string): Promise<SocketLock> {
  const hash = createHash('sha256').update(await realpath(directory))
  const path = `\0swarmd-of-${hash.digest('hex').slice(0, 32)}`
  for (;;) {
    const lock = await SocketLock.take(path, String(process.pid))
    if (lock) return lock
    const pid = await holderOf(path)
    if (pid === undefined) continue
    throw new CodedError(
      'ALREADY_RUNNING',
      `${directory} is in use by swarmd with process id ${pid}: stop it first, or give this one its own --data-root`,
    )
  }
}

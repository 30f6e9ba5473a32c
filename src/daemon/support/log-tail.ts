// The end of this node's logs, where they can be reached: a file on standard error, or systemd's journal.

import { execFile } from 'node:child_process'
import { open, readlink, stat } from 'node:fs/promises'
import { promisify } from 'node:util'

const TAIL_BYTES = 256 * 1024
const JOURNAL_LINES = '2000'
const JOURNAL_TIMEOUT_MS = 5_000

/** The last lines of a file. @throws where it can't be read */
export async function fileTail(path: string): Promise<string> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const start = Math.max(0, size - TAIL_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size, TAIL_BYTES)), 0, undefined, start)
    const text = buffer.subarray(0, bytesRead).toString('utf8')
    return start === 0 ? text : text.slice(text.indexOf('\n') + 1)
  } finally {
    await file.close()
  }
}

/** What swarmd itself has written. @throws with why nothing can be had */
export async function ownLog(): Promise<string> {
  const path = await readlink('/proc/self/fd/2')
  if (path.startsWith('/') && (await stat(path)).isFile()) return fileTail(path)
  if (!process.env.JOURNAL_STREAM) throw new Error(`swarmd's log goes to ${path}, which can't be read again`)
  return journalTail(`_PID=${process.pid}`)
}

/** What swarmd-net has written: to its file where swarmd started it, to the journal where systemd did. */
export async function netLog(path: string): Promise<string> {
  try {
    return await fileTail(path)
  } catch (error) {
    if (!process.env.JOURNAL_STREAM) throw error
    return journalTail('_SYSTEMD_UNIT=swarmd-net.service')
  }
}

async function journalTail(match: string): Promise<string> {
  const args = ['--no-pager', '--output=cat', `--lines=${JOURNAL_LINES}`, match]
  const { stdout } = await promisify(execFile)('journalctl', args, {
    timeout: JOURNAL_TIMEOUT_MS,
    maxBuffer: 16 * TAIL_BYTES,
  })
  return stdout.slice(-TAIL_BYTES)
}

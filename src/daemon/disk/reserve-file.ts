// Disk that a manager keeps for bad times: a file that really occupies its blocks, and is deleted when the disk is full.

import { execFile } from 'node:child_process'
import { createCipheriv } from 'node:crypto'
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { errorCode } from '../../lib/errors.ts'
import { isDiskFull } from '../../lib/level-file.ts'

const run = promisify(execFile)

const CHUNK_BYTES = 1024 * 1024
const ALLOCATE_TIMEOUT_MS = 20_000

export class ReserveFile {
  readonly path: string
  readonly sizeBytes: number

  constructor(path: string, sizeBytes: number) {
    this.path = path
    this.sizeBytes = sizeBytes
  }

  /** It is there in its full size; one of another size counts as none, and is removed. */
  async isMade(): Promise<boolean> {
    try {
      if ((await stat(this.path)).size === this.sizeBytes) return true
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return false
      throw error
    }
    await this.release()
    return false
  }

  /** Its blocks are its own when it resolves; where that fails nothing is left. */
  async make(): Promise<void> {
    const beginning = `${this.path}.new`
    try {
      const file = await open(beginning, 'w', 0o600)
      try {
        if (!(await this.#allocated(beginning))) await this.#write(file)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(beginning, this.path)
    } catch (error) {
      await rm(beginning, { force: true })
      throw error
    }
  }

  /** Gives its room back. No error where there is none. */
  async release(): Promise<void> {
    await rm(this.path, { force: true })
  }

  /** Costs no writing where the file system can do it. Node has no call for it. */
  async #allocated(path: string): Promise<boolean> {
    try {
      await run('fallocate', ['-l', String(this.sizeBytes), path], { timeout: ALLOCATE_TIMEOUT_MS })
      return true
    } catch (error) {
      if (isDiskFull(error)) throw error
      return false
    }
  }

  async #write(file: FileHandle): Promise<void> {
    const chunk = incompressible(Math.min(CHUNK_BYTES, this.sizeBytes))
    for (let left = this.sizeBytes; left > 0; left -= chunk.length) {
      await file.write(chunk, 0, Math.min(left, chunk.length))
    }
  }
}

/** Zeros would take no room on a file system that compresses. */
function incompressible(bytes: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(bytes))
}

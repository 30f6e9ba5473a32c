// A small JSON file that is either the old or the new one after a crash: written beside, synced, renamed, directory synced.

import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'

/** @param mode file mode: 0o600 for anything that is not for everybody's eyes */
export async function writeFileDurably(path: string, data: string, mode: number): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', mode)
  try {
    await file.chmod(mode)
    await file.writeFile(data)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const directory = await open(dirname(path), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/**
 * The value in the file; undefined where there is none.
 * @throws {CodedError} STATE_UNREADABLE
 */
export async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw new CodedError('STATE_UNREADABLE', `${path} cannot be read: ${errorMessage(error)}`, { cause: error })
  }
}

export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true })
}

// Tells builds of one version apart: swarmd asks a swarmd-net that is not of its own build to be replaced.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

const LENGTH = 16

/** @param program path of the main file @throws system errors */
export async function buildOf(program: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(program))
    .digest('hex')
    .slice(0, LENGTH)
}

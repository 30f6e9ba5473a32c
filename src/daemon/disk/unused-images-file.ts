// Since when images are unused, on disk: a node that restarts every day would else never find anything old enough.

import { join } from 'node:path'
import type { CleanUpOptions } from '../../worker/docker/clean-up.ts'
import { readJson, writeFileDurably } from '../json-file.ts'

const FILE = 'unused-images.json'

/** @param directory of this node's cluster: goes with it */
export function unusedImagesFile(directory: string): CleanUpOptions['memory'] {
  const path = join(directory, FILE)
  return {
    // What can't be read is as good as nothing: images only look younger.
    read: () => readJson(path).catch(() => undefined),
    write: (value) => writeFileDurably(path, `${JSON.stringify(value)}\n`, 0o644),
  }
}

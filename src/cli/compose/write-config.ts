// A model as YAML, laid out as `docker stack config` does: keys of a service in the order of the table below, names sorted,
// what is empty left out.

import { stringify } from 'yaml'
import { formatDuration } from '../units.ts'
import type { ComposeModel } from './model.ts'

export function writeConfig(model: ComposeModel): string {
  return stringify(model.version)
}

export { formatDuration }

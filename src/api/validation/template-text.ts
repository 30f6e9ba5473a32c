// A first look at Go templates in hostname, env and mounts, so that a service whose every task would be rejected is
// refused when it is created. The worker expands them; here only syntax and the names of fields are checked.

import { invalidArgument } from './refusal.ts'

const FIELDS = new Set([
  '.Service.ID',
  '.Service.Name',
  '.Service.Labels',
  '.Node.ID',
  '.Node.Hostname',
  '.Node.Platform.Architecture',
  '.Node.Platform.OS',
  '.Task.ID',
  '.Task.Name',
  '.Task.Slot',
])

/** Objects that may stand as a whole, for `index` and printing. */
const OBJECTS = new Set(['.', '.Service', '.Node', '.Node.Platform', '.Task'])

function isKnownField(field: string): boolean {
  return FIELDS.has(field) || OBJECTS.has(field) || field.startsWith('.Service.Labels.')
}

/** @param what as Swarm names it: "hostname", "env", "mounts" */
export function validateTemplate(what: string, template: string): void {
  for (let at = template.indexOf('{{'); at >= 0; at = template.indexOf('{{', at + 2)) {
    const end = template.indexOf('}}', at)
    if (end < 0) throw invalidArgument(`expanding ${what} failed: template: expansion:1: unclosed action`)
    const action = template.slice(at + 2, end).replace(/"(?:[^"\\]|\\.)*"|`[^`]*`/g, '""')
    for (const [field] of action.matchAll(/(?<![\w$)\]])\.[\w.]+/g)) {
      if (!isKnownField(field)) {
        const unknown = field.slice(1).split('.').at(-1)
        throw invalidArgument(
          `expanding ${what} failed: template: expansion:1:${at + 3}: executing "expansion" at <${field}>: can't evaluate field ${unknown}`,
        )
      }
    }
    at = end
  }
}

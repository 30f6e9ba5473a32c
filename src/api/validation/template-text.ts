// A first look at Go templates in hostname, env and mounts, so that a service whose every task would be rejected is
// refused when it is created. The worker expands them; here only syntax and the names of fields are checked.

import type { Labels } from '../spec.ts'
import { invalidArgument } from './refusal.ts'

/** a struct, a plain value, or the map of the service's labels */
type Field = Shape | 'value' | 'labels'

interface Shape {
  /** as Go names the type in its errors */
  readonly type: string
  readonly fields: Readonly<Record<string, Field>>
}

const CONTEXT: Shape = {
  type: '*template.Context',
  fields: {
    Service: {
      type: 'struct { ID string; Name string; Labels map[string]string }',
      fields: { ID: 'value', Name: 'value', Labels: 'labels' },
    },
    Node: {
      type: 'struct { ID string; Hostname string; Platform template.Platform }',
      fields: {
        ID: 'value',
        Hostname: 'value',
        Platform: { type: 'template.Platform', fields: { Architecture: 'value', OS: 'value' } },
      },
    },
    Task: {
      type: 'struct { ID string; Name string; Slot string }',
      fields: { ID: 'value', Name: 'value', Slot: 'value' },
    },
  },
}

/** What Go would say of `.A.B.C` that begins at `offset`; undefined where all of it is known. */
function problemOf(chain: string, offset: number, labels: Labels): string | undefined {
  const names = chain.slice(1).split('.')
  // Go points at the second part of a chain, where there is one.
  const at = offset + (names.length > 1 ? (names[0]?.length ?? 0) + 1 : 0)
  const where = `template: expansion:1:${at}: executing "expansion" at <${chain}>:`
  let field: Field = CONTEXT
  for (const name of names) {
    if (field === 'value' || name === '') return undefined
    if (field === 'labels') {
      return Object.hasOwn(labels, name) ? undefined : `${where} map has no entry for key ${JSON.stringify(name)}`
    }
    const next: Field | undefined = Object.hasOwn(field.fields, name) ? field.fields[name] : undefined
    if (next === undefined) return `${where} can't evaluate field ${name} in type ${field.type}`
    field = next
  }
  return undefined
}

function firstProblem(template: string, labels: Labels): string | undefined {
  for (let start = template.indexOf('{{'); start >= 0; ) {
    const end = template.indexOf('}}', start)
    if (end < 0) return 'template: expansion:1: unclosed action'
    // Blanked rather than cut, so that offsets stay.
    const action = template
      .slice(start, end)
      .replace(/"(?:[^"\\]|\\.)*"|`[^`]*`/g, (quoted) => '"'.padEnd(quoted.length - 1, ' ').concat('"'))
    for (const match of action.matchAll(/(?<![\w$)\]])\.[\w.]+/g)) {
      const problem = problemOf(match[0], start + match.index, labels)
      if (problem !== undefined) return problem
    }
    start = template.indexOf('{{', end)
  }
  return undefined
}

/**
 * @param what as Swarm names the field: "hostname", "env", "mounts"
 * @param labels of the service
 * @param detail put before the problem: which of several
 */
export function validateTemplate(what: string, template: string, labels: Labels, detail = ''): void {
  const problem = firstProblem(template, labels)
  if (problem !== undefined) throw invalidArgument(`expanding ${what} failed: ${detail}${problem}`)
}

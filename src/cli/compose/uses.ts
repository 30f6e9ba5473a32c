// What becomes of the keys of a file that are not simply applied: refusals and warnings.

import { ComposeError, type Entry, isNull, type MapNode, type Node, place } from './node.ts'
import { childShape, chosen, type Shape, type Use } from './shape.ts'

export interface Found {
  readonly use: Use
  readonly key: string
  readonly path: string
  readonly reason: string
  readonly entry: Entry
}

/** Every key in the file that is not simply applied. */
export function findUses(node: Node, shape: Shape | undefined, path: string): readonly Found[] {
  if (node.kind === 'list') {
    return node.items.flatMap((item, i) => findUses(item, childShape(shape, node, i), `${path}.${i}`))
  }
  if (node.kind !== 'map' || !shape) return []
  const inner = chosen(shape, node)
  return [...node.entries].flatMap(([key, entry]) => {
    const row = inner.kind === 'map' && Object.hasOwn(inner.keys, key) ? inner.keys[key] : undefined
    const below = path === '' ? key : `${path}.${key}`
    const inside = findUses(entry.node, childShape(shape, node, key), below)
    if (!row || row.use === 'applied' || entry.node.tag === 'reset') return inside
    return [{ use: row.use, key, path: below, reason: row.reason, entry }, ...inside]
  })
}

/** @throws {ComposeError} with Docker's text */
export function refuseForbidden(found: readonly Found[]): void {
  const forbidden = found.filter(({ use }) => use === 'forbidden')
  const first = forbidden[0]
  if (!first) return
  throw new ComposeError(first.entry.keyAt, `compose file contains unsupported options:\n\n${reasons(forbidden)}\n`)
}

function reasons(found: readonly Found[]): string {
  return [...new Set(found.map(({ key, reason }) => `${key}: ${reason}`))].sort().join('\n\n')
}

/** Docker's own two warnings, and ours of what Docker leaves out in silence. */
export function useWarnings(root: MapNode, shape: Shape): readonly string[] {
  const found = findUses(root, shape, '').filter(({ entry }) => !isNull(entry.node))
  const unsupported = [...new Set(found.filter(({ use }) => use === 'unsupported').map(({ key }) => key))].sort()
  const deprecated = found.filter(({ use }) => use === 'deprecated')
  const unheeded = found.filter(({ use }) => use === 'unheeded')
  return [
    ...(unsupported.length > 0 ? [`Ignoring unsupported options: ${unsupported.join(', ')}\n`] : []),
    ...(deprecated.length > 0 ? [`Ignoring deprecated options:\n\n${reasons(deprecated)}\n`] : []),
    ...unheeded.map(({ path, reason, entry }) => `${place(entry.keyAt)}: ignoring ${path}: ${reason}`),
  ]
}

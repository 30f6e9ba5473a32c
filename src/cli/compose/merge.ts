// Several compose files → one, and a service with what it extends, by the Compose Specification's rules: mappings are
// merged, lists added to, single values replaced; commands and health tests are replaced whole; ports, volumes, secrets
// and configs replace those of the same published port, or target. `!override` replaces whatever it stands at, `!reset`
// takes it away.

import { field, isNull, type MapNode, type Node, scalarText } from './node.ts'

/** What `over` says, added to `base`. Tags of `over` stay, for a merge with what comes before `base`. */
export function mergeFiles(base: MapNode, over: MapNode): MapNode {
  return mergeMaps(base, over, [])
}

export function mergeServices(base: MapNode, over: MapNode): MapNode {
  return mergeMaps(base, over, ['services', '*'])
}

/** A merged file without what was reset, and without tags. */
export function withoutTags(root: MapNode): MapNode {
  const entries = [...root.entries].flatMap(([key, entry]) =>
    entry.node.tag === 'reset' ? [] : [[key, { ...entry, node: untagged(entry.node) }] as const],
  )
  return { kind: 'map', entries: new Map(entries), at: root.at }
}

function untagged(node: Node): Node {
  if (node.kind === 'map') return withoutTags(node)
  if (node.kind === 'list') {
    const items = node.items.filter(({ tag }) => tag !== 'reset').map(untagged)
    return { kind: 'list', items, at: node.at }
  }
  const { tag: _, ...rest } = node
  return rest
}

type Rule = (base: Node, over: Node, path: readonly string[]) => Node

const replace: Rule = (_, over) => over

/** Items of one key are one item: the later one. In the order of keys, as Docker sorts them. */
function byKey(key: (item: MapNode) => string | number): Rule {
  return (base, over) => {
    if (base.kind !== 'list' || over.kind !== 'list') return over
    const keyed = [...base.items, ...over.items].map((item) => [item.kind === 'map' ? key(item) : '', item] as const)
    const items = [...new Map(keyed)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, item]) => item)
    return { ...over, items }
  }
}

const textAt = (item: MapNode, key: string): string => {
  const node = field(item, key)
  return node?.kind === 'scalar' ? scalarText(node) : ''
}

const fileTarget = byKey((item) => textAt(item, 'target') || textAt(item, 'source'))

/** Later ones take the place of all that are published at the same number, on whatever address. */
const mergePorts: Rule = (base, over, path) => {
  if (base.kind !== 'list' || over.kind !== 'list') return over
  const isMap = (item: Node): item is MapNode => item.kind === 'map'
  const replaced = new Set(over.items.filter(isMap).map(portKey))
  const kept = base.items.filter((item) => !isMap(item) || !replaced.has(portKey(item)))
  return byKey((item) => `${portKey(item)} ${textAt(item, 'host_ip')}`)({ ...base, items: kept }, over, path)
}

/** Ports that are published at the same number; what is not published has its target. */
function portKey(item: MapNode): string {
  const published = textAt(item, 'published')
  const protocol = textAt(item, 'protocol') || 'tcp'
  if (published !== '' && published !== '0') return `${published.padStart(5, '0')}/${protocol}`
  return `00000/${textAt(item, 'target')}/${protocol}`
}

/** By path; `*` is any name, and `[]` any item. */
const RULES: Readonly<Record<string, Rule>> = {
  'services.*.command': replace,
  'services.*.entrypoint': replace,
  'services.*.healthcheck': mergeHealthchecks,
  'services.*.healthcheck.test': replace,
  'services.*.logging': mergeLogging,
  'services.*.ports': mergePorts,
  'services.*.volumes': byKey((item) => textAt(item, 'target')),
  'services.*.secrets': fileTarget,
  'services.*.configs': fileTarget,
  'services.*.ulimits.*': replace,
  'services.*.build.ulimits.*': replace,
  'services.*.storage_opt': replace,
  'networks.*.ipam.config': byKey((item) => textAt(item, 'subnet')),
}

/** Mappings in which a name without a value says something: the variable is the caller's. */
const MEANINGFUL_NULLS = new Set(['environment', 'labels', 'annotations', 'sysctls', 'args'])

function mergeNodes(base: Node, over: Node, path: readonly string[]): Node {
  if (over.tag || base.tag === 'reset') return over
  if (isNull(over)) return MEANINGFUL_NULLS.has(path.at(-2) ?? '') ? over : base
  const rule = RULES[pattern(path)]
  if (rule) return rule(base, over, path)
  if (base.kind === 'map' && over.kind === 'map') return mergeMaps(base, over, path)
  if (base.kind === 'list' && over.kind === 'list') return { ...over, items: joined(base.items, over.items) }
  return over
}

function mergeMaps(base: MapNode, over: MapNode, path: readonly string[]): MapNode {
  const entries = new Map(base.entries)
  for (const [key, entry] of over.entries) {
    const earlier = entries.get(key)
    entries.set(key, earlier ? { ...entry, node: mergeNodes(earlier.node, entry.node, [...path, key]) } : entry)
  }
  return { kind: 'map', entries, at: over.at }
}

/** What is there already is not added again. */
function joined(base: readonly Node[], over: readonly Node[]): readonly Node[] {
  const known = new Set(base.flatMap((item) => (item.kind === 'scalar' ? [scalarText(item)] : [])))
  return [...base, ...over.filter((item) => item.kind !== 'scalar' || !known.has(scalarText(item)))]
}

const NAMED = new Set(['services', 'networks', 'volumes', 'secrets', 'configs'])

function pattern(path: readonly string[]): string {
  return path.map((key, i) => ((i === 1 && NAMED.has(path[0]!)) || path[i - 1] === 'ulimits' ? '*' : key)).join('.')
}

/** A later `disable` is no contradiction to an earlier test, nor a later test to an earlier `disable`. */
function mergeHealthchecks(base: Node, over: Node, path: readonly string[]): Node {
  if (base.kind !== 'map' || over.kind !== 'map') return over
  const disable = field(over, 'disable')
  const gone = disable?.kind === 'scalar' && disable.value === true ? 'test' : field(over, 'test') ? 'disable' : ''
  const kept = new Map([...base.entries].filter(([key]) => key !== gone))
  return mergeMaps({ ...base, entries: kept }, over, path)
}

/** Options are merged where the driver stays the same. */
function mergeLogging(base: Node, over: Node, path: readonly string[]): Node {
  if (base.kind !== 'map' || over.kind !== 'map') return over
  const [earlier, later] = [textAt(base, 'driver'), textAt(over, 'driver')]
  return earlier !== '' && later !== '' && earlier !== later ? over : mergeMaps(base, over, path)
}

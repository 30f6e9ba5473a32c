// A checked file with every short form made long, texts made the types that their places ask for, and paths made
// absolute: the form in which two files can be merged, whatever each of them was written in.

import { isAbsolute, join } from 'node:path'
import { parsePublications } from '../service/ports.ts'
import { quote } from '../strconv.ts'
import { given, located, textOf } from './fields.ts'
import type { Lookup } from './interpolate.ts'
import { ComposeError, type Entry, isNull, type MapNode, type Node, type Position, place, type Scalar } from './node.ts'
import { castText, childShape, type Shape, scalarShape } from './shape.ts'
import { parseVolumeSpec } from './volume-spec.ts'

export interface CanonicalOptions {
  /** What relative paths of this file start from. */
  readonly directory: string
  /** What those of the first file start from: paths that start there are shown as they were written. */
  readonly projectDirectory: string
  readonly lookup: Lookup
  readonly warn: (message: string) => void
}

type Change = (node: Node, options: CanonicalOptions) => Node

/** By dotted path below the file's top; `*` is any name. A list of pairs is found by its key alone. */
const CHANGES: Readonly<Record<string, Change>> = {
  'services.*.annotations': pairsToMap,
  'services.*.configs': (node) => eachItem(node, fileReference),
  'services.*.deploy.labels': pairsToMap,
  'services.*.depends_on': (node) =>
    namesToMap(node, (at) => mapNode(at, { condition: 'service_started', required: true })),
  'services.*.devices': (node) => eachItem(node, device),
  'services.*.dns': toList,
  'services.*.dns_search': toList,
  'services.*.env_file': (node, options) => eachItem(toList(node), (item) => envFile(item, options)),
  'services.*.environment': pairsToMap,
  'services.*.extends': (node) => (node.kind === 'scalar' ? mapNode(node.at, { service: textOf(node) }) : node),
  'services.*.extra_hosts': hostsToList,
  'services.*.gpus': (node) => (node.kind === 'scalar' ? listNode(node, [mapNode(node.at, { count: 'all' })]) : node),
  'services.*.label_file': (node, options) => eachItem(toList(node), (item) => pathNode(item, options.directory)),
  'services.*.labels': pairsToMap,
  'services.*.networks': (node) => namesToMap(node, (at) => scalarNode(null, at)),
  'services.*.ports': (node) => (node.kind === 'list' ? { ...node, items: node.items.flatMap(ports) } : node),
  'services.*.secrets': (node) => eachItem(node, fileReference),
  'services.*.security_opt': (node, { directory }) => eachItem(node, (item) => profilePath(item, directory)),
  'services.*.sysctls': pairsToMap,
  'services.*.tmpfs': toList,
  'services.*.volumes': (node, options) => eachItem(node, (item) => volume(item, options)),
  'networks.*.labels': pairsToMap,
  'volumes.*.labels': pairsToMap,
  'secrets.*.labels': pairsToMap,
  'secrets.*.file': (node, { directory }) => pathNode(node, directory),
  'configs.*.labels': pairsToMap,
  'configs.*.file': (node, { directory }) => pathNode(node, directory),
}

/** @throws {ComposeError} */
export function canonical(root: MapNode, shape: Shape, options: CanonicalOptions): MapNode {
  const changed = walk(root, shape, [], options)
  return changed.kind === 'map' ? changed : root
}

function walk(node: Node, shape: Shape | undefined, path: readonly string[], options: CanonicalOptions): Node {
  const change = node.tag === 'reset' || isNull(node) ? undefined : CHANGES[pattern(path)]
  const inside = descend(node, shape, path, options)
  return change ? keepTag(node, change(inside, options)) : inside
}

function descend(node: Node, shape: Shape | undefined, path: readonly string[], options: CanonicalOptions): Node {
  switch (node.kind) {
    case 'scalar': {
      const cast = scalarShape(shape)?.cast
      const value = cast && typeof node.value === 'string' ? castText(node.value, cast) : undefined
      return value === undefined ? node : { ...node, value }
    }
    case 'list':
      return {
        ...node,
        items: node.items.map((item) => walk(item, childShape(shape, item, 0), [...path, '[]'], options)),
      }
    case 'map': {
      const entries = [...node.entries].map(([key, entry]): [string, Entry] => [
        key,
        { ...entry, node: walk(entry.node, childShape(shape, node, key), [...path, key], options) },
      ])
      return { ...node, entries: new Map(entries) }
    }
  }
}

const SECTIONS = new Set(['services', 'networks', 'volumes', 'secrets', 'configs'])

function pattern(path: readonly string[]): string {
  return path.map((key, i) => (i === 1 && SECTIONS.has(path[0]!) ? '*' : key)).join('.')
}

const keepTag = (from: Node, to: Node): Node => (from.tag ? { ...to, tag: from.tag } : to)

export const scalarNode = (value: Scalar, at: Position): Node => ({ kind: 'scalar', value, at })

export function mapNode(at: Position, values: Readonly<Record<string, Scalar | Node | undefined>>): MapNode {
  const entries = Object.entries(values).flatMap(([key, value]): [string, Entry][] => {
    if (value === undefined) return []
    const node = typeof value === 'object' && value !== null ? value : scalarNode(value, at)
    return [[key, { keyAt: at, node }]]
  })
  return { kind: 'map', entries: new Map(entries), at }
}

const listNode = (from: Node, items: readonly Node[]): Node => ({ kind: 'list', items, at: from.at })

function toList(node: Node): Node {
  return node.kind === 'scalar' ? listNode(node, [node]) : node
}

function eachItem(node: Node, change: (item: Node) => Node): Node {
  return node.kind === 'list' ? { ...node, items: node.items.map(change) } : node
}

/** A list of KEY=VALUE; what has no value is null, and of one name the last counts. */
function pairsToMap(node: Node): Node {
  if (node.kind !== 'list') return node
  const entries = node.items.map((item): [string, Entry] => {
    const pair = textOf(item)
    const at = pair.indexOf('=')
    const value = scalarNode(at < 0 ? null : pair.slice(at + 1), item.at)
    return [at < 0 ? pair : pair.slice(0, at), { keyAt: item.at, node: value }]
  })
  return { kind: 'map', entries: new Map(entries), at: node.at }
}

function namesToMap(node: Node, value: (at: Position) => Node): Node {
  if (node.kind !== 'list') return node
  const entries = node.items.map((item): [string, Entry] => [textOf(item), { keyAt: item.at, node: value(item.at) }])
  return { kind: 'map', entries: new Map(entries), at: node.at }
}

/** `host:address` lines, of a mapping in the order of names. */
function hostsToList(node: Node): Node {
  if (node.kind === 'list') {
    const items = node.items.flatMap((item): Node[] => {
      const line = textOf(item)
      const at = line.indexOf(line.includes('=') ? '=' : ':')
      return at < 0 ? [] : [scalarNode(hostLine(line.slice(0, at), line.slice(at + 1)), item.at)]
    })
    return { ...node, items }
  }
  if (node.kind !== 'map') return node
  const lines = [...node.entries].flatMap(([host, { node: value }]) =>
    (value.kind === 'list' ? value.items : [value]).flatMap((address) =>
      isNull(address) ? [] : [{ line: hostLine(host, textOf(address)), at: address.at }],
    ),
  )
  lines.sort((a, b) => (a.line < b.line ? -1 : 1))
  return listNode(
    node,
    lines.map(({ line, at }) => scalarNode(line, at)),
  )
}

const hostLine = (host: string, address: string) => `${host}:${address.replace(/^\[(.+)\]$/, '$1')}`

const fileReference = (item: Node): Node =>
  item.kind === 'scalar' ? mapNode(item.at, { source: textOf(item) }) : withMode(item)

/** Permissions that are written as a text are octal, as `chmod` has them. */
function withMode(item: Node): Node {
  const entry = item.kind === 'map' ? item.entries.get('mode') : undefined
  if (item.kind !== 'map' || entry?.node.kind !== 'scalar' || typeof entry.node.value !== 'string') return item
  const written = entry.node.value
  if (!/^(?:0o?)?[0-7]{1,5}$/.test(written)) {
    throw new ComposeError(entry.node.at, `invalid mode: ${quote(written)}: must be octal, such as "0440"`)
  }
  const node = scalarNode(Number.parseInt(written.replace(/^0o/, ''), 8), entry.node.at)
  return { ...item, entries: new Map(item.entries).set('mode', { ...entry, node }) }
}

function device(item: Node): Node {
  if (item.kind !== 'map') return item
  const [source, target, permissions] = ['source', 'target', 'permissions'].map((key) => given(item, key))
  const path = textOf(source ?? item)
  const parts = [path, target ? textOf(target) : permissions ? path : '', permissions ? textOf(permissions) : '']
  return scalarNode(parts.filter((part) => part !== '').join(':'), item.at)
}

export const absolute = (directory: string, path: string) => (isAbsolute(path) ? path : join(directory, path))

function pathNode(node: Node, directory: string): Node {
  return node.kind === 'scalar' ? scalarNode(absolute(directory, textOf(node)), node.at) : node
}

/** A seccomp profile is a file, unless it is a word or the profile itself. */
function profilePath(item: Node, directory: string): Node {
  const [, key, path] = item.kind === 'scalar' ? (/^(seccomp[:=])(.+)$/s.exec(textOf(item)) ?? []) : []
  if (path === undefined || path === 'unconfined' || path === 'builtin' || path.startsWith('{')) return item
  return scalarNode(`${key}${absolute(directory, path)}`, item.at)
}

/** `path` as it is shown, `from` what it starts from; of the short form, `plain`: its lines are taken as Docker takes them. */
function envFile(item: Node, { directory, projectDirectory }: CanonicalOptions): Node {
  const map = item.kind === 'map' ? item : undefined
  const path = map ? given(map, 'path') : item
  const written = path ? textOf(path) : ''
  return mapNode(item.at, {
    path: directory === projectDirectory ? written : absolute(directory, written),
    from: directory,
    format: map && given(map, 'format'),
    required: map && given(map, 'required'),
    plain: map === undefined,
  })
}

function ports(item: Node): readonly Node[] {
  if (item.kind === 'map') return longPort(item)
  const parsed = located(item, () => parsePublications(textOf(item)))
  // Docker's order: that of texts like "8080/tcp"; ports of one target stay as they are
  const key = ({ port }: (typeof parsed)[number]) => `${port.TargetPort}/${port.Protocol}`
  return parsed
    .toSorted((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0))
    .map(({ port, addresses }) =>
      mapNode(item.at, {
        mode: port.PublishMode,
        host_ip: addresses[0],
        target: port.TargetPort,
        published: port.PublishedPort,
        protocol: port.Protocol,
      }),
    )
}

/** A published range is as many ports, from the target on. */
function longPort(item: MapNode): readonly Node[] {
  const [published, target] = [given(item, 'published'), given(item, 'target')]
  if (published?.kind !== 'scalar' || typeof published.value !== 'string') return [item]
  const [, first, last] = /^([0-9]+)(?:-([0-9]+))?$/.exec(published.value) ?? []
  if (first === undefined) {
    throw new ComposeError(
      published.at,
      `invalid published port: ${quote(published.value)}: must be a number or a range`,
    )
  }
  const [from, to] = [Number(first), Number(last ?? first)]
  if (to < from || to > 65535)
    throw new ComposeError(published.at, `invalid published port: ${quote(published.value)}: not a range of ports`)
  const base = target ? Number(textOf(target)) : undefined
  return Array.from({ length: to - from + 1 }, (_, i): Node => {
    const entries = new Map(item.entries)
    entries.set('published', { keyAt: published.at, node: scalarNode(from + i, published.at) })
    if (base !== undefined && i > 0) entries.set('target', { keyAt: item.at, node: scalarNode(base + i, target!.at) })
    return { ...item, entries }
  })
}

function volume(item: Node, options: CanonicalOptions): Node {
  const map = item.kind === 'map' ? withTmpfsMode(item) : shortVolume(item, options)
  const type = given(map, 'type')
  if (!type || textOf(type) !== 'bind') return map
  const source = given(map, 'source')
  if (!source || textOf(source) === '') {
    throw new ComposeError(item.at, 'invalid mount config for type "bind": field Source must not be empty')
  }
  const entries = new Map(map.entries)
  entries.set('source', { keyAt: source.at, node: scalarNode(bindSource(textOf(source), item, options), source.at) })
  return { ...map, entries }
}

function withTmpfsMode(item: MapNode): MapNode {
  const entry = item.entries.get('tmpfs')
  return entry
    ? { ...item, entries: new Map(item.entries).set('tmpfs', { ...entry, node: withMode(entry.node) }) }
    : item
}

function shortVolume(item: Node, { warn }: CanonicalOptions): MapNode {
  const { mount, unknown } = located(item, () => parseVolumeSpec(textOf(item)))
  for (const option of unknown)
    warn(`${place(item.at)}: ignoring option ${quote(option)} of volume ${quote(textOf(item))}`)
  const { bind, volume: options, ...rest } = mount
  return mapNode(item.at, {
    ...rest,
    bind: bind && mapNode(item.at, bind),
    volume: options && mapNode(item.at, options),
  })
}

const isWindowsPath = (path: string) => /^(?:[a-zA-Z]:[\\/]|\\\\[^\\.][^\\]*\\[^\\]+\\)/.test(path)

function bindSource(source: string, node: Node, { directory, lookup, warn }: CanonicalOptions): string {
  let path = source
  if (path.startsWith('~')) {
    const home = lookup('HOME')
    if (home === undefined) {
      warn(`${node.at.file}:${node.at.line}: cannot expand '~', because the environment lacks HOME (${quote(source)})`)
    } else path = home + path.slice(1)
  }
  return isAbsolute(path) || isWindowsPath(path) ? path : absolute(directory, path)
}

// YAML text → a tree with positions. Plain scalars mean what they mean to Docker's parser (go-yaml): 0440 is octal,
// yes and on are texts, merge keys and anchors are followed.

import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  type Node as YamlNode,
} from 'yaml'
import { ComposeError, type Entry, type MapNode, type Node, type Position, type ScalarNode } from './node.ts'

/** What anchors may grow a document to. */
const MAX_NODES = 200_000
const MAX_DEPTH = 100
/** Of one file: above any that a person or a generator writes for a stack, and read in about a second. */
export const MAX_FILE_BYTES = 4 * 2 ** 20

const NULL = /^(?:~|null|Null|NULL|)$/
const TRUE = /^(?:true|True|TRUE)$/
const FALSE = /^(?:false|False|FALSE)$/
const INTEGER = /^([-+]?)(?:0[bB]([01]+)|0[oO]?([0-7]+)|0[xX]([0-9a-fA-F]+)|([1-9][0-9]*|0))$/
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/

export interface ParsedFile {
  readonly root: MapNode
  /** What a person should know although the file can be used. */
  readonly warnings: readonly string[]
}

/** @throws {ComposeError} for text that is no YAML, or whose top level is no mapping. */
export function parseYaml(text: string, file: string): ParsedFile {
  const sizeBytes = Buffer.byteLength(text)
  if (sizeBytes > MAX_FILE_BYTES) {
    throw new ComposeError(
      { file, line: 1, column: 1 },
      `the file is too large: ${sizeBytes} bytes, ${MAX_FILE_BYTES} at most`,
    )
  }
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    schema: 'failsafe',
    uniqueKeys: false,
    prettyErrors: false,
    keepSourceTokens: false,
  })
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const document = Array.isArray(documents) ? documents[0] : undefined
  const error = document?.errors[0]
  if (error) throw new ComposeError(at(error.pos[0]), `yaml: ${error.message}`)
  const builder = new TreeBuilder(at)
  const root = document?.contents ? builder.build(document.contents, document.contents.range?.[0] ?? 0, 0) : undefined
  if (root?.kind !== 'map') throw new ComposeError(root?.at ?? at(0), 'top-level object must be a mapping')
  const more = documents.length > 1 ? [`${file}: only the first of its ${documents.length} documents is read`] : []
  return { root, warnings: more }
}

class TreeBuilder {
  readonly #at: (offset: number) => Position
  readonly #anchors = new Map<string, YamlNode>()
  /** Anchors whose contents are being read: an alias to one of them would have no end. */
  readonly #open = new Set<string>()
  #count = 0

  constructor(at: (offset: number) => Position) {
    this.#at = at
  }

  build(node: YamlNode, offset: number, depth: number): Node {
    const at = this.#at(offset)
    if (++this.#count > MAX_NODES) throw new ComposeError(at, 'yaml: document contains excessive aliasing')
    if (depth > MAX_DEPTH) throw new ComposeError(at, `yaml: more than ${MAX_DEPTH} levels of nesting`)
    if (isAlias(node)) return this.#follow(node, at, depth)
    const anchor = node.anchor
    if (anchor === undefined) return this.#read(node, at, depth)
    // a name may be given again further down; aliases mean the latest one above them
    this.#anchors.set(anchor, node)
    this.#open.add(anchor)
    const built = this.#read(node, at, depth)
    this.#open.delete(anchor)
    return built
  }

  #follow(alias: Alias, at: Position, depth: number): Node {
    const name = alias.source
    const target = this.#anchors.get(name)
    if (!target) throw new ComposeError(at, `yaml: unknown anchor '${name}' referenced`)
    if (this.#open.has(name)) throw new ComposeError(at, `yaml: anchor '${name}' value contains itself`)
    return this.build(target, target.range?.[0] ?? 0, depth + 1)
  }

  #read(node: YamlNode, at: Position, depth: number): Node {
    const tag = node.tag
    if (tag === '!reset' || tag === '!override') {
      const merge = tag === '!reset' ? 'reset' : 'override'
      return { ...this.#untagged(node, at, depth, undefined), tag: merge }
    }
    if (tag !== undefined && !tag.startsWith('tag:yaml.org,2002:')) {
      throw new ComposeError(at, `yaml: unknown tag ${tag}: only !reset and !override are known`)
    }
    return this.#untagged(node, at, depth, tag)
  }

  #untagged(node: YamlNode, at: Position, depth: number, tag: string | undefined): Node {
    if (isMap(node)) return this.#map(node.items as unknown as readonly RawPair[], at, depth)
    if (isSeq(node)) {
      const items = node.items.map((item) => this.#child(item as YamlNode | null, at, depth))
      return { kind: 'list', items, at }
    }
    if (!isScalar(node)) throw new ComposeError(at, 'yaml: a value that is no scalar, list or mapping')
    const text = String(node.value ?? '')
    const short = tag?.slice('tag:yaml.org,2002:'.length)
    const isPlain = node.type === 'PLAIN' || node.type === undefined || node.value === null
    return isPlain && short !== 'str' ? { ...resolvePlain(text), at } : { kind: 'scalar', value: text, at }
  }

  #child(node: YamlNode | null, parent: Position, depth: number): Node {
    return node ? this.build(node, node.range?.[0] ?? 0, depth + 1) : { kind: 'scalar', value: null, at: parent }
  }

  #map(pairs: readonly RawPair[], at: Position, depth: number): MapNode {
    const entries = new Map<string, Entry>()
    const merged: Node[] = []
    for (const pair of pairs) {
      const keyAt = this.#at(pair.key.range?.[0] ?? 0)
      const key = this.build(pair.key, pair.key.range?.[0] ?? 0, depth + 1)
      if (isScalar(pair.key) && pair.key.value === '<<' && pair.key.type === 'PLAIN') {
        merged.push(this.#child(pair.value, keyAt, depth))
        continue
      }
      if (key.kind !== 'scalar' || typeof key.value !== 'string') {
        throw new ComposeError(keyAt, `Non-string key${key.kind === 'scalar' ? `: ${String(key.value)}` : ''}`)
      }
      const earlier = entries.get(key.value)
      if (earlier) {
        throw new ComposeError(keyAt, `yaml: mapping key "${key.value}" already defined at line ${earlier.keyAt.line}`)
      }
      entries.set(key.value, { keyAt, node: this.#child(pair.value, keyAt, depth) })
    }
    for (const node of merged) this.#merge(entries, node)
    return { kind: 'map', entries, at }
  }

  /** Keys that are there win; of several mappings, the first that has a key. */
  #merge(entries: Map<string, Entry>, source: Node): void {
    if (source.kind === 'list') {
      for (const item of source.items) this.#merge(entries, item)
      return
    }
    if (source.kind !== 'map')
      throw new ComposeError(source.at, 'yaml: map merge requires map or sequence of maps as the value')
    for (const [key, entry] of source.entries) if (!entries.has(key)) entries.set(key, entry)
  }
}

interface RawPair {
  readonly key: YamlNode
  readonly value: YamlNode | null
}

/** What an unquoted text means. */
export function resolvePlain(text: string): Omit<ScalarNode, 'at'> {
  if (NULL.test(text)) return { kind: 'scalar', value: null }
  if (TRUE.test(text)) return { kind: 'scalar', value: true }
  if (FALSE.test(text)) return { kind: 'scalar', value: false }
  if (!/^[-+.0-9]/.test(text)) return { kind: 'scalar', value: text }
  const bare = text.replaceAll('_', '')
  const [matched, sign, binary, octal, hex, decimal] = INTEGER.exec(bare) ?? []
  if (matched !== undefined) {
    const digits = binary ? `0b${binary}` : octal ? `0o${octal}` : hex ? `0x${hex}` : decimal!
    const value = BigInt(digits) * (sign === '-' ? -1n : 1n)
    if (value < 2n ** 64n && value >= -(2n ** 63n)) {
      return { kind: 'scalar', value: Number.isSafeInteger(Number(value)) ? Number(value) : value }
    }
  }
  if (/^[-+]?\.(?:inf|Inf|INF)$/.test(text)) {
    return { kind: 'scalar', value: text.startsWith('-') ? -Infinity : Infinity, isFloat: true }
  }
  if (/^\.(?:nan|NaN|NAN)$/.test(text)) return { kind: 'scalar', value: Number.NaN, isFloat: true }
  return FLOAT.test(bare) ? { kind: 'scalar', value: Number(bare), isFloat: true } : { kind: 'scalar', value: text }
}

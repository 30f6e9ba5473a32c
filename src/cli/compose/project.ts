// Compose files, and the files that they include and extend, as one tree: each file is read, filled in, checked and made
// canonical with its own folder and variables, then all are merged.

import { existsSync, statSync } from 'node:fs'
import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import { CliError } from '../command.ts'
import { quote, ValueError } from '../strconv.ts'
import { absolute, type CanonicalOptions, canonical } from './canonical.ts'
import { fileShape } from './compose-keys.ts'
import { readDotEnv, readText } from './env-file.ts'
import { given, itemsIn, mapIn, textOf, textOrTexts } from './fields.ts'
import { interpolate, type Lookup } from './interpolate.ts'
import { mergeFiles, mergeServices, withoutTags } from './merge.ts'
import { nearest } from './near-miss.ts'
import { ComposeError, type Entry, field, type MapNode, type Node, type Position, place } from './node.ts'
import { MAX_FILE_BYTES, parseYaml } from './parse-yaml.ts'
import { findUses, refuseForbidden } from './uses.ts'
import { identity, validate } from './validate.ts'

export interface ComposeFile {
  /** As it is shown in messages. */
  readonly name: string
  readonly text: string
  /** Where it stands; undefined for standard input. */
  readonly path?: string
}

export interface ProjectSettings {
  /** What relative paths of the files start from: the folder of the first one. */
  readonly directory: string
  readonly lookup: Lookup
  readonly warn: (message: string) => void
  readonly skipInterpolation: boolean
}

/** What the files of one project share. */
interface Scope {
  readonly directory: string
  readonly lookup: Lookup
}

/** Files of a project, those that are included or extended among them. */
const MAX_FILES = 200
const SECTIONS = ['services', 'networks', 'volumes', 'secrets', 'configs'] as const
const REMOTE = /^(?:[a-z][a-z0-9+.-]*:\/\/|git@|oci:)/i

/** @throws {ComposeError | CliError} */
export function readProject(files: readonly ComposeFile[], settings: ProjectSettings): MapNode {
  return new Project(settings).read(files)
}

class Project {
  readonly #settings: ProjectSettings
  /** Trees of files that services are extended from. */
  readonly #extended = new Map<string, MapNode>()
  #count = 0

  constructor(settings: ProjectSettings) {
    this.#settings = settings
  }

  read(files: readonly ComposeFile[]): MapNode {
    const { directory, lookup } = this.#settings
    return this.#merged(files, { directory, lookup }, [])
  }

  /** @param above the files that include these ones */
  #merged(files: readonly ComposeFile[], scope: Scope, above: readonly string[]): MapNode {
    let merged: MapNode | undefined
    for (const file of files) {
      const tree = this.#included(this.#tree(file, scope), file, scope, above)
      const whole = this.#extend(tree, file, scope, merged)
      merged = merged ? mergeFiles(merged, whole) : whole
    }
    return withoutTags(merged!)
  }

  #tree(file: ComposeFile, { directory, lookup }: Scope): MapNode {
    const { warn, skipInterpolation, directory: projectDirectory } = this.#settings
    if (++this.#count > MAX_FILES) {
      throw new CliError(`${file.name}: more than ${MAX_FILES} files are included or extended`)
    }
    const parsed = parseYaml(file.text, file.name)
    for (const warning of parsed.warnings) warn(warning)
    refuseForbidden(findUses(parsed.root, fileShape, ''))
    const filled = skipInterpolation
      ? parsed.root
      : interpolate(parsed.root, fileShape, '', lookup, (name) =>
          warn(`The "${name}" variable is not set. Defaulting to a blank string.`),
        )
    validate(filled, fileShape)
    const options: CanonicalOptions = { directory, projectDirectory, lookup, warn }
    return canonical(filled.kind === 'map' ? filled : parsed.root, fileShape, options)
  }

  // ---- include ----

  #included(tree: MapNode, file: ComposeFile, scope: Scope, above: readonly string[]): MapNode {
    const items = itemsIn(tree, 'include')
    const entries = new Map([...tree.entries].filter(([key]) => key !== 'include'))
    let whole: MapNode = { ...tree, entries }
    for (const item of items ?? []) {
      const chain = [...above, file.path ?? file.name]
      whole = union(whole, this.#include(item, file, scope, chain), item.at)
    }
    return whole
  }

  #include(item: Node, file: ComposeFile, { directory, lookup }: Scope, chain: readonly string[]): MapNode {
    const map = item.kind === 'map' ? item : undefined
    const paths = (map ? textOrTexts(map, 'path') : [textOf(item)]) ?? []
    const [first] = paths
    if (first === undefined || first === '') throw new ComposeError(item.at, 'include: no path is given')
    const files = paths.map((path) => readFile(path, directory, file, item.at))
    for (const { path } of files) {
      if (chain.includes(path)) {
        const names = [...chain, path].map((one) => basename(one)).join(' → ')
        throw new ComposeError(item.at, `include cycle detected: ${names}`)
      }
    }
    const given = map && textOrTexts(map, 'project_directory')?.[0]
    const own = given === undefined ? dirname(files[0]!.path) : absolute(directory, given)
    const envFiles = (map && textOrTexts(map, 'env_file'))?.map((path) => absolute(directory, path))
    const inside = { directory: own, lookup: withEnvFiles(lookup, envFiles, own, item.at) }
    return this.#merged(files, inside, chain)
  }

  // ---- extends ----

  /** @param earlier what files before this one say, whose services may be extended too */
  #extend(tree: MapNode, file: ComposeFile, scope: Scope, earlier: MapNode | undefined): MapNode {
    const services = mapIn(tree, 'services')
    if (!services) return tree
    const entries = new Map<string, Entry>()
    for (const [name, entry] of services.entries) {
      entries.set(name, { ...entry, node: this.#resolve(name, entry.node, { tree, file, scope, earlier }, []) })
    }
    const section = tree.entries.get('services')!
    return {
      ...tree,
      entries: new Map(tree.entries).set('services', { ...section, node: { ...services, entries } }),
    }
  }

  #resolve(name: string, node: Node, from: Source, chain: readonly Link[]): Node {
    const clause = node.kind === 'map' && !node.tag ? mapIn(node, 'extends') : undefined
    if (node.kind !== 'map' || !clause || clause.tag) return node
    const id = `${from.file.path ?? from.file.name}#${name}`
    const links = [...chain, { id, name, at: clause.at }]
    const start = chain.findIndex((link) => link.id === id)
    if (start >= 0) {
      const cycle = links.slice(start)
      const names = cycle.map((link) => link.name).join(' → ')
      const where = cycle.slice(0, -1).map(({ at }) => place(at))
      throw new ComposeError(cycle[0]!.at, `circular reference with extends: ${names} (${where.join(', ')})`)
    }
    const target = textOf(field(clause, 'service')!)
    const path = given(clause, 'file')
    const source = path ? this.#otherFile(textOf(path), from, path.at) : from
    const base = serviceOf(source.tree, target) ?? (source.earlier && serviceOf(source.earlier, target))
    if (!base) {
      const known = [...(mapIn(source.tree, 'services')?.entries.keys() ?? [])].filter((one) => one !== name)
      const near = nearest(target, known)
      throw new ComposeError(
        field(clause, 'service')!.at,
        `cannot extend service ${quote(name)}: service ${quote(target)} not found in ${source.file.name}${near === undefined ? '' : ` (did you mean ${near}?)`}`,
      )
    }
    const resolved = this.#resolve(target, base, source, links)
    const own: MapNode = { ...node, entries: new Map([...node.entries].filter(([key]) => key !== 'extends')) }
    return resolved.kind === 'map' ? mergeServices(resolved, own) : own
  }

  #otherFile(path: string, from: Source, at: Position): Source {
    const file = readFile(path, from.scope.directory, from.file, at)
    if (file.path === from.file.path) return from
    const scope = { ...from.scope, directory: dirname(file.path) }
    const known = this.#extended.get(file.path)
    const tree = known ?? this.#tree(file, scope)
    this.#extended.set(file.path, tree)
    return { tree, file, scope, earlier: undefined }
  }
}

/** A file that a service is looked for in. */
interface Source {
  readonly tree: MapNode
  readonly file: ComposeFile
  readonly scope: Scope
  readonly earlier: MapNode | undefined
}

/** A service that is being extended. */
interface Link {
  readonly id: string
  readonly name: string
  readonly at: Position
}

function serviceOf(tree: MapNode, name: string): Node | undefined {
  const services = mapIn(tree, 'services')
  const node = services && field(services, name)
  if (node?.kind === 'scalar') return { kind: 'map', entries: new Map(), at: node.at }
  return node
}

/** @throws {ComposeError} at `at` */
function readFile(
  path: string,
  directory: string,
  by: ComposeFile,
  at: Position,
): ComposeFile & { readonly path: string } {
  if (REMOTE.test(path)) {
    throw new ComposeError(at, `${quote(path)} is not on this machine: fetch it, and name the file`)
  }
  const whole = resolve(absolute(directory, path))
  // as a person who is where the command runs would name it
  const shown = isAbsolute(path) || isAbsolute(by.name) || by.path === undefined ? whole : join(dirname(by.name), path)
  const isBeside = by.path !== undefined && dirname(by.path) === resolve(directory)
  try {
    const sizeBytes = statSync(whole, { throwIfNoEntry: false })?.size ?? 0
    if (sizeBytes > MAX_FILE_BYTES) {
      throw new ValueError(`${whole} is too large: ${sizeBytes} bytes, ${MAX_FILE_BYTES} at most`)
    }
    return { name: isBeside ? shown : whole, text: readText(whole), path: whole }
  } catch (error) {
    if (error instanceof ValueError) throw new ComposeError(at, error.message)
    throw error
  }
}

/** Variables of the files, below what `outer` has; without any, those of `.env` in `directory`. */
function withEnvFiles(outer: Lookup, files: readonly string[] | undefined, directory: string, at: Position): Lookup {
  const implied = join(directory, '.env')
  const paths = files ?? (existsSync(implied) ? [implied] : [])
  const found = new Map<string, string>()
  for (const path of paths) {
    try {
      for (const [name, value] of readDotEnv(path, (name) => outer(name) ?? found.get(name))) found.set(name, value)
    } catch (error) {
      if (error instanceof ValueError) throw new ComposeError(at, error.message)
      throw error
    }
  }
  return (name) => outer(name) ?? found.get(name)
}

/** Both together; what both have must be the same. */
function union(own: MapNode, imported: MapNode, includedAt: Position): MapNode {
  const whole = new Map(own.entries)
  for (const section of SECTIONS) {
    const added = mapIn(imported, section)
    if (!added) continue
    const present = mapIn(own, section)
    const entries = new Map(added.entries)
    for (const [name, entry] of present?.entries ?? []) {
      const other = added.entries.get(name)
      if (other && identity(other.node) !== identity(entry.node)) {
        throw new ComposeError(
          entry.keyAt,
          `${section}.${name} conflicts with that of ${place(other.keyAt)}, which is included at ${place(includedAt)}`,
        )
      }
      entries.set(name, entry)
    }
    const keyAt = whole.get(section)?.keyAt ?? includedAt
    whole.set(section, { keyAt, node: { kind: 'map', entries, at: keyAt } })
  }
  return { ...own, entries: whole }
}

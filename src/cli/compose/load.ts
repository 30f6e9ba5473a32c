// Compose files → one model and what to warn of. For each file, in Docker's order: forbidden keys, variables, the table of
// keys, values; then all are merged.

import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { CliError, type Environment } from '../command.ts'
import { ValueError } from '../strconv.ts'
import { fileShape } from './compose-keys.ts'
import { readDotEnv } from './env-file.ts'
import { compact, extensions, mapIn } from './fields.ts'
import { interpolate, type Lookup } from './interpolate.ts'
import { loadFileObject, loadNetwork, loadVolume } from './load-objects.ts'
import { type LoadOptions, loadService } from './load-service.ts'
import { mergeModels } from './merge.ts'
import type { ComposeModel } from './model.ts'
import { ComposeError, type Entry, field, type MapNode, type Node, scalarText } from './node.ts'
import { parseYaml } from './parse-yaml.ts'
import { childShape, chosen, type Shape, type Use } from './shape.ts'
import { validate } from './validate.ts'

export interface ComposeFile {
  /** As it is shown in messages. */
  readonly name: string
  readonly text: string
}

export interface LoadSettings {
  /** What relative paths start from: the folder of the first file. */
  readonly directory: string
  readonly environment: Environment
  /** Files of variables; without any, `.env` in the directory. The environment wins over them. */
  readonly envFiles: readonly string[]
  readonly skipInterpolation?: boolean
}

export interface Loaded {
  readonly model: ComposeModel
  /** For stderr, in order; some have several lines. */
  readonly warnings: readonly string[]
}

const DEFAULT_VERSION = '3.13'
const VERSIONS = new Set(['3', ...Array.from({ length: 14 }, (_, minor) => `3.${minor}`)])

/** The folder that paths of `files` (as given with -c) start from. */
export function projectDirectory(files: readonly string[]): string {
  const [first] = files
  return first === undefined || (first === '-' && files.length === 1) ? process.cwd() : dirname(resolve(first))
}

/** @throws {ComposeError | CliError} */
export function loadCompose(files: readonly ComposeFile[], settings: LoadSettings): Loaded {
  const warnings = new Set<string>()
  const options: LoadOptions = {
    directory: settings.directory,
    lookup: variables(settings),
    warn: (message) => void warnings.add(message),
  }
  const models: ComposeModel[] = []
  const uses: Found[] = []
  for (const file of files) {
    const parsed = parseYaml(file.text, file.name)
    for (const warning of parsed.warnings) warnings.add(warning)
    const found = findUses(parsed.root, fileShape, '')
    refuseForbidden(found)
    const version = fileVersion(parsed.root)
    const root = settings.skipInterpolation ? parsed.root : fillIn(parsed.root, options)
    validate(root, fileShape)
    const model = loadFile(root, version, options)
    const first = models[0]
    if (first && first.version !== model.version) {
      const at = field(root, 'version')?.at ?? root.at
      throw new ComposeError(at, `version mismatched between two composefiles : ${first.version} and ${model.version}`)
    }
    models.push(model)
    uses.push(...found)
  }
  return { model: mergeModels(models), warnings: [...useWarnings(uses), ...warnings] }
}

function variables({ environment, envFiles, directory }: LoadSettings): Lookup {
  const own: Lookup = (name) => (Object.hasOwn(environment, name) ? environment[name] : undefined)
  const implied = join(directory, '.env')
  const paths = envFiles.length > 0 ? envFiles : existsSync(implied) ? [implied] : []
  const fromFiles = new Map<string, string>()
  for (const path of paths) {
    try {
      for (const [name, value] of readDotEnv(path, (name) => own(name) ?? fromFiles.get(name)))
        fromFiles.set(name, value)
    } catch (error) {
      if (error instanceof ValueError) throw new CliError(error.message)
      throw error
    }
  }
  return (name) => own(name) ?? fromFiles.get(name)
}

/** As in Docker, only the sections are filled in with checks of their types: all keys but x-… have a place in the table. */
function fillIn(root: MapNode, { lookup, warn }: LoadOptions): MapNode {
  const filled = interpolate(root, fileShape, '', lookup, (name) =>
    warn(`The "${name}" variable is not set. Defaulting to a blank string.`),
  )
  return filled.kind === 'map' ? filled : root
}

function loadFile(root: MapNode, version: string, options: LoadOptions): ComposeModel {
  const section = <T>(key: string, load: (name: string, entry: Entry) => T): ReadonlyMap<string, T> =>
    new Map([...(mapIn(root, key)?.entries ?? [])].map(([name, entry]) => [name, load(name, entry)]))
  return compact<ComposeModel>({
    version,
    services: section('services', (_, { node, keyAt }) =>
      loadService(
        node.kind === 'map' ? { ...node, at: keyAt } : { kind: 'map', entries: new Map(), at: keyAt },
        options,
      ),
    ),
    networks: section('networks', (name, entry) => loadNetwork(name, entry, options)),
    volumes: section('volumes', (name, entry) => loadVolume(name, entry, options)),
    secrets: section('secrets', (name, entry) => loadFileObject('secret', name, entry, options)),
    configs: section('configs', (name, entry) => loadFileObject('config', name, entry, options)),
    extensions: extensions(root),
  })
}

function fileVersion(root: MapNode): string {
  const node = field(root, 'version')
  const text = node?.kind === 'scalar' ? scalarText(node) : ''
  if (!node || text === '') return DEFAULT_VERSION
  if (!VERSIONS.has(text)) throw new ComposeError(node.at, `unsupported Compose file version: ${text}`)
  return text === '3' ? DEFAULT_VERSION : text
}

interface Found {
  readonly use: Use
  readonly key: string
  readonly path: string
  readonly reason: string
  readonly entry: Entry
  /** The key of a service itself, not of something inside it. */
}

/** Every key in the file that is not simply applied. */
function findUses(node: Node, shape: Shape | undefined, path: string): readonly Found[] {
  if (node.kind === 'list') {
    return node.items.flatMap((item, i) => findUses(item, childShape(shape, node, i), `${path}.${i}`))
  }
  if (node.kind !== 'map' || !shape) return []
  const inner = chosen(shape, node)
  return [...node.entries].flatMap(([key, entry]) => {
    const row = inner.kind === 'map' && Object.hasOwn(inner.keys, key) ? inner.keys[key] : undefined
    const below = path === '' ? key : `${path}.${key}`
    const inside = findUses(entry.node, childShape(shape, node, key), below)
    if (!row || row.use === 'applied') return inside
    return [{ use: row.use, key, path: below, reason: row.reason, entry }, ...inside]
  })
}

function refuseForbidden(found: readonly Found[]): void {
  const forbidden = found.filter(({ use }) => use === 'forbidden')
  const first = forbidden[0]
  if (!first) return
  throw new ComposeError(first.entry.keyAt, `compose file contains unsupported options:\n\n${reasons(forbidden)}\n`)
}

function reasons(found: readonly Found[]): string {
  return [...new Set(found.map(({ key, reason }) => `${key}: ${reason}`))].sort().join('\n\n')
}

/** Docker's own two warnings, and ours of what Docker leaves out in silence. */
function useWarnings(found: readonly Found[]): readonly string[] {
  const unsupported = [...new Set(found.filter(({ use }) => use === 'unsupported').map(({ key }) => key))].sort()
  const deprecated = found.filter(({ use }) => use === 'deprecated')
  const unheeded = found.filter(({ use }) => use === 'unheeded')
  return [
    ...(unsupported.length > 0 ? [`Ignoring unsupported options: ${unsupported.join(', ')}\n`] : []),
    ...(deprecated.length > 0 ? [`Ignoring deprecated options:\n\n${reasons(deprecated)}\n`] : []),
    ...unheeded.map(
      ({ path, reason, entry: { keyAt } }) =>
        `${keyAt.file}:${keyAt.line}:${keyAt.column}: ignoring ${path}: ${reason}`,
    ),
  ]
}

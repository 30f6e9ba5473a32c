// Compose files → one model and what to warn of.

import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { CliError, type Environment } from '../command.ts'
import { ValueError } from '../strconv.ts'
import { fileShape } from './compose-keys.ts'
import { checkDependencies } from './dependencies.ts'
import { readDotEnv } from './env-file.ts'
import { compact, extensions, mapIn, text } from './fields.ts'
import type { Lookup } from './interpolate.ts'
import { type LoadOptions, loadFileObject, loadNetwork, loadVolume } from './load-objects.ts'
import { loadService } from './load-service.ts'
import type { ComposeModel, ServiceModel } from './model.ts'
import { ComposeError, type Entry, type MapNode } from './node.ts'
import { selectServices } from './profiles.ts'
import { type ComposeFile, readProject } from './project.ts'
import { useWarnings } from './uses.ts'

export interface LoadSettings {
  /** What relative paths start from: the folder of the first file. */
  readonly directory: string
  readonly environment: Environment
  /** Files of variables; without any, `.env` in the directory. The environment wins over them. */
  readonly envFiles: readonly string[]
  /** Active profiles; COMPOSE_PROFILES names more, separated by commas. */
  readonly profiles?: readonly string[]
  readonly skipInterpolation?: boolean
}

export interface Loaded {
  readonly model: ComposeModel
  /** For stderr, in order; some have several lines. */
  readonly warnings: readonly string[]
}

const DEFAULT_VERSION = '3.13'

/** The folder that paths of `files` (as given with -c) start from. */
export function projectDirectory(files: readonly string[]): string {
  const [first] = files
  return first === undefined || (first === '-' && files.length === 1) ? process.cwd() : dirname(resolve(first))
}

/** @throws {ComposeError | CliError} */
export function loadCompose(files: readonly ComposeFile[], settings: LoadSettings): Loaded {
  const warnings = new Set<string>()
  const { directory, skipInterpolation = false } = settings
  const options: LoadOptions = { lookup: variables(settings), warn: (message) => void warnings.add(message) }
  const project = readProject(files, { directory, skipInterpolation, ...options })
  const active = (options.lookup('COMPOSE_PROFILES') ?? '').split(',').map((name) => name.trim())
  const { root, disabled } = selectServices(project, [...(settings.profiles ?? []), ...active])
  const model = modelOf(root, options)
  checkDependencies(model.services, disabled)
  return { model, warnings: [...useWarnings(root, fileShape), ...warnings] }
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

function modelOf(root: MapNode, options: LoadOptions): ComposeModel {
  const section = <T>(key: string, load: (name: string, entry: Entry) => T): ReadonlyMap<string, T> =>
    new Map([...(mapIn(root, key)?.entries ?? [])].map(([name, entry]) => [name, load(name, entry)]))
  return compact<ComposeModel>({
    version: versionOf(root),
    services: section('services', (name, entry) => service(name, entry, options)),
    networks: section('networks', (name, entry) => loadNetwork(name, entry, options)),
    volumes: section('volumes', (name, entry) => loadVolume(name, entry, options)),
    secrets: section('secrets', (name, entry) => loadFileObject('secret', name, entry, options)),
    configs: section('configs', (name, entry) => loadFileObject('config', name, entry, options)),
    extensions: extensions(root),
  })
}

function service(name: string, { node, keyAt }: Entry, options: LoadOptions): ServiceModel {
  const entries = node.kind === 'map' ? node.entries : new Map()
  try {
    return loadService({ kind: 'map', entries, at: keyAt }, options)
  } catch (error) {
    if (error instanceof ValueError) throw new ComposeError(keyAt, `services.${name}: ${error.message}`)
    throw error
  }
}

/** It changes nothing, and is printed as Docker does. */
function versionOf(root: MapNode): string {
  const version = text(root, 'version') ?? ''
  return version === '' || version === '3' ? DEFAULT_VERSION : version
}

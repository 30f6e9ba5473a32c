// Where a plugin is, looked for as Docker's engine does: first among the engine's managed plugins, then by its socket, then by a file
// that says its address.

import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Engine } from '../api/engine.ts'
import { asList, asObject, asText, type JsonObject, parseJson } from '../api/engine-json.ts'

export interface PluginPlaces {
  /** NAME.sock, or NAME/NAME.sock; also the sockets of managed plugins, below their ids */
  readonly sockets: string
  /** NAME.spec or NAME.json, or these below NAME/ */
  readonly specs: readonly string[]
}

export const DOCKER_PLACES: PluginPlaces = {
  sockets: '/run/docker/plugins',
  specs: ['/etc/docker/plugins', '/usr/lib/docker/plugins'],
}

export interface PluginTls {
  readonly insecure: boolean
  /** paths; '' none */
  readonly caFile: string
  readonly certFile: string
  readonly keyFile: string
}

export interface PluginAddress {
  /** unix:///path, tcp://host:port, http://… or https://… */
  readonly url: string
  readonly tls?: PluginTls
  /** An engine's own, which has said what it can do. */
  readonly managed: boolean
}

const ENGINE_WAIT_MS = 3_000
const NAME = /^[A-Za-z0-9][\w.-]*$/

/** @throws {CodedError} PLUGIN_NOT_FOUND, PLUGIN_DISABLED, PLUGIN_INVALID */
export async function findPlugin(
  name: string,
  capability: string,
  { engine, places, clock }: { readonly engine: Engine; readonly places: PluginPlaces; readonly clock: Clock },
): Promise<PluginAddress> {
  const managed = managedPlugin(name, capability, await pluginsOf(engine, clock), places.sockets)
  if (managed) return managed
  // What is no plain name is no file either.
  if (NAME.test(name)) {
    for (const path of pathsOf(places.sockets, name, '.sock')) {
      if ((await stat(path).catch(() => undefined))?.isSocket()) return { url: `unix://${path}`, managed: false }
    }
    for (const path of places.specs.flatMap((folder) =>
      ['.spec', '.json'].flatMap((end) => pathsOf(folder, name, end)),
    )) {
      const text = await readIfThere(path)
      if (text !== undefined) return path.endsWith('.json') ? fromJson(path, text) : checked(path, text.trim())
    }
  }
  throw new CodedError('PLUGIN_NOT_FOUND', `plugin ${JSON.stringify(name)} not found`)
}

function pathsOf(folder: string, name: string, end: string): readonly string[] {
  return [join(folder, `${name}${end}`), join(folder, name, `${name}${end}`)]
}

/** Of an engine that does not answer none: it has no say in those of the other kind. */
async function pluginsOf(engine: Engine, clock: Clock): Promise<readonly JsonObject[]> {
  const over = new AbortController()
  const late = sleep(clock, ENGINE_WAIT_MS, over.signal).then(() => undefined)
  const answer = await Promise.race([engine.get('/plugins', 'GET', over.signal).catch(() => undefined), late])
  over.abort()
  return asList(parseJson(answer?.body ?? '')).map(asObject)
}

function managedPlugin(
  name: string,
  capability: string,
  plugins: readonly JsonObject[],
  sockets: string,
): PluginAddress | undefined {
  const full = name.includes(':') ? name : `${name}:latest`
  const found = plugins.find((plugin) => plugin.Name === full)
  if (!found) return undefined
  if (found.Enabled !== true)
    throw new CodedError('PLUGIN_DISABLED', `plugin ${JSON.stringify(full)} found but disabled`)
  const { Types, Socket } = asObject(asObject(found.Config).Interface)
  if (!asList(Types).some((type) => capabilityOf(type) === capability)) throw notImplemented(full, capability)
  return { url: `unix://${join(sockets, asText(found.Id), asText(Socket))}`, managed: true }
}

/** In text `docker.secretprovider/1.0`, or in fields. */
function capabilityOf(type: unknown): string {
  return typeof type === 'string' ? (/^docker\.([^/]+)\//.exec(type)?.[1] ?? '') : asText(asObject(type).Capability)
}

export function notImplemented(name: string, capability: string): CodedError {
  return new CodedError('PLUGIN_INVALID', `plugin ${JSON.stringify(name)} does not implement ${capability}`)
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return undefined
    throw new CodedError('PLUGIN_INVALID', `cannot read ${path}: ${errorMessage(error)}`)
  }
}

function fromJson(path: string, text: string): PluginAddress {
  const { Addr, TLSConfig } = asObject(parseJson(text))
  const tls = asObject(TLSConfig)
  const caFile = asText(tls.CAFile)
  return {
    ...checked(path, asText(Addr)),
    tls: {
      // As the engine: whoever names no root verifies nothing.
      insecure: caFile === '' || tls.InsecureSkipVerify === true,
      caFile,
      certFile: asText(tls.CertFile),
      keyFile: asText(tls.KeyFile),
    },
  }
}

function checked(path: string, url: string): PluginAddress {
  if (/^(?:unix:\/\/\/.|(?:tcp|https?):\/\/.)/.test(url)) return { url, managed: false }
  throw new CodedError('PLUGIN_INVALID', `${path} holds no address of a plugin: ${JSON.stringify(url.slice(0, 100))}`)
}

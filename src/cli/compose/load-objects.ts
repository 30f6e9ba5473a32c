// Networks, volumes, secrets and configs of a checked file → their models.

import { bool, compact, dictionary, extensions, given, itemsIn, mapIn, text } from './fields.ts'
import type { Lookup } from './interpolate.ts'
import type { FileObjectModel, NetworkModel, VolumeModel } from './model.ts'
import { ComposeError, type Entry, type MapNode } from './node.ts'

export interface LoadOptions {
  readonly lookup: Lookup
  readonly warn: (message: string) => void
}

interface External {
  readonly external: boolean
  /** What the object is called in the cluster, where the file says or implies it. */
  readonly name: string | undefined
}

type Kind = 'network' | 'volume' | 'secret' | 'config'

function external(kind: Kind, key: string, entry: Entry, warn: (message: string) => void): External {
  const map = entry.node.kind === 'map' ? entry.node : undefined
  const node = given(map, 'external')
  const name = text(map, 'name')
  if (node?.kind === 'map') {
    const inner = text(node, 'name')
    if (inner && name) {
      throw new ComposeError(
        node.at,
        `${kind} ${key}: ${kind}.external.name and ${kind}.name conflict; only use ${kind}.name`,
      )
    }
    if (inner) {
      const { file, line, column } = node.at
      warn(`${file}:${line}:${column}: ${kind} ${key}: ${kind}.external.name is deprecated in favor of ${kind}.name`)
    }
    return { external: true, name: inner || name || key }
  }
  const isExternal = node?.kind === 'scalar' && node.value === true
  return { external: isExternal, name: isExternal ? name || key : name }
}

export function loadNetwork(key: string, entry: Entry, { warn }: LoadOptions): NetworkModel {
  const map = mapOf(entry)
  const ipam = mapIn(map, 'ipam')
  return compact<NetworkModel>({
    ...external('network', key, entry, warn),
    driver: text(map, 'driver'),
    driver_opts: dictionary(map, 'driver_opts'),
    ipam:
      ipam &&
      compact({
        driver: text(ipam, 'driver'),
        config: itemsIn(ipam, 'config')?.map((item) => {
          const pool = item.kind === 'map' ? item : undefined
          return compact({
            subnet: text(pool, 'subnet'),
            ip_range: text(pool, 'ip_range'),
            gateway: text(pool, 'gateway'),
            aux_addresses: dictionary(pool, 'aux_addresses'),
          })
        }),
        options: dictionary(ipam, 'options'),
      }),
    internal: bool(map, 'internal'),
    attachable: bool(map, 'attachable'),
    enable_ipv4: bool(map, 'enable_ipv4'),
    enable_ipv6: bool(map, 'enable_ipv6'),
    labels: dictionary(map, 'labels'),
    extensions: extensions(map),
    at: entry.keyAt,
  })
}

export function loadVolume(key: string, entry: Entry, { warn }: LoadOptions): VolumeModel {
  const map = mapOf(entry)
  const where = external('volume', key, entry, warn)
  const volume = compact<VolumeModel>({
    ...where,
    driver: text(map, 'driver'),
    driver_opts: dictionary(map, 'driver_opts'),
    labels: dictionary(map, 'labels'),
    extensions: extensions(map),
    at: entry.keyAt,
  })
  const clash = [
    volume.driver ? 'driver' : '',
    volume.driver_opts?.size ? 'driver_opts' : '',
    volume.labels?.size ? 'labels' : '',
  ].find((name) => name !== '')
  if (volume.external && clash !== undefined) {
    throw new ComposeError(
      given(map, clash)?.at ?? entry.keyAt,
      `conflicting parameters "external" and "${clash}" specified for volume "${key}"`,
    )
  }
  return volume
}

/** @throws {ComposeError} for one whose content comes from two places, or from a variable that is not set. */
export function loadFileObject(
  kind: 'secret' | 'config',
  key: string,
  entry: Entry,
  { lookup, warn }: LoadOptions,
): FileObjectModel {
  const map = mapOf(entry)
  const where = external(kind, key, entry, warn)
  const driver = text(map, 'driver')
  const file = text(map, 'file')
  if (!where.external && driver && file) {
    throw new ComposeError(
      entry.keyAt,
      `${kind} ${key}: ${kind}.driver and ${kind}.file conflict; only use ${kind}.driver`,
    )
  }
  const sources = ['file', 'environment', 'content'].filter((source) => given(map, source) !== undefined)
  if (sources.length > 1) {
    const [first, second] = sources
    throw new ComposeError(
      given(map, second!)!.at,
      `${kind} ${key}: ${kind}.${first} and ${kind}.${second} conflict; only use one of them`,
    )
  }
  const variable = text(map, 'environment')
  const content = text(map, 'content')
  const value = variable === undefined ? content : lookup(variable)
  if (variable !== undefined && value === undefined && !where.external) {
    throw new ComposeError(
      given(map, 'environment')!.at,
      `${kind} ${key}: the environment variable ${JSON.stringify(variable)} is not set`,
    )
  }
  const isFromFile = !where.external && !driver && variable === undefined && content === undefined
  if (isFromFile && !file) {
    throw new ComposeError(entry.keyAt, `${kind} ${key}: no content: it needs ${wanted(kind)}`)
  }
  return compact<FileObjectModel>({
    ...where,
    file,
    environment: variable,
    content,
    value,
    labels: dictionary(map, 'labels'),
    driver,
    driver_opts: dictionary(map, 'driver_opts'),
    template_driver: text(map, 'template_driver'),
    extensions: extensions(map),
    at: given(map, 'file')?.at ?? entry.keyAt,
  })
}

const wanted = (kind: 'secret' | 'config') =>
  kind === 'secret' ? 'file, environment, driver or external: true' : 'file, environment, content or external: true'

const mapOf = (entry: Entry): MapNode | undefined => (entry.node.kind === 'map' ? entry.node : undefined)

// Networks, volumes, secrets and configs of a checked file → their models.

import { bool, compact, dictionary, extensions, given, itemsIn, mapIn, text } from './fields.ts'
import { absolute, type LoadOptions } from './load-service.ts'
import type { FileObjectModel, NetworkModel, VolumeModel } from './model.ts'
import { ComposeError, type Entry, type MapNode } from './node.ts'

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
        config: itemsIn(ipam, 'config')?.map((item) =>
          compact({ subnet: item.kind === 'map' ? text(item, 'subnet') : undefined }),
        ),
      }),
    internal: bool(map, 'internal'),
    attachable: bool(map, 'attachable'),
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

/** @throws {ComposeError} for one that has both a driver and a file. */
export function loadFileObject(
  kind: 'secret' | 'config',
  key: string,
  entry: Entry,
  { directory, warn }: LoadOptions,
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
  return compact<FileObjectModel>({
    ...where,
    file: where.external || driver ? file : absolute(directory, file ?? ''),
    labels: dictionary(map, 'labels'),
    driver,
    driver_opts: dictionary(map, 'driver_opts'),
    template_driver: text(map, 'template_driver'),
    extensions: extensions(map),
    at: given(map, 'file')?.at ?? entry.keyAt,
  })
}

const mapOf = (entry: Entry): MapNode | undefined => (entry.node.kind === 'map' ? entry.node : undefined)

// A volume of a service → a mount of its containers.

import type { MountSpec } from '../../api/spec.ts'
import { quote } from '../strconv.ts'
import { compact } from './fields.ts'
import type { VolumeModel, VolumeMountModel } from './model.ts'
import { scopedName, stackLabels } from './names.ts'
import { ComposeError } from './node.ts'

const OPTION_KINDS = ['volume', 'image', 'bind', 'tmpfs', 'cluster'] as const
/** Options that Docker lets pass with a type that has none of them. */
const TOLERATED: Readonly<Record<string, readonly string[]>> = {
  npipe: ['bind', 'cluster'],
  cluster: ['cluster', 'image'],
}

/** @throws {ComposeError} */
export function convertMount(
  stack: string,
  mount: VolumeMountModel,
  volumes: ReadonlyMap<string, VolumeModel>,
): MountSpec {
  const type = mount.type || 'volume'
  if (!['volume', 'image', 'bind', 'tmpfs', 'npipe', 'cluster'].includes(type)) {
    throw new ComposeError(mount.at, 'volume type must be volume, bind, tmpfs, npipe, or cluster')
  }
  checkSource(mount, type)
  const strange = OPTION_KINDS.find(
    (kind) => kind !== type && mount[kind] !== undefined && !TOLERATED[type]?.includes(kind),
  )
  if (strange) {
    const word = strange === 'image' && type === 'volume' ? 'images' : strange
    throw new ComposeError(mount.at, `${word} options are incompatible with type ${type}`)
  }
  const base = compact<MountSpec>({
    Type: (mount.type || undefined) as MountSpec['Type'],
    Source: mount.source || undefined,
    Target: mount.target,
    ReadOnly: mount.read_only || undefined,
    Consistency: mount.consistency || undefined,
  })
  switch (type) {
    case 'volume':
      return mount.source ? { ...base, ...volumeMount(stack, mount, volumes) } : base
    case 'cluster':
      return { ...base, ...clusterMount(stack, mount, volumes), ClusterOptions: {} }
    case 'image':
      return mount.image ? { ...base, ImageOptions: compact({ Subpath: mount.image.subpath || undefined }) } : base
    case 'tmpfs':
      return mount.tmpfs
        ? { ...base, TmpfsOptions: compact({ SizeBytes: mount.tmpfs.size || undefined, Mode: mount.tmpfs.mode }) }
        : base
    default:
      return mount.bind ? { ...base, ...bindOptions(mount.bind) } : base
  }
}

/** `recursive` in the words of `--mount bind-recursive`. */
function bindOptions(bind: NonNullable<VolumeMountModel['bind']>): Pick<MountSpec, 'BindOptions'> {
  const options = compact<NonNullable<MountSpec['BindOptions']>>({
    Propagation: bind.propagation || undefined,
    CreateMountpoint: bind.create_host_path || undefined,
    NonRecursive: bind.recursive === 'disabled' || undefined,
    ReadOnlyNonRecursive: bind.recursive === 'writable' || undefined,
    ReadOnlyForceRecursive: bind.recursive === 'readonly' || undefined,
  })
  const saysNothing = Object.keys(options).length === 0 && Object.keys(bind).length > 0
  return saysNothing ? {} : { BindOptions: options }
}

function checkSource({ source, at }: VolumeMountModel, type: string): void {
  if (type === 'tmpfs' && source) throw new ComposeError(at, 'invalid tmpfs source, source must be empty')
  if (type !== 'tmpfs' && type !== 'volume' && !source) {
    throw new ComposeError(at, `invalid ${type} source, source cannot be empty`)
  }
}

function volumeMount(
  stack: string,
  mount: VolumeMountModel,
  volumes: ReadonlyMap<string, VolumeModel>,
): Partial<MountSpec> {
  const volume = find(mount, volumes)
  const own = compact<NonNullable<MountSpec['VolumeOptions']>>({
    NoCopy: mount.volume?.nocopy || undefined,
    Subpath: mount.volume?.subpath || undefined,
    Labels: volume.external
      ? mount.volume?.labels && Object.fromEntries(mount.volume.labels)
      : stackLabels(stack, new Map([...(volume.labels ?? []), ...(mount.volume?.labels ?? [])])),
    DriverConfig:
      !volume.external && (volume.driver || volume.driver_opts)
        ? compact({
            Name: volume.driver || undefined,
            Options: volume.driver_opts?.size ? Object.fromEntries(volume.driver_opts) : undefined,
          })
        : undefined,
  })
  return { Source: volume.name || scopedName(stack, mount.source ?? ''), VolumeOptions: own }
}

/** A group of volumes is no volume of the stack's. */
function clusterMount(
  stack: string,
  mount: VolumeMountModel,
  volumes: ReadonlyMap<string, VolumeModel>,
): Partial<MountSpec> {
  if (mount.source?.startsWith('group:')) return {}
  return { Source: find(mount, volumes).name || scopedName(stack, mount.source ?? '') }
}

function find(mount: VolumeMountModel, volumes: ReadonlyMap<string, VolumeModel>): VolumeModel {
  const volume = volumes.get(mount.source ?? '')
  if (!volume) throw new ComposeError(mount.at, `undefined volume ${quote(mount.source ?? '')}`)
  return volume
}

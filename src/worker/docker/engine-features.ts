// Fields of a service's spec that an engine must be new enough for. An older engine would ignore them in silence, so
// the task is rejected with the reason.

import type { ContainerSpec } from '../../api/spec.ts'
import { taskFailed } from '../executor.ts'

/** `1.41` as a number that compares. */
export function apiRank(version: string): number {
  const [major = '0', minor = '0'] = version.split('.')
  return Number(major) * 1_000 + Number(minor)
}

interface Feature {
  readonly field: string
  /** The engine API version that brought it. */
  readonly since: string
  readonly used: (spec: ContainerSpec) => boolean
}

const FEATURES: readonly Feature[] = [
  {
    field: 'Mounts.BindOptions.CreateMountpoint',
    since: '1.42',
    used: (spec) => some(spec.Mounts, (mount) => mount.BindOptions?.CreateMountpoint === true),
  },
  {
    field: 'Mounts.BindOptions.ReadOnlyNonRecursive',
    since: '1.44',
    used: (spec) => some(spec.Mounts, (mount) => mount.BindOptions?.ReadOnlyNonRecursive === true),
  },
  {
    field: 'Mounts.BindOptions.ReadOnlyForceRecursive',
    since: '1.44',
    used: (spec) => some(spec.Mounts, (mount) => mount.BindOptions?.ReadOnlyForceRecursive === true),
  },
  {
    field: 'Healthcheck.StartInterval',
    since: '1.44',
    used: (spec) => (spec.Healthcheck?.StartInterval ?? 0) > 0,
  },
  {
    field: 'Mounts.VolumeOptions.Subpath',
    since: '1.45',
    used: (spec) => some(spec.Mounts, (mount) => (mount.VolumeOptions?.Subpath ?? '') !== ''),
  },
  {
    field: 'Mounts.TmpfsOptions.Options',
    since: '1.46',
    used: (spec) => some(spec.Mounts, (mount) => (mount.TmpfsOptions?.Options ?? []).length > 0),
  },
  {
    field: 'Mounts.Type "image"',
    since: '1.48',
    used: (spec) => some(spec.Mounts, (mount) => mount.Type === 'image'),
  },
]

/** @throws {CodedError} TASK_FAILED naming the first field that this node's engine cannot do. */
export function checkFeatures(spec: ContainerSpec, engineApiVersion: string): void {
  const lacking = FEATURES.find(({ since, used }) => apiRank(engineApiVersion) < apiRank(since) && used(spec))
  if (lacking)
    throw taskFailed(
      `${lacking.field} needs a Docker Engine with API ${lacking.since} or later: this node's has ${engineApiVersion}`,
    )
  const unsupported = (spec.Mounts ?? []).find(({ Type }) => Type === 'npipe' || Type === 'cluster')
  if (unsupported) throw taskFailed(`mounts of type "${unsupported.Type}" are not supported on this node`)
  if (spec.Privileges?.CredentialSpec) throw taskFailed('credential specs are only supported on Windows')
}

function some<T>(list: readonly T[] | null | undefined, test: (item: T) => boolean): boolean {
  return (list ?? []).some(test)
}

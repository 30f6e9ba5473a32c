// Fields of a service's spec that an API version does not know yet are ignored in requests of that version, as dockerd
// ignores them: an old client that reads, changes and writes back must not gain settings that it can't show.

import type { ContainerSpec, Placement, ResourceRequirements, ServiceSpec } from '../../api/spec.ts'

function without<T extends object>(object: T, ...names: readonly (keyof T)[]): T {
  const kept = { ...object }
  for (const name of names) delete kept[name]
  return kept
}

function container(spec: ContainerSpec, minor: number): ContainerSpec {
  let kept = spec
  if (minor < 40) {
    kept = without(kept, 'Sysctls')
    const privileges = kept.Privileges
    if (privileges?.CredentialSpec?.Config !== undefined) {
      kept = { ...kept, Privileges: { ...privileges, CredentialSpec: without(privileges.CredentialSpec, 'Config') } }
    }
    if (kept.Configs !== undefined) kept = { ...kept, Configs: kept.Configs.map((each) => without(each, 'Runtime')) }
  }
  if (minor < 41) kept = without(kept, 'CapabilityAdd', 'CapabilityDrop', 'Ulimits')
  if (minor < 44) {
    if (kept.Privileges !== undefined) {
      kept = { ...kept, Privileges: without(kept.Privileges, 'Seccomp', 'AppArmor', 'NoNewPrivileges') }
    }
    if (kept.Healthcheck !== undefined) kept = { ...kept, Healthcheck: without(kept.Healthcheck, 'StartInterval') }
  }
  if (minor < 46) {
    kept = without(kept, 'OomScoreAdj')
    if (kept.Mounts !== undefined) {
      kept = {
        ...kept,
        Mounts: kept.Mounts.map((mount) =>
          mount.TmpfsOptions === undefined ? mount : { ...mount, TmpfsOptions: without(mount.TmpfsOptions, 'Options') },
        ),
      }
    }
  }
  return kept
}

function resources(spec: ResourceRequirements, minor: number): ResourceRequirements {
  return minor < 41 && spec.Limits !== undefined ? { ...spec, Limits: without(spec.Limits, 'Pids') } : spec
}

function placement(spec: Placement, minor: number): Placement {
  return minor < 40 ? without(spec, 'MaxReplicas') : spec
}

export function specForVersion(spec: ServiceSpec, minor: number): ServiceSpec {
  // The deprecated place of networks was read up to 1.43.
  const placed = minor >= 44 ? without(spec, 'Networks') : spec
  if (minor >= 46 || placed.TaskTemplate === undefined) return placed
  const task = placed.TaskTemplate
  return {
    ...placed,
    TaskTemplate: {
      ...task,
      ...(task.ContainerSpec === undefined ? {} : { ContainerSpec: container(task.ContainerSpec, minor) }),
      ...(task.Resources === undefined ? {} : { Resources: resources(task.Resources, minor) }),
      ...(task.Placement === undefined ? {} : { Placement: placement(task.Placement, minor) }),
    },
    ...(minor < 41 && placed.Mode !== undefined ? { Mode: without(placed.Mode, 'ReplicatedJob', 'GlobalJob') } : {}),
  }
}

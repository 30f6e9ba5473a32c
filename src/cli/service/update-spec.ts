// A service's spec and the flags of `service update` → its new spec. Pure. What no flag names stays as it is, fields
// that this client does not know included.

import type {
  ContainerSpec,
  GenericResource,
  HealthConfig,
  MountSpec,
  PortConfig,
  ResourceRequirements,
  ServiceSpec,
  TaskSpec,
} from '../../api/spec.ts'
import { staticAddressLabel } from '../../api/static-addresses.ts'
import { CliError } from '../command.ts'
import { type Flags, keyValues } from '../flags.ts'
import { compareText, cut } from '../strconv.ts'
import { parseBytes, parseCpus } from '../units.ts'
import { changedRestartPolicy, changedUpdateConfig, logDriverSpec, mergeUlimits, swapSettings } from './create-spec.ts'
import { parseMount } from './mount.ts'
import {
  labelOf,
  type Publication,
  parsePorts,
  parsePublications,
  portKey,
  portsOf,
  publishLabels,
  sameTarget,
} from './ports.ts'
import type { Resolved } from './resolve.ts'
import {
  networkLabels,
  parseCredentialSpec,
  parseGenericResources,
  parseNetwork,
  parsePlacementPreference,
  parseWords,
  swarmHost,
  updatedCapabilities,
} from './values.ts'

/** @throws {CliError} for flags that contradict each other or the service, with Docker's text. */
export function updateSpec(spec: ServiceSpec, flags: Flags, resolved: Resolved): ServiceSpec {
  const task = spec.TaskTemplate ?? {}
  const updateConfig = changedUpdateConfig(spec.UpdateConfig, flags, 'update')
  const rollbackConfig = changedUpdateConfig(spec.RollbackConfig, flags, 'rollback')
  const networks = updatedNetworks(spec, flags, resolved)
  // replaced by the task template's networks, once one of them is touched
  const { Networks: _, ...rest } = spec
  return {
    ...(networks ? rest : spec),
    ...serviceLabels(spec, flags, resolved),
    TaskTemplate: {
      ...updatedTask(task, flags),
      ...(networks ? { Networks: networks } : {}),
      ContainerSpec: updatedContainer(task.ContainerSpec ?? {}, flags, resolved),
    },
    ...(flags.changed('replicas') ? { Mode: scaledMode(spec, flags) } : {}),
    ...(updateConfig ? { UpdateConfig: updateConfig } : {}),
    ...(rollbackConfig ? { RollbackConfig: rollbackConfig } : {}),
    ...(flags.changed('endpoint-mode', 'publish-add', 'publish-rm')
      ? { EndpointSpec: updatedEndpoint(spec, flags) }
      : {}),
  }
}

function scaledMode(spec: ServiceSpec, flags: Flags): NonNullable<ServiceSpec['Mode']> {
  if (!spec.Mode?.Replicated) throw new CliError('replicas can only be used with replicated mode')
  return { ...spec.Mode, Replicated: { ...spec.Mode.Replicated, Replicas: flags.uint('replicas')! } }
}

function updatedTask(task: TaskSpec, flags: Flags): TaskSpec {
  const restart = changedRestartPolicy(task.RestartPolicy, flags)
  const placement = updatedPlacement(task, flags)
  const resources = updatedResources(task.Resources, flags)
  return {
    ...task,
    ...(resources ? { Resources: resources } : {}),
    ...(restart ? { RestartPolicy: restart } : {}),
    ...(placement ? { Placement: placement } : {}),
    ...(flags.text('log-driver') === '' ? {} : { LogDriver: logDriverSpec(flags) }),
    ...(flags.on('force') ? { ForceUpdate: (task.ForceUpdate ?? 0) + 1 } : {}),
  }
}

function updatedContainer(current: ContainerSpec, flags: Flags, resolved: Resolved): ContainerSpec {
  const text = (key: keyof ContainerSpec, name: string) => (flags.changed(name) ? { [key]: flags.text(name) } : {})
  const on = (key: keyof ContainerSpec, name: string) => (flags.changed(name) ? { [key]: flags.on(name) } : {})
  const words = (key: keyof ContainerSpec, name: string) =>
    flags.changed(name) ? { [key]: parseWords(flags.text(name)) } : {}
  const ulimits = mergeUlimits(current.Ulimits ?? [], flags.list('ulimit-add'), flags.list('ulimit-rm'))
  return {
    ...current,
    ...labelsOf('Labels', current.Labels, flags, 'container-label'),
    ...text('Image', 'image'),
    ...words('Args', 'args'),
    ...words('Command', 'entrypoint'),
    Env: updatedEnvironment(current.Env ?? [], flags),
    ...text('Dir', 'workdir'),
    ...text('User', 'user'),
    ...text('Hostname', 'hostname'),
    ...on('Init', 'init'),
    ...text('Isolation', 'isolation'),
    Mounts: updatedMounts(current.Mounts ?? [], flags),
    ...sysctls(current, flags),
    Ulimits: ulimits,
    ...(flags.changed('oom-score-adj') ? { OomScoreAdj: flags.int('oom-score-adj')! } : {}),
    ...(flags.changed('stop-grace-period') ? { StopGracePeriod: flags.duration('stop-grace-period')! } : {}),
    ...(flags.changed('group-add', 'group-rm')
      ? { Groups: without([...(current.Groups ?? []), ...flags.list('group-add')], flags.list('group-rm')).sort() }
      : {}),
    ...(flags.changed('dns-add', 'dns-rm', 'dns-option-add', 'dns-option-rm', 'dns-search-add', 'dns-search-rm')
      ? { DNSConfig: updatedDns(current, flags) }
      : {}),
    ...(flags.changed('host-add', 'host-rm') ? { Hosts: updatedHosts(current.Hosts ?? [], flags) } : {}),
    ...health(current.Healthcheck, flags),
    ...on('TTY', 'tty'),
    ...on('ReadOnly', 'read-only'),
    ...text('StopSignal', 'stop-signal'),
    ...(flags.changed('cap-add', 'cap-drop')
      ? {
          CapabilityAdd: [],
          CapabilityDrop: [],
          ...updatedCapabilities(current, flags.list('cap-add'), flags.list('cap-drop')),
        }
      : {}),
    ...references(current, flags, resolved),
  }
}

const without = (list: readonly string[], remove: readonly string[]) => list.filter((item) => !remove.includes(item))

function labelsOf(
  key: string,
  current: Readonly<Record<string, string>> | null | undefined,
  flags: Flags,
  name: string,
): Record<string, Record<string, string>> {
  if (!flags.changed(`${name}-add`, `${name}-rm`)) return {}
  if (!current && !flags.changed(`${name}-add`)) return {}
  const kept = Object.entries(current ?? {}).filter(([label]) => !flags.list(`${name}-rm`).includes(label))
  return { [key]: { ...Object.fromEntries(kept), ...keyValues(flags.list(`${name}-add`)) } }
}

/** With those that go and come with published ports and networks. */
function serviceLabels(spec: ServiceSpec, flags: Flags, resolved: Resolved): Pick<ServiceSpec, 'Labels'> {
  const wanted = labelsOf('Labels', spec.Labels, flags, 'label')
  const { Labels: labels = spec.Labels ?? {} } = wanted
  const added = publicationsAdded(flags)
  const goneNetworks = flags.list('network-rm').flatMap((name) => resolved.networkNames(name))
  const gone = new Set([
    ...portsRemoved(spec.EndpointSpec?.Ports ?? [], flags).map(labelOf),
    ...added.map(({ port }) => labelOf(port)),
    ...goneNetworks.map(staticAddressLabel),
  ])
  const come = { ...publishLabels(added), ...networkLabels(flags.list('network-add'), resolved) }
  const given = keyValues(flags.list('label-add'))
  const isChanged = Object.keys(come).length > 0 || Object.keys(labels).some((label) => gone.has(label))
  if (!isChanged) return wanted
  const kept = Object.entries(labels).filter(([label]) => !gone.has(label))
  return { Labels: { ...Object.fromEntries(kept), ...come, ...given } }
}

function publicationsAdded(flags: Flags): readonly Publication[] {
  return flags.list('publish-add').flatMap(parsePublications)
}

function portsRemoved(current: readonly PortConfig[], flags: Flags): readonly PortConfig[] {
  const remove = flags.list('publish-rm').flatMap(parsePorts)
  return current.filter((port) => remove.some((other) => sameTarget(port, other)))
}

function sysctls(current: ContainerSpec, flags: Flags): Pick<ContainerSpec, 'Sysctls'> {
  if (!flags.changed('sysctl-add', 'sysctl-rm')) return {}
  const remove = Object.keys(keyValues(flags.list('sysctl-rm')))
  const kept = Object.entries(current.Sysctls ?? {}).filter(([key]) => !remove.includes(key))
  return { Sysctls: { ...Object.fromEntries(kept), ...keyValues(flags.list('sysctl-add')) } }
}

/** A variable keeps its place when its value changes; new ones come last. */
function updatedEnvironment(current: readonly string[], flags: Flags): string[] {
  const key = (variable: string) => cut(variable, '=').before
  const kept = current.filter((variable) => !flags.list('env-rm').includes(key(variable)))
  if (!flags.changed('env-add')) return kept
  const byKey = new Map(kept.map((variable) => [key(variable), variable]))
  for (const variable of flags.list('env-add')) byKey.set(key(variable), variable)
  return [...byKey.values()]
}

function updatedMounts(current: readonly MountSpec[], flags: Flags): MountSpec[] {
  const byTarget = new Map<string, MountSpec>()
  for (const mount of flags.list('mount-add').map(parseMount)) {
    if (byTarget.has(mount.Target ?? '')) throw new CliError('duplicate mount target')
    byTarget.set(mount.Target ?? '', mount)
  }
  for (const mount of current) if (!byTarget.has(mount.Target ?? '')) byTarget.set(mount.Target ?? '', mount)
  const remove = flags.list('mount-rm')
  return [...byTarget.values()]
    .filter((mount) => !remove.includes(mount.Target ?? ''))
    .sort((a, b) => compareText(a.Source ?? '', b.Source ?? '') || compareText(a.Target ?? '', b.Target ?? ''))
}

function updatedDns(current: ContainerSpec, flags: Flags): NonNullable<ContainerSpec['DNSConfig']> {
  const list = (key: 'Nameservers' | 'Search' | 'Options', name: string) => {
    const all = new Set([...(current.DNSConfig?.[key] ?? []), ...flags.list(`${name}-add`)])
    const kept = without([...all], flags.list(`${name}-rm`)).sort()
    return kept.length > 0 ? { [key]: kept } : {}
  }
  return { ...list('Nameservers', 'dns'), ...list('Search', 'dns-search'), ...list('Options', 'dns-option') }
}

/** "ip host alias…" lines: --host-rm takes a name out of every line, or of the lines of one address. */
function updatedHosts(current: readonly string[], flags: Flags): string[] {
  const remove = flags.list('host-rm').map((text) => cut(text, ':'))
  const kept = current.flatMap((line) => {
    const [ip = '', ...names] = line.trim().split(/\s+/)
    const left = names.filter(
      (name) => !remove.some(({ before, after }) => before === name && (after === '' || after === ip)),
    )
    return left.length > 0 ? [`${ip} ${left.join(' ')}`] : []
  })
  return [...new Set([...kept, ...flags.list('host-add').map(swarmHost)])]
}

function health(current: HealthConfig | undefined, flags: Flags): Pick<ContainerSpec, 'Healthcheck'> {
  const settings = [
    'health-cmd',
    'health-interval',
    'health-retries',
    'health-timeout',
    'health-start-period',
    'health-start-interval',
  ]
  if (!flags.changed('no-healthcheck', ...settings)) return {}
  if (flags.on('no-healthcheck')) {
    if (flags.changed(...settings)) throw new CliError('--no-healthcheck conflicts with --health-* options')
    return { Healthcheck: { Test: ['NONE'] } }
  }
  const { Test: test, ...rest } = current ?? {}
  const command = flags.text('health-cmd')
  const chosen = flags.changed('health-cmd')
    ? command === ''
      ? undefined
      : ['CMD-SHELL', command]
    : test?.[0] === 'NONE'
      ? undefined
      : test
  const duration = (key: keyof HealthConfig, name: string) =>
    flags.changed(name) ? { [key]: flags.duration(name) } : {}
  return {
    Healthcheck: {
      ...(chosen ? { Test: chosen } : {}),
      ...rest,
      ...duration('Interval', 'health-interval'),
      ...duration('Timeout', 'health-timeout'),
      ...duration('StartPeriod', 'health-start-period'),
      ...duration('StartInterval', 'health-start-interval'),
      ...(flags.changed('health-retries') ? { Retries: flags.int('health-retries')! } : {}),
    },
  }
}

function updatedResources(current: ResourceRequirements | undefined, flags: Flags): ResourceRequirements | undefined {
  const names = [
    'limit-cpu',
    'limit-memory',
    'limit-pids',
    'reserve-cpu',
    'reserve-memory',
    'generic-resource-add',
    'generic-resource-rm',
    'memory-swap',
    'memory-swappiness',
  ]
  if (!flags.changed(...names)) return current
  const cpus = (name: string) => (flags.changed(name) ? { NanoCPUs: parseCpus(flags.text(name)) } : {})
  const memory = (name: string) => (flags.changed(name) ? { MemoryBytes: parseBytes(flags.text(name)) } : {})
  return {
    ...current,
    Limits: {
      ...current?.Limits,
      ...cpus('limit-cpu'),
      ...memory('limit-memory'),
      ...(flags.changed('limit-pids') ? { Pids: flags.int('limit-pids')! } : {}),
    },
    Reservations: {
      ...current?.Reservations,
      ...cpus('reserve-cpu'),
      ...memory('reserve-memory'),
      ...(flags.changed('generic-resource-add', 'generic-resource-rm')
        ? { GenericResources: updatedGeneric(current?.Reservations?.GenericResources ?? [], flags) }
        : {}),
    },
    ...swapSettings(flags),
  }
}

function updatedGeneric(current: readonly GenericResource[], flags: Flags): GenericResource[] {
  const byKind = new Map(
    [...current, ...parseGenericResources(flags.list('generic-resource-add'))].map((resource) => [
      resource.DiscreteResourceSpec?.Kind ?? '',
      resource,
    ]),
  )
  for (const kind of flags.list('generic-resource-rm')) {
    if (!byKind.delete(kind)) throw new CliError(`could not find generic-resource \`${kind}\` to remove it`)
  }
  return [...byKind.values()]
}

function updatedPlacement(task: TaskSpec, flags: Flags): TaskSpec['Placement'] {
  const current = task.Placement
  if (
    !flags.changed(
      'constraint-add',
      'constraint-rm',
      'placement-pref-add',
      'placement-pref-rm',
      'replicas-max-per-node',
    )
  ) {
    return current
  }
  const removed = flags.list('placement-pref-rm').map((text) => parsePlacementPreference(text).Spread?.SpreadDescriptor)
  return {
    ...current,
    ...(flags.changed('constraint-add', 'constraint-rm')
      ? {
          Constraints: without(
            [...(current?.Constraints ?? []), ...flags.list('constraint-add')],
            flags.list('constraint-rm'),
          ).sort(),
        }
      : {}),
    ...(flags.changed('placement-pref-add', 'placement-pref-rm')
      ? {
          Preferences: [
            ...(current?.Preferences ?? []).filter((pref) => !removed.includes(pref.Spread?.SpreadDescriptor)),
            ...flags.list('placement-pref-add').map(parsePlacementPreference),
          ],
        }
      : {}),
    ...(flags.changed('replicas-max-per-node') ? { MaxReplicas: flags.uint('replicas-max-per-node')! } : {}),
  }
}

function updatedNetworks(spec: ServiceSpec, flags: Flags, resolved: Resolved): TaskSpec['Networks'] | undefined {
  if (!flags.changed('network-add', 'network-rm')) return undefined
  const attached = spec.TaskTemplate?.Networks ?? []
  const remove = flags.list('network-rm').map((name) => resolved.network(name))
  const kept = (attached.length > 0 ? attached : (spec.Networks ?? [])).filter(
    ({ Target = '' }) => !remove.includes(Target),
  )
  const ids = new Set(kept.map(({ Target }) => Target))
  const added = flags
    .list('network-add')
    .map(parseNetwork)
    .map((network) => {
      const id = resolved.network(network.Target ?? '')
      if (ids.has(id)) throw new CliError(`service is already attached to network ${network.Target}`)
      ids.add(id)
      return { ...network, Target: id }
    })
  return [...kept, ...added].sort((a, b) => compareText(a.Target ?? '', b.Target ?? ''))
}

function updatedEndpoint(spec: ServiceSpec, flags: Flags): NonNullable<ServiceSpec['EndpointSpec']> {
  return {
    ...spec.EndpointSpec,
    ...(flags.changed('endpoint-mode') ? { Mode: flags.text('endpoint-mode') as 'vip' | 'dnsrr' } : {}),
    ...(flags.changed('publish-add', 'publish-rm')
      ? { Ports: updatedPorts(spec.EndpointSpec?.Ports ?? [], flags) }
      : {}),
  }
}

function updatedPorts(current: readonly PortConfig[], flags: Flags): PortConfig[] {
  const known = new Map(current.map((port) => [portKey(port), port]))
  const removed = new Set(portsRemoved([...known.values()], flags))
  const kept = [...known.values()].filter((port) => !removed.has(port))
  const added = portsOf(publicationsAdded(flags)).filter((port) => !known.has(portKey(port)))
  return [...kept, ...added].sort((a, b) => compareText(portKey(a), portKey(b)))
}

/** Secrets, configs and the credential spec, which may live in a config. */
function references(
  current: ContainerSpec,
  flags: Flags,
  resolved: Resolved,
): Pick<ContainerSpec, 'Secrets' | 'Configs' | 'Privileges'> {
  const secretsLeft = (current.Secrets ?? []).filter(
    ({ SecretName = '' }) => !flags.list('secret-rm').includes(SecretName),
  )
  const asked = flags.changed('credential-spec') ? parseCredentialSpec(flags.text('credential-spec')) : undefined
  const inUse = current.Privileges?.CredentialSpec?.Config
  const configsLeft = (current.Configs ?? []).filter((config) => {
    if (!config.Runtime) return !flags.list('config-rm').includes(config.ConfigName ?? '')
    return asked ? false : inUse !== undefined && inUse !== '' && config.ConfigID === inUse
  })
  const { configs, credentialSpec } = resolved.configs(flags.list('config-add'), asked)
  return {
    Secrets: [...secretsLeft, ...resolved.secrets(flags.list('secret-add'))],
    Configs: [...configsLeft, ...configs],
    ...(asked ? credentials(current, flags, credentialSpec) : {}),
  }
}

function credentials(
  current: ContainerSpec,
  flags: Flags,
  spec: NonNullable<ContainerSpec['Privileges']>['CredentialSpec'],
): Pick<ContainerSpec, 'Privileges'> {
  if (flags.text('credential-spec') === '') {
    if (!current.Privileges) return {}
    const { CredentialSpec: _, ...rest } = current.Privileges
    return { Privileges: rest }
  }
  return { Privileges: { ...current.Privileges, ...(spec ? { CredentialSpec: spec } : {}) } }
}

// The flags of `service create` → the spec that is sent. Pure: names are resolved before, by resolve.ts.

import type {
  ContainerSpec,
  HealthConfig,
  ResourceRequirements,
  RestartPolicy,
  ServiceMode,
  ServiceSpec,
  UpdateConfig,
} from '../../api/spec.ts'
import { CliError } from '../command.ts'
import { type Flags, keyValues } from '../flags.ts'
import { cut, parseFloat64 } from '../strconv.ts'
import { parseBytes, parseCpus } from '../units.ts'
import { parseMount } from './mount.ts'
import { parsePublications, portsOf, publishLabels } from './ports.ts'
import type { Resolved } from './resolve.ts'
import {
  effectiveCapabilities,
  networkLabels,
  parseCredentialSpec,
  parseGenericResources,
  parseNetwork,
  parsePlacementPreference,
  parseUlimit,
  parseWords,
  swarmHost,
} from './values.ts'

const SECOND_NS = 1_000_000_000

/** Swarm's own defaults, which a policy starts from once one of its flags is given. */
export const DEFAULT_UPDATE_CONFIG: UpdateConfig = {
  Parallelism: 1,
  FailureAction: 'pause',
  Monitor: 5 * SECOND_NS,
  MaxFailureRatio: 0,
  Order: 'stop-first',
}
export const DEFAULT_RESTART_POLICY: RestartPolicy = {
  Condition: 'any',
  Delay: 5 * SECOND_NS,
  MaxAttempts: 0,
}

/** @throws {CliError} for flags that contradict each other, with Docker's text. */
export function createSpec(
  flags: Flags,
  operands: readonly string[],
  resolved: Resolved,
  fileEnvironment: readonly string[],
): ServiceSpec {
  const [image = '', ...args] = operands
  const health = healthConfig(flags)
  const mode = serviceMode(flags)
  const updateConfig = changedUpdateConfig(undefined, flags, 'update')
  const rollbackConfig = changedUpdateConfig(undefined, flags, 'rollback')
  if ((mode.ReplicatedJob || mode.GlobalJob) && (updateConfig || rollbackConfig)) {
    throw new CliError('update and rollback configuration is not supported for jobs')
  }
  const restart = changedRestartPolicy(undefined, flags)
  const networks = flags
    .list('network')
    .map(parseNetwork)
    .map((network) => ({ ...network, Target: resolved.network(network.Target ?? '') }))
    .sort((a, b) => (a.Target < b.Target ? -1 : 1))
  const constraints = flags.list('constraint')
  const preferences = flags.list('placement-pref').map(parsePlacementPreference)
  const maxReplicas = flags.uint('replicas-max-per-node') ?? 0
  const publications = flags.list('publish').flatMap(parsePublications)
  const ports = portsOf(publications)
  const logDriver = flags.text('log-driver')
  return {
    ...(flags.text('name') === '' ? {} : { Name: flags.text('name') }),
    Labels: {
      ...publishLabels(publications),
      ...networkLabels(flags.list('network'), resolved),
      ...keyValues(flags.list('label')),
    },
    TaskTemplate: {
      ContainerSpec: containerSpec(flags, image, args, health, resolved, fileEnvironment),
      Resources: resources(flags),
      ...(restart ? { RestartPolicy: restart } : {}),
      Placement: {
        ...(constraints.length > 0 ? { Constraints: constraints } : {}),
        ...(preferences.length > 0 ? { Preferences: preferences } : {}),
        ...(maxReplicas > 0 ? { MaxReplicas: maxReplicas } : {}),
      },
      ...(networks.length > 0 ? { Networks: networks } : {}),
      ...(logDriver === '' ? {} : { LogDriver: logDriverSpec(flags) }),
      ForceUpdate: 0,
    },
    Mode: mode,
    ...(updateConfig ? { UpdateConfig: updateConfig } : {}),
    ...(rollbackConfig ? { RollbackConfig: rollbackConfig } : {}),
    EndpointSpec: {
      Mode: (flags.maybe('endpoint-mode') ?? 'vip').toLowerCase() as 'vip' | 'dnsrr',
      ...(ports.length > 0 ? { Ports: ports } : {}),
    },
  }
}

function containerSpec(
  flags: Flags,
  image: string,
  args: readonly string[],
  health: HealthConfig | undefined,
  resolved: Resolved,
  fileEnvironment: readonly string[],
): ContainerSpec {
  const text = (name: string) => flags.text(name)
  const list = (key: string, values: readonly unknown[]) => (values.length > 0 ? { [key]: values } : {})
  const map = (key: string, values: readonly string[]) => (values.length > 0 ? { [key]: keyValues(values) } : {})
  const grace = flags.duration('stop-grace-period')
  const credentials = text('credential-spec')
  const secrets = resolved.secrets(flags.list('secret'))
  const { configs, credentialSpec } = resolved.configs(
    flags.list('config'),
    credentials === '' ? undefined : parseCredentialSpec(credentials),
  )
  const oomScoreAdj = flags.int('oom-score-adj') ?? 0
  return {
    Image: image,
    ...map('Labels', flags.list('container-label')),
    ...list('Command', parseWords(text('entrypoint'))),
    ...list('Args', args),
    ...(text('hostname') === '' ? {} : { Hostname: text('hostname') }),
    ...list('Env', mergeEnvironment([...fileEnvironment, ...flags.list('env')])),
    ...(text('workdir') === '' ? {} : { Dir: text('workdir') }),
    ...(text('user') === '' ? {} : { User: text('user') }),
    ...list('Groups', flags.list('group')),
    ...(credentialSpec ? { Privileges: { CredentialSpec: credentialSpec } } : {}),
    Init: flags.on('init'),
    ...(text('stop-signal') === '' ? {} : { StopSignal: text('stop-signal') }),
    ...(flags.on('tty') ? { TTY: true } : {}),
    ...(flags.on('read-only') ? { ReadOnly: true } : {}),
    ...list('Mounts', flags.list('mount').map(parseMount)),
    ...(grace === undefined ? {} : { StopGracePeriod: grace }),
    ...(health ? { Healthcheck: health } : {}),
    ...list('Hosts', flags.list('host').map(swarmHost)),
    DNSConfig: {
      ...list('Nameservers', flags.list('dns')),
      ...list('Search', flags.list('dns-search')),
      ...list('Options', flags.list('dns-option')),
    },
    ...list('Secrets', secrets),
    ...list('Configs', configs),
    ...(text('isolation') === '' ? {} : { Isolation: text('isolation') }),
    ...map('Sysctls', flags.list('sysctl')),
    ...effectiveCapabilities(flags.list('cap-add'), flags.list('cap-drop')),
    ...list('Ulimits', mergeUlimits([], flags.list('ulimit'), [])),
    ...(oomScoreAdj === 0 ? {} : { OomScoreAdj: oomScoreAdj }),
  }
}

/** A later value of a variable replaces an earlier one, and stands where it was given. */
function mergeEnvironment(variables: readonly string[]): string[] {
  let merged: string[] = []
  for (const variable of variables) {
    if (merged.includes(variable)) continue
    const key = cut(variable, '=').before
    merged = [...merged.filter((other) => !other.startsWith(`${key}=`)), variable]
  }
  return merged
}

type Ulimit = NonNullable<ContainerSpec['Ulimits']>[number]

/** By name, sorted; `remove` names go first, then `add` values replace or join. */
export function mergeUlimits(current: readonly Ulimit[], add: readonly string[], remove: readonly string[]): Ulimit[] {
  const byName = new Map(current.map((limit) => [limit.Name ?? '', limit]))
  for (const name of remove) byName.delete(cut(name, '=').before)
  for (const limit of add.map(parseUlimit)) byName.set(limit.Name, limit)
  return [...byName.values()].sort((a, b) => ((a.Name ?? '') < (b.Name ?? '') ? -1 : 1))
}

const HEALTH_FLAGS = [
  'health-cmd',
  'health-interval',
  'health-timeout',
  'health-start-period',
  'health-start-interval',
  'health-retries',
] as const

function healthConfig(flags: Flags): HealthConfig | undefined {
  const retries = flags.int('health-retries') ?? 0
  const command = flags.text('health-cmd')
  const any =
    command !== '' ||
    retries !== 0 ||
    flags.changed(...HEALTH_FLAGS.filter((name) => name !== 'health-cmd' && name !== 'health-retries'))
  if (flags.on('no-healthcheck')) {
    if (any) throw new CliError('--no-healthcheck conflicts with --health-* options')
    return { Test: ['NONE'] }
  }
  if (!any) return undefined
  const duration = (key: string, name: string) => {
    const value = flags.duration(name)
    return value ? { [key]: value } : {}
  }
  return {
    ...(command === '' ? {} : { Test: ['CMD-SHELL', command] }),
    ...duration('Interval', 'health-interval'),
    ...duration('Timeout', 'health-timeout'),
    ...duration('StartPeriod', 'health-start-period'),
    ...duration('StartInterval', 'health-start-interval'),
    ...(retries === 0 ? {} : { Retries: retries }),
  }
}

function serviceMode(flags: Flags): ServiceMode {
  const mode = flags.maybe('mode') ?? 'replicated'
  const replicas = flags.uint('replicas')
  const concurrent = flags.uint('max-concurrent')
  const maxPerNode = flags.uint('replicas-max-per-node') ?? 0
  const onlyJobs = 'max-concurrent can only be used with replicated-job mode'
  const onlyReplicated = 'can only be used with replicated or replicated-job mode'
  if (mode === 'global' || mode === 'global-job') {
    const checks: readonly [boolean, string][] = [
      [replicas !== undefined, `replicas ${onlyReplicated}`],
      [maxPerNode > 0, `replicas-max-per-node ${onlyReplicated}`],
      [concurrent !== undefined, onlyJobs],
    ]
    // Docker looks in another order at a global job
    const wrong = (mode === 'global' ? checks : [checks[1]!, checks[2]!, checks[0]!]).find(([failed]) => failed)
    if (wrong) throw new CliError(wrong[1])
    return mode === 'global' ? { Global: {} } : { GlobalJob: {} }
  }
  if (mode === 'replicated') {
    if (concurrent !== undefined) throw new CliError(onlyJobs)
    return { Replicated: replicas === undefined ? {} : { Replicas: replicas } }
  }
  if (mode === 'replicated-job') {
    const parallel = concurrent ?? replicas
    return {
      ReplicatedJob: {
        ...(parallel === undefined ? {} : { MaxConcurrent: parallel }),
        ...(replicas === undefined ? {} : { TotalCompletions: replicas }),
      },
    }
  }
  throw new CliError(`Unknown mode: ${mode}, only replicated and global supported`)
}

/** The update or rollback policy with the flags' changes; undefined where there is none and no flag asks for one. */
export function changedUpdateConfig(
  current: UpdateConfig | undefined,
  flags: Flags,
  prefix: 'update' | 'rollback',
): UpdateConfig | undefined {
  const names = ['parallelism', 'delay', 'monitor', 'failure-action', 'max-failure-ratio', 'order']
  if (!flags.changed(...names.map((name) => `${prefix}-${name}`))) return current
  const has = (name: string) => flags.changed(`${prefix}-${name}`)
  return {
    ...(current ?? DEFAULT_UPDATE_CONFIG),
    ...(has('parallelism') ? { Parallelism: flags.uint(`${prefix}-parallelism`)! } : {}),
    ...(has('delay') ? { Delay: flags.duration(`${prefix}-delay`)! } : {}),
    ...(has('monitor') ? { Monitor: flags.duration(`${prefix}-monitor`)! } : {}),
    ...(has('failure-action')
      ? { FailureAction: flags.text(`${prefix}-failure-action`) as NonNullable<UpdateConfig['FailureAction']> }
      : {}),
    ...(has('max-failure-ratio') ? { MaxFailureRatio: parseFloat64(flags.text(`${prefix}-max-failure-ratio`)) } : {}),
    ...(has('order') ? { Order: flags.text(`${prefix}-order`) as NonNullable<UpdateConfig['Order']> } : {}),
  }
}

/** As `changedUpdateConfig`, for the restart policy. */
export function changedRestartPolicy(current: RestartPolicy | undefined, flags: Flags): RestartPolicy | undefined {
  if (!flags.changed('restart-delay', 'restart-max-attempts', 'restart-window', 'restart-condition')) return current
  return {
    ...(current ?? DEFAULT_RESTART_POLICY),
    ...(flags.changed('restart-condition')
      ? { Condition: flags.text('restart-condition') as NonNullable<RestartPolicy['Condition']> }
      : {}),
    ...(flags.changed('restart-delay') ? { Delay: flags.duration('restart-delay')! } : {}),
    ...(flags.changed('restart-max-attempts') ? { MaxAttempts: flags.uint('restart-max-attempts')! } : {}),
    ...(flags.changed('restart-window') ? { Window: flags.duration('restart-window')! } : {}),
  }
}

function resources(flags: Flags): ResourceRequirements {
  const cpus = (name: string) => (flags.changed(name) ? { NanoCPUs: parseCpus(flags.text(name)) } : {})
  const memory = (name: string) => (flags.changed(name) ? { MemoryBytes: parseBytes(flags.text(name)) } : {})
  const generic = parseGenericResources(flags.list('generic-resource'))
  return {
    Limits: {
      ...cpus('limit-cpu'),
      ...memory('limit-memory'),
      ...(flags.changed('limit-pids') ? { Pids: flags.int('limit-pids')! } : {}),
    },
    Reservations: {
      ...cpus('reserve-cpu'),
      ...memory('reserve-memory'),
      ...(generic.length > 0 ? { GenericResources: generic } : {}),
    },
    ...swapSettings(flags),
  }
}

/** --memory-swap and --memory-swappiness. */
export function swapSettings(flags: Flags): Pick<ResourceRequirements, 'SwapBytes' | 'MemorySwappiness'> {
  const swap = flags.text('memory-swap')
  return {
    ...(swap === '' ? {} : { SwapBytes: swap === '-1' ? -1 : parseBytes(swap) }),
    ...(flags.changed('memory-swappiness') ? { MemorySwappiness: flags.int('memory-swappiness')! } : {}),
  }
}

/** --log-driver with --log-opt. */
export function logDriverSpec(flags: Flags): { readonly Name: string; readonly Options: Record<string, string> } {
  return { Name: flags.text('log-driver'), Options: keyValues(flags.list('log-opt')) }
}

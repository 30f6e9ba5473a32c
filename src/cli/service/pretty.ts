// `service inspect --pretty`: the page, line by line as Docker's.

import { addressesOfPort, publishedTexts } from '../../api/publish-addresses.ts'
import type { Labels, PortConfig, UpdateConfig } from '../../api/spec.ts'
import { parseTime } from '../../lib/clock.ts'
import type { ServiceJson } from '../api-types.ts'
import { printFloat } from '../format/value.ts'
import { sortedPairs } from '../output/pretty.ts'
import { bytesSize, formatDuration, humanDuration } from '../units.ts'

/** `networkNames`: names by id, of those that could be resolved. */
export function prettyService(service: ServiceJson, networkNames: ReadonlyMap<string, string>, nowMs: number): string {
  return [
    ...head(service),
    ...updateStatus(service, nowMs),
    ...problem(service, nowMs),
    ...placement(service),
    ...policy('UpdateConfig', 'Update order:      ', service.Spec.UpdateConfig),
    ...policy('RollbackConfig', 'Rollback order:    ', service.Spec.RollbackConfig),
    ...container(service),
    ...logDriver(service),
    ...resources(service),
    ...tail(service, networkNames),
  ].join('')
}

const pairs = (values: Readonly<Record<string, string>> | null | undefined, separator: string, indent = ' ') =>
  sortedPairs(values).map(([key, value]) => `\n${indent}${key}${value ? `${separator}${value}` : ''}`)

function head(service: ServiceJson): string[] {
  const { Name = '', Labels, Mode = {} } = service.Spec
  const labels = pairs(Labels, '=')
  const replicas = Mode.Replicated?.Replicas
  return [
    `\nID:\t\t${service.ID}\nName:\t\t${Name}`,
    ...(labels.length > 0 ? ['\nLabels:', ...labels] : []),
    '\nService Mode:',
    ...(Mode.Global ? ['\tGlobal'] : []),
    ...(Mode.Replicated ? ['\tReplicated', ...(replicas === undefined ? [] : [`\n Replicas:\t${replicas}`])] : []),
  ]
}

function updateStatus(service: ServiceJson, nowMs: number): string[] {
  const status = service.UpdateStatus
  if (!status?.State) return []
  const ago = (time: string) => `${humanDuration(nowMs - parseTime(time))} ago`
  return [
    `\nUpdateStatus:\n State:\t\t${status.State}`,
    ...(status.StartedAt ? [`\n Started:\t${ago(status.StartedAt)}`] : []),
    ...(status.State === 'completed' && status.CompletedAt ? [`\n Completed:\t${ago(status.CompletedAt)}`] : []),
    `\n Message:\t${status.Message ?? ''}`,
  ]
}

/** What the managers could not do for the service: Docker's page has no such lines, and shows nothing of it. */
function problem({ Problem }: ServiceJson, nowMs: number): string[] {
  if (!Problem) return []
  const since = Problem.Since ? `\n Since:\t\t${humanDuration(nowMs - parseTime(Problem.Since))} ago` : ''
  return [`\nProblem:\n Code:\t\t${Problem.Code}${since}\n Message:\t${Problem.Message}`]
}

function placement(service: ServiceJson): string[] {
  const {
    Constraints: constraints = [],
    Preferences: preferences = [],
    MaxReplicas: max = 0,
  } = service.Spec.TaskTemplate?.Placement ?? {}
  const spreads = (preferences ?? []).flatMap(({ Spread }) =>
    Spread ? [`spread=${Spread.SpreadDescriptor ?? ''}`] : [],
  )
  return [
    '\nPlacement:',
    ...((constraints ?? []).length > 0 ? [`\n Constraints:\t[${constraints.join(' ')}]`] : []),
    ...(spreads.length > 0 ? [`\n Preferences:   [${spreads.join(' ')}]`] : []),
    ...(max > 0 ? [`\n Max Replicas Per Node:   ${max}`] : []),
  ]
}

function policy(title: string, order: string, config: UpdateConfig | null | undefined): string[] {
  if (!config) return []
  return [
    `\n${title}:\n Parallelism:\t${config.Parallelism ?? 0}`,
    ...(config.Delay ? [`\n Delay:\t\t${formatDuration(config.Delay)}`] : []),
    `\n On failure:\t${config.FailureAction ?? ''}`,
    ...(config.Monitor ? [`\n Monitoring Period: ${formatDuration(config.Monitor)}`] : []),
    `\n Max failure ratio: ${printFloat(config.MaxFailureRatio ?? 0)}`,
    `\n ${order}${config.Order ?? ''}`,
  ]
}

function container(service: ServiceJson): string[] {
  const spec = service.Spec.TaskTemplate?.ContainerSpec ?? {}
  const words = (label: string, values: readonly string[] | null | undefined) =>
    (values ?? []).length > 0 ? [`\n ${label}:\t\t${values!.map((value) => `${value} `).join('')}`] : []
  const capabilities = [
    ...(spec.CapabilityAdd?.length ? [`\n Add: ${spec.CapabilityAdd.join(', ')}`] : []),
    ...(spec.CapabilityDrop?.length ? [`\n Drop: ${spec.CapabilityDrop.join(', ')}`] : []),
  ]
  const sysctls = pairs(spec.Sysctls, ': ')
  const ulimits = [...(spec.Ulimits ?? [])].sort((a, b) => ((a.Name ?? '') < (b.Name ?? '') ? -1 : 1))
  const mounts = spec.Mounts ?? []
  return [
    `\nContainerSpec:\n Image:\t\t${spec.Image ?? ''}`,
    ...words('Args', spec.Args),
    ...words('Env', spec.Env),
    ...(spec.Dir ? [`\n Dir:\t\t${spec.Dir}`] : []),
    ...(spec.Init === undefined || spec.Init === null ? [] : [`\n Init:\t\t${spec.Init}`]),
    ...(spec.User ? [`\n User: ${spec.User}`] : []),
    ...(capabilities.length > 0 ? ['\nCapabilities:', ...capabilities] : []),
    ...(sysctls.length > 0 ? ['\nSysCtls:', ...sysctls] : []),
    ...(ulimits.length > 0
      ? ['\nUlimits:', ...ulimits.map((limit) => `\n ${limit.Name}: ${limit.Soft ?? 0}:${limit.Hard ?? 0}`)]
      : []),
    ...(mounts.length > 0 ? ['\nMounts:'] : []),
    ...mounts.map(
      (mount) =>
        `\n Target:\t${mount.Target ?? ''}\n  Source:\t${mount.Source ?? ''}\n  ReadOnly:\t${mount.ReadOnly ?? false}\n  Type:\t\t${mount.Type ?? ''}`,
    ),
    ...files(
      'Configs',
      spec.Configs?.map(({ File, ConfigName }) => ({ target: File?.Name, source: ConfigName })),
    ),
    ...files(
      'Secrets',
      spec.Secrets?.map(({ File, SecretName }) => ({ target: File?.Name, source: SecretName })),
    ),
  ]
}

function files(
  title: string,
  list: readonly { readonly target: string | undefined; readonly source: string | undefined }[] | undefined,
): string[] {
  if (!list?.length) return []
  return [`\n${title}:`, ...list.map(({ target = '', source = '' }) => `\n Target:\t${target}\n  Source:\t${source}`)]
}

function logDriver(service: ServiceJson): string[] {
  const driver = service.Spec.TaskTemplate?.LogDriver
  if (!driver) return []
  const options = pairs(driver.Options, ':       ', '  ')
  return [
    '\nLog Driver:',
    ...(driver.Name ? [`\n Name:\t\t${driver.Name}`] : []),
    ...(options.length > 0 ? ['\n LogOpts:', ...options] : []),
    '\n',
  ]
}

function resources(service: ServiceJson): string[] {
  const spec = service.Spec.TaskTemplate?.Resources
  if (!spec) return []
  const { Limits: limits = {}, Reservations: reserved = {} } = spec
  const part = (title: string, { NanoCPUs: cpus = 0, MemoryBytes: memory = 0 }, shown: boolean) =>
    shown
      ? [
          `\n ${title}:`,
          ...(cpus > 0 ? [`\n  CPU:\t\t${printFloat(cpus / 1e9)}`] : []),
          ...(memory > 0 ? [`\n  Memory:\t${bytesSize(memory)}`] : []),
        ]
      : []
  const used = ({ NanoCPUs = 0, MemoryBytes = 0 }) => NanoCPUs > 0 || MemoryBytes > 0
  const pids = limits.Pids ?? 0
  return [
    '\nResources:',
    ...part('Reservations', reserved, used(reserved)),
    ...part('Limits', limits, used(limits) || pids > 0),
    ...(pids > 0 ? [`\n  PIDs:\t\t${pids}`] : []),
  ]
}

function tail(service: ServiceJson, networkNames: ReadonlyMap<string, string>): string[] {
  const names = (service.Spec.TaskTemplate?.Networks ?? []).flatMap(({ Target = '' }) => networkNames.get(Target) ?? [])
  const ports = service.Endpoint?.Ports ?? []
  const health = service.Spec.TaskTemplate?.ContainerSpec?.Healthcheck
  return [
    ...(names.length > 0 ? ['\nNetworks:', ...names.map((name) => ` ${name}`), ' '] : []),
    `\nEndpoint Mode:\t${service.Spec.EndpointSpec?.Mode ?? ''}`,
    ...(ports.length > 0
      ? [
          '\nPorts:',
          ...ports.map(
            (port) =>
              `\n PublishedPort = ${port.PublishedPort ?? 0}\n  Protocol = ${port.Protocol ?? ''}\n  TargetPort = ${port.TargetPort ?? 0}\n  PublishMode = ${port.PublishMode ?? ''}${addressLine(port, service.Spec.Labels)}`,
          ),
          ' ',
        ]
      : []),
    ...(health
      ? [
          `\n Healthcheck:\n  Interval = ${formatDuration(health.Interval ?? 0)}\n  Retries = ${health.Retries ?? 0}\n  StartPeriod =\t${formatDuration(health.StartPeriod ?? 0)}\n  Timeout =\t${formatDuration(health.Timeout ?? 0)}`,
          ...(health.Test?.length ? ['\n  Tests:', ...health.Test.map((test) => `\n\t Test = ${test}`), ' '] : []),
        ]
      : []),
    '\n',
  ]
}

/** Docker knows no ports that are open on some addresses only. */
function addressLine(port: PortConfig, labels: Labels | null | undefined): string {
  if (addressesOfPort(labels ?? {}, port).length === 0) return ''
  return `\n  Address = ${publishedTexts(port, labels ?? {}).join(', ')}`
}

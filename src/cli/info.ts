// `swarmctl info`: the daemon's view of its machine and of the swarm, as `docker info` lays it out.

import { VERSION } from '../lib/version.ts'
import type { InfoJson } from './api-types.ts'
import { ConnectionError } from './client.ts'
import { CliError, type Command, type Context } from './command.ts'
import { type Flags, inspectFormatFlag } from './flags.ts'
import { encodeJson } from './format/json.ts'
import { compileFormat } from './format/render.ts'
import { TemplateError } from './format/template-error.ts'
import { GoStruct, type Value } from './format/value.ts'
import { fromJson } from './shapes/shape.ts'
import { bytesSize, humanDuration } from './units.ts'

type Json = Readonly<Record<string, unknown>>

const text = (value: unknown): string => (value === undefined || value === null ? '' : String(value))
const record = (value: unknown): Json => (typeof value === 'object' && value !== null ? (value as Json) : {})
const array = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
/** A line only where there is something to say. */
const ifAny = (label: string, value: unknown) => (text(value) === '' ? [] : [`${label} ${text(value)}`])

async function run(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const format = flags.text('format')
  let info: Json | undefined
  let failure: CliError | undefined
  try {
    info = await client.json<Json>('GET', '/info')
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    failure = error
  }
  if (format !== '') {
    if (!info) throw failure!
    context.stdout.write(formatted(info, format, context))
    return
  }
  context.stdout.write(
    `Client:\n Version:    ${VERSION}\n Context:    ${context.contextName}\n Debug Mode: false\n\nServer:\n`,
  )
  if (info) {
    context.stdout.write(`${serverLines(info).join('\n')}\n\n`)
    for (const warning of array(info.Warnings)) context.stderr.write(`${text(warning)}\n`)
  }
  if (!failure) return
  if (failure instanceof ConnectionError) throw failure
  context.stderr.write(`ERROR: ${failure.message}\n`)
  throw new CliError('errors pretty printing info')
}

function formatted(info: Json, format: string, context: Context): string {
  const json: Json = { ...info, ClientInfo: { Debug: false, Version: VERSION, Context: context.contextName } }
  const fields = new Map<string, Value>(Object.entries(json).map(([key, value]) => [key, fromJson(value)]))
  const value = new GoStruct('system.dockerInfo', fields, { encode: () => encodeJson(fields) })
  try {
    return `${compileFormat(format === 'json' ? '{{json .}}' : format).render(value)}\n`
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error
    throw new CliError(`template parsing error: ${error.message}`, 64)
  }
}

function serverLines(info: Json): string[] {
  const plugins = record(info.Plugins)
  const names = (key: string) => array(plugins[key]).map(text).join(' ')
  const commit = (key: string) => text(record(info[key]).ID)
  const pairs = (key: string) => array(info[key]).map((pair) => `  ${text(array(pair)[0])}: ${text(array(pair)[1])}`)
  const linux =
    info.OSType === 'linux'
      ? [
          ` Init Binary: ${text(info.InitBinary)}`,
          ` containerd version: ${commit('ContainerdCommit')}`,
          ` runc version: ${commit('RuncCommit')}`,
          ` init version: ${commit('InitCommit')}`,
          ...securityLines(array(info.SecurityOptions).map(text)),
        ]
      : []
  return [
    ` Containers: ${text(info.Containers)}`,
    `  Running: ${text(info.ContainersRunning)}`,
    `  Paused: ${text(info.ContainersPaused)}`,
    `  Stopped: ${text(info.ContainersStopped)}`,
    ` Images: ${text(info.Images)}`,
    ...ifAny(' Server Version:', info.ServerVersion),
    ...ifAny(' Storage Driver:', info.Driver),
    ...pairs('DriverStatus'),
    ...ifAny(' Logging Driver:', info.LoggingDriver),
    ...ifAny(' Cgroup Driver:', info.CgroupDriver),
    ...ifAny(' Cgroup Version:', info.CgroupVersion),
    ' Plugins:',
    `  Volume: ${names('Volume')}`,
    `  Network: ${names('Network')}`,
    ...(array(plugins.Authorization).length > 0 ? [`  Authorization: ${names('Authorization')}`] : []),
    `  Log: ${names('Log')}`,
    ...swarmLines(info as InfoJson),
    ...runtimeLines(info),
    ...linux,
    ...ifAny(' Kernel Version:', info.KernelVersion),
    ...ifAny(' Operating System:', info.OperatingSystem),
    ...ifAny(' OSType:', info.OSType),
    ...ifAny(' Architecture:', info.Architecture),
    ` CPUs: ${text(info.NCPU)}`,
    ` Total Memory: ${bytesSize(Number(info.MemTotal ?? 0))}`,
    ...ifAny(' Name:', info.Name),
    ...ifAny(' ID:', info.ID),
    ` Docker Root Dir: ${text(info.DockerRootDir)}`,
    ` Debug Mode: ${info.Debug === true}`,
    ...ifAny(' HTTP Proxy:', info.HttpProxy),
    ...ifAny(' HTTPS Proxy:', info.HttpsProxy),
    ...ifAny(' No Proxy:', info.NoProxy),
    ...(array(info.Labels).length > 0 ? [' Labels:', ...array(info.Labels).map((label) => `  ${text(label)}`)] : []),
    ` Experimental: ${info.ExperimentalBuild === true}`,
    ...registryLines(record(info.RegistryConfig)),
    ` Live Restore Enabled: ${info.LiveRestoreEnabled === true}`,
    ...ifAny(' Product License:', info.ProductLicense),
    ...poolLines(array(info.DefaultAddressPools)),
  ]
}

function runtimeLines(info: Json): string[] {
  const names = Object.keys(record(info.Runtimes)).sort()
  if (names.length === 0) return []
  return [` Runtimes: ${names.join(' ')}`, ` Default Runtime: ${text(info.DefaultRuntime)}`]
}

/** "name=seccomp,profile=default" → its name, and its profile below it. */
function securityLines(options: readonly string[]): string[] {
  if (options.length === 0) return []
  return [
    ' Security Options:',
    ...options.flatMap((option) => {
      const values = new Map(option.split(',').map((part) => part.split('=', 2) as [string, string]))
      const profile = values.get('profile')
      return [`  ${values.get('name') ?? option}`, ...(profile === undefined ? [] : [`   Profile: ${profile}`])]
    }),
  ]
}

function registryLines(config: Json): string[] {
  const insecure = Object.values(record(config.IndexConfigs))
    .map(record)
    .filter((index) => index.Secure !== true)
    .map((index) => `  ${text(index.Name)}`)
  const cidrs = array(config.InsecureRegistryCIDRs).map((cidr) => `  ${text(cidr)}`)
  const any = cidrs.length > 0 || Object.keys(record(config.IndexConfigs)).length > 0
  const mirrors = array(config.Mirrors).map((mirror) => `  ${text(mirror)}`)
  return [
    ...(any ? [' Insecure Registries:', ...insecure, ...cidrs] : []),
    ...(mirrors.length > 0 ? [' Registry Mirrors:', ...mirrors] : []),
  ]
}

function poolLines(pools: readonly unknown[]): string[] {
  if (pools.length === 0) return []
  return [
    ' Default Address Pools:',
    ...pools.map((pool) => `   Base: ${text(record(pool).Base)}, Size: ${text(record(pool).Size)}`),
  ]
}

function swarmLines(info: InfoJson): string[] {
  const swarm = info.Swarm ?? {}
  const lines = [` Swarm: ${swarm.LocalNodeState ?? ''}`]
  if (swarm.LocalNodeState === 'inactive' || swarm.LocalNodeState === 'locked') return lines
  lines.push(`  NodeID: ${swarm.NodeID ?? ''}`)
  if (swarm.Error) lines.push(`  Error: ${swarm.Error}`)
  lines.push(`  Is Manager: ${swarm.ControlAvailable === true}`)
  if (swarm.Cluster && swarm.ControlAvailable && !swarm.Error && swarm.LocalNodeState !== 'error') {
    lines.push(...clusterLines(swarm.Cluster, swarm.Managers ?? 0, swarm.Nodes ?? 0))
  }
  lines.push(`  Node Address: ${swarm.NodeAddr ?? ''}`)
  const managers = (swarm.RemoteManagers ?? []).map(({ Addr }) => Addr).sort()
  if (managers.length > 0) lines.push('  Manager Addresses:', ...managers.map((address) => `   ${address}`))
  return lines
}

type ClusterJson = NonNullable<NonNullable<InfoJson['Swarm']>['Cluster']>

function clusterLines(cluster: ClusterJson, managers: number, nodes: number): string[] {
  const { Orchestration, Raft, Dispatcher, CAConfig, EncryptionConfig } = cluster.Spec
  const certificate = CAConfig?.SigningCACert?.trim()
  const externals = CAConfig?.ExternalCAs ?? []
  const age = (nanoseconds: number | undefined) => humanDuration((nanoseconds ?? 0) / 1e6)
  return [
    `  ClusterID: ${cluster.ID}`,
    `  Managers: ${managers}`,
    `  Nodes: ${nodes}`,
    ...(cluster.DefaultAddrPool
      ? [
          `  Default Address Pool: ${cluster.DefaultAddrPool.map((pool) => `${pool}  `).join('')}`,
          `  SubnetSize: ${cluster.SubnetSize ?? 0}`,
        ]
      : []),
    ...(cluster.DataPathPort ? [`  Data Path Port: ${cluster.DataPathPort}`] : []),
    '  Orchestration:',
    `   Task History Retention Limit: ${Orchestration?.TaskHistoryRetentionLimit ?? 0}`,
    '  Raft:',
    `   Snapshot Interval: ${Raft?.SnapshotInterval ?? 0}`,
    ...(typeof Raft?.KeepOldSnapshots === 'number'
      ? [`   Number of Old Snapshots to Retain: ${Raft.KeepOldSnapshots}`]
      : []),
    `   Heartbeat Tick: ${Raft?.HeartbeatTick ?? 0}`,
    `   Election Tick: ${Raft?.ElectionTick ?? 0}`,
    '  Dispatcher:',
    `   Heartbeat Period: ${age(Dispatcher?.HeartbeatPeriod)}`,
    '  CA Configuration:',
    `   Expiry Duration: ${age(CAConfig?.NodeCertExpiry)}`,
    `   Force Rotate: ${CAConfig?.ForceRotate ?? 0}`,
    ...(certificate ? [`   Signing CA Certificate: \n${certificate}\n`] : []),
    ...(externals.length > 0
      ? ['   External CAs:', ...externals.map((ca) => `     ${ca.Protocol ?? ''}: ${ca.URL ?? ''}`)]
      : []),
    `  Autolock Managers: ${EncryptionConfig?.AutoLockManagers === true}`,
    `  Root Rotation In Progress: ${cluster.RootRotationInProgress === true}`,
  ]
}

export const infoCommand: Command = {
  name: 'info',
  usage: '[OPTIONS]',
  summary: 'Display system-wide information',
  examples: `  swarmctl info
  swarmctl info --format '{{.Swarm.NodeID}} {{.Swarm.LocalNodeState}}'`,
  flags: [inspectFormatFlag],
  operands: { min: 0, max: 0 },
  run,
}

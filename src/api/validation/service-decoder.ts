// Docker's ServiceSpec as JSON → our type, with the defaults that Swarm itself stores (protocol tcp, mode ingress,
// isolation default …). What needs the whole spec (modes, networks of the old place) is in defaults.ts.

import type {
  ConfigReference,
  ContainerSpec,
  Driver,
  EndpointSpec,
  FileTarget,
  GenericResource,
  HealthConfig,
  MountSpec,
  NetworkAttachmentConfig,
  Placement,
  PortConfig,
  Privileges,
  ResourceRequirements,
  Resources,
  RestartPolicy,
  SecretReference,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from '../spec.ts'
import type { Decoder } from './decode.ts'
import {
  always,
  count,
  flag,
  integer,
  labels,
  list,
  malformed,
  object,
  pointer,
  presence,
  ratio,
  text,
  texts,
  uint32,
} from './decode.ts'
import { refusal } from './refusal.ts'

/** A value out of a fixed set; `refuse` makes Swarm's text for any other. */
function oneOf<T extends string>(
  values: readonly T[],
  refuse: (value: string) => string,
  options: { readonly lowerCase?: boolean } = {},
): Decoder<T> {
  return (value, path) => {
    const given = text(value, path)
    if (given === undefined) return undefined
    const wanted = options.lowerCase ? given.toLowerCase() : given
    const found = values.find((each) => each === wanted)
    if (found === undefined) throw refusal(refuse(given))
    return found
  }
}

export const driver: Decoder<Driver> = object({ Name: text, Options: labels })

const mountTypes = ['bind', 'volume', 'tmpfs', 'npipe', 'cluster', 'image'] as const

const mount: Decoder<MountSpec> = object<MountSpec>({
  Type: always(
    oneOf(mountTypes, (type) => `invalid MountType: ${JSON.stringify(type)}`, { lowerCase: true }),
    'bind',
  ),
  Source: text,
  Target: text,
  ReadOnly: flag,
  Consistency: text,
  BindOptions: object({
    Propagation: oneOf<string>(
      ['rprivate', 'private', 'rshared', 'shared', 'rslave', 'slave'],
      (propagation) => `invalid MountPropagation: ${JSON.stringify(propagation)}`,
      { lowerCase: true },
    ),
    NonRecursive: flag,
    CreateMountpoint: flag,
    ReadOnlyNonRecursive: flag,
    ReadOnlyForceRecursive: flag,
  }),
  VolumeOptions: object({ NoCopy: flag, Labels: labels, DriverConfig: driver, Subpath: text }),
  ImageOptions: object({ Subpath: text }),
  TmpfsOptions: object({ SizeBytes: integer, Mode: uint32, Options: list(texts) }),
  ClusterOptions: presence,
})

const health: Decoder<HealthConfig> = object({
  Test: texts,
  Interval: integer,
  Timeout: integer,
  Retries: integer,
  StartPeriod: integer,
  StartInterval: integer,
})

const file: Decoder<FileTarget> = object<FileTarget>({
  Name: always(text, ''),
  UID: always(text, ''),
  GID: always(text, ''),
  Mode: always(uint32, 0),
})

export const secretReference: Decoder<SecretReference> = object<SecretReference>({
  File: file,
  SecretID: always(text, ''),
  SecretName: always(text, ''),
})

export const configReference: Decoder<ConfigReference> = object<ConfigReference>({
  File: file,
  Runtime: presence,
  ConfigID: always(text, ''),
  ConfigName: always(text, ''),
})

const privileges: Decoder<Privileges> = object<Privileges>({
  CredentialSpec: object({ Config: text, File: text, Registry: text }),
  SELinuxContext: object({ Disable: flag, User: text, Role: text, Type: text, Level: text }),
  Seccomp: object<NonNullable<Privileges['Seccomp']>>({
    Mode: oneOf(['default', 'unconfined', 'custom'], (mode) => `invalid seccomp mode: ${JSON.stringify(mode)}`),
    Profile: text,
  }),
  AppArmor: object<NonNullable<Privileges['AppArmor']>>({
    Mode: oneOf(['default', 'disabled'], (mode) => `invalid AppArmor mode: ${JSON.stringify(mode)}`),
  }),
  NoNewPrivileges: flag,
})

const container: Decoder<ContainerSpec> = object<ContainerSpec>({
  Image: text,
  Labels: labels,
  Command: texts,
  Args: texts,
  Hostname: text,
  Env: texts,
  Dir: text,
  User: text,
  Groups: texts,
  Privileges: privileges,
  Init: pointer(flag, false),
  StopSignal: text,
  TTY: flag,
  OpenStdin: flag,
  ReadOnly: flag,
  Mounts: list(mount),
  StopGracePeriod: pointer(integer, 0),
  Healthcheck: health,
  Hosts: texts,
  DNSConfig: object({ Nameservers: texts, Search: texts, Options: texts }),
  Secrets: list(secretReference),
  Configs: list(configReference),
  Isolation: always(text, 'default'),
  Sysctls: labels,
  CapabilityAdd: texts,
  CapabilityDrop: texts,
  Ulimits: list(object({ Name: text, Hard: always(integer, 0), Soft: always(integer, 0) })),
  OomScoreAdj: integer,
})

export const genericResource: Decoder<GenericResource> = object({
  NamedResourceSpec: object({ Kind: text, Value: text }),
  DiscreteResourceSpec: object({ Kind: text, Value: integer }),
})

const resources: Decoder<Resources> = object({
  NanoCPUs: integer,
  MemoryBytes: integer,
  GenericResources: list(genericResource),
})

const requirements: Decoder<ResourceRequirements> = object<ResourceRequirements>({
  Limits: object({ NanoCPUs: integer, MemoryBytes: integer, GenericResources: list(genericResource), Pids: integer }),
  Reservations: resources,
  SwapBytes: pointer(integer, 0),
  MemorySwappiness: pointer(integer, 0),
})

const restart: Decoder<RestartPolicy> = object<RestartPolicy>({
  Condition: always(
    oneOf(['none', 'on-failure', 'any'], (condition) => `invalid RestartCondition: ${JSON.stringify(condition)}`),
    'any',
  ),
  Delay: pointer(integer, 0),
  MaxAttempts: always(count, 0),
  Window: pointer(integer, 0),
})

const placement: Decoder<Placement> = object({
  Constraints: texts,
  Preferences: list(object({ Spread: object({ SpreadDescriptor: text }) })),
  MaxReplicas: count,
  Platforms: list(object({ Architecture: text, OS: text })),
})

export const attachment: Decoder<NetworkAttachmentConfig> = object({ Target: text, Aliases: texts, DriverOpts: labels })

const plugin: Decoder<Readonly<Record<string, unknown>>> = (value, path) => {
  if (value === null || value === undefined) return undefined
  if (typeof value !== 'object' || Array.isArray(value)) throw malformed(path, 'expected object')
  return { ...value }
}

const task: Decoder<TaskSpec> = object<TaskSpec>({
  ContainerSpec: container,
  PluginSpec: plugin,
  NetworkAttachmentSpec: object({ ContainerID: text }),
  Resources: requirements,
  RestartPolicy: restart,
  Placement: placement,
  Networks: list(attachment),
  LogDriver: driver,
  ForceUpdate: always(count, 0),
  Runtime: text,
})

const mode: Decoder<ServiceMode> = object({
  Replicated: object({ Replicas: pointer(count, 0) }),
  Global: presence,
  ReplicatedJob: object({ MaxConcurrent: pointer(count, 0), TotalCompletions: pointer(count, 0) }),
  GlobalJob: presence,
})

const update: Decoder<UpdateConfig> = object<UpdateConfig>({
  Parallelism: always(count, 0),
  Delay: integer,
  FailureAction: always(
    oneOf(['pause', 'continue', 'rollback'], (action) => `unrecognized update failure action ${action}`),
    'pause',
  ),
  Monitor: integer,
  MaxFailureRatio: always(ratio, 0),
  Order: always(
    oneOf(['stop-first', 'start-first'], (order) => `unrecognized update order ${order}`),
    'stop-first',
  ),
})

const port: Decoder<PortConfig> = object<PortConfig>({
  Name: text,
  Protocol: always(
    oneOf(['tcp', 'udp', 'sctp'], (protocol) => `invalid protocol: ${JSON.stringify(protocol)}`, { lowerCase: true }),
    'tcp',
  ),
  TargetPort: uint32,
  PublishedPort: uint32,
  PublishMode: always(
    oneOf(['ingress', 'host'], (publish) => `invalid publish mode: ${JSON.stringify(publish)}`, { lowerCase: true }),
    'ingress',
  ),
})

const endpoint: Decoder<EndpointSpec> = object<EndpointSpec>({
  Mode: always(
    oneOf(['vip', 'dnsrr'], (resolution) => `invalid resolution mode: ${JSON.stringify(resolution)}`),
    'vip',
  ),
  Ports: list(port),
})

export const serviceSpecDecoder: Decoder<ServiceSpec> = object<ServiceSpec>({
  Name: text,
  Labels: always(labels, {}),
  TaskTemplate: always(task, {}),
  Mode: always(mode, {}),
  UpdateConfig: update,
  RollbackConfig: update,
  Networks: list(attachment),
  EndpointSpec: endpoint,
})

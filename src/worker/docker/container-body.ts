// A task as the body of POST /containers/create: the same mapping that Swarm makes.

import { type Task, taskName } from '../../api/objects.ts'
import { addressesHere, addressesOfPort, type NodeAddress } from '../../api/publish-addresses.ts'
import type {
  ContainerSpec,
  Driver,
  GenericResource,
  Labels,
  MountSpec,
  PortConfig,
  Privileges,
  TaskSpec,
} from '../../api/spec.ts'
import type { HostModePort } from '../../overlay/desired-state.ts'
import { ENDPOINT_PORTS_KEY, NO_ENGINE_RESOLVER, portsOption } from '../../overlay/driver-options.ts'
import { type TaskOrder, taskFailed } from '../executor.ts'
import { withContainerExtras } from './container-extras.ts'
import { hostPorts, predefinedNetworks } from './task-networks.ts'

export const TASK_ID_LABEL = 'com.docker.swarm.task.id'
export const NODE_ID_LABEL = 'com.docker.swarm.node.id'

export interface FileMount {
  readonly source: string
  readonly target: string
}

/** Where swarmd's socket is for tasks. */
export interface SocketSource {
  readonly path: string
  /** It is a shared mount point: a task bound to it as a slave follows what is mounted there later. */
  readonly isShared: boolean
}

/** The container's networks, as far as they are given at its making. */
export interface BodyNetworks {
  /** The engine's EndpointSettings by network; the first is the container's network mode. */
  readonly endpoints: Readonly<Record<string, object>>
  /** Host-mode ports that the engine has no part in. */
  readonly ports?: readonly HostModePort[]
  /** How many it will have when it is complete: older engines take only one at the making. */
  readonly count: number
  /** The engine is to be kept from starting its resolver, which costs much there; resolv.conf names ours. */
  readonly skipResolver: boolean
}

/** On a container whose networks are connected one by one: their number. */
export const NETWORK_COUNT_LABEL = 'io.swarmctl.networks'

export interface ContainerBodyOptions {
  /** With templates expanded. */
  readonly spec: ContainerSpec
  /** Secrets and configs as files on this machine. */
  readonly files: readonly FileMount[]
  /** What a bind of the engine's socket is given instead; undefined: the engine's own. */
  readonly dockerSocket: SocketSource | undefined
  /** Of this node. */
  readonly hostAddresses?: readonly NodeAddress[]
  /** undefined: none of the cluster's. */
  readonly networks?: BodyNetworks | undefined
}

/** Docker's own JSON, as loose as its API: every value comes out of a typed spec. */
export type ContainerBody = Readonly<Record<string, unknown>>

/** @throws {CodedError} TASK_FAILED for what no engine could do. */
export function containerBody(order: TaskOrder, options: ContainerBodyOptions): ContainerBody {
  const { task } = order
  const { spec, networks } = options
  if (!spec.Image) throw taskFailed('dockerexec: image required')
  const command = spec.Command ?? []
  const args = spec.Args ?? []
  const ports = hostPorts(task)
  const published = networks?.ports ?? []
  const graceNs = spec.StopGracePeriod
  const body = compact({
    Image: spec.Image,
    Labels: labels(task, spec, networks),
    Entrypoint: command.length > 0 ? command : undefined,
    Cmd: args.length > 0 ? args : undefined,
    Env: [...(spec.Env ?? []), ...genericEnv(task.genericResources)],
    Hostname: spec.Hostname,
    WorkingDir: spec.Dir,
    User: spec.User,
    Tty: spec.TTY,
    OpenStdin: spec.OpenStdin,
    StopSignal: spec.StopSignal,
    StopTimeout: graceNs === undefined || graceNs === null ? undefined : Math.ceil(graceNs / 1e9),
    Healthcheck: spec.Healthcheck ?? undefined,
    ExposedPorts: ports.length > 0 ? Object.fromEntries(ports.map((port) => [portKey(port), {}])) : undefined,
    HostConfig: compact({
      ...resources(task.spec, spec),
      GroupAdd: spec.Groups,
      PortBindings:
        published.length > 0 ? undefined : portBindings(ports, task.serviceLabels, options.hostAddresses ?? []),
      Mounts: mounts(options),
      ReadonlyRootfs: spec.ReadOnly,
      Isolation: spec.Isolation,
      Init: spec.Init ?? undefined,
      Sysctls: spec.Sysctls,
      CapAdd: spec.CapabilityAdd,
      CapDrop: spec.CapabilityDrop,
      OomScoreAdj: spec.OomScoreAdj,
      Dns: spec.DNSConfig?.Nameservers,
      DnsSearch: spec.DNSConfig?.Search,
      DnsOptions: [...(networks?.skipResolver ? [NO_ENGINE_RESOLVER] : []), ...(spec.DNSConfig?.Options ?? [])],
      ExtraHosts: extraHosts(spec.Hosts ?? []),
      SecurityOpt: securityOptions(spec.Privileges ?? {}),
      LogConfig: logConfig(task.spec.LogDriver ?? task.logDriver),
      NetworkMode: networks ? Object.keys(networks.endpoints)[0] : networkMode(order),
    }),
    NetworkingConfig: networks && { EndpointsConfig: networks.endpoints },
  })
  return withContainerExtras(body, task.serviceLabels)
}

function labels(task: Task, spec: ContainerSpec, networks: BodyNetworks | undefined): Record<string, string> {
  const isPartial = networks !== undefined && networks.count > Object.keys(networks.endpoints).length
  return {
    ...spec.Labels,
    'com.docker.swarm.task': '',
    [TASK_ID_LABEL]: task.id,
    'com.docker.swarm.task.name': taskName(task),
    [NODE_ID_LABEL]: task.nodeId,
    'com.docker.swarm.service.id': task.serviceId,
    'com.docker.swarm.service.name': task.serviceName,
    ...(networks?.ports && networks.ports.length > 0 && { [ENDPOINT_PORTS_KEY]: portsOption(networks.ports) }),
    ...(isPartial && { [NETWORK_COUNT_LABEL]: String(networks.count) }),
  }
}

/** DOCKER_RESOURCE_GPU=uuid1,uuid2 or a number: how a container learns what it was given. */
function genericEnv(resourcesGiven: readonly GenericResource[]): readonly string[] {
  const byKind = new Map<string, string[]>()
  for (const { NamedResourceSpec: named, DiscreteResourceSpec: discrete } of resourcesGiven) {
    const kind = named?.Kind ?? discrete?.Kind
    if (!kind) continue
    const values = byKind.get(kind) ?? []
    byKind.set(kind, values)
    values.push(named ? (named.Value ?? '') : String(discrete?.Value ?? 0))
  }
  return [...byKind].map(([kind, values]) => `DOCKER_RESOURCE_${kind.toUpperCase()}=${values.join(',')}`)
}

function resources(taskSpec: TaskSpec, spec: ContainerSpec): Record<string, unknown> {
  const {
    Limits: limits,
    Reservations: reservations,
    SwapBytes: swapBytes,
    MemorySwappiness: swappiness,
  } = taskSpec.Resources ?? {}
  const memoryBytes = limits?.MemoryBytes ?? 0
  return {
    Memory: memoryBytes > 0 ? memoryBytes : undefined,
    NanoCpus: (limits?.NanoCPUs ?? 0) > 0 ? limits?.NanoCPUs : undefined,
    PidsLimit: (limits?.Pids ?? 0) > 0 ? limits?.Pids : undefined,
    MemoryReservation: (reservations?.MemoryBytes ?? 0) > 0 ? reservations?.MemoryBytes : undefined,
    // The engine counts memory and swap together; -1 is unlimited in both.
    MemorySwap:
      swapBytes === undefined || swapBytes === null ? undefined : swapBytes < 0 ? -1 : memoryBytes + swapBytes,
    MemorySwappiness: swappiness ?? undefined,
    Ulimits: spec.Ulimits,
  }
}

function portKey(port: PortConfig): string {
  return `${port.TargetPort}/${port.Protocol ?? 'tcp'}`
}

interface PortBinding {
  readonly HostIp?: string
  readonly HostPort?: string
}

function portBindings(
  ports: readonly PortConfig[],
  labels: Labels,
  here: readonly NodeAddress[],
): Record<string, readonly PortBinding[]> | undefined {
  if (ports.length === 0) return undefined
  const bindings: Record<string, PortBinding[]> = {}
  for (const port of ports) {
    const published = port.PublishedPort ?? 0
    const list = bindings[portKey(port)] ?? []
    bindings[portKey(port)] = list
    // Without a number the engine takes a free port of its own.
    const binding = published > 0 ? { HostPort: String(published) } : {}
    const wanted = addressesOfPort(labels, port)
    if (wanted.length === 0) list.push(binding)
    else list.push(...hostIps(port, wanted, here).map((HostIp) => ({ HostIp, ...binding })))
  }
  return bindings
}

function hostIps(port: PortConfig, wanted: readonly string[], here: readonly NodeAddress[]): readonly string[] {
  const found = addressesHere(wanted, here)
  if (found.length > 0) return found
  const name = `${port.PublishedPort}/${port.Protocol ?? 'tcp'}`
  throw taskFailed(`published port ${name} is for ${wanted.join(', ')}, which this node does not have`)
}

const ENGINE_SOCKETS: ReadonlySet<string> = new Set(['/var/run/docker.sock', '/run/docker.sock'])

function isEngineSocket({ Type, Source }: MountSpec): boolean {
  return Type === 'bind' && ENGINE_SOCKETS.has(Source ?? '')
}

export function bindsEngineSocket(spec: ContainerSpec): boolean {
  return (spec.Mounts ?? []).some(isEngineSocket)
}

function mounts({ spec, files, dockerSocket }: ContainerBodyOptions): readonly unknown[] {
  const asked = (spec.Mounts ?? []).map((mount: MountSpec) => {
    const type = mount.Type ?? 'volume'
    const socket = isEngineSocket(mount) ? dockerSocket : undefined
    return compact({
      Type: type,
      Source: socket?.path ?? mount.Source,
      Target: mount.Target,
      ReadOnly: mount.ReadOnly,
      Consistency: mount.Consistency,
      BindOptions: socket?.isShared ? { ...mount.BindOptions, Propagation: 'rslave' } : mount.BindOptions,
      VolumeOptions: mount.VolumeOptions,
      TmpfsOptions: mount.TmpfsOptions,
      ImageOptions: mount.ImageOptions,
    })
  })
  const given = files.map(({ source, target }) => ({ Type: 'bind', Source: source, Target: target, ReadOnly: true }))
  return [...asked, ...given]
}

function logConfig(driver: Driver | undefined): { readonly Type: string; readonly Config: object } | undefined {
  return driver?.Name ? { Type: driver.Name, Config: driver.Options ?? {} } : undefined
}

/** `IP name alias…` as in /etc/hosts to the engine's `name:IP`; like Swarm, the first name only. */
export function extraHosts(hosts: readonly string[]): readonly string[] | undefined {
  const entries = hosts.flatMap((line) => {
    const [address, name] = line.trim().split(/\s+/)
    return address && name ? [`${name}:${address}`] : []
  })
  return entries.length > 0 ? entries : undefined
}

function securityOptions(privileges: Privileges): readonly string[] | undefined {
  const options: string[] = []
  const selinux = privileges.SELinuxContext
  if (selinux?.Disable) options.push('label=disable')
  if (selinux?.User) options.push(`label=user:${selinux.User}`)
  if (selinux?.Role) options.push(`label=role:${selinux.Role}`)
  if (selinux?.Level) options.push(`label=level:${selinux.Level}`)
  if (selinux?.Type) options.push(`label=type:${selinux.Type}`)
  const seccomp = privileges.Seccomp
  if (seccomp?.Mode === 'unconfined') options.push('seccomp=unconfined')
  if (seccomp?.Mode === 'custom') options.push(`seccomp=${Buffer.from(seccomp.Profile ?? '', 'base64').toString()}`)
  if (privileges.AppArmor?.Mode === 'disabled') options.push('apparmor=unconfined')
  if (privileges.NoNewPrivileges) options.push('no-new-privileges=true')
  return options.length > 0 ? options : undefined
}

/** undefined: the engine's default bridge, as for a Swarm service without networks. */
function networkMode(order: TaskOrder): string | undefined {
  const names = predefinedNetworks(order)
  if (names.length > 1) throw taskFailed(`a task can use only one of the networks ${names.join(', ')}`)
  return names[0]
}

/** Without absent, null and empty values, as Go's clients leave them out. */
function compact(value: Readonly<Record<string, unknown>>): ContainerBody {
  return Object.fromEntries(
    Object.entries(value).filter(
      ([, item]) => item !== undefined && item !== null && item !== '' && !(Array.isArray(item) && item.length === 0),
    ),
  )
}

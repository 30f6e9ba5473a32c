// One service of a checked file → its model.

import { isAbsolute, join } from 'node:path'
import { parsePorts } from '../service/ports.ts'
import { quote } from '../strconv.ts'
import { readEnvFile } from './env-file.ts'
import {
  bool,
  bytes,
  command,
  compact,
  count,
  dictionary,
  duration,
  environment,
  extensions,
  given,
  hosts,
  itemsIn,
  located,
  mapIn,
  number,
  text,
  textOf,
  textOrTexts,
  texts,
} from './fields.ts'
import type { Lookup } from './interpolate.ts'
import type {
  BuildModel,
  DeployModel,
  Environment,
  FileReferenceModel,
  HealthcheckModel,
  LoggingModel,
  PortModel,
  ResourceModel,
  ServiceModel,
  ServiceNetworkModel,
  UlimitModel,
  UpdateModel,
  VolumeMountModel,
} from './model.ts'
import { ComposeError, type MapNode, type Node } from './node.ts'
import { parseVolumeSpec } from './volume-spec.ts'

export interface LoadOptions {
  /** What relative paths start from. */
  readonly directory: string
  readonly lookup: Lookup
  readonly warn: (message: string) => void
}

/** @throws {ComposeError} */
export function loadService(map: MapNode, options: LoadOptions): ServiceModel {
  return compact<ServiceModel>({
    build: build(map),
    cap_add: texts(map, 'cap_add'),
    cap_drop: texts(map, 'cap_drop'),
    cgroupns_mode: text(map, 'cgroupns_mode'),
    cgroup_parent: text(map, 'cgroup_parent'),
    command: command(map, 'command'),
    configs: fileReferences(map, 'configs'),
    container_name: text(map, 'container_name'),
    credential_spec: credentialSpec(map),
    depends_on: texts(map, 'depends_on'),
    deploy: deploy(mapIn(map, 'deploy')),
    devices: texts(map, 'devices'),
    dns: textOrTexts(map, 'dns'),
    dns_search: textOrTexts(map, 'dns_search'),
    domainname: text(map, 'domainname'),
    entrypoint: command(map, 'entrypoint'),
    environment: wholeEnvironment(map, options),
    env_file: textOrTexts(map, 'env_file'),
    expose: texts(map, 'expose'),
    external_links: texts(map, 'external_links'),
    extra_hosts: hosts(map, 'extra_hosts'),
    hostname: text(map, 'hostname'),
    healthcheck: healthcheck(mapIn(map, 'healthcheck')),
    image: text(map, 'image'),
    init: bool(map, 'init'),
    ipc: text(map, 'ipc'),
    isolation: text(map, 'isolation'),
    labels: dictionary(map, 'labels'),
    links: texts(map, 'links'),
    logging: logging(mapIn(map, 'logging')),
    mac_address: text(map, 'mac_address'),
    network_mode: text(map, 'network_mode'),
    networks: networks(map),
    pid: text(map, 'pid'),
    ports: itemsIn(map, 'ports')?.flatMap((item) => ports(item, options)),
    privileged: bool(map, 'privileged'),
    read_only: bool(map, 'read_only'),
    restart: text(map, 'restart'),
    secrets: fileReferences(map, 'secrets'),
    security_opt: texts(map, 'security_opt'),
    shm_size: text(map, 'shm_size'),
    stdin_open: bool(map, 'stdin_open'),
    stop_grace_period: duration(map, 'stop_grace_period'),
    stop_signal: text(map, 'stop_signal'),
    sysctls: dictionary(map, 'sysctls'),
    tmpfs: textOrTexts(map, 'tmpfs'),
    tty: bool(map, 'tty'),
    ulimits: ulimits(mapIn(map, 'ulimits')),
    user: text(map, 'user'),
    oom_score_adj: number(map, 'oom_score_adj'),
    userns_mode: text(map, 'userns_mode'),
    volumes: itemsIn(map, 'volumes')?.map((item) => volume(item, options)),
    working_dir: text(map, 'working_dir'),
    extensions: extensions(map),
    at: map.at,
  })
}

function build(service: MapNode): BuildModel | undefined {
  const node = given(service, 'build')
  if (node?.kind === 'scalar') return { context: textOf(node) }
  const map = mapIn(service, 'build')
  return (
    map &&
    compact<BuildModel>({
      context: text(map, 'context'),
      dockerfile: text(map, 'dockerfile'),
      args: environment(map, 'args'),
      labels: dictionary(map, 'labels'),
      cache_from: texts(map, 'cache_from'),
      extra_hosts: hosts(map, 'extra_hosts'),
      network: text(map, 'network'),
      target: text(map, 'target'),
    })
  )
}

/** Files in order, then the service's own; a variable that is empty or has no value takes the caller's where there is one. */
function wholeEnvironment(map: MapNode, { directory, lookup }: LoadOptions): Environment {
  const variables = new Map<string, string | null>()
  const set = (name: string, value: string | null) => {
    variables.set(name, value === null || value === '' ? (lookup(name) ?? value) : value)
  }
  const files = given(map, 'env_file')
  const fromFiles = new Map<string, string>()
  for (const node of files?.kind === 'list' ? files.items : files ? [files] : []) {
    const path = absolute(directory, textOf(node))
    for (const [name, value] of located(node, () => readEnvFile(path, lookup))) fromFiles.set(name, value)
  }
  for (const [name, value] of fromFiles) set(name, value)
  for (const [name, value] of environment(map, 'environment') ?? []) set(name, value)
  return variables
}

export const absolute = (directory: string, path: string) => (isAbsolute(path) ? path : join(directory, path))

function deploy(map: MapNode | undefined): DeployModel | undefined {
  if (!map) return undefined
  const resources = mapIn(map, 'resources')
  const restart = mapIn(map, 'restart_policy')
  const placement = mapIn(map, 'placement')
  return compact<DeployModel>({
    mode: text(map, 'mode'),
    replicas: count(map, 'replicas'),
    labels: dictionary(map, 'labels'),
    update_config: update(mapIn(map, 'update_config')),
    rollback_config: update(mapIn(map, 'rollback_config')),
    resources:
      resources &&
      compact({
        limits: resource(mapIn(resources, 'limits')),
        reservations: resource(mapIn(resources, 'reservations')),
      }),
    restart_policy:
      restart &&
      compact({
        condition: text(restart, 'condition'),
        delay: duration(restart, 'delay'),
        max_attempts: count(restart, 'max_attempts'),
        window: duration(restart, 'window'),
      }),
    placement:
      placement &&
      compact({
        constraints: texts(placement, 'constraints'),
        preferences: itemsIn(placement, 'preferences')?.map((item) =>
          compact({ spread: item.kind === 'map' ? text(item, 'spread') : undefined }),
        ),
        max_replicas_per_node: count(placement, 'max_replicas_per_node'),
      }),
    endpoint_mode: text(map, 'endpoint_mode'),
  })
}

function update(map: MapNode | undefined): UpdateModel | undefined {
  return (
    map &&
    compact<UpdateModel>({
      parallelism: count(map, 'parallelism'),
      delay: duration(map, 'delay'),
      failure_action: text(map, 'failure_action'),
      monitor: duration(map, 'monitor'),
      max_failure_ratio: number(map, 'max_failure_ratio'),
      order: text(map, 'order'),
    })
  )
}

function resource(map: MapNode | undefined): ResourceModel | undefined {
  return (
    map &&
    compact<ResourceModel>({
      cpus: text(map, 'cpus'),
      memory: bytes(map, 'memory'),
      pids: number(map, 'pids'),
      generic_resources: itemsIn(map, 'generic_resources')?.map((item) => {
        const discrete = item.kind === 'map' ? mapIn(item, 'discrete_resource_spec') : undefined
        return compact({
          discrete_resource_spec:
            discrete && compact({ kind: text(discrete, 'kind'), value: number(discrete, 'value') }),
        })
      }),
    })
  )
}

function healthcheck(map: MapNode | undefined): HealthcheckModel | undefined {
  if (!map) return undefined
  const test = given(map, 'test')
  return compact<HealthcheckModel>({
    test: test?.kind === 'scalar' ? ['CMD-SHELL', textOf(test)] : texts(map, 'test'),
    timeout: duration(map, 'timeout'),
    interval: duration(map, 'interval'),
    retries: count(map, 'retries'),
    start_period: duration(map, 'start_period'),
    start_interval: duration(map, 'start_interval'),
    disable: bool(map, 'disable'),
  })
}

function logging(map: MapNode | undefined): LoggingModel | undefined {
  return map && compact<LoggingModel>({ driver: text(map, 'driver'), options: dictionary(map, 'options') })
}

function credentialSpec(service: MapNode): ServiceModel['credential_spec'] {
  const map = mapIn(service, 'credential_spec')
  return map && compact({ config: text(map, 'config'), file: text(map, 'file'), registry: text(map, 'registry') })
}

function fileReferences(service: MapNode, key: string): readonly FileReferenceModel[] | undefined {
  return itemsIn(service, key)?.map((item) => {
    if (item.kind !== 'map') return { source: textOf(item), at: item.at }
    return compact<FileReferenceModel>({
      source: text(item, 'source'),
      target: text(item, 'target'),
      uid: text(item, 'uid'),
      gid: text(item, 'gid'),
      mode: count(item, 'mode'),
      at: item.at,
    })
  })
}

function networks(service: MapNode): ServiceModel['networks'] {
  const node = given(service, 'networks')
  if (node?.kind === 'list') return new Map(node.items.map((item) => [textOf(item), null]))
  if (node?.kind !== 'map') return undefined
  return new Map(
    [...node.entries].map(([name, entry]) => {
      const map = entry.node.kind === 'map' ? entry.node : undefined
      const network =
        map &&
        compact<ServiceNetworkModel>({
          aliases: texts(map, 'aliases'),
          driver_opts: dictionary(map, 'driver_opts'),
          ipv4_address: text(map, 'ipv4_address'),
          ipv6_address: text(map, 'ipv6_address'),
          at: entry.keyAt,
        })
      return [name, network ?? null] as const
    }),
  )
}

function ports(node: Node, { warn }: LoadOptions): readonly PortModel[] {
  if (node.kind === 'map') {
    return [
      compact<PortModel>({
        mode: text(node, 'mode'),
        target: portNumber(node, 'target'),
        published: portNumber(node, 'published'),
        protocol: text(node, 'protocol'),
      }),
    ]
  }
  const whole = textOf(node)
  const parts = whole.split(':')
  const short = parts.slice(-2).join(':')
  if (parts.length > 2 && parts.slice(0, -2).join(':') !== '') {
    warn(
      `${node.at.file}:${node.at.line}:${node.at.column}: ignoring IP-address (${whole}) service will listen on '0.0.0.0'`,
    )
  }
  const parsed = located(node, () => parsePorts(short))
  // Docker's order: that of texts like "8080/tcp"; ports of one target stay as they are
  const key = (port: (typeof parsed)[number]) => `${port.TargetPort}/${port.Protocol}`
  return [...parsed]
    .sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0))
    .map((port) =>
      compact<PortModel>({
        mode: port.PublishMode,
        target: port.TargetPort,
        published: port.PublishedPort,
        protocol: port.Protocol,
      }),
    )
}

function portNumber(map: MapNode, key: string): number | undefined {
  const value = count(map, key)
  if (value !== undefined && value > 65535) {
    throw new ComposeError(given(map, key)!.at, `invalid ${key} port: ${value}: value out of range`)
  }
  return value
}

function ulimits(map: MapNode | undefined): ReadonlyMap<string, UlimitModel> | undefined {
  if (!map) return undefined
  return new Map(
    [...map.entries].map(([name, { node }]) => {
      if (node.kind === 'map') {
        return [name, compact<UlimitModel>({ soft: number(node, 'soft'), hard: number(node, 'hard') })]
      }
      return [name, { single: node.kind === 'scalar' ? Number(node.value) : 0 }]
    }),
  )
}

function volume(node: Node, options: LoadOptions): VolumeMountModel {
  const read = node.kind === 'map' ? longVolume(node) : located(node, () => parseVolumeSpec(textOf(node)))
  const mount: VolumeMountModel = { ...read, at: node.at }
  if (mount.type !== 'bind') return mount
  if (!mount.source) {
    throw new ComposeError(node.at, 'invalid mount config for type "bind": field Source must not be empty')
  }
  return { ...mount, source: bindSource(mount.source, node, options) }
}

function longVolume(map: MapNode): Omit<VolumeMountModel, 'at'> {
  const [bind, volumeOptions, image] = [mapIn(map, 'bind'), mapIn(map, 'volume'), mapIn(map, 'image')]
  const [tmpfs, cluster] = [mapIn(map, 'tmpfs'), mapIn(map, 'cluster')]
  return compact<Omit<VolumeMountModel, 'at'>>({
    type: text(map, 'type'),
    source: text(map, 'source'),
    target: text(map, 'target'),
    read_only: bool(map, 'read_only'),
    consistency: text(map, 'consistency'),
    bind: bind && compact({ propagation: text(bind, 'propagation') }),
    volume:
      volumeOptions && compact({ nocopy: bool(volumeOptions, 'nocopy'), subpath: text(volumeOptions, 'subpath') }),
    image: image && compact({ subpath: text(image, 'subpath') }),
    tmpfs: tmpfs && compact({ size: number(tmpfs, 'size') }),
    cluster: cluster && {},
  })
}

const isWindowsPath = (path: string) => /^(?:[a-zA-Z]:[\\/]|\\\\[^\\.][^\\]*\\[^\\]+\\)/.test(path)

function bindSource(source: string, node: Node, { directory, lookup, warn }: LoadOptions): string {
  let path = source
  if (path.startsWith('~')) {
    const home = lookup('HOME')
    if (home === undefined) {
      warn(`${node.at.file}:${node.at.line}: cannot expand '~', because the environment lacks HOME (${quote(source)})`)
    } else path = home + path.slice(1)
  }
  return isAbsolute(path) || isWindowsPath(path) ? path : absolute(directory, path)
}

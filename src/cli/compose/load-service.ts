// One service of a canonical file → its model.

import { existsSync } from 'node:fs'
import { absolute } from './canonical.ts'
import { readDotEnv, readEnvFile } from './env-file.ts'
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
  fileMode,
  given,
  itemsIn,
  located,
  mapIn,
  number,
  text,
  textOf,
  texts,
} from './fields.ts'
import { deploy, deviceRequests } from './load-deploy.ts'
import type { LoadOptions } from './load-objects.ts'
import type {
  BlkioModel,
  BuildModel,
  DependencyModel,
  Dictionary,
  EnvFileModel,
  Environment,
  FileReferenceModel,
  HealthcheckModel,
  LoggingModel,
  PortModel,
  ServiceModel,
  ServiceNetworkModel,
  UlimitModel,
  VolumeMountModel,
} from './model.ts'
import { ComposeError, type MapNode, type Node } from './node.ts'

/** @throws {ComposeError} */
export function loadService(map: MapNode, options: LoadOptions): ServiceModel {
  return compact<ServiceModel>({
    annotations: dictionary(map, 'annotations'),
    blkio_config: blkio(mapIn(map, 'blkio_config')),
    build: build(map),
    cap_add: texts(map, 'cap_add'),
    cap_drop: texts(map, 'cap_drop'),
    cgroup: text(map, 'cgroup'),
    cgroupns_mode: text(map, 'cgroupns_mode'),
    cgroup_parent: text(map, 'cgroup_parent'),
    command: command(map, 'command'),
    configs: fileReferences(map, 'configs'),
    container_name: text(map, 'container_name'),
    cpu_count: number(map, 'cpu_count'),
    cpu_percent: number(map, 'cpu_percent'),
    cpu_period: text(map, 'cpu_period'),
    cpu_quota: text(map, 'cpu_quota'),
    cpu_rt_period: text(map, 'cpu_rt_period'),
    cpu_rt_runtime: text(map, 'cpu_rt_runtime'),
    cpu_shares: number(map, 'cpu_shares'),
    cpus: text(map, 'cpus'),
    cpuset: text(map, 'cpuset'),
    credential_spec: credentialSpec(map),
    depends_on: dependencies(mapIn(map, 'depends_on')),
    deploy: deploy(mapIn(map, 'deploy')),
    device_cgroup_rules: texts(map, 'device_cgroup_rules'),
    devices: texts(map, 'devices'),
    dns: texts(map, 'dns'),
    dns_opt: texts(map, 'dns_opt'),
    dns_search: texts(map, 'dns_search'),
    domainname: text(map, 'domainname'),
    entrypoint: command(map, 'entrypoint'),
    environment: wholeEnvironment(map, options),
    env_file: envFiles(map),
    expose: texts(map, 'expose'),
    external_links: texts(map, 'external_links'),
    extra_hosts: texts(map, 'extra_hosts'),
    gpus: deviceRequests(map, 'gpus'),
    group_add: texts(map, 'group_add'),
    hostname: text(map, 'hostname'),
    healthcheck: healthcheck(mapIn(map, 'healthcheck')),
    image: text(map, 'image'),
    init: bool(map, 'init'),
    ipc: text(map, 'ipc'),
    isolation: text(map, 'isolation'),
    labels: labels(map, options),
    links: texts(map, 'links'),
    logging: logging(mapIn(map, 'logging')),
    mac_address: text(map, 'mac_address'),
    mem_limit: bytes(map, 'mem_limit'),
    mem_reservation: bytes(map, 'mem_reservation'),
    mem_swappiness: number(map, 'mem_swappiness'),
    memswap_limit: text(map, 'memswap_limit'),
    network_mode: text(map, 'network_mode'),
    networks: networks(map),
    oom_kill_disable: bool(map, 'oom_kill_disable'),
    pid: text(map, 'pid'),
    pids_limit: number(map, 'pids_limit'),
    platform: text(map, 'platform'),
    ports: itemsIn(map, 'ports')?.map(port),
    privileged: bool(map, 'privileged'),
    profiles: texts(map, 'profiles'),
    pull_policy: text(map, 'pull_policy'),
    read_only: bool(map, 'read_only'),
    restart: text(map, 'restart'),
    runtime: text(map, 'runtime'),
    scale: count(map, 'scale'),
    secrets: fileReferences(map, 'secrets'),
    security_opt: texts(map, 'security_opt'),
    shm_size: text(map, 'shm_size'),
    stdin_open: bool(map, 'stdin_open'),
    stop_grace_period: duration(map, 'stop_grace_period'),
    stop_signal: text(map, 'stop_signal'),
    storage_opt: dictionary(map, 'storage_opt'),
    sysctls: dictionary(map, 'sysctls'),
    tmpfs: texts(map, 'tmpfs'),
    tty: bool(map, 'tty'),
    ulimits: ulimits(mapIn(map, 'ulimits')),
    user: text(map, 'user'),
    oom_score_adj: number(map, 'oom_score_adj'),
    userns_mode: text(map, 'userns_mode'),
    uts: text(map, 'uts'),
    volumes: itemsIn(map, 'volumes')?.map(volume),
    working_dir: text(map, 'working_dir'),
    extensions: extensions(map),
    at: map.at,
    keyAt: new Map([...map.entries].map(([key, entry]) => [key, entry.keyAt])),
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
      extra_hosts: texts(map, 'extra_hosts'),
      network: text(map, 'network'),
      target: text(map, 'target'),
    })
  )
}

function envFiles(map: MapNode): readonly EnvFileModel[] | undefined {
  return itemsIn(map, 'env_file')?.map((item) => {
    const file = item.kind === 'map' ? item : undefined
    return compact<EnvFileModel>({
      path: text(file, 'path') ?? '',
      from: text(file, 'from') ?? '',
      format: text(file, 'format'),
      required: bool(file, 'required'),
      isPlain: bool(file, 'plain') ?? false,
      at: item.at,
    })
  })
}

/** Files in order, then the service's own; a variable that is empty or has no value takes the caller's where there is one. */
function wholeEnvironment(map: MapNode, { lookup }: LoadOptions): Environment {
  const variables = new Map<string, string | null>()
  const set = (name: string, value: string | null) => {
    variables.set(name, value === null || value === '' ? (lookup(name) ?? value) : value)
  }
  const fromFiles = new Map<string, string>()
  for (const { path, from, format, isPlain, required = true, at } of envFiles(map) ?? []) {
    const whole = absolute(from, path)
    if (!required && !existsSync(whole)) continue
    const read = isPlain || format === 'raw' ? readEnvFile : readDotEnv
    const found = located({ at }, () => read(whole, lookup))
    for (const [name, value] of found) fromFiles.set(name, value)
  }
  for (const [name, value] of fromFiles) set(name, value)
  for (const [name, value] of environment(map, 'environment') ?? []) set(name, value)
  return variables
}

/** Those of files first, which the service's own win over. */
function labels(map: MapNode, { lookup }: LoadOptions): Dictionary | undefined {
  const own = dictionary(map, 'labels')
  const files = itemsIn(map, 'label_file')
  if (!files) return own
  const found = files.map((item) => [...located(item, () => readEnvFile(textOf(item), lookup))])
  return new Map([...found.flat(), ...(own ?? [])])
}

function dependencies(map: MapNode | undefined): ReadonlyMap<string, DependencyModel> | undefined {
  if (!map) return undefined
  return new Map(
    [...map.entries].map(([name, { node, keyAt }]) => {
      const one = node.kind === 'map' ? node : undefined
      const condition = (text(one, 'condition') ?? 'service_started') as DependencyModel['condition']
      return [name, { condition, required: bool(one, 'required') ?? true, at: keyAt }]
    }),
  )
}

function blkio(map: MapNode | undefined): BlkioModel | undefined {
  const rates = (key: string) =>
    itemsIn(map, key)?.map((item) => {
      const one = item.kind === 'map' ? item : undefined
      return { path: text(one, 'path') ?? '', rate: bytes(one, 'rate') ?? 0 }
    })
  return (
    map &&
    compact<BlkioModel>({
      weight: number(map, 'weight'),
      weight_device: itemsIn(map, 'weight_device')?.map((item) => {
        const one = item.kind === 'map' ? item : undefined
        return { path: text(one, 'path') ?? '', weight: number(one, 'weight') ?? 0 }
      }),
      device_read_bps: rates('device_read_bps'),
      device_read_iops: rates('device_read_iops'),
      device_write_bps: rates('device_write_bps'),
      device_write_iops: rates('device_write_iops'),
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
      mode: fileMode(item, 'mode'),
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

function port(node: Node): PortModel {
  const map = node.kind === 'map' ? node : undefined
  return compact<PortModel>({
    mode: text(map, 'mode'),
    host_ip: text(map, 'host_ip'),
    target: portNumber(map, 'target'),
    published: portNumber(map, 'published'),
    protocol: text(map, 'protocol'),
    at: node.at,
  })
}

function portNumber(map: MapNode | undefined, key: string): number | undefined {
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

function volume(node: Node): VolumeMountModel {
  const map = node.kind === 'map' ? node : undefined
  const [bind, volumeOptions, image] = [mapIn(map, 'bind'), mapIn(map, 'volume'), mapIn(map, 'image')]
  const [tmpfs, cluster] = [mapIn(map, 'tmpfs'), mapIn(map, 'cluster')]
  return compact<VolumeMountModel>({
    type: text(map, 'type'),
    source: text(map, 'source'),
    target: text(map, 'target'),
    read_only: bool(map, 'read_only'),
    consistency: text(map, 'consistency'),
    bind:
      bind &&
      compact({
        propagation: text(bind, 'propagation'),
        create_host_path: bool(bind, 'create_host_path'),
        recursive: text(bind, 'recursive'),
      }),
    volume:
      volumeOptions &&
      compact({
        nocopy: bool(volumeOptions, 'nocopy'),
        subpath: text(volumeOptions, 'subpath'),
        labels: dictionary(volumeOptions, 'labels'),
      }),
    image: image && compact({ subpath: text(image, 'subpath') }),
    tmpfs: tmpfs && compact({ size: bytes(tmpfs, 'size'), mode: fileMode(tmpfs, 'mode') }),
    cluster: cluster && {},
    at: node.at,
  })
}

// A model as YAML, laid out as `docker stack config` does: the keys of a thing in the order of its table, names sorted,
// what is empty left out.

import { formatDuration, parseBytes } from '../units.ts'
import type { ComposeModel, EnvFileModel, FileObjectModel, NetworkModel, ServiceModel, VolumeModel } from './model.ts'
import { compareKeys, writeYaml, type YamlMap, type YamlValue } from './write-yaml.ts'

export function writeConfig(model: ComposeModel): string {
  const section = <T extends object>(things: ReadonlyMap<string, T>, convert: (thing: T) => YamlValue) =>
    things.size === 0 ? undefined : sorted(things, convert)
  return writeYaml(
    entries([
      ['version', model.version],
      ['services', sorted(model.services, service)],
      ['networks', section(model.networks, network)],
      ['volumes', section(model.volumes, volume)],
      ['secrets', section(model.secrets, fileObject)],
      ['configs', section(model.configs, fileObject)],
      ...extras(model.extensions),
    ]),
  )
}

type Pair = readonly [string, YamlValue | undefined]

const entries = (pairs: readonly Pair[]): YamlMap =>
  new Map(pairs.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])))

function sorted<T>(things: ReadonlyMap<string, T>, convert: (thing: T) => YamlValue): YamlMap {
  return new Map(
    [...things].sort(([a], [b]) => compareKeys(a, b)).map(([key, value]) => [key, convert(value)] as const),
  )
}

/** x-… keys, as they were. */
function extras(extensions: ReadonlyMap<string, unknown> | undefined): readonly Pair[] {
  return [...sorted(extensions ?? new Map(), (value: unknown) => anything(value))]
}

function anything(value: unknown): YamlValue {
  if (Array.isArray(value)) return value.map(anything)
  if (value instanceof Map) return sorted(value as ReadonlyMap<string, unknown>, anything)
  return value as YamlValue
}

/** Keys of the Specification that Docker's loader does not have. */
const BEYOND_DOCKER =
  'annotations blkio_config cgroup cpu_count! cpu_percent! cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares! cpus cpuset device_cgroup_rules dns_opt gpus group_add mem_limit mem_reservation mem_swappiness! memswap_limit oom_kill_disable pids_limit! platform profiles pull_policy runtime scale! storage_opt uts'

/** `!` after a key: it is written also where it is 0, false or empty, as it was set. */
const SERVICE = `build cap_add cap_drop cgroupns_mode cgroup_parent command configs container_name credential_spec depends_on deploy devices dns dns_search domainname entrypoint environment env_file expose external_links extra_hosts hostname healthcheck! image init! ipc isolation labels links logging! mac_address network_mode networks pid ports privileged read_only restart secrets security_opt shm_size stdin_open stop_grace_period! stop_signal sysctls tmpfs tty ulimits user oom_score_adj userns_mode volumes working_dir ${BEYOND_DOCKER}`
const NESTED: Readonly<Record<string, string>> = {
  build: 'context dockerfile args labels cache_from extra_hosts network target',
  credential_spec: 'config file registry',
  deploy: 'mode replicas! labels update_config! rollback_config! resources restart_policy! placement endpoint_mode',
  update_config: 'parallelism! delay failure_action monitor max_failure_ratio order',
  rollback_config: 'parallelism! delay failure_action monitor max_failure_ratio order',
  resources: 'limits! reservations!',
  limits: 'cpus memory pids',
  reservations: 'cpus memory generic_resources devices',
  generic_resources: 'discrete_resource_spec!',
  discrete_resource_spec: 'kind! value!',
  restart_policy: 'condition delay! max_attempts! window!',
  placement: 'constraints preferences max_replicas_per_node',
  preferences: 'spread',
  healthcheck: 'test timeout! interval! retries! start_period! start_interval! disable',
  logging: 'driver options',
  ports: 'mode host_ip target published protocol',
  volumes: 'type source target read_only consistency bind! volume! image! tmpfs! cluster!',
  bind: 'propagation create_host_path! recursive',
  volume: 'nocopy subpath labels',
  image: 'subpath',
  tmpfs: 'size mode',
  cluster: '',
  devices: 'capabilities count device_ids driver options',
  gpus: 'capabilities count device_ids driver options',
  blkio_config: 'weight weight_device device_read_bps device_read_iops device_write_bps device_write_iops',
  weight_device: 'path weight!',
  device_read_bps: 'path rate!',
  device_read_iops: 'path rate!',
  device_write_bps: 'path rate!',
  device_write_iops: 'path rate!',
  configs: 'source target uid gid mode!',
  secrets: 'source target uid gid mode!',
  ipam: 'driver config options',
  config: 'subnet ip_range gateway aux_addresses',
}
const DURATIONS = new Set([
  'delay',
  'monitor',
  'window',
  'timeout',
  'interval',
  'start_period',
  'start_interval',
  'stop_grace_period',
])

function service(model: ServiceModel): YamlValue {
  const pairs = fields(model, SERVICE).map(([key, value]): Pair => {
    if (key === 'networks') return [key, sorted(model.networks ?? new Map(), attachment)]
    if (key === 'depends_on') return [key, dependencies(model.depends_on ?? new Map())]
    if (key === 'env_file') return [key, (model.env_file ?? []).map(envFile)]
    return key === 'ulimits' ? [key, sorted(model.ulimits ?? new Map(), ulimit)] : [key, value]
  })
  return entries([...pairs, ...extras(model.extensions)])
}

/** In the short form, which Docker has too, where that says all. */
function dependencies(needed: NonNullable<ServiceModel['depends_on']>): YamlValue {
  if ([...needed.values()].every(({ condition, required }) => condition === 'service_started' && required)) {
    return [...needed.keys()]
  }
  return sorted(needed, ({ condition, required }) =>
    entries([
      ['condition', condition],
      ['required', required ? undefined : false],
    ]),
  )
}

function envFile({ path, format, required, isPlain }: EnvFileModel): YamlValue {
  if (isPlain) return path
  return entries([
    ['path', path],
    ['format', format],
    ['required', required],
  ])
}

function attachment(network: object | null): YamlValue {
  return network && entries(fields(network, 'aliases driver_opts ipv4_address ipv6_address'))
}

function ulimit({ single, soft, hard }: { single?: number; soft?: number; hard?: number }): YamlValue {
  return single || entries(fields({ soft, hard }, 'soft hard'))
}

/** The fields of `thing` that `table` names, in its order. */
function fields(thing: object, table: string): readonly Pair[] {
  const values = thing as Readonly<Record<string, unknown>>
  return table.split(' ').flatMap((name): readonly Pair[] => {
    const key = name.replace('!', '')
    const value = values[key]
    if (value === undefined || (!name.endsWith('!') && isEmpty(value))) return []
    const converted = convert(key, value)
    if (converted instanceof Map && converted.size === 0 && !name.endsWith('!')) return []
    return [[key, converted]]
  })
}

function convert(key: string, value: unknown): YamlValue {
  if (typeof value === 'number' && DURATIONS.has(key)) return formatDuration(value)
  if (typeof value === 'number' && key === 'memory') return String(value)
  if (Array.isArray(value)) return value.map((item) => convert(key, item))
  if (value instanceof Map) return sorted(value as ReadonlyMap<string, YamlValue>, (item) => item)
  if (typeof value === 'object' && value !== null) return entries(fields(value, NESTED[key] ?? ''))
  return value as YamlValue
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === '' || value === 0 || value === false) return true
  return value instanceof Map ? value.size === 0 : Array.isArray(value) && value.length === 0
}

function network(model: NetworkModel): YamlValue {
  return entries([
    ...fields(model, 'name driver driver_opts ipam external internal attachable labels enable_ipv4! enable_ipv6!'),
    ...(model.external ? extras(model.extensions) : []),
  ])
}

function volume(model: VolumeModel): YamlValue {
  const spec = model.extensions?.get('x-cluster-spec')
  return entries([
    ...fields(model, 'name driver driver_opts external labels'),
    ...(model.external ? extras(model.extensions) : []),
    ['x-cluster-spec', spec instanceof Map && !model.external ? clusterSpec(spec as Loose) : undefined],
  ])
}

function fileObject(model: FileObjectModel): YamlValue {
  return entries([
    ...fields(model, 'name file environment content! external labels'),
    ...extras(model.extensions),
    ...fields(model, 'driver driver_opts template_driver'),
  ])
}

type Loose = ReadonlyMap<string, unknown>

const CLUSTER_ORDER = [
  ...['group', 'access_mode', 'accessibility_requirements', 'capacity_range', 'secrets', 'availability'],
  ...['scope', 'sharing', 'mount_volume', 'block_volume', 'fs_type', 'mount_flags', 'requisite', 'preferred'],
  ...['segments', 'required_bytes', 'limit_bytes', 'key', 'secret'],
]

function clusterSpec(spec: Loose): YamlMap {
  const ordered = CLUSTER_ORDER.filter((key) => spec.has(key))
  return new Map(ordered.map((key) => [key, clusterValue(key, spec.get(key))]))
}

function clusterValue(key: string, value: unknown): YamlValue {
  if (key === 'segments') return segments(value)
  if (key.endsWith('_bytes')) return String(typeof value === 'number' ? value : parseBytes(String(value)))
  if (Array.isArray(value)) return value.map((item) => clusterValue('', item))
  return value instanceof Map ? clusterSpec(value as Loose) : (value as YamlValue)
}

function segments(value: unknown): YamlValue {
  const pairs = Array.isArray(value)
    ? value.map(String).map((pair) => [pair.split('=', 1)[0]!, pair.slice(pair.indexOf('=') + 1)] as const)
    : [...((value ?? new Map()) as Loose)].map(([key, item]) => [key, String(item ?? '')] as const)
  return sorted(new Map(pairs), (item) => item)
}

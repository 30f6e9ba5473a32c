// The table of keys: every key that a compose file may have, and what becomes of it. It is Docker's schema 3.13 with, for
// each key, our word on it; a test walks that schema and fails on a key without a row.

import {
  any,
  choice,
  deprecated,
  dict,
  forbidden,
  later,
  list,
  type MapShape,
  map,
  type Shape,
  scalar,
  unheeded,
  unsupported,
} from './shape.ts'

const text = scalar('string')
const bool = scalar('boolean')
const integer = scalar('integer')
const number = scalar('number')
const duration: Shape = { kind: 'scalar', types: ['string'], format: 'duration' }
const uniqueTexts = list(text, true)
const textOrList = choice(text, uniqueTexts)
const pairs = choice(dict(scalar('string', 'number', 'null'), /.+/, true), uniqueTexts)
const command = choice(text, list(text))
const NAME = /^[a-zA-Z0-9._-]+$/
const driverOptions = dict(scalar('string', 'number'))
const open = { isOpen: true } as const

const RESOURCES = 'Set resource limits using deploy.resources'

const fileReference = list(choice(text, map({ source: text, target: text, uid: text, gid: text, mode: number }, open)))

const updateConfig = map({
  parallelism: integer,
  delay: duration,
  failure_action: text,
  monitor: duration,
  max_failure_ratio: number,
  order: { kind: 'scalar', types: ['string'], oneOf: ['start-first', 'stop-first'] },
})

const deploy = map(
  {
    mode: text,
    endpoint_mode: text,
    replicas: integer,
    labels: pairs,
    rollback_config: updateConfig,
    update_config: updateConfig,
    resources: map({
      limits: map({ cpus: text, memory: text, pids: integer }),
      reservations: map({
        cpus: text,
        memory: text,
        generic_resources: list(map({ discrete_resource_spec: map({ kind: text, value: number }) })),
        devices: later(),
      }),
    }),
    restart_policy: map({ condition: text, delay: duration, max_attempts: integer, window: duration }),
    placement: map({
      constraints: list(text),
      preferences: list(map({ spread: text })),
      max_replicas_per_node: integer,
    }),
  },
  { isNullable: true },
)

const healthcheck = map({
  disable: bool,
  interval: duration,
  retries: number,
  test: command,
  timeout: duration,
  start_period: duration,
  start_interval: duration,
})

const port = choice(
  { kind: 'scalar', types: ['number'], format: 'ports' },
  { kind: 'scalar', types: ['string'], format: 'ports' },
  map({
    mode: text,
    target: integer,
    published: integer,
    protocol: text,
    host_ip: later(),
    name: later(),
    app_protocol: later(),
  }),
)

const volume = choice(
  text,
  map(
    {
      type: text,
      source: text,
      target: text,
      read_only: bool,
      consistency: text,
      bind: map({ propagation: text }, open),
      volume: map({ nocopy: bool, subpath: text }, open),
      image: later(),
      cluster: later(),
      tmpfs: map(
        {
          size: { kind: 'scalar', types: ['integer'], minimum: 0 },
          mode: unheeded(any, 'the mode of a tmpfs mount is not set from a compose file'),
        },
        open,
      ),
    },
    { required: ['type'] },
  ),
)

const ADDRESS = 'tasks take any free address of a network'

const serviceNetworks = choice(
  uniqueTexts,
  dict(
    map(
      {
        aliases: uniqueTexts,
        driver_opts: driverOptions,
        ipv4_address: unheeded(text, ADDRESS),
        ipv6_address: unheeded(text, ADDRESS),
        priority: later(),
        gw_priority: later(),
        link_local_ips: later(),
        mac_address: later(),
        interface_name: later(),
      },
      { isNullable: true },
    ),
    NAME,
    true,
  ),
)

const build = choice(
  text,
  map(
    {
      context: text,
      dockerfile: text,
      args: pairs,
      labels: pairs,
      cache_from: list(text, true),
      network: text,
      target: text,
      shm_size: scalar('integer', 'string'),
      extra_hosts: pairs,
    },
    open,
  ),
)

export const serviceShape: MapShape = map(
  {
    deploy,
    build: unsupported(build),
    cap_add: uniqueTexts,
    cap_drop: uniqueTexts,
    cgroupns_mode: unsupported(text),
    cgroup_parent: unsupported(text),
    command,
    configs: fileReference,
    container_name: deprecated(text, 'Setting the container name is not supported.'),
    credential_spec: map({ config: text, file: text, registry: text }),
    depends_on: unheeded(uniqueTexts, 'services start at the same time, and those that fail are restarted'),
    devices: unsupported(uniqueTexts),
    dns: textOrList,
    dns_search: textOrList,
    domainname: unsupported(text),
    entrypoint: command,
    env_file: textOrList,
    environment: pairs,
    expose: deprecated(
      list(scalar('string', 'number'), true),
      "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
    external_links: unsupported(uniqueTexts),
    extra_hosts: pairs,
    healthcheck,
    hostname: text,
    image: text,
    init: bool,
    ipc: unsupported(text),
    isolation: text,
    labels: pairs,
    links: unsupported(uniqueTexts),
    logging: map({ driver: text, options: dict(scalar('string', 'number', 'null')) }),
    mac_address: unsupported(text),
    network_mode: unsupported(text),
    networks: serviceNetworks,
    oom_score_adj: integer,
    pid: unsupported(scalar('string', 'null')),
    ports: list(port, true),
    privileged: unsupported(bool),
    read_only: bool,
    // Docker's list of what it ignores has it, but where deploy.restart_policy is not set it is the policy
    restart: unsupported(text),
    secrets: fileReference,
    security_opt: unsupported(uniqueTexts),
    shm_size: unsupported(scalar('number', 'string')),
    stdin_open: bool,
    stop_grace_period: duration,
    stop_signal: text,
    sysctls: pairs,
    tmpfs: unheeded(textOrList, 'use a volume of type tmpfs'),
    tty: bool,
    ulimits: dict(choice(integer, map({ hard: integer, soft: integer }, { required: ['soft', 'hard'] })), /^[a-z]+$/),
    user: text,
    userns_mode: unsupported(text),
    // the schema means them to be unique, but says it in the wrong place
    volumes: list(volume),
    working_dir: text,

    extends: forbidden('Support for `extends` is not implemented yet.'),
    volume_driver: forbidden(
      'Instead of setting the volume driver on the service, define a volume using the top-level `volumes` option and specify the driver there.',
    ),
    volumes_from: forbidden(
      'To share a volume between services, define it using the top-level `volumes` option and reference it from each service that shares it using the service-level `volumes` option.',
    ),
    cpu_quota: forbidden(RESOURCES),
    cpu_shares: forbidden(RESOURCES),
    cpuset: forbidden(RESOURCES),
    mem_limit: forbidden(RESOURCES),
    memswap_limit: forbidden(RESOURCES),

    annotations: later(),
    attach: later(),
    blkio_config: later(),
    cgroup: later(),
    cpu_count: later(RESOURCES),
    cpu_percent: later(RESOURCES),
    cpu_period: later(RESOURCES),
    cpu_rt_period: later(RESOURCES),
    cpu_rt_runtime: later(RESOURCES),
    cpus: later(RESOURCES),
    develop: later(),
    device_cgroup_rules: later(),
    dns_opt: later(),
    gpus: later(),
    group_add: later(),
    label_file: later(),
    mem_reservation: later(RESOURCES),
    mem_swappiness: later(RESOURCES),
    models: later(),
    oom_kill_disable: later(),
    pids_limit: later(RESOURCES),
    platform: later('Use deploy.placement.constraints: node.platform.os and node.platform.arch'),
    post_start: later(),
    pre_stop: later(),
    profiles: later(),
    provider: later(),
    pull_policy: later(),
    pull_refresh_after: later(),
    runtime: later(),
    scale: later('Use deploy.replicas'),
    storage_opt: later(),
    use_api_socket: later(),
    uts: later(),
  },
  { hasExtensions: true },
)

const external = choice(bool, map({ name: text }))
const openExternal = choice(bool, map({ name: text }, open))

const network = map(
  {
    name: text,
    driver: text,
    driver_opts: driverOptions,
    ipam: map({
      driver: text,
      config: list(map({ subnet: text, gateway: later(), ip_range: later(), aux_addresses: later() })),
      options: later(),
    }),
    external,
    internal: bool,
    attachable: bool,
    labels: pairs,
    enable_ipv4: later(),
    enable_ipv6: later(),
  },
  { isNullable: true, hasExtensions: true },
)

const topology = list(map({ segments: pairs }, open))

const clusterSpec = map(
  {
    group: text,
    access_mode: map(
      {
        scope: text,
        sharing: text,
        block_volume: map({}, open),
        mount_volume: map({ fs_type: text, mount_flags: list(text) }, open),
      },
      open,
    ),
    accessibility_requirements: map({ requisite: topology, preferred: topology }, open),
    capacity_range: map({ required_bytes: text, limit_bytes: text }, open),
    availability: text,
  },
  open,
)

const topVolume = map(
  {
    name: text,
    driver: text,
    driver_opts: driverOptions,
    external,
    labels: pairs,
    'x-cluster-spec': unheeded(clusterSpec, 'cluster volumes are made by `docker volume create`, not by a stack'),
  },
  { isNullable: true, hasExtensions: true },
)

const secret = map(
  {
    name: text,
    file: text,
    external: openExternal,
    labels: pairs,
    driver: text,
    driver_opts: driverOptions,
    template_driver: text,
    environment: later(),
  },
  { hasExtensions: true },
)

const config = map(
  {
    name: text,
    file: text,
    external: openExternal,
    labels: pairs,
    template_driver: text,
    environment: later(),
    content: later(),
  },
  { hasExtensions: true },
)

/** A whole file. */
export const fileShape: MapShape = map(
  {
    version: text,
    services: dict(serviceShape, NAME, true),
    networks: dict(network, NAME),
    volumes: dict(topVolume, NAME, true),
    secrets: dict(secret, NAME, true),
    configs: dict(config, NAME, true),
    name: later('The name of the stack stands on the command line'),
    include: later(),
    models: later(),
  },
  { hasExtensions: true },
)

// The table of a service's keys: each key that the v3 schemas or the Compose Specification have, and what becomes of it.
// A test walks the schemas and fails on a key without a row; docs/compose.md is made from it.

import {
  bool,
  command,
  deviceRequests,
  driverOptions,
  duration,
  extensible,
  fileReference,
  gpus,
  hosts,
  integer,
  NAME,
  nullable,
  number,
  numberOrText,
  pairs,
  text,
  textOrList,
  ulimits,
  uniqueTexts,
  whatever,
} from './key-types.ts'
import {
  applied,
  choice,
  deprecated,
  dict,
  forbidden,
  list,
  type MapShape,
  map,
  refused,
  type Shape,
  scalar,
  unheeded,
  unsupported,
} from './shape.ts'

const LABEL = 'by a label of the service'
const HOST = `${LABEL}, where the cluster allows it (io.swarmctl.host-access)`

const updateConfig = map(
  {
    parallelism: integer,
    delay: duration,
    failure_action: text,
    monitor: duration,
    max_failure_ratio: number,
    order: { kind: 'scalar', types: ['string'], oneOf: ['start-first', 'stop-first'] },
  },
  extensible,
)

const deploy = map(
  {
    mode: applied(text, 'replicated, global, replicated-job or global-job'),
    endpoint_mode: text,
    replicas: integer,
    labels: pairs,
    rollback_config: updateConfig,
    update_config: updateConfig,
    resources: map(
      {
        limits: map({ cpus: numberOrText, memory: text, pids: integer }, extensible),
        reservations: map(
          {
            cpus: numberOrText,
            memory: text,
            generic_resources: list(
              map({ discrete_resource_spec: map({ kind: text, value: number }, extensible) }, extensible),
            ),
            devices: applied(
              deviceRequests,
              `${LABEL}; nothing is reserved, so say with constraints which nodes have them`,
            ),
          },
          extensible,
        ),
      },
      extensible,
    ),
    restart_policy: map({ condition: text, delay: duration, max_attempts: integer, window: duration }, extensible),
    placement: map(
      {
        constraints: list(text),
        preferences: list(map({ spread: text }, extensible)),
        max_replicas_per_node: integer,
      },
      extensible,
    ),
  },
  nullable,
)

const healthcheck = map(
  {
    disable: bool,
    interval: duration,
    retries: number,
    test: choice(text, list(text)),
    timeout: duration,
    start_period: duration,
    start_interval: duration,
  },
  extensible,
)

const HINT = 'it says nothing to a container'

const port = choice(
  { kind: 'scalar', types: ['number'], format: 'ports' },
  { kind: 'scalar', types: ['string'], format: 'ports' },
  map(
    {
      mode: applied(text, 'ingress or host'),
      target: integer,
      published: applied(scalar('integer', 'string'), 'a number, or a range such as 8000-8005'),
      protocol: text,
      host_ip: applied(
        text,
        `${LABEL}: an address, a subnet or an interface: of each node those addresses alone that it has; 0.0.0.0 is every address`,
      ),
      name: unheeded(text, HINT),
      app_protocol: unheeded(text, HINT),
    },
    extensible,
  ),
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
      bind: map(
        {
          propagation: text,
          create_host_path: applied(bool, 'without it the path must be there on the node'),
          recursive: { kind: 'scalar', types: ['string'], oneOf: ['enabled', 'disabled', 'writable', 'readonly'] },
          selinux: refused('the engine relabels no mounts; label the files on the nodes'),
        },
        extensible,
      ),
      volume: map({ nocopy: bool, subpath: text, labels: pairs }, extensible),
      image: map({ subpath: text }, extensible),
      tmpfs: map(
        {
          size: { kind: 'scalar', types: ['integer', 'string'], minimum: 0 },
          mode: applied(numberOrText, 'a text is octal'),
        },
        extensible,
      ),
    },
    { ...extensible, required: ['type'] },
  ),
)

const ADDRESS = 'tasks take any free address of a network'
const OWN_ADDRESS = `${LABEL}: the service’s virtual address there; with endpoint_mode: dnsrr it is refused`
const INTERFACE = 'interfaces of tasks are made by the cluster'

const serviceNetworks = choice(
  uniqueTexts,
  dict(
    map(
      {
        aliases: uniqueTexts,
        driver_opts: driverOptions,
        ipv4_address: applied(text, OWN_ADDRESS),
        ipv6_address: applied(text, OWN_ADDRESS),
        priority: unheeded(scalar('number'), INTERFACE),
        gw_priority: unheeded(scalar('number'), INTERFACE),
        link_local_ips: refused(ADDRESS),
        mac_address: refused(INTERFACE),
        interface_name: refused(INTERFACE),
      },
      nullable,
    ),
    NAME,
    true,
  ),
)

const dependencies = choice(
  uniqueTexts,
  dict(
    map(
      {
        condition: {
          kind: 'scalar',
          types: ['string'],
          oneOf: ['service_started', 'service_healthy', 'service_completed_successfully'],
        },
        restart: unheeded(bool, 'an update of one service restarts no other'),
        required: bool,
      },
      { ...extensible, required: ['condition'] },
    ),
    NAME,
    true,
  ),
)

const rates = list(map({ path: text, rate: scalar('integer', 'string') }))

const blkio = map({
  device_read_bps: rates,
  device_read_iops: rates,
  device_write_bps: rates,
  device_write_iops: rates,
  weight: integer,
  weight_device: list(map({ path: text, weight: integer })),
})

const envFile: Shape = choice(
  text,
  list(
    choice(
      text,
      map(
        { path: text, format: { kind: 'scalar', types: ['string'], oneOf: ['raw'] }, required: bool },
        { required: ['path'] },
      ),
    ),
  ),
)

export const BUILD_REASON =
  'a cluster builds no images: build where the sources are (docker build -t NAME CONTEXT), push the image to a registry that every node reaches (docker push NAME), and name it with `image`'

/** Everything of it is left out together; its keys are checked all the same. */
const build = choice(
  text,
  map(
    {
      context: text,
      dockerfile: text,
      args: pairs,
      labels: pairs,
      cache_from: list(text),
      network: text,
      target: text,
      shm_size: scalar('integer', 'string'),
      extra_hosts: hosts,
      dockerfile_inline: text,
      entitlements: list(text),
      ssh: pairs,
      cache_to: list(text),
      no_cache: bool,
      additional_contexts: pairs,
      provenance: scalar('string', 'boolean'),
      sbom: scalar('string', 'boolean'),
      pull: bool,
      isolation: text,
      privileged: bool,
      secrets: fileReference,
      tags: list(text),
      ulimits,
      platforms: list(text),
    },
    extensible,
  ),
)

const NO_HOOKS = 'the engine runs no commands around a start or stop; let the image’s entrypoint do it'

export const serviceShape: MapShape = map(
  {
    deploy,
    annotations: applied(pairs, LABEL),
    attach: unheeded(bool, 'it is about the terminal of docker compose up'),
    blkio_config: applied(blkio, LABEL),
    build: unsupported(build, `left out where the service has an image too; else refused: ${BUILD_REASON}`),
    cap_add: uniqueTexts,
    cap_drop: uniqueTexts,
    cgroup: applied(
      { kind: 'scalar', types: ['string'], oneOf: ['host', 'private'] },
      `${LABEL}; host where io.swarmctl.host-access allows it`,
    ),
    cgroup_parent: applied(text, HOST),
    cgroupns_mode: applied(text, 'the same as cgroup'),
    command,
    configs: fileReference,
    container_name: deprecated(text, 'Setting the container name is not supported.'),
    cpu_count: applied(integer, LABEL),
    cpu_percent: applied(integer, LABEL),
    cpu_period: applied(numberOrText, LABEL),
    cpu_quota: applied(numberOrText, LABEL),
    cpu_rt_period: applied(numberOrText, LABEL),
    cpu_rt_runtime: applied(numberOrText, LABEL),
    cpu_shares: applied(number, LABEL),
    cpus: applied(numberOrText, 'the same as deploy.resources.limits.cpus'),
    cpuset: applied(text, LABEL),
    credential_spec: map({ config: text, file: text, registry: text }, extensible),
    depends_on: applied(
      dependencies,
      'the first tasks of the service wait until what it needs is started, healthy or completed (label io.swarmctl.depends-on)',
    ),
    develop: unheeded(whatever, 'it is for docker compose watch'),
    device_cgroup_rules: applied(uniqueTexts, HOST),
    devices: applied(
      list(
        choice(text, map({ source: text, target: text, permissions: text }, { ...extensible, required: ['source'] })),
      ),
      HOST,
    ),
    dns: textOrList,
    dns_opt: uniqueTexts,
    dns_search: textOrList,
    domainname: applied(text, LABEL),
    entrypoint: command,
    env_file: envFile,
    environment: pairs,
    expose: deprecated(
      list(scalar('string', 'number'), true),
      "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
    extends: applied(
      choice(text, map({ service: text, file: text }, { required: ['service'] })),
      'a service of the same file or of another one',
    ),
    external_links: unsupported(
      uniqueTexts,
      'services reach each other by their names on the networks that they share',
    ),
    extra_hosts: hosts,
    gpus: applied(gpus, LABEL),
    group_add: list(scalar('string', 'number'), true),
    healthcheck,
    hostname: text,
    image: text,
    init: bool,
    ipc: applied(text, `${LABEL}: private, shareable or none; host where io.swarmctl.host-access allows it`),
    isolation: text,
    label_file: applied(choice(text, list(text)), 'files of KEY=VALUE lines; labels win over them'),
    labels: pairs,
    links: unsupported(uniqueTexts, 'services reach each other by their names on the networks that they share'),
    logging: map({ driver: text, options: dict(scalar('string', 'number', 'null')) }, extensible),
    mac_address: applied(
      text,
      `${LABEL}, with network_mode: bridge; on networks of the cluster addresses are the cluster’s`,
    ),
    mem_limit: applied(numberOrText, 'the same as deploy.resources.limits.memory'),
    mem_reservation: applied(scalar('string', 'integer'), 'the same as deploy.resources.reservations.memory'),
    mem_swappiness: applied(integer, LABEL),
    memswap_limit: applied(numberOrText, `${LABEL}: memory and swap together; -1 is no limit`),
    models: refused('a cluster runs no models; run a server of models as a service'),
    network_mode: applied(text, 'host, none or bridge'),
    networks: serviceNetworks,
    oom_kill_disable: applied(bool, LABEL),
    oom_score_adj: { kind: 'scalar', types: ['integer', 'string'], cast: 'integer', minimum: -1000 },
    pid: applied(scalar('string', 'null'), `${LABEL}: host, where io.swarmctl.host-access allows it`),
    pids_limit: applied(number, 'the same as deploy.resources.limits.pids'),
    platform: applied(text, 'as constraints on node.platform.os and node.platform.arch'),
    ports: list(port, true),
    post_start: refused(NO_HOOKS),
    pre_stop: refused(NO_HOOKS),
    privileged: applied(bool, HOST),
    profiles: applied(uniqueTexts, 'the service is deployed where one of them is active (--profile, COMPOSE_PROFILES)'),
    provider: refused('what a provider starts is no service of a cluster'),
    pull_policy: applied(
      text,
      `${LABEL}: always (a node asks the registry when a task starts there), missing or if_not_present, never; others are refused`,
    ),
    pull_refresh_after: unheeded(text, 'a node looks for a newer image when a task starts there'),
    read_only: bool,
    restart: applied(text, 'where deploy.restart_policy is not set; `no` leaves the cluster’s default, as Docker does'),
    runtime: applied(text, LABEL),
    scale: applied(integer, 'the same as deploy.replicas'),
    secrets: fileReference,
    security_opt: applied(uniqueTexts, `${LABEL}; what takes protection away where io.swarmctl.host-access allows it`),
    shm_size: applied(numberOrText, LABEL),
    stdin_open: bool,
    stop_grace_period: duration,
    stop_signal: text,
    storage_opt: applied(dict(whatever), LABEL),
    sysctls: pairs,
    tmpfs: applied(textOrList, 'a mount of type tmpfs; options other than size and mode by a label of the service'),
    tty: bool,
    ulimits,
    use_api_socket: refused('bind /var/run/docker.sock instead: it is the API of this cluster'),
    user: text,
    userns_mode: applied(text, HOST),
    uts: applied(text, HOST),
    // the v3 schemas mean them to be unique, but say it in the wrong place
    volumes: list(volume),
    working_dir: text,

    volume_driver: forbidden(
      'Instead of setting the volume driver on the service, define a volume using the top-level `volumes` option and specify the driver there.',
    ),
    volumes_from: forbidden(
      'To share a volume between services, define it using the top-level `volumes` option and reference it from each service that shares it using the service-level `volumes` option.',
    ),
  },
  extensible,
)

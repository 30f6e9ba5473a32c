// The table of a compose file's keys, but for those of a service (service-keys.ts).

import { bool, driverOptions, extensible, NAME, nullable, pairs, text, textOrList } from './key-types.ts'
import { serviceShape } from './service-keys.ts'
import { applied, choice, dict, list, type MapShape, map, refused, unheeded } from './shape.ts'

const external = choice(bool, map({ name: text }, extensible))

const network = map(
  {
    name: text,
    driver: text,
    driver_opts: driverOptions,
    ipam: map(
      {
        driver: text,
        config: list(
          map({ subnet: text, gateway: text, ip_range: text, aux_addresses: dict(text, /^.+$/, true) }, extensible),
        ),
        options: dict(text, /^.+$/, true),
      },
      extensible,
    ),
    external,
    internal: bool,
    attachable: bool,
    labels: pairs,
    enable_ipv4: bool,
    enable_ipv6: bool,
  },
  nullable,
)

const open = { isOpen: true } as const
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
  nullable,
)

const secret = map(
  {
    name: text,
    file: text,
    external,
    labels: pairs,
    driver: text,
    driver_opts: driverOptions,
    template_driver: text,
    environment: applied(text, 'the value of a variable'),
  },
  extensible,
)

const config = map(
  {
    name: text,
    file: text,
    external,
    labels: pairs,
    template_driver: text,
    environment: applied(text, 'the value of a variable'),
    content: applied(text, 'the text itself'),
  },
  extensible,
)

/** A whole file. */
export const fileShape: MapShape = map(
  {
    version: applied(text, 'any; it changes nothing'),
    name: unheeded(text, 'the name of the stack stands on the command line'),
    include: applied(
      list(choice(text, map({ path: textOrList, env_file: textOrList, project_directory: text }))),
      'files on this machine',
    ),
    services: dict(serviceShape, NAME, true),
    networks: dict(network, NAME),
    volumes: dict(topVolume, NAME, true),
    secrets: dict(secret, NAME, true),
    configs: dict(config, NAME, true),
    models: refused('a cluster runs no models; run a server of models as a service'),
  },
  extensible,
)

// What is written on the engine's networks and end points for our network driver, by those who make them (the worker for tasks,
// the daemon for `docker run --network`) and read by the driver. Keys are options and labels of Docker's API.

import { DNS_DRIVER_OPTION, type HostModePort } from './desired-state.ts'

/** Label and driver option of an engine network: the cluster network that it is this node's part of, or EGRESS_NETWORK_ID. */
export const NETWORK_ID_KEY = 'io.swarmctl.network.id'

/** Driver option: VXLAN id; `0` for networks that have none. */
export const NETWORK_VNI_KEY = 'io.swarmctl.network.vni'

/** Driver option, `true`: containers have their default route here (the ingress network and the egress network). */
export const NETWORK_GATEWAY_KEY = 'io.swarmctl.network.gateway'

/** The engine's network for EGRESS_NETWORK_ID; never shown by the API. */
export const EGRESS_NETWORK_NAME = 'swarmctl_egress'

/** The engine's bridge for host-mode ports of containers on cluster networks: its label's id and its name; never shown. */
export const PORTS_NETWORK_ID = 'ports'
export const PORTS_NETWORK_NAME = 'swarmctl_ports'

/**
 * Resolver option of a container (HostConfig.DnsOptions) that keeps engines before 25 from starting their own resolver in it: that
 * is a process of the engine and eleven of iptables, a quarter of a container's start, and nobody would ask it. The engine logs that
 * it can't be read. It must come first.
 */
export const NO_ENGINE_RESOLVER = 'ndots:'

/** Option of an end point: the container's own name servers (`--dns`), asked for names that are not the cluster's. */
export const ENDPOINT_DNS_KEY = DNS_DRIVER_OPTION

export function upstreamsOption(servers: readonly string[]): string {
  return servers.join(',')
}

export function upstreamsOf(option: unknown): readonly string[] {
  return typeof option === 'string' ? option.split(',').filter((server) => server !== '') : []
}

/**
 * Option of an end point on the gateway network, and label of its container: its host-mode ports, `tcp/8080/80` by commas, and
 * `tcp/8080/80@127.0.0.1;10.0.0.0/8` where it is for some addresses: an older reader publishes that nowhere.
 */
export const ENDPOINT_PORTS_KEY = 'io.swarmctl.ports'

export function portsOption(ports: readonly HostModePort[]): string {
  return ports
    .map(({ protocol, published, target, addresses = [] }) => {
      const where = addresses.length > 0 ? `@${addresses.join(';')}` : ''
      return `${protocol}/${published}/${target}${where}`
    })
    .join(',')
}

export function portsOf(option: unknown): readonly HostModePort[] {
  const words = typeof option === 'string' ? option.split(',') : []
  return words.flatMap((word): readonly HostModePort[] => {
    const [, protocol, published, target, where] =
      /^(tcp|udp|sctp)\/(\d{1,5})\/(\d{1,5})(?:@([^@]+))?$/.exec(word) ?? []
    if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') return []
    const addresses = where === undefined ? {} : { addresses: where.split(';') }
    return [{ protocol, published: Number(published), target: Number(target), ...addresses }]
  })
}

/**
 * Option of an end point: how many of ours its container joins while it starts, where the engine takes the links into the container
 * after the last of them only (before API 1.44).
 */
export const ENDPOINT_SIBLINGS_KEY = 'io.swarmctl.siblings'

export function siblingsOf(option: unknown): number {
  return typeof option === 'string' && /^\d{1,2}$/.test(option) ? Number(option) : 1
}

// What is written on the engine's networks and end points for our network driver, by those who make them (the worker for tasks,
// the daemon for `docker run --network`) and read by the driver. Keys are options and labels of Docker's API.

/** Label and driver option of an engine network: the cluster network that it is this node's part of, or EGRESS_NETWORK_ID. */
export const NETWORK_ID_KEY = 'io.swarmctl.network.id'

/** Driver option: VXLAN id; `0` for networks that have none. */
export const NETWORK_VNI_KEY = 'io.swarmctl.network.vni'

/** Driver option, `true`: containers have their default route here (the ingress network and the egress network). */
export const NETWORK_GATEWAY_KEY = 'io.swarmctl.network.gateway'

/** The engine's network for EGRESS_NETWORK_ID; never shown by the API. */
export const EGRESS_NETWORK_NAME = 'swarmctl_egress'

/** Option of an end point: the container's own name servers (`--dns`), separated by commas; asked for names that are not the cluster's. */
export const ENDPOINT_DNS_KEY = 'io.swarmctl.dns'

export function upstreamsOption(servers: readonly string[]): string {
  return servers.join(',')
}

export function upstreamsOf(option: unknown): readonly string[] {
  return typeof option === 'string' ? option.split(',').filter((server) => server !== '') : []
}

// The network that `swarm init` makes: published ports are reached over it, and every node has a block of its subnet. There
// is one at most; users may remove it and create another with settings of their own.

import { INGRESS_SUBNET_LABEL, ingressSubnetOf } from '../../api/cluster-settings.ts'
import type { Cluster, Network } from '../../api/objects.ts'
import { invalidArgument } from '../../api/validation/refusal.ts'
import { formatCidr, overlaps, parseCidr } from '../../lib/cidr.ts'
import { formatTime } from '../../lib/clock.ts'
import { parseRoute } from './reported-routes.ts'
import { allocateNetwork } from './subnets.ts'

export interface IngressNetworkOptions {
  readonly cluster: Cluster
  readonly id: string
  readonly wallMs: number
  /** Of the first node's host. */
  readonly routes?: readonly string[]
}

/**
 * As Swarm's: named `ingress`, with everything else left to the allocator. A subnet that was given is taken as it is, others stay
 * clear of the routes.
 * @throws {CodedError} INVALID_ARGUMENT where the given one overlaps with a route
 */
export function ingressNetwork({ cluster, id, wallMs, routes = [] }: IngressNetworkOptions): Network {
  const avoid = routes.flatMap((route) => parseRoute(route) ?? [])
  const told = ingressSubnetOf(cluster.spec)
  const subnet = told === undefined ? undefined : parseCidr(told)
  const clash = subnet && avoid.find((route) => overlaps(route, subnet))
  if (clash) {
    throw invalidArgument(
      `label ${INGRESS_SUBNET_LABEL}: ${told} overlaps with the route ${formatCidr(clash)} of this host: what is behind it could not be reached from containers`,
    )
  }
  const now = formatTime(wallMs)
  const spec = {
    Name: 'ingress',
    Labels: {},
    DriverConfiguration: {},
    IPAMOptions: { Driver: {} },
    EnableIPv4: true,
    Ingress: true,
    Scope: 'swarm',
  }
  const allocation = allocateNetwork({ list: () => [], cluster: () => cluster }, id, spec, { avoid })
  return {
    kind: 'network',
    id,
    meta: { version: 0, createdAt: now, updatedAt: now },
    spec,
    // In an empty cluster nothing is in its way.
    allocated: allocation.kind === 'allocated' ? allocation.allocated : undefined,
  }
}

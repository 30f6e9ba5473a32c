// The network that `swarm init` makes: published ports are reached over it, and every node has a block of its subnet. There
// is one at most; users may remove it and create another with settings of their own.

import type { Cluster, Network } from '../../api/objects.ts'
import { formatTime } from '../../lib/clock.ts'
import { allocateNetwork } from './subnets.ts'

/** As Swarm's: named `ingress`, with everything else left to the allocator. */
export function ingressNetwork(cluster: Cluster, id: string, wallMs: number): Network {
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
  const allocation = allocateNetwork({ list: () => [], cluster: () => cluster }, id, spec)
  return {
    kind: 'network',
    id,
    meta: { version: 0, createdAt: now, updatedAt: now },
    spec,
    // In an empty cluster nothing is in its way.
    allocated: allocation.kind === 'allocated' ? allocation.allocated : undefined,
  }
}

// How large a packet on an overlay may be: what the smallest link between the nodes carries, less what the tunnel adds.

import type { OverlayNetwork, Peer } from '../../api/data-plane.ts'

/** Ethernet 14, VXLAN 8, UDP 8 and IPv4 20 bytes. */
export const VXLAN_OVERHEAD = 50
/** The outer header of IPv6 is 20 bytes longer. */
const IPV6_EXTRA = 20
/** WireGuard's own 60 to 80 in addition. */
export const ENCRYPTED_OVERHEAD = 130
const UNDERLAY_DEFAULT = 1500
const IPV6_MIN = 1280
const IPV4_MIN = 576

/** The smallest underlay MTU that a peer has told; the usual Ethernet's where none has. */
export function underlayMtu(peers: Iterable<Peer>): number {
  let smallest = 0
  for (const { mtu } of peers) if (mtu > 0 && (smallest === 0 || mtu < smallest)) smallest = mtu
  return smallest === 0 ? UNDERLAY_DEFAULT : smallest
}

/** MTU of an overlay's bridge, tunnel and containers, from the smallest underlay MTU of its nodes. */
export function overlayMtu(
  network: Pick<OverlayNetwork, 'mtu' | 'encrypted' | 'subnets'>,
  underlay: number,
  vtep: string,
): number {
  if (network.mtu > 0) return network.mtu
  const overhead = (network.encrypted ? ENCRYPTED_OVERHEAD : VXLAN_OVERHEAD) + (vtep.includes(':') ? IPV6_EXTRA : 0)
  const floor = network.subnets.some(({ subnet }) => subnet.includes(':')) ? IPV6_MIN : IPV4_MIN
  return Math.max(underlay - overhead, floor)
}

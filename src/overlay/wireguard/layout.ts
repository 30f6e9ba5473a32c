// The names, addresses and ports of the tunnels that carry encrypted networks, derived from numbers: what the plan of the
// VXLANs, the rules and the WireGuard devices agree on.

/** Node addresses inside the tunnels, one per Peer.number. Nothing for them may ever leave by another device. */
export const WIREGUARD_SUBNET = '100.97.0.0/16'

/** All devices of all nodes of this machine, for `iifname "swc-wg*"`. */
export const WIREGUARD_DEVICE_PREFIX = 'swc-wg'

/** Inside WireGuard's packets: what IPv6 (40), UDP (8) and WireGuard's own framing (32) take. */
export const WIREGUARD_OVERHEAD_BYTES = 80

/** UDP, outside: 51833 and 51834 for a machine's first node. Generations of keys use them in turn. */
const PORT_BASE = 51833

/** Two devices stand side by side while keys are rotated: the key of an even generation has `a`, of an odd one `b`. */
export type Slot = 0 | 1

export function slotOf(generation: number): Slot {
  return generation % 2 === 0 ? 0 : 1
}

/** `instance` tells the nodes apart that share a network namespace. */
export function wireGuardDevice(instance: number, slot: Slot): string {
  return `${WIREGUARD_DEVICE_PREFIX}${instance}${slot === 0 ? 'a' : 'b'}`
}

export function wireGuardPort(instance: number, slot: Slot): number {
  return PORT_BASE + 2 * instance + slot
}

/** Inside the tunnels: `local` and the FDB's `dst` of VXLANs of encrypted networks. */
export function wireGuardAddress(nodeNumber: number): string {
  return `100.97.${nodeNumber >> 8}.${nodeNumber & 0xff}`
}

/** The UDP port of a node's encrypted VXLANs, from that of its plain ones (Peer.port, DataPathReport.port). */
export function encryptedPort(plainPort: number): number {
  return plainPort + 1
}

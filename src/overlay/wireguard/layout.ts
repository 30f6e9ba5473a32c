// The ports and slots of the tunnels that carry encrypted networks. Their addresses and the devices' names stand in
// ../kernel/fabric-config.ts, since routes, rules and VXLANs name them too.

import { type FabricConfig, wireguardDevice } from '../kernel/fabric-config.ts'

/** Around a packet: what IPv6 (40), UDP (8) and WireGuard's own framing (32) take. */
export const WIREGUARD_OVERHEAD_BYTES = 80

/** UDP, to be let through between nodes: 51833 and 51834 for a machine's first node, the next two for its second. */
const PORT_BASE = 51833

/** Two devices stand side by side while keys are rotated: the key of an odd generation has `a`, of an even one `b`. */
export type Slot = 'a' | 'b'

export function slotOf(generation: number): Slot {
  return generation % 2 === 1 ? 'a' : 'b'
}

export function deviceOf(config: Pick<FabricConfig, 'instance'>, generation: number): string {
  return wireguardDevice(config, slotOf(generation))
}

export function wireguardPort(config: Pick<FabricConfig, 'instance'>, slot: Slot): number {
  return PORT_BASE + 2 * config.instance + (slot === 'a' ? 0 : 1)
}

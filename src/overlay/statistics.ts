// Numbers of a node's data plane for metrics: what had to be repaired, and what the kernel has counted.

import { type CommandResult, Commands } from './kernel/commands.ts'
import type { FabricConfig } from './kernel/fabric-config.ts'
import { ISOLATED_COUNTER, MASQUERADED_COUNTER, SPOOFED_COUNTER } from './rules/fabric-tables.ts'
import { GUARDED_COUNTER, HOST_MASQUERADED_COUNTER } from './rules/host-table.ts'

/** As the kernel has them since its tables were made; whoever reads them takes a fall for a new beginning. */
export interface KernelCounters {
  /** Connections whose container sees the fabric's address instead of its client's. */
  readonly masquerades: number
  /** Packets that were dropped: from one network to another, … */
  readonly isolatedPackets: number
  /** … with an address that is not the container's own, … */
  readonly spoofedPackets: number
  /** … to a tunnel's port from what is no node. */
  readonly guardedPackets: number
}

/** Two runs of `nft`, which reads all there is in a namespace before it answers: 75 ms of a core each with 1,000 services. */
export async function kernelCounters(config: FabricConfig): Promise<KernelCounters> {
  const commands = new Commands({ fabric: config.namespace, host: '' })
  const [host, fabric] = await Promise.all([
    commands.host('nft', ['-j', 'list', 'counters', 'table', 'inet', config.hostTable]),
    commands.fabric('nft', ['-j', 'list', 'counters']),
  ])
  const atHost = packetsByName(host)
  const inside = packetsByName(fabric)
  return {
    masquerades: (atHost.get(HOST_MASQUERADED_COUNTER) ?? 0) + (inside.get(MASQUERADED_COUNTER) ?? 0),
    isolatedPackets: inside.get(ISOLATED_COUNTER) ?? 0,
    spoofedPackets: inside.get(SPOOFED_COUNTER) ?? 0,
    guardedPackets: atHost.get(GUARDED_COUNTER) ?? 0,
  }
}

interface NftAnswer {
  readonly nftables?: readonly { readonly counter?: { readonly name: string; readonly packets: number } }[]
}

/** Empty where the table is gone: it is about to be made again, with counters at 0. */
function packetsByName({ status, stdout }: CommandResult): ReadonlyMap<string, number> {
  if (status !== 0) return new Map()
  const { nftables = [] } = JSON.parse(stdout) as NftAnswer
  return new Map(nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets] as const] : [])))
}

// Numbers of a node's data plane for metrics: what had to be repaired, and what the kernel has counted.

import { Commands } from './kernel/commands.ts'
import { FABRIC_TABLE, type FabricConfig } from './kernel/fabric-config.ts'
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

export async function kernelCounters(config: FabricConfig): Promise<KernelCounters> {
  const commands = new Commands({ fabric: config.namespace, host: '' })
  const read = async (inHost: boolean, family: string, table: string, name: string): Promise<number> => {
    const args = ['-j', 'list', 'counter', family, table, name]
    const { status, stdout } = await (inHost ? commands.host('nft', args) : commands.fabric('nft', args))
    return status === 0 ? packetsIn(stdout) : 0
  }
  const [host, inside, isolated, spoofed, guarded] = await Promise.all([
    read(true, 'inet', config.hostTable, HOST_MASQUERADED_COUNTER),
    read(false, 'inet', FABRIC_TABLE, MASQUERADED_COUNTER),
    read(false, 'inet', FABRIC_TABLE, ISOLATED_COUNTER),
    read(false, 'bridge', FABRIC_TABLE, SPOOFED_COUNTER),
    read(true, 'inet', config.hostTable, GUARDED_COUNTER),
  ])
  return {
    masquerades: host + inside,
    isolatedPackets: isolated,
    spoofedPackets: spoofed,
    guardedPackets: guarded,
  }
}

interface NftAnswer {
  readonly nftables?: readonly { readonly counter?: { readonly packets?: number } }[]
}

function packetsIn(json: string): number {
  const { nftables = [] } = JSON.parse(json) as NftAnswer
  return nftables.reduce((sum, { counter }) => sum + (counter?.packets ?? 0), 0)
}

// Networks in the rules: between whose containers packets are forwarded, which addresses no client's own may be, and which
// containers have no way out.

import type { OverlayNetwork } from '../../api/data-plane.ts'
import { type Cidr, containsCidr, formatCidr, parseCidr } from '../../lib/cidr.ts'
import {
  bridgeMac,
  bridgeName,
  EGRESS_SUBNET,
  GATEWAY_SUBNET_V6,
  tunnelName,
  WIREGUARD_SUBNET,
} from '../kernel/fabric-config.ts'
import { GATEWAY_MACS } from './balanced-replies.ts'
import { elementFragment, type Fragment, type SetElement } from './fragment.ts'

/** One fragment of all: their subnets are ranges of one set. */
export function networksFragment(networks: Iterable<OverlayNetwork>): Fragment {
  const all = [...networks]
  const elements: SetElement[] = []
  for (const network of all) {
    if (network.ingress) continue
    const bridge = bridgeName(network)
    elements.push({ table: 'fabric', set: 'overlays', key: `"${bridge}" . "${bridge}"`, value: '' })
    elements.push({ table: 'balanced', set: GATEWAY_MACS, key: `"${tunnelName(network)}"`, value: bridgeMac(network) })
  }
  const subnets = all.flatMap((network) => network.subnets.map(({ subnet }) => ({ network, cidr: parseCidr(subnet) })))
  const overlays = subnets.flatMap(({ network, cidr }) => (cidr && !network.ingress ? [cidr] : []))
  const fixed = [EGRESS_SUBNET, WIREGUARD_SUBNET, GATEWAY_SUBNET_V6].flatMap((text) => parseCidr(text) ?? [])
  const everything = [...subnets.flatMap(({ cidr }) => cidr ?? []), ...fixed]
  elements.push(...subnetElements('fabric', overlays), ...subnetElements('host', everything))
  return elementFragment(elements)
}

/** nft refuses ranges that overlap: of those that lie in one another the widest stays. */
function subnetElements(table: 'host' | 'fabric', cidrs: readonly Cidr[]): readonly SetElement[] {
  const sorted = [...cidrs].sort(
    (a, b) => a.family - b.family || Number(a.base > b.base) - Number(a.base < b.base) || a.prefix - b.prefix,
  )
  const kept: Cidr[] = []
  for (const cidr of sorted) {
    const last = kept.at(-1)
    if (!last || !containsCidr(last, cidr)) kept.push(cidr)
  }
  return kept.map((cidr) => ({ table, set: `subnets${cidr.family}`, key: formatCidr(cidr), value: '' }))
}

/** A local task's addresses on the gateway network, all of whose other networks are internal. */
export function confinedFragment(addresses: readonly string[]): Fragment {
  return elementFragment(
    addresses.map(
      (key): SetElement => ({ table: 'fabric', set: `confined${key.includes(':') ? 6 : 4}`, key, value: '' }),
    ),
  )
}

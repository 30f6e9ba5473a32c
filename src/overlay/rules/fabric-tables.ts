// The tables of the fabric's namespace, without what changes: where packets go, and what never goes anywhere. What the fragments
// put into sets, maps and chains is named here and nowhere else.

import {
  FABRIC_PORT_PREFIX,
  FABRIC_TABLE,
  type FabricConfig,
  GATEWAY_BRIDGE,
  GATEWAY_TUNNEL,
  GATEWAY_TUNNEL_ENCRYPTED,
} from '../kernel/fabric-config.ts'
import { BALANCED_TABLE, balancedTable, GATEWAY_MACS, noteBalanced } from './balanced-replies.ts'
import { memberMaps } from './members.ts'

/** Refuses at once what has nobody to answer it. */
export const REFUSE_CHAIN = 'refuse'
/** Named counters of the fabric's inet table. */
export const ISOLATED_COUNTER = 'isolated'
export const MASQUERADED_COUNTER = 'masqueraded'
/** Of the bridge table. */
export const SPOOFED_COUNTER = 'spoofed'

/**
 * Arguments of `nft` in the fabric's namespace that fail where a table is gone. (`list tables` reads every chain and set before it
 * answers: 0.16 s of a core with 1,000 services.)
 */
export const PRESENCE_QUERIES: readonly { readonly table: string; readonly args: readonly string[] }[] = [
  { table: `table inet ${FABRIC_TABLE}`, args: ['list', 'set', 'inet', FABRIC_TABLE, 'draining4'] },
  { table: `table bridge ${FABRIC_TABLE}`, args: ['-t', 'list', 'set', 'bridge', FABRIC_TABLE, 'ports4'] },
  { table: `table bridge ${BALANCED_TABLE}`, args: ['list', 'map', 'bridge', BALANCED_TABLE, GATEWAY_MACS] },
]

export function fabricTables(config: FabricConfig): string {
  return `${inetTable(config)}${bridgeTable()}${balancedTable()}`
}

const TUNNELS = `{ "${GATEWAY_TUNNEL}", "${GATEWAY_TUNNEL_ENCRYPTED}" }`

function inetTable({
  dnsAddress,
  fabricLink: up,
  fabricLinkAddress,
  fabricLinkAddressV6,
  linkSubnet,
  linkSubnetV6,
}: FabricConfig): string {
  return `table inet ${FABRIC_TABLE}
delete table inet ${FABRIC_TABLE}
table inet ${FABRIC_TABLE} {
  counter ${ISOLATED_COUNTER} { }
  counter ${MASQUERADED_COUNTER} { }

  # virtual addresses, each on the bridge of its network; published ports
  map vips4 { type ifname . ipv4_addr : verdict; }
  map vips6 { type ifname . ipv6_addr : verdict; }
  map ports4 { type inet_proto . inet_service : verdict; }
  map ports6 { type inet_proto . inet_service : verdict; }
  # end points that chains balance to, by number
${memberMaps()}
  # an end point with itself: it reached its own service's virtual address
  set hairpin4 { type ipv4_addr . ipv4_addr; }
  set hairpin6 { type ipv6_addr . ipv6_addr; }
  # a network with itself: what may be forwarded between containers
  set overlays { type ifname . ifname; }
  set subnets4 { type ipv4_addr; flags interval; }
  set subnets6 { type ipv6_addr; flags interval; }
  # gateway addresses of those that are on internal networks only
  set confined4 { type ipv4_addr; }
  set confined6 { type ipv6_addr; }
  # gateway addresses that are reached over WireGuard only
  set sealed4 { type ipv4_addr; }
  set sealed6 { type ipv6_addr; }
  # peers, by the MAC of their end of the gateway tunnel
  map zones { typeof ether saddr : ct zone; }
  map zones_sealed { typeof ether saddr : ct zone; }
  map marks { type ether_addr : mark; }
  map marks_sealed { type ether_addr : mark; }
  # own address on the gateway network, as a map since the network may not be there
  map own4 { type ifname : ipv4_addr; }
  map own6 { type ifname : ipv6_addr; }
  # gateway addresses of what is about to stop: packets of connections to them
  set draining4 { type ipv4_addr; counter; }
  set draining6 { type ipv6_addr; counter; }

  chain ${REFUSE_CHAIN} {
    meta l4proto tcp reject with tcp reset
    reject
  }

  # One client's port through two entry nodes makes two connections that look the same: each entry has a zone of its own.
  chain raw {
    type filter hook prerouting priority raw; policy accept;
    iifname "${GATEWAY_TUNNEL}" ct original zone set ether saddr map @zones
    iifname "${GATEWAY_TUNNEL_ENCRYPTED}" ct original zone set ether saddr map @zones_sealed
    ip daddr ${dnsAddress} udp dport 53 notrack
  }

  # Each question has a port of its own: remembered as connections they would fill the table for everybody.
  chain raw_output {
    type filter hook output priority raw; policy accept;
    ip saddr ${dnsAddress} udp sport 53 notrack
  }

  # Replies leave by the entry node that the connection came from.
  chain mangle {
    type filter hook prerouting priority mangle; policy accept;
    iifname "${GATEWAY_TUNNEL}" ct state new ct mark set ether saddr map @marks
    iifname "${GATEWAY_TUNNEL_ENCRYPTED}" ct state new ct mark set ether saddr map @marks_sealed
    iifname "${GATEWAY_BRIDGE}" ct direction reply ct mark != 0 meta mark set ct mark
  }

  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname . ip daddr vmap @vips4
    iifname . ip6 daddr vmap @vips6
    iifname "${up}" ip daddr ${fabricLinkAddress} meta l4proto . th dport vmap @ports4
    iifname "${up}" ip6 daddr ${fabricLinkAddressV6} meta l4proto . th dport vmap @ports6
  }

  chain forward {
    type filter hook forward priority filter; policy drop;
    ct direction original ip daddr @draining4
    ct direction reply ip saddr @draining4
    ct direction original ip6 daddr @draining6
    ct direction reply ip6 saddr @draining6
    iifname . oifname @overlays goto within
    iifname "${GATEWAY_TUNNEL}" jump clear
    oifname "${GATEWAY_TUNNEL}" jump clear
    tcp flags syn tcp option maxseg size set rt mtu
    ct state established,related accept
    ct state invalid drop
    iifname "${up}" ct status dnat accept
    iifname ${TUNNELS} oifname "${GATEWAY_BRIDGE}" accept
    iifname "${GATEWAY_BRIDGE}" oifname "${up}" ip saddr @confined4 counter name "${ISOLATED_COUNTER}" drop
    iifname "${GATEWAY_BRIDGE}" oifname "${up}" ip6 saddr @confined6 counter name "${ISOLATED_COUNTER}" drop
    iifname "${GATEWAY_BRIDGE}" oifname "${up}" accept
    counter name "${ISOLATED_COUNTER}" drop
  }

  # Between containers: connections to virtual addresses, and answers to them.
  chain within {
    ${noteBalanced()}
  }

  # What is to be encrypted does not go in clear, whatever became of its way.
  chain clear {
    ip saddr @sealed4 drop
    ip daddr @sealed4 drop
    ip6 saddr @sealed6 drop
    ip6 daddr @sealed6 drop
  }

  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lo" accept
    icmp type { echo-request, destination-unreachable } accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, packet-too-big, destination-unreachable } accept
    iifname "br*" meta l4proto { tcp, udp } th dport 53 accept
    counter name "${ISOLATED_COUNTER}" goto ${REFUSE_CHAIN}
  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr . ip daddr @hairpin4 masquerade
    ip6 saddr . ip6 daddr @hairpin6 masquerade
    iifname "${GATEWAY_BRIDGE}" oifname "${up}" masquerade
    # A client whose address the container takes for a neighbour's would never get its answer.
    iifname ${TUNNELS} oifname "${GATEWAY_BRIDGE}" ip saddr @subnets4 counter name "${MASQUERADED_COUNTER}" masquerade
    iifname ${TUNNELS} oifname "${GATEWAY_BRIDGE}" ip6 saddr @subnets6 counter name "${MASQUERADED_COUNTER}" masquerade
    # The link's addresses are the same on every node.
    oifname ${TUNNELS} ip saddr ${linkSubnet} snat ip to oifname map @own4
    oifname ${TUNNELS} ip6 saddr ${linkSubnetV6} snat ip6 to oifname map @own6
  }
}
`
}

function bridgeTable(): string {
  return `table bridge ${FABRIC_TABLE}
delete table bridge ${FABRIC_TABLE}
table bridge ${FABRIC_TABLE} {
  counter ${SPOOFED_COUNTER} { }
  # what a container's port may send: from its own MAC, with its own addresses
  set ports4 { type ifname . ether_addr . ipv4_addr; }
  set ports6 { type ifname . ether_addr . ipv6_addr; }
  # what it may say of itself in neighbour discovery
  set targets6 { typeof iifname . @th,64,128; }

  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname != "${FABRIC_PORT_PREFIX}*" accept
    ether type ip iifname . ether saddr . ip saddr @ports4 accept
    ether type arp iifname . ether saddr . arp saddr ip @ports4 iifname . arp saddr ether . arp saddr ip @ports4 accept
    ether type ip6 jump ipv6
    counter name "${SPOOFED_COUNTER}" drop
  }

  chain ipv6 {
    icmpv6 type { nd-router-advert, nd-redirect } return
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 return
    iifname . ether saddr . ip6 saddr @ports6 accept
    # is my address free? (RFC 4862)
    ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets6 accept
  }
}
`
}

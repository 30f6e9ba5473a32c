// The table of the host's namespace, without what changes: published ports lead into the fabric, tunnels take packets of nodes
// only, and what comes out of the fabric reaches the world but not what the host keeps to itself.

import { type FabricConfig, WIREGUARD_SUBNET } from '../kernel/fabric-config.ts'

/** Named counter: connections whose client has an address of a cluster network, so that the container can't see it. */
export const HOST_MASQUERADED_COUNTER = 'masqueraded'
export const GUARDED_COUNTER = 'guarded'

/** Of any instance on this host: they are one another's peers as well, by `lo`, which leaves no machine. */
const WIREGUARD_DEVICES = 'swc-wg*'

export function hostTable(config: FabricConfig): string {
  const { hostTable: name, hostLink: link, linkSubnet, linkSubnetV6, fabricLinkAddress, fabricLinkAddressV6 } = config
  const published = `meta l4proto . th dport @ports fib daddr type local`
  // What comes from elsewhere to 127.0.0.0/8 would be lost on its way in, were it not turned away before that.
  const publishedAt4 = 'ip daddr . meta l4proto . th dport @ports_at4'
  const publishedAt6 = 'ip6 daddr . meta l4proto . th dport @ports_at6'
  return `table inet ${name}
delete table inet ${name}
table inet ${name} {
  counter ${HOST_MASQUERADED_COUNTER} { }
  counter ${GUARDED_COUNTER} { }
  # published ports that this node serves
  set ports { type inet_proto . inet_service; }
  # and those that it serves on some of its addresses
  set ports_at4 { type ipv4_addr . inet_proto . inet_service; }
  set ports_at6 { type ipv6_addr . inet_proto . inet_service; }
  set nodes4 { type ipv4_addr; }
  set nodes6 { type ipv6_addr; }
  # UDP ports of the nodes' tunnels
  set tunnels { type inet_service; }
  # and of those that go over WireGuard
  set tunnels_sealed { type inet_service; }
  # what containers may not reach on any node
  set control { type inet_proto . inet_service; }
  # of the engine's other networks
  set engine_bridges { type ifname; }
  set subnets4 { type ipv4_addr; flags interval; }
  set subnets6 { type ipv6_addr; flags interval; }

  chain raw {
    type filter hook prerouting priority raw; policy accept;
    udp dport ${config.dataPathPort} iifname != "${link}" ip saddr @nodes4 notrack accept
    udp dport ${config.dataPathPort} iifname != "${link}" ip6 saddr @nodes6 notrack accept
    udp dport ${config.dataPathPort} fib daddr type local counter name "${GUARDED_COUNTER}" drop
    udp dport ${config.encryptedPort} iifname != "lo" iifname != "${WIREGUARD_DEVICES}" fib daddr type local counter name "${GUARDED_COUNTER}" drop
    iifname "${link}" ip daddr 127.0.0.0/8 drop
    iifname != { "lo", "${link}" } ip daddr ${linkSubnet} drop
    iifname != { "lo", "${link}" } ip6 daddr ${linkSubnetV6} drop
  }

  chain raw_output {
    type filter hook output priority raw; policy accept;
    oifname != "lo" oifname != "${WIREGUARD_DEVICES}" ip daddr ${WIREGUARD_SUBNET} drop
    # tunnels to nodes on this same host (besideAddress); the kernel can't translate the checksum of what is encapsulated
    ip daddr ${fabricLinkAddress} udp dport @tunnels udp checksum set 0
    ip daddr ${fabricLinkAddress} udp dport @tunnels_sealed udp checksum set 0
    udp dport @tunnels ip daddr @nodes4 notrack
    udp dport @tunnels ip6 daddr @nodes6 notrack
  }

  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ${published} dnat ip to ${fabricLinkAddress}
    ${published} dnat ip6 to ${fabricLinkAddressV6}
    ip daddr != 127.0.0.0/8 ${publishedAt4} dnat ip to ${fabricLinkAddress}
    ${publishedAt6} dnat ip6 to ${fabricLinkAddressV6}
  }

  chain output {
    type nat hook output priority -100; policy accept;
    ip daddr ${fabricLinkAddress} udp dport @tunnels dnat ip to 127.0.0.1
    ip daddr ${fabricLinkAddress} udp dport @tunnels_sealed dnat ip to 127.0.0.1
    ${published} dnat ip to ${fabricLinkAddress}
    ip6 daddr != ::1 ${published} dnat ip6 to ${fabricLinkAddressV6}
    ${publishedAt4} dnat ip to ${fabricLinkAddress}
    ${publishedAt6} dnat ip6 to ${fabricLinkAddressV6}
  }

  chain input {
    type filter hook input priority filter; policy accept;
    # IPv6 knows no way from ::1 to another device: refused, so that clients try 127.0.0.1
    iifname "lo" ip6 daddr ::1 meta l4proto tcp meta l4proto . th dport @ports reject with tcp reset
    iifname != "${link}" accept
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
    meta l4proto . th dport @control counter name "${GUARDED_COUNTER}" drop
    ip daddr ${linkSubnet} counter name "${GUARDED_COUNTER}" drop
    ip6 daddr ${linkSubnetV6} counter name "${GUARDED_COUNTER}" drop
  }

  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname != "${link}" accept
    ct state established,related accept
    ip daddr @nodes4 meta l4proto . th dport @control counter name "${GUARDED_COUNTER}" drop
    ip6 daddr @nodes6 meta l4proto . th dport @control counter name "${GUARDED_COUNTER}" drop
    ct status dnat accept
    # containers of the engine's own networks
    oifname "docker0" counter name "${GUARDED_COUNTER}" drop
    oifname "docker_gwbridge" counter name "${GUARDED_COUNTER}" drop
    oifname @engine_bridges counter name "${GUARDED_COUNTER}" drop
  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${link}" ip saddr 127.0.0.0/8 masquerade
    oifname "${link}" ip saddr @subnets4 counter name "${HOST_MASQUERADED_COUNTER}" masquerade
    oifname "${link}" ip6 saddr @subnets6 counter name "${HOST_MASQUERADED_COUNTER}" masquerade
    iifname "${link}" masquerade
  }
}
`
}

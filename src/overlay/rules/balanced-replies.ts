// Replies of what was balanced to a task come from the task's own address, straight over the bridge, and have to be translated back.
// To have all bridged packets tracked for that (br_netfilter) costs every connection between two containers a tenth of its
// throughput. So this node notes what it sends on to tasks, and takes off the bridge what answers it, up to its own IP stack, where
// conntrack knows it. Everything else stays bridged, and nothing tracks it.

import { formatAddress, type IpFamily, parseAddress } from '../../lib/cidr.ts'
import { FABRIC_TABLE } from '../kernel/fabric-config.ts'

/**
 * Of family bridge. It stays when all others are replaced, since the kernel fills its sets. Whoever changes a set's definition
 * changes this name too: a set that is there can't be defined anew.
 */
export const BALANCED_TABLE = `${FABRIC_TABLE}_balanced`
/** Map of that table: a bridge's port to the MAC of its network's gateway, which is the bridge's own. */
export const GATEWAY_MACS = 'gateways'

/**
 * Marks of packets between the IP stack and the bridge: of connections that conntrack keeps for long, and of those that are opening
 * or closing, and datagrams. They are given after a way was chosen, and taken away before the packet leaves: no routing rule and
 * no tunnel sees them.
 */
const LASTING_MARK = 0x40001
const PASSING_MARK = 0x40000
/** As conntrack keeps an established TCP connection. */
const LASTING = '5d'
/** Conntrack keeps nothing but those longer. */
const LASTS_LONGER_THAN = '10m'
/**
 * From the client's last word on, each of which renews it: as long as conntrack remembers a connection that was closed (2 min), and not
 * much longer, since a set that is full would turn new connections away.
 */
const PASSING = '3m'
/** By family. Room for 2,900 new connections a second, more than conntrack's table has by default; 8 and 2 MiB of the kernel's memory. */
const MOST_KEYS = { 4: 524_288, 6: 131_072 } as const

/** Rules of the fabric's inet table for what is forwarded between containers of one network. */
export function noteBalanced(): string {
  return [
    `ct direction original ct status dnat ct expiration > ${LASTS_LONGER_THAN} meta mark set ${LASTING_MARK} accept`,
    `ct direction original ct status dnat meta mark set ${PASSING_MARK}`,
    'accept',
  ].join('\n    ')
}

const FAMILIES = [4, 6] as const
const ip = (family: IpFamily) => (family === 4 ? 'ip' : 'ip6')
const both = (rule: (family: IpFamily) => string) => FAMILIES.map(rule).join('\n    ')

/** Keys are those of replies: who answers, with which protocol and port, whom, at which port. */
function keySet(family: IpFamily): string {
  const address = `ipv${family}_addr`
  const type = `${address} . inet_proto . inet_service . ${address} . inet_service`
  return `set balanced${family} { type ${type}; size ${MOST_KEYS[family]}; flags dynamic,timeout; timeout ${PASSING}; }`
}

const ofReply = (family: IpFamily) => `${ip(family)} saddr . meta l4proto . th sport . ${ip(family)} daddr . th dport`
const ofRequest = (family: IpFamily) => `${ip(family)} daddr . meta l4proto . th dport . ${ip(family)} saddr . th sport`
const forget = (family: IpFamily) => `delete @balanced${family} { ${ofRequest(family)} }`
const note = (family: IpFamily, key: string, timeout: string) =>
  `update @balanced${family} { ${key} timeout ${timeout} }`

/** Replaces its rules; what was noted stays. */
export function balancedTable(): string {
  const ref = `bridge ${BALANCED_TABLE}`
  return `table ${ref} { }
flush table ${ref}
table ${ref} {
  ${keySet(4)}
  ${keySet(6)}
  map ${GATEWAY_MACS} { type ifname : ether_addr; }

  chain prerouting {
    type filter hook prerouting priority -200; policy accept;
    # for this node itself, or for all
    meta pkttype != other accept
    ${both((family) => `${ofReply(family)} @balanced${family} goto reply`)}
    # Straight to a task, from a port whose connection to it by a virtual address is over: answers to this are not to be translated.
    ${both((family) => `tcp flags & (syn | ack) == syn ${forget(family)}`)}
    ${both((family) => `meta l4proto udp ${ofRequest(family)} @balanced${family} ${forget(family)}`)}
    ip6 saddr fe80::/10 accept
    # What has no ports can't be told from a reply: parts of datagrams, errors, answers to ping, other protocols.
    ip frag-off & 0x3fff != 0 goto up
    exthdr frag exists goto up
    meta l4proto { tcp, udp, sctp } accept
    icmp type { echo-reply, destination-unreachable, time-exceeded, parameter-problem } goto up
    icmpv6 type { echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } goto up
    meta l4proto { icmp, icmpv6 } accept
    ether type { ip, ip6 } goto up
  }

  chain reply {
    # conntrack keeps it as long as one side of a flow of datagrams sends, and a connection that was reset for a moment
    ${both((family) => `meta l4proto udp ${note(family, ofReply(family), PASSING)}`)}
    ${both((family) => `tcp flags & rst == rst ${note(family, ofReply(family), PASSING)}`)}
    goto up
  }

  chain up {
    ether daddr set iifname map @${GATEWAY_MACS} meta pkttype set unicast accept
  }

  chain output {
    type filter hook output priority 0; policy accept;
    meta mark != { ${PASSING_MARK}, ${LASTING_MARK} } accept
    ${both((family) => `meta mark ${LASTING_MARK} ${note(family, ofRequest(family), LASTING)}`)}
    ${both((family) => `meta mark ${PASSING_MARK} ${note(family, ofRequest(family), PASSING)}`)}
    meta mark set 0
  }
}
flush map ${ref} ${GATEWAY_MACS}
`
}

/** The protocol, a state where it has some, to whom a connection was opened, and the reply's addresses and ports. */
const FLOW = /^(tcp|udp) +\d+ +\d+ (?:([A-Z_0-9]+) )?src=\S+ dst=(\S+) .*?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/

/** Of TCP: nobody waits for an answer any more. */
const OVER: ReadonlySet<string> = new Set(['TIME_WAIT', 'CLOSE', 'LAST_ACK'])

/**
 * A script that notes what conntrack knows: of connections that were there before the table, or that somebody emptied. Else they
 * would end with the task's next word, unless the client has one first.
 * @param listing what `conntrack -L` prints
 * @param virtualIps of all services on overlays
 */
export function noteKnown(listing: string, virtualIps: ReadonlySet<string>): string {
  const elements = { 4: new Set<string>(), 6: new Set<string>() }
  for (const line of virtualIps.size === 0 ? [] : listing.split('\n')) {
    const [, protocol, state, asked = '', from = '', to = '', sport, dport] = FLOW.exec(line) ?? []
    if (protocol === undefined || asked === from || OVER.has(state ?? '') || !virtualIps.has(normal(asked))) continue
    const key = `${from} . ${protocol} . ${sport} . ${to} . ${dport}`
    elements[from.includes(':') ? 6 : 4].add(`${key} timeout ${state === 'ESTABLISHED' ? LASTING : PASSING}`)
  }
  return FAMILIES.flatMap((family) =>
    elements[family].size === 0
      ? []
      : [`add element bridge ${BALANCED_TABLE} balanced${family} { ${[...elements[family]].join(', ')} }\n`],
  ).join('')
}

/** `conntrack` prints IPv6 addresses in full. */
function normal(text: string): string {
  const address = text.includes(':') ? parseAddress(text) : undefined
  return address ? formatAddress(address) : text
}

// An end point that is about to stop: are there connections to it, and do they still move? Its addresses stand in a set whose
// elements count the packets of connections that were opened towards it, in both directions.

import { formatAddress, parseAddress } from '../../lib/cidr.ts'
import { FABRIC_TABLE } from '../kernel/fabric-config.ts'
import { elementFragment, type Fragment, type SetElement } from './fragment.ts'

export function drainingFragment(addresses: readonly string[]): Fragment {
  return elementFragment(
    addresses.map(
      (key): SetElement => ({ table: 'fabric', set: `draining${key.includes(':') ? 6 : 4}`, key, value: '' }),
    ),
  )
}

/** Arguments of `nft` in the fabric's namespace, whose output `drainingPackets` reads. One call tells of all that drain. */
export const DRAINING_QUERIES: readonly (readonly string[])[] = ['draining4', 'draining6'].map((set) => [
  'list',
  'set',
  'inet',
  FABRIC_TABLE,
  set,
])

/** Packets so far by address. A reload of the tables begins at 0 again: what counts is that a number changes. */
export function drainingPackets(listing: string): ReadonlyMap<string, number> {
  const packets = new Map<string, number>()
  for (const [, text = '', count] of listing.matchAll(/([0-9a-f.:]+) counter packets (\d+)/g)) {
    const address = parseAddress(text)
    if (address) packets.set(formatAddress(address), Number(count))
  }
  return packets
}

/** Arguments of `conntrack` in the fabric's namespace, whose output `hasConnections` reads. */
export function connectionListing(address: string): readonly string[] {
  return ['-L', '-f', address.includes(':') ? 'ipv6' : 'ipv4', '--reply-src', address]
}

/** TCP connections that are closed, or never came about, count for nothing. */
const OVER = /\b(SYN_SENT|TIME_WAIT|CLOSE|LAST_ACK|NONE|SHUTDOWN_ACK_SENT|COOKIE_WAIT)\b/

/** Whether `connectionListing` shows any that somebody opened towards the address and that is not over. */
export function hasConnections(listing: string): boolean {
  return listing
    .split('\n')
    .some((line) => /^(tcp|udp|sctp)\s/.test(line) && !OVER.test(line) && !line.includes('[UNREPLIED]'))
}

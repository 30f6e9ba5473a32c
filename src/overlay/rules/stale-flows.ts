// Connections that conntrack would hold at an end point for longer than it can answer. Datagrams have no end: a flow goes where it
// was sent first for as long as packets come, so flows to what serves no more are forgotten, and their next packet is balanced
// anew. A TCP connection stays with its task until the end point is gone: a node that died says nothing. Then it is forgotten as
// well, and its next packet meets another task, or none, which answers by a reset: the client knows at once.

import { formatAddress, parseAddress } from '../../lib/cidr.ts'

export type FlowFlush =
  /** In the fabric: datagrams that were given to this end point. */
  | { readonly kind: 'back-end'; readonly address: string }
  /** In the fabric: TCP connections that were given to this end point, of which there is no record any more. */
  | { readonly kind: 'gone'; readonly address: string }
  /**
   * In the fabric: datagrams that were given to any other than `addresses`, TCP connections to any other than `known`. Of a
   * start, before which anything may have changed. What was balanced by `virtualIps` and stays is noted again (balanced-replies).
   */
  | {
      readonly kind: 'others'
      readonly addresses: readonly string[]
      readonly known: readonly string[]
      readonly virtualIps: readonly string[]
    }
  /** In the host: datagrams to this port, which is published now, or no more. */
  | { readonly kind: 'port'; readonly port: number }

export type FlushPlace = 'host' | 'fabric'

/** Arguments of `conntrack` in the fabric's namespace, whose outputs together `flowDeletions` reads. */
export function flowListings(flushes: readonly FlowFlush[]): readonly (readonly string[])[] {
  const kinds = new Set(flushes.map(({ kind }) => kind))
  const protocols = [
    ...(kinds.has('back-end') || kinds.has('others') ? ['udp'] : []),
    ...(kinds.has('gone') || kinds.has('others') ? ['tcp'] : []),
  ]
  // Each walks the table: only of the families that the addresses are of.
  const addresses = flushes.flatMap((flush) => ('address' in flush ? [flush.address] : []))
  const families = ['ipv4', 'ipv6'].filter(
    (family) => kinds.has('others') || addresses.some((address) => address.includes(':') === (family === 'ipv6')),
  )
  return protocols.flatMap((protocol) => families.map((family) => ['-L', '-f', family, '-p', protocol]))
}

/**
 * Commands (arguments of `conntrack`, in the host's or the fabric's namespace) that forget the flows. They fail with status 1
 * where nothing is left to forget.
 */
export function flowDeletions(
  flushes: readonly FlowFlush[],
  listing: string,
): readonly { readonly place: FlushPlace; readonly args: readonly string[] }[] {
  const ports = flushes.flatMap((flush) => (flush.kind === 'port' ? [String(flush.port)] : []))
  const addressesOf = (wanted: 'back-end' | 'gone') =>
    new Set(flushes.flatMap((flush) => (flush.kind === wanted ? [flush.address] : [])))
  const others = flushes.find((flush) => flush.kind === 'others')
  const stale = {
    udp: staleness(addressesOf('back-end'), others?.addresses),
    tcp: staleness(addressesOf('gone'), others?.known),
  }
  const flows = new Set<string>()
  for (const line of listing.split('\n')) {
    const flow = FLOW.exec(line)
    const [, protocol, state = '', to = '', from = ''] = flow ?? []
    if (protocol !== 'tcp' && protocol !== 'udp') continue
    // Those that are ending were heard of on both sides: a reset could cost the client what it has not read yet.
    if (protocol === 'tcp' && !LASTING_STATES.has(state)) continue
    const [originalTo, replyFrom] = [plain(to), plain(from)]
    // Only those that were balanced: others know no better place.
    if (originalTo !== replyFrom && stale[protocol](replyFrom))
      flows.add(`${protocol} ${state} ${originalTo} ${replyFrom}`)
  }
  return [
    ...[...new Set(ports)].flatMap((port) =>
      ['ipv4', 'ipv6'].map(
        (family) => ({ place: 'host', args: ['-D', '-f', family, '-p', 'udp', '--orig-port-dst', port] }) as const,
      ),
    ),
    ...[...flows].map((flow) => {
      const [protocol = '', state = '', to = '', from = ''] = flow.split(' ')
      const family = from.includes(':') ? 'ipv6' : 'ipv4'
      const ofState = state === '' ? [] : ['--state', state]
      const args = ['-D', '-f', family, '-p', protocol, ...ofState, '--orig-dst', to, '--reply-src', from]
      return { place: 'fabric', args } as const
    }),
  ]
}

const LASTING_STATES: ReadonlySet<string> = new Set(['SYN_SENT', 'ESTABLISHED'])

/** The protocol, a state where it has some, to whom the connection was opened, and who answers. */
const FLOW = /^(\w+) +\d+ +\d+ (?:([A-Z_0-9]+) )?src=\S+ dst=(\S+) .*?src=(\S+) /

function staleness(gone: ReadonlySet<string>, kept: readonly string[] | undefined): (address: string) => boolean {
  const stay = kept && new Set(kept)
  return (address) => gone.has(address) || stay?.has(address) === false
}

function plain(text: string): string {
  const address = text.includes(':') ? parseAddress(text) : undefined
  return address ? formatAddress(address) : text
}

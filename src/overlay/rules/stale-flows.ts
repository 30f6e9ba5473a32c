// UDP has no end of a connection: a flow that was sent to a task goes there for as long as packets come, also when the task is
// gone. Which flows are to be forgotten, so that their next packet is balanced anew.

import { formatAddress, parseAddress } from '../../lib/cidr.ts'

export type FlowFlush =
  /** In the fabric: flows that were given to this end point. */
  | { readonly kind: 'back-end'; readonly address: string }
  /** In the host: flows to this port, which is published now, or no more. */
  | { readonly kind: 'port'; readonly port: number }

export type FlushPlace = 'host' | 'fabric'

/** Arguments of `conntrack` whose output `flowDeletions` reads: UDP flows of one family. */
export function flowListing(family: 4 | 6): readonly string[] {
  return ['-L', '-f', family === 4 ? 'ipv4' : 'ipv6', '-p', 'udp']
}

/**
 * Commands (arguments of `conntrack`, in the host's or the fabric's namespace) that forget the flows. They fail with status 1
 * where nothing is left to forget. `listing`: of both families, in the fabric's namespace.
 */
export function flowDeletions(
  flushes: readonly FlowFlush[],
  listing: string,
): readonly { readonly place: FlushPlace; readonly args: readonly string[] }[] {
  const ports = flushes.flatMap((flush) => (flush.kind === 'port' ? [String(flush.port)] : []))
  const gone = new Set(flushes.flatMap((flush) => (flush.kind === 'back-end' ? [flush.address] : [])))
  const flows = new Set<string>()
  for (const line of gone.size === 0 ? [] : listing.split('\n')) {
    const [originalTo = '', replyFrom = ''] = [addressOf(line, 'dst', 0), addressOf(line, 'src', 1)]
    // Only those that were balanced: others know no better place.
    if (originalTo !== replyFrom && gone.has(replyFrom)) flows.add(`${originalTo} ${replyFrom}`)
  }
  return [
    ...[...new Set(ports)].flatMap((port) =>
      ['ipv4', 'ipv6'].map(
        (family) => ({ place: 'host', args: ['-D', '-f', family, '-p', 'udp', '--orig-port-dst', port] }) as const,
      ),
    ),
    ...[...flows].map((flow) => {
      const [to = '', from = ''] = flow.split(' ')
      const family = from.includes(':') ? 'ipv6' : 'ipv4'
      return {
        place: 'fabric',
        args: ['-D', '-f', family, '-p', 'udp', '--orig-dst', to, '--reply-src', from],
      } as const
    }),
  ]
}

/** The `nth` `src=` or `dst=` of a line: the first is the original direction's, the second the reply's. */
function addressOf(line: string, field: 'src' | 'dst', nth: number): string | undefined {
  const text = [...line.matchAll(new RegExp(`\\b${field}=(\\S+)`, 'g'))][nth]?.[1]
  const address = text === undefined ? undefined : parseAddress(text)
  return address && formatAddress(address)
}

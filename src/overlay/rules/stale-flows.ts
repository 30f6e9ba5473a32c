// UDP has no end of a connection: a flow that was sent to a task goes there for as long as packets come, also when the task is
// gone. Which flows are to be forgotten, so that their next packet is balanced anew.

import { formatAddress, parseAddress } from '../../lib/cidr.ts'

export type FlowFlush =
  /** In the fabric: flows that were given to this end point. */
  | { readonly kind: 'back-end'; readonly address: string }
  /** In the fabric: flows that were given to any other than these. Of a start, before which anything may have changed. */
  | { readonly kind: 'others'; readonly addresses: readonly string[] }
  /** In the host: flows to this port, which is published now, or no more. */
  | { readonly kind: 'port'; readonly port: number }

/** Whether `flowDeletions` needs listings. */
export function needsListing(flushes: readonly FlowFlush[]): boolean {
  return flushes.some(({ kind }) => kind !== 'port')
}

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
  const others = flushes.find((flush) => flush.kind === 'others')
  const kept = others && new Set(others.addresses)
  const flows = new Set<string>()
  for (const line of listing.split('\n')) {
    const [originalTo = '', replyFrom = ''] = [addressOf(line, DESTINATIONS, 0), addressOf(line, SOURCES, 1)]
    // Only those that were balanced: others know no better place.
    if (originalTo !== replyFrom && (gone.has(replyFrom) || kept?.has(replyFrom) === false))
      flows.add(`${originalTo} ${replyFrom}`)
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

const DESTINATIONS = /\bdst=(\S+)/g
const SOURCES = /\bsrc=(\S+)/g

/** The `nth` of a line: the first is the original direction's, the second the reply's. */
function addressOf(line: string, fields: RegExp, nth: number): string | undefined {
  const text = [...line.matchAll(fields)][nth]?.[1]
  const address = text === undefined ? undefined : parseAddress(text)
  return address && formatAddress(address)
}

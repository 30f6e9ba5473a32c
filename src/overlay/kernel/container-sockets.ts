// Connections to a container over its overlays are bridged, and nothing on the node tracks them: its own sockets tell of them.

import { formatAddress, parseAddress } from '../../lib/cidr.ts'
import type { Commands } from './commands.ts'

export interface InboundSockets {
  /** TCP connections that were opened towards the addresses, and over which something may still come or go. */
  readonly connections: number
  /** Of those, in both directions. */
  readonly segments: number
}

/** Below it no socket has its port by chance (net.ipv4.ip_local_port_range). */
const CHOSEN_PORTS_FROM = 32_768
const OPEN_STATES: ReadonlySet<string> = new Set(['ESTAB', 'CLOSE-WAIT', 'SYN-RECV', 'FIN-WAIT-1'])
const SOCKET = /^(\S+)\s+\d+\s+\d+\s+(\S+):(\d+|\*)\s+\S+/

/** @param sandbox path of the container's network namespace. Undefined where it can't be looked into. */
export async function inboundSockets(
  commands: Commands,
  sandbox: string,
  addresses: readonly string[],
): Promise<InboundSockets | undefined> {
  const args = [`--net=${sandbox}`, 'ss', '-H', '-O', '-n', '-t', '-a', '-i']
  const result = await commands.host('nsenter', args).catch(() => undefined)
  return result?.status === 0 ? inboundOf(result.stdout, addresses) : undefined
}

/** @param listing what `ss -HOntai` prints */
export function inboundOf(listing: string, addresses: readonly string[]): InboundSockets {
  const sockets = listing.split('\n').flatMap((line) => {
    const [, state = '', host = '', port = ''] = SOCKET.exec(line) ?? []
    return state === '' ? [] : [{ line, state, address: plain(host), port: Number(port) }]
  })
  const listened = new Set(sockets.flatMap(({ state, port }) => (state === 'LISTEN' ? [port] : [])))
  const wanted = new Set(addresses.map(normal))
  const inbound = sockets.filter(
    ({ state, address, port }) =>
      OPEN_STATES.has(state) && wanted.has(address) && (listened.has(port) || port < CHOSEN_PORTS_FROM),
  )
  return {
    connections: inbound.length,
    segments: inbound.reduce((sum, { line }) => sum + segmentsOf(line), 0),
  }
}

function segmentsOf(line: string): number {
  return [...line.matchAll(/\bsegs_(?:in|out):(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0)
}

function normal(text: string): string {
  const address = parseAddress(text)
  return address ? formatAddress(address) : text
}

/** `[::ffff:10.0.1.5]`, `10.0.1.5%eth0` → 10.0.1.5 */
function plain(host: string): string {
  return host
    .replace(/^\[|\]$/g, '')
    .replace(/^::ffff:(?=\d+\.)/, '')
    .replace(/%.*$/, '')
}

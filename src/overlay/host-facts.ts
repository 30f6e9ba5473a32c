// What this machine is, for the report: its routes, the MTU of its way to the others, who has a port. Read anew each time:
// machines change.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { NodeAddress } from '../api/publish-addresses.ts'
import { parseCidr } from '../lib/cidr.ts'
import type { HostPort } from './held-ports.ts'
import { hostCommand } from './wireguard/command.ts'

const command = hostCommand('')

/** '' where the tool fails. */
async function outputOf(argv: readonly string[]): Promise<string> {
  const { status, stdout } = await command(argv)
  return status === 0 ? stdout : ''
}

interface Route {
  readonly dst?: string
  readonly dev?: string
}

interface Link {
  readonly ifname: string
  readonly mtu: number
  readonly addr_info?: readonly { readonly local?: string }[]
}

/** Links that the data plane itself has made, of any of this machine's nodes. */
const OWN_LINK = /^(fab\d+|fc[0-9a-f]{11}|swc-wg\d+[ab]?)$/

const IPV6_ADDRESSES = '/proc/net/if_inet6'
const GLOBAL_SCOPE = '00'

/** It has an IPv6 address that others may know. Read at once: the file is small and the kernel's. */
export function hasIpv6Address(): boolean {
  try {
    const lines = readFileSync(IPV6_ADDRESSES, 'utf8').trim().split('\n')
    return lines.some((line) => {
      const [, , , scope, , device = ''] = line.trim().split(/\s+/)
      return scope === GLOBAL_SCOPE && !OWN_LINK.test(device)
    })
  } catch {
    return false // its kernel has no IPv6
  }
}

/** CIDRs that this machine reaches by routes of its own, without the default routes. */
export async function hostRoutes(): Promise<readonly string[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map((family) => outputOf(['ip', family, '-json', 'route', 'show', 'table', 'main'])),
  )
  const routes = texts.flatMap((text) => JSON.parse(text || '[]') as readonly Route[])
  const subnets = routes
    .filter((route) => !OWN_LINK.test(route.dev ?? ''))
    .map((route) => route.dst ?? '')
    .map((dst) => (dst.includes('/') || isIP(dst) === 0 ? dst : `${dst}/${isIP(dst) === 4 ? 32 : 128}`))
    .filter((dst) => parseCidr(dst) !== undefined && !dst.startsWith('fe80:') && !dst.startsWith('ff00:'))
  return [...new Set(subnets)].sort()
}

/** What an IP packet has at most. A loopback's MTU is one more. */
const LARGEST_PACKET_BYTES = 65_535

/** The MTU of the link that has this address, or, where a NAT has it, of the link to everywhere else; 0: there is neither. */
export async function mtuOfAddress(address: string): Promise<number> {
  const links = JSON.parse((await outputOf(['ip', '-json', 'addr', 'show'])) || '[]') as readonly Link[]
  const link = links.find((one) => one.addr_info?.some(({ local }) => local === address))
  if (link) return Math.min(link.mtu, LARGEST_PACKET_BYTES)
  const routes = JSON.parse((await outputOf(['ip', '-json', 'route', 'show', 'default'])) || '[]') as readonly Route[]
  const device = routes.find(({ dev }) => dev !== undefined)?.dev
  return links.find(({ ifname }) => ifname === device)?.mtu ?? 0
}

/** Names of the links in a network namespace, by its path. */
export async function linksIn(namespace: string): Promise<ReadonlySet<string>> {
  const text = await outputOf(['nsenter', `--net=${namespace}`, 'ip', '-json', 'link', 'show'])
  return new Set((JSON.parse(text || '[]') as readonly Link[]).map(({ ifname }) => ifname))
}

/** Those by which others, or programs here, reach this machine. */
export function hostAddresses(): readonly NodeAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([device, addresses = []]) =>
    OWN_LINK.test(device) ? [] : addresses.map(({ address }) => ({ device, address })),
  )
}

/**
 * A program's name and process id, for people: `nginx (process 812)`; '' where nobody can say.
 * @param address '': any
 */
export async function ownerOfPort({ protocol, port }: HostPort, address: string): Promise<string> {
  const listed = await outputOf(['ss', '-Hlnp', `--${protocol}`, `sport = :${port}`])
  const places =
    address === '' ? [] : [address, `[${address}]`, '0.0.0.0', '[::]', '*'].map((one) => ` ${one}:${port} `)
  const lines = listed.split('\n')
  const line = places.length === 0 ? listed : (lines.find((one) => places.some((place) => one.includes(place))) ?? '')
  const match = /users:\(\("([^"]+)",pid=(\d+)/.exec(line)
  return match ? `${match[1]} (process ${match[2]})` : ''
}

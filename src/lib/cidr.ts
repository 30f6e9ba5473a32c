// IP addresses and subnets of both families as numbers: what IPAM decides with. Texts go in and come out as Go prints them.

import { isIP } from 'node:net'

export type IpFamily = 4 | 6

export interface IpAddress {
  readonly family: IpFamily
  readonly value: bigint
}

export interface Cidr {
  readonly family: IpFamily
  /** The first address: what lies behind the prefix is zero. */
  readonly base: bigint
  readonly prefix: number
}

export function widthOf(family: IpFamily): number {
  return family === 4 ? 32 : 128
}

function ipv4Value(text: string): bigint {
  return text.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n)
}

function ipv6Value(text: string): bigint {
  const [head = '', tail] = text.split('::')
  const groups = (part: string) =>
    part === ''
      ? []
      : part.split(':').flatMap((group) => {
          if (!group.includes('.')) return [BigInt(`0x${group}`)]
          const bits = ipv4Value(group)
          return [bits >> 16n, bits & 0xffffn]
        })
  const front = groups(head)
  const back = tail === undefined ? [] : groups(tail)
  const zeros = Array.from({ length: 8 - front.length - back.length }, () => 0n)
  return [...front, ...zeros, ...back].reduce((sum, group) => (sum << 16n) | group, 0n)
}

/** Undefined for what is no address; zones (`fe80::1%eth0`) are none. */
export function parseAddress(text: string): IpAddress | undefined {
  const family = isIP(text)
  if (family === 4) return { family, value: ipv4Value(text) }
  if (family === 6 && !text.includes('%')) return { family, value: ipv6Value(text) }
  return undefined
}

/** The subnet that `text` (`10.0.0.5/24`) lies in; undefined for what is none. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/')
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash))
  const length = text.slice(slash + 1)
  if (!address || !/^\d{1,3}$/.test(length) || Number(length) > widthOf(address.family)) return undefined
  const prefix = Number(length)
  const hostBits = BigInt(widthOf(address.family) - prefix)
  return { family: address.family, base: (address.value >> hostBits) << hostBits, prefix }
}

/** RFC 5952 for IPv6. */
export function formatAddress({ family, value }: IpAddress): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.')
  const groups = Array.from({ length: 8 }, (_, at) => ((value >> BigInt(16 * (7 - at))) & 0xffffn).toString(16))
  const zeros = longestZeros(groups)
  if (!zeros) return groups.join(':')
  return `${groups.slice(0, zeros.from).join(':')}::${groups.slice(zeros.to).join(':')}`
}

function longestZeros(groups: readonly string[]): { readonly from: number; readonly to: number } | undefined {
  let best: { readonly from: number; readonly to: number } | undefined
  for (let from = 0; from < groups.length; from++) {
    let to = from
    while (groups[to] === '0') to++
    if (to - from >= 2 && to - from > (best ? best.to - best.from : 0)) best = { from, to }
    from = Math.max(from, to - 1)
  }
  return best
}

export function formatCidr({ family, base, prefix }: Cidr): string {
  return `${formatAddress({ family, value: base })}/${prefix}`
}

export function addressCount({ family, prefix }: Cidr): bigint {
  return 1n << BigInt(widthOf(family) - prefix)
}

/** False also where the families differ. */
export function containsAddress(cidr: Cidr, { family, value }: IpAddress): boolean {
  return family === cidr.family && value >= cidr.base && value < cidr.base + addressCount(cidr)
}

export function containsCidr(outer: Cidr, inner: Cidr): boolean {
  return inner.prefix >= outer.prefix && containsAddress(outer, { family: inner.family, value: inner.base })
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return containsCidr(a, b) || containsCidr(b, a)
}

// The addresses of one network: which are used, by whom, and which is next. Next-fit, so that an address that was given back
// is used again as late as possible. A copy of what the store says, never a second truth: see address-book.ts.

import type { AllocatedSubnet, Network } from '../../api/objects.ts'
import { blockBits, blockOf } from '../../lib/address-block.ts'
import {
  addressCount,
  type Cidr,
  formatAddress,
  type IpAddress,
  parseAddress,
  parseCidr,
  widthOf,
} from '../../lib/cidr.ts'

/** More addresses than these are never given out of one subnet. */
const MAX_ADDRESSES = 2n ** 20n

/** Whose addresses they are to be: of an ingress network each node has a block of its own; its services share block 0. */
export type Region = { readonly kind: 'any' } | { readonly kind: 'block'; readonly number: number }

export const ANYWHERE: Region = { kind: 'any' }
export const SERVICE_BLOCK: Region = { kind: 'block', number: 0 }

/** Addresses that nobody gets: the subnet's own, its broadcast, the gateway and what the user reserved. */
export function ordinaryReserved(subnet: AllocatedSubnet): ReadonlySet<bigint> {
  const cidr = parseCidr(subnet.subnet)
  if (!cidr) return new Set()
  const named = [subnet.gateway, ...Object.values(subnet.auxiliary ?? {})].flatMap((text) => {
    const address = parseAddress(text)
    return address ? [address.value] : []
  })
  const last = cidr.base + addressCount(cidr) - 1n
  const own = widthOf(cidr.family) - cidr.prefix <= 1 ? [] : cidr.family === 4 ? [cidr.base, last] : [cidr.base]
  return new Set([...own, ...named])
}

/** A run of addresses that one search goes through. */
class Segment {
  readonly #first: bigint
  readonly #size: number
  readonly #reserved: ReadonlySet<number>
  readonly #used = new Map<number, string>()
  #usable = 0
  #cursor = 0
  #newest = ''

  constructor(first: bigint, size: bigint, reserved: Iterable<bigint>) {
    this.#first = first
    this.#size = Number(size < MAX_ADDRESSES ? size : MAX_ADDRESSES)
    this.#reserved = new Set([...reserved].map((value) => this.#at(value)).filter((at) => at >= 0))
    this.#usable = this.#size - this.#reserved.size
  }

  get used(): number {
    return this.#used.size
  }

  get usable(): number {
    return this.#usable
  }

  /** -1: not of this segment */
  #at(value: bigint): number {
    const at = value - this.#first
    return at >= 0n && at < BigInt(this.#size) ? Number(at) : -1
  }

  take(holder: string): bigint | undefined {
    if (this.#used.size >= this.#usable) return undefined
    for (;;) {
      const at = this.#cursor
      this.#cursor = (at + 1) % this.#size
      if (this.#used.has(at) || this.#reserved.has(at)) continue
      this.#used.set(at, holder)
      return this.#first + BigInt(at)
    }
  }

  /** False where somebody else has it, or nobody may. */
  takeThis(value: bigint, holder: string): boolean {
    const at = this.#at(value)
    if (at >= 0 && (this.#used.has(at) || this.#reserved.has(at))) return false
    if (at >= 0) this.#used.set(at, holder)
    return true
  }

  put(value: bigint, holder: string): void {
    const at = this.#at(value)
    // A reserved one is used where the network was made before what reserves it: it takes no place from others.
    if (at >= 0 && !this.#reserved.has(at)) this.#used.set(at, holder)
  }

  /** A new leader goes on behind the address of the newest holder, which may have ended. */
  follow(value: bigint, createdAt: string): void {
    const at = this.#at(value)
    if (at < 0 || createdAt < this.#newest) return
    this.#newest = createdAt
    this.#cursor = (at + 1) % this.#size
  }

  free(value: bigint, holder: string): boolean {
    const at = this.#at(value)
    return this.#used.get(at) === holder && this.#used.delete(at)
  }
}

export interface AddressUse {
  /** CIDR */
  readonly subnet: string
  readonly used: number
  readonly usable: number
}

interface SubnetPool {
  readonly subnet: AllocatedSubnet
  readonly cidr: Cidr
  readonly reserved: ReadonlySet<bigint>
  readonly segments: Map<number, Segment>
}

export class AddressPool {
  readonly #blocks: boolean
  readonly #pools: readonly SubnetPool[]

  constructor(network: Pick<Network, 'spec' | 'allocated'>) {
    this.#blocks = network.spec.Ingress === true
    this.#pools = (network.allocated?.subnets ?? []).flatMap((subnet): readonly SubnetPool[] => {
      const cidr = parseCidr(subnet.subnet)
      return cidr ? [{ subnet, cidr, reserved: ordinaryReserved(subnet), segments: new Map() }] : []
    })
  }

  /**
   * One address of each family that the network has, as CIDR texts; undefined where a family has none left, and then none
   * was taken.
   * @param wished instead of any one; outside of the subnets or taken: as where none is left
   * @param kept the holder's already, as CIDR texts: in place of another one of its family
   */
  take(
    holder: string,
    region: Region,
    wished: readonly string[] = [],
    kept: readonly string[] = [],
  ): readonly string[] | undefined {
    const given: string[] = []
    const taken: string[] = []
    for (const family of [4, 6] as const) {
      const pools = this.#pools.filter((pool) => pool.cidr.family === family)
      if (pools.length === 0) continue
      const [own] = kept.filter((text) => addressOfCidr(text)?.family === family)
      const wish = wished.find((text) => parseAddress(text)?.family === family)
      const address = own ?? (wish === undefined ? this.#takeOne(pools, holder, region) : this.#takeThis(wish, holder))
      if (address === undefined) {
        for (const one of taken) this.free(one, holder)
        return undefined
      }
      given.push(address)
      if (own === undefined) taken.push(address)
    }
    return given
  }

  put(address: string, holder: string): void {
    const found = this.#find(address)
    found?.segment.put(found.address.value, holder)
  }

  /** Search on from here, unless a younger holder's address was named before: for a book that is being built. */
  follow(address: string, createdAt: string): void {
    const found = this.#find(address)
    found?.segment.follow(found.address.value, createdAt)
  }

  /** False where `holder` did not have it. */
  free(address: string, holder: string): boolean {
    const found = this.#find(address)
    return found?.segment.free(found.address.value, holder) ?? false
  }

  /** How full it is, per subnet, for people: `10.0.1.0/24 (253 of 253 addresses are in use)`. */
  describe(region: Region): string {
    return this.#pools
      .map((pool) => {
        const { subnet, ipRange } = pool.subnet
        const number = this.#blocks && region.kind === 'block' ? region.number : undefined
        const segment = this.#segment(pool, region)
        if (!segment) return `${subnet} (which ends before block ${number})`
        const where = `${number === undefined ? '' : `block ${number} of `}${subnet}${ipRange ? `, range ${ipRange}` : ''}`
        return `${where} (${segment.used} of ${segment.usable} addresses are in use)`
      })
      .join(', ')
  }

  /** How full it is in numbers, per subnet; of a network in blocks the fullest one. */
  *use(): Iterable<AddressUse> {
    for (const { subnet, segments } of this.#pools) {
      const fullest = [...segments.values()].reduce<Segment | undefined>(
        (most, each) => (most && most.usable - most.used <= each.usable - each.used ? most : each),
        undefined,
      )
      if (fullest) yield { subnet: subnet.subnet, used: fullest.used, usable: fullest.usable }
    }
  }

  #takeOne(pools: readonly SubnetPool[], holder: string, region: Region): string | undefined {
    for (const pool of pools) {
      const value = this.#segment(pool, region)?.take(holder)
      if (value !== undefined) return `${formatAddress({ family: pool.cidr.family, value })}/${pool.cidr.prefix}`
    }
    return undefined
  }

  #takeThis(wish: string, holder: string): string | undefined {
    const found = this.#find(wish)
    return found?.segment.takeThis(found.address.value, holder) ? `${wish}/${found.cidr.prefix}` : undefined
  }

  #find(text: string): { readonly segment: Segment; readonly address: IpAddress; readonly cidr: Cidr } | undefined {
    const address = addressOfCidr(text)
    if (!address) return undefined
    for (const pool of this.#pools) {
      const offset = address.value - pool.cidr.base
      if (address.family !== pool.cidr.family || offset < 0n || offset >= addressCount(pool.cidr)) continue
      const number = Number(offset >> BigInt(blockBits(pool.cidr)))
      const segment = this.#segment(pool, this.#blocks ? { kind: 'block', number } : ANYWHERE)
      return segment && { segment, address, cidr: pool.cidr }
    }
    return undefined
  }

  #segment(pool: SubnetPool, region: Region): Segment | undefined {
    const number = this.#blocks && region.kind === 'block' ? region.number : 0
    const known = pool.segments.get(number)
    if (known) return known
    const made = this.#blocks ? blockSegment(pool, number) : rangeSegment(pool)
    if (made) pool.segments.set(number, made)
    return made
  }
}

function rangeSegment({ subnet, cidr, reserved }: SubnetPool): Segment {
  const range = (subnet.ipRange ? parseCidr(subnet.ipRange) : undefined) ?? cidr
  return new Segment(range.base, addressCount(range), reserved)
}

/** The second address of a block is its node's end of the gateway network; the first and the last name the block and its broadcast. */
function blockSegment({ cidr, reserved }: SubnetPool, number: number): Segment | undefined {
  const block = blockOf(cidr, number)
  if (!block) return undefined
  const size = addressCount(block)
  return new Segment(block.base, size, [...reserved, block.base, block.base + 1n, block.base + size - 1n])
}

/** Of `10.0.0.2/24`, or of an address alone. */
function addressOfCidr(text: string): IpAddress | undefined {
  return parseAddress(text.split('/')[0] ?? '')
}

// To whom chains give connections. All of them stand in a few maps by number; a chain knows where its own begin and how many they
// are. A map for each chain would be a set for each in the kernel, and nft reads the list of all sets before every change; in one
// map for all the kernel would go through every chain for each element when it loads, so there are several.

import type { IpFamily } from '../../lib/cidr.ts'
import type { SetElement } from './fragment.ts'

/** What the numbers go up to before all tables are to be loaded anew: 2^31, of which a change takes a few. */
const NUMBER_MAX = 0x7fffffff

const SHARDS = 32
/** Names of these maps begin with it. */
const MEMBERS_SET = 'members'

export interface Members {
  readonly family: IpFamily
  readonly addresses: readonly string[]
  readonly numbers: NumberRange
}

export interface NumberRange {
  readonly shard: number
  readonly first: number
}

/** Declarations for the fabric's table. */
export function memberMaps(): string {
  const shards = Array.from({ length: SHARDS }, (_, shard) => shard)
  return shards
    .flatMap((shard) => [
      `  map ${mapName(4, shard)} { typeof numgen inc mod 2 : ip daddr; }`,
      `  map ${mapName(6, shard)} { typeof numgen inc mod 2 : ip6 daddr; }`,
    ])
    .join('\n')
}

function mapName(family: IpFamily, shard: number): string {
  return `${MEMBERS_SET}${family}_${shard}`
}

/** Numbers are given once, so that no packet between two generations of the ruleset meets another chain's end point. */
export class MemberNumbers {
  #next = 0
  #turn = 0

  /** False when it is time to begin anew. */
  get enough(): boolean {
    return this.#next < NUMBER_MAX / 2
  }

  take(count: number): NumberRange {
    const first = this.#next
    this.#next += count
    this.#turn = (this.#turn + 1) % SHARDS
    return { shard: this.#turn, first }
  }

  reset(): void {
    this.#next = 0
  }
}

export function memberElements({ family, addresses, numbers: { shard, first } }: Members): readonly SetElement[] {
  if (addresses.length === 1) return []
  const set = mapName(family, shard)
  return addresses.map((value, at) => ({ table: 'fabric', set, key: String(first + at), value }))
}

/** Of one member at a time, in turn or by the asker's address. */
export function balancedRule(
  { family, addresses, numbers: { shard, first } }: Members,
  affinitySeed: string | undefined,
): string {
  const ip = family === 4 ? 'ip' : 'ip6'
  const count = addresses.length
  if (count === 1) return `dnat ${ip} to ${addresses[0]}`
  const chosen =
    affinitySeed === undefined ? `numgen inc mod ${count}` : `jhash ${ip} saddr mod ${count} seed ${affinitySeed}`
  return `dnat ${ip} to ${chosen} offset ${first} map @${mapName(family, shard)}`
}

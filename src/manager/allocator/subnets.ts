// What a network is made of: its subnets, gateways and VXLAN id. Pure decisions, taken when the network is created and held
// by `apply`, which refuses subnets that overlap and ids that are taken. Networks are few and made seldom: they are looked
// through here, which their users (services and tasks) never are.

import { createHash } from 'node:crypto'
import { ingressSubnetOf } from '../../api/cluster-settings.ts'
import {
  DEFAULT_ADDRESS_POOL,
  DEFAULT_INGRESS_SUBNET,
  DEFAULT_SUBNET_SIZE,
  INGRESS_PREFIX_MAX,
  NODE_SUBNETS,
  OTHER_INGRESS_SUBNETS,
} from '../../api/defaults.ts'
import type { AllocatedSubnet, Network } from '../../api/objects.ts'
import type { IpamConfig, NetworkSpec } from '../../api/spec.ts'
import { VXLAN_IDS_OPTION } from '../../api/validation/payload.ts'
import { addressCount, type Cidr, formatAddress, formatCidr, overlaps, parseCidr } from '../../lib/cidr.ts'
import { overlappingNetwork, subnetsOf } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { ordinaryReserved } from './address-pool.ts'

const FIRST_VNI = 4096
const LAST_VNI = 2 ** 24 - 1

export type NetworkAllocation =
  | { readonly kind: 'allocated'; readonly allocated: NonNullable<Network['allocated']> }
  | {
      readonly kind: 'refused'
      readonly code:
        | 'FAMILIES'
        | 'SUBNET_OVERLAP'
        | 'SUBNETS_EXHAUSTED'
        | 'VNI_TAKEN'
        | 'VNIS_EXHAUSTED'
        | 'SUBNET_TOO_SMALL'
      readonly message: string
    }

export interface AllocateNetworkOptions {
  /** What automatic subnets stay clear of beside other networks: routes that nodes have. */
  readonly avoid?: readonly Cidr[]
}

/**
 * Subnets as given, or from the cluster's pools, each with its gateway; and a VXLAN id.
 * @param id of the network, which may stand in the view already
 */
export function allocateNetwork(
  view: Pick<StoreView, 'list' | 'cluster'>,
  id: string,
  spec: NetworkSpec,
  { avoid = [] }: AllocateNetworkOptions = {},
): NetworkAllocation {
  const others = view.list('network').filter((network) => network.id !== id)
  const configs = spec.IPAMOptions?.Configs ?? []
  const given = configs.flatMap((config): readonly Given[] => {
    const cidr = parseCidr(config.Subnet ?? '')
    return cidr ? [{ config, cidr }] : []
  })
  const families = familiesProblem(spec, given)
  if (families !== undefined) return { kind: 'refused', code: 'FAMILIES', message: families }
  for (const { cidr } of given) {
    const clash = overlappingNetwork(others, [cidr])
    if (clash) return overlap(cidr, clash)
    if (overlapsOwn(cidr)) {
      const message = `${OVERLAP}: subnet ${formatCidr(cidr)} overlaps with ${NODE_SUBNETS}, which swarmd uses on every node`
      return { kind: 'refused', code: 'SUBNET_OVERLAP', message }
    }
  }
  const subnets = given.map(({ config, cidr }) => subnetOf(config, cidr))
  if (spec.EnableIPv4 !== false && !given.some(({ cidr }) => cidr.family === 4)) {
    // Where hosts have routes over all the pools (10.0.0.0/8 behind a VPN), one that hides some of it is better than none.
    const cidr = spec.Ingress
      ? ingressSubnet(view, others, avoid)
      : (nextSubnet(view, others, avoid) ?? nextSubnet(view, others, []))
    if (!cidr) return { kind: 'refused', code: 'SUBNETS_EXHAUSTED', message: poolsExhausted(view) }
    const clash = overlappingNetwork(others, [cidr])
    if (clash) return overlap(cidr, clash)
    subnets.unshift(subnetOf({}, cidr))
  }
  if (spec.EnableIPv6 && !given.some(({ cidr }) => cidr.family === 6)) {
    const cidr = nextUniqueLocal(view, others)
    if (!cidr) return { kind: 'refused', code: 'SUBNETS_EXHAUSTED', message: NO_IPV6_SUBNET }
    subnets.push(subnetOf({}, cidr))
  }
  const small = spec.Ingress
    ? given.find(({ cidr }) => cidr.family === 4 && cidr.prefix > INGRESS_PREFIX_MAX)
    : undefined
  if (small) {
    const message = `subnet ${formatCidr(small.cidr)} is too small for an ingress network, which gives each node a block of it: at least a /${INGRESS_PREFIX_MAX} is needed`
    return { kind: 'refused', code: 'SUBNET_TOO_SMALL', message }
  }
  return withVni(others, spec, subnets)
}

function familiesProblem(spec: NetworkSpec, given: readonly Given[]): string | undefined {
  if (spec.EnableIPv4 !== false) return undefined
  if (spec.Ingress) return 'an ingress network needs IPv4: leave --ipv4=false out'
  const four = given.find(({ cidr }) => cidr.family === 4)
  if (four) return `IPv4 is switched off for the network, but has a subnet: ${formatCidr(four.cidr)}`
  if (!spec.EnableIPv6 && given.length === 0) return 'IPv4 or IPv6 must be enabled'
  return undefined
}

interface Given {
  readonly config: IpamConfig
  readonly cidr: Cidr
}

const OVERLAP = 'Pool overlaps with other one on this address space'

function overlapsOwn(cidr: Cidr): boolean {
  const own = parseCidr(NODE_SUBNETS)
  return own !== undefined && overlaps(own, cidr)
}

/** As the cluster was told, else the first one that is clear of networks and routes, else of networks. */
function ingressSubnet(
  view: Pick<StoreView, 'cluster'>,
  networks: readonly Network[],
  avoid: readonly Cidr[],
): Cidr | undefined {
  const told = ingressSubnetOf(view.cluster()?.spec)
  if (told !== undefined) return parseCidr(told)
  const free = [DEFAULT_INGRESS_SUBNET, ...OTHER_INGRESS_SUBNETS].flatMap((text) => {
    const cidr = parseCidr(text)
    return cidr && !overlappingNetwork(networks, [cidr]) ? [cidr] : []
  })
  const clear = free.find((cidr) => !avoid.some((one) => overlaps(one, cidr)))
  return clear ?? free[0] ?? parseCidr(DEFAULT_INGRESS_SUBNET)
}

function overlap(cidr: Cidr, other: Network): NetworkAllocation {
  const theirs = (other.allocated?.subnets ?? []).map(({ subnet }) => subnet).join(', ')
  const message = `${OVERLAP}: subnet ${formatCidr(cidr)} overlaps with network ${other.spec.Name ?? other.id} (${theirs})`
  return { kind: 'refused', code: 'SUBNET_OVERLAP', message }
}

function subnetOf(config: IpamConfig, cidr: Cidr): AllocatedSubnet {
  const range = config.IPRange ? parseCidr(config.IPRange) : undefined
  const auxiliary = config.AuxiliaryAddresses ?? {}
  const subnet = formatCidr(cidr)
  const ipRange = range ? formatCidr(range) : ''
  const bare = { subnet, gateway: '', ipRange, ...(Object.keys(auxiliary).length === 0 ? {} : { auxiliary }) }
  return { ...bare, gateway: config.Gateway || firstUsable(bare, range ?? cidr) }
}

/** As libnetwork: the first address of the range that is nothing else. */
function firstUsable(subnet: AllocatedSubnet, range: Cidr): string {
  const taken = ordinaryReserved(subnet)
  const end = range.base + addressCount(range)
  for (let value = range.base; value < end; value++) {
    if (!taken.has(value)) return formatAddress({ family: range.family, value })
  }
  return formatAddress({ family: range.family, value: range.base })
}

function poolsOf(view: Pick<StoreView, 'cluster'>): { readonly pools: readonly string[]; readonly size: number } {
  const cluster = view.cluster()
  const pools = cluster?.defaultAddressPools.length ? cluster.defaultAddressPools : [DEFAULT_ADDRESS_POOL]
  return { pools, size: cluster?.subnetSize || DEFAULT_SUBNET_SIZE }
}

function poolsExhausted(view: Pick<StoreView, 'cluster'>): string {
  const { pools, size } = poolsOf(view)
  return `could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network: no free /${size} is left in ${pools.join(', ')}`
}

/** The lowest subnet of the pools that is clear of all others. */
function nextSubnet(
  view: Pick<StoreView, 'cluster'>,
  networks: readonly Network[],
  avoid: readonly Cidr[],
): Cidr | undefined {
  const { pools, size } = poolsOf(view)
  // The ingress network's place is kept while it is removed and not made anew yet.
  const kept = [ingressSubnetOf(view.cluster()?.spec) ?? DEFAULT_INGRESS_SUBNET, NODE_SUBNETS]
  const taken = [...networks.flatMap(subnetsOf), ...avoid, ...kept.flatMap((text) => parseCidr(text) ?? [])].sort(
    byBase,
  )
  for (const text of pools) {
    const pool = parseCidr(text)
    if (!pool || pool.prefix > size) continue
    const found = firstGap(
      pool,
      size,
      taken.filter((one) => overlaps(one, pool)),
    )
    if (found) return found
  }
  return undefined
}

const NO_IPV6_SUBNET =
  'could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the network'

/** RFC 4193: the cluster's own 48 bits, made of its id, with 65,536 subnets of 64. */
function nextUniqueLocal(view: Pick<StoreView, 'cluster'>, networks: readonly Network[]): Cidr | undefined {
  const digest = createHash('sha256')
    .update(view.cluster()?.id ?? '')
    .digest('hex')
  const pool = parseCidr(`fd${digest.slice(0, 2)}:${digest.slice(2, 6)}:${digest.slice(6, 10)}::/48`)
  const taken = networks.flatMap(subnetsOf).filter((one) => one.family === 6)
  return pool && firstGap(pool, 64, taken.filter((one) => overlaps(one, pool)).sort(byBase))
}

function byBase(a: Cidr, b: Cidr): number {
  return a.base < b.base ? -1 : a.base > b.base ? 1 : a.prefix - b.prefix
}

/** @param taken sorted by their first address */
function firstGap(pool: Cidr, prefix: number, taken: readonly Cidr[]): Cidr | undefined {
  const end = pool.base + addressCount(pool)
  const step = addressCount({ ...pool, prefix })
  let base = pool.base
  for (const one of taken) {
    if (one.base >= base + step) break
    const after = one.base + addressCount(one)
    if (after > base) base = ((after + step - 1n) / step) * step
  }
  return base + step <= end ? { family: pool.family, base, prefix } : undefined
}

/** Next-fit: what nodes may still know of a network that is gone does not meet its successor. */
function withVni(
  networks: readonly Network[],
  spec: NetworkSpec,
  subnets: readonly AllocatedSubnet[],
): NetworkAllocation {
  const holders = new Map(networks.map((network) => [network.allocated?.vni ?? 0, network]))
  const [wanted = ''] = (spec.DriverConfiguration?.Options?.[VXLAN_IDS_OPTION] ?? '').split(',')
  if (wanted !== '') {
    const holder = holders.get(Number(wanted))
    if (!holder) return { kind: 'allocated', allocated: { vni: Number(wanted), subnets } }
    const message = `requested vxlan id ${wanted} is in use by network ${holder.spec.Name ?? holder.id}`
    return { kind: 'refused', code: 'VNI_TAKEN', message }
  }
  const used = [...holders.keys()].filter((vni) => vni >= FIRST_VNI).sort((a, b) => a - b)
  const highest = used.at(-1) ?? FIRST_VNI - 1
  if (highest < LAST_VNI) return { kind: 'allocated', allocated: { vni: highest + 1, subnets } }
  let vni = FIRST_VNI
  for (const one of used) if (one === vni) vni++
  if (vni <= LAST_VNI) return { kind: 'allocated', allocated: { vni, subnets } }
  return {
    kind: 'refused',
    code: 'VNIS_EXHAUSTED',
    message: `no free vxlan id is left from ${FIRST_VNI} to ${LAST_VNI}`,
  }
}

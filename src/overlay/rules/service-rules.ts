// A service on one network as chains: connections to a virtual address, or on the gateway network to a published port, go to
// its serving end points in turn, or by the client's address. Established ones stay where they are: only a connection's
// first packet comes here.

import type { OverlayEndpoint, OverlayNetwork, OverlayService, PublishedPort } from '../../api/data-plane.ts'
import { formatAddress, type IpAddress, type IpFamily, parseAddress } from '../../lib/cidr.ts'
import { bridgeName, gatewayIpv6 } from '../kernel/fabric-config.ts'
import { REFUSE_CHAIN } from './fabric-tables.ts'
import type { Fragment, SetElement } from './fragment.ts'

const FAMILIES = [4, 6] as const
/** The same on every node, so that a client's connections through several of them meet one task. */
const AFFINITY_SEED = '0x5377434c'

export interface ServiceView {
  readonly service: OverlayService
  readonly network: OverlayNetwork
  /** Of this service on this network, serving or not. */
  readonly endpoints: readonly OverlayEndpoint[]
  readonly selfNumber: number
}

export function serviceFragment(view: ServiceView): Fragment {
  const chains = new Map<string, string>()
  const elements: SetElement[] = []
  const { service, network } = view
  const id = `${service.serviceId}_${network.id}`
  const bridge = bridgeName(network)
  for (const family of FAMILIES) {
    const virtual = parsed(service.virtualIps).filter((address) => address.family === family)
    // On the gateway network a service is its ports.
    if (!network.ingress && virtual.length > 0) {
      const target = balanced(view, family, backEnds(view, family, false))
      const chain = `v${family}_${id}`
      if (target) chains.set(chain, target)
      for (const address of virtual) {
        const key = `"${bridge}" . ${formatAddress(address)}`
        elements.push({ table: 'fabric', set: `vips${family}`, key, value: `goto ${target ? chain : REFUSE_CHAIN}` })
      }
    }
    if (!network.ingress) continue
    for (const port of service.ports) {
      const target = balanced(view, family, backEnds(view, family, port.preferLocal))
      const chain = `p${family}_${port.protocol}_${port.published}`
      if (target) chains.set(chain, `meta l4proto ${port.protocol} ${target} : ${port.target}`)
      const value = `goto ${target ? chain : REFUSE_CHAIN}`
      elements.push({ table: 'fabric', set: `ports${family}`, key: portKey(port), value })
    }
  }
  return { chains, elements }
}

export function portKey(port: Pick<PublishedPort, 'protocol' | 'published'>): string {
  return `${port.protocol} . ${port.published}`
}

function parsed(texts: readonly string[]): readonly IpAddress[] {
  return texts.flatMap((text) => parseAddress(text) ?? [])
}

/** Addresses of an end point in its network; on the gateway network IPv6 is derived and not given. */
export function endpointAddresses(
  endpoint: OverlayEndpoint,
  network: Pick<OverlayNetwork, 'ingress'>,
): readonly IpAddress[] {
  const given = parsed(endpoint.addresses)
  if (!network.ingress) return given
  const four = given.filter(({ family }) => family === 4)
  return [...four, ...parsed(four.map((address) => gatewayIpv6(formatAddress(address))))]
}

function backEnds(
  { endpoints, network, selfNumber }: ServiceView,
  family: IpFamily,
  preferLocal: boolean,
): readonly bigint[] {
  const serving = endpoints.filter((endpoint) => endpoint.serving)
  const local = preferLocal ? serving.filter((endpoint) => endpoint.nodeNumber === selfNumber) : []
  const values = (local.length > 0 ? local : serving).flatMap((endpoint) =>
    endpointAddresses(endpoint, network).flatMap((address) => (address.family === family ? [address.value] : [])),
  )
  return values.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
}

function balanced(
  { service, selfNumber }: ServiceView,
  family: IpFamily,
  values: readonly bigint[],
): string | undefined {
  if (values.length === 0) return undefined
  // Nodes that begin at the same task would give it more than its part of few connections.
  const first = service.affinity ? 0 : selfNumber % values.length
  const turn = [...values.slice(first), ...values.slice(0, first)]
  const map = turn.map((value, at) => `${at} : ${formatAddress({ family, value })}`).join(', ')
  const ip = family === 4 ? 'ip' : 'ip6'
  const chosen = service.affinity
    ? `jhash ${ip} saddr mod ${turn.length} seed ${AFFINITY_SEED}`
    : `numgen inc mod ${turn.length}`
  return `dnat ${ip} to ${chosen} map { ${map} }`
}

// A service on one network as chains: connections to a virtual address, or on the gateway network to a published port, go to
// its serving end points in turn, or by the client's address. Established ones stay where they are: only a connection's
// first packet comes here.

import type { OverlayEndpoint, OverlayNetwork, OverlayService, PublishedPort } from '../../api/data-plane.ts'
import type { IpFamily } from '../../lib/cidr.ts'
import { bridgeName, gatewayIpv6 } from '../kernel/fabric-config.ts'
import { REFUSE_CHAIN } from './fabric-tables.ts'
import type { Fragment, SetElement } from './fragment.ts'
import { balancedRule, type MemberNumbers, type Members, memberElements } from './members.ts'
import { type PortsHere, publishedElements } from './published-ports.ts'

const FAMILIES = [4, 6] as const
/** The same on every node, so that a client's connections through several of them meet one task. */
const AFFINITY_SEED = '0x5377434c'

export interface ServiceView {
  readonly service: OverlayService
  readonly network: OverlayNetwork
  /** Of this service on this network, serving or not. */
  readonly endpoints: readonly OverlayEndpoint[]
  readonly selfNumber: number
  readonly here: PortsHere
  readonly numbers: MemberNumbers
  /** What `serviceFragment` answered for the service before: members that stay keep their numbers. */
  readonly before: Fragment
}

export function serviceFragment(view: ServiceView): Fragment {
  const chains = new Map<string, string>()
  const members = new Map<string, Members>()
  const elements: SetElement[] = []
  const { service, network } = view
  const serving = view.endpoints.filter((endpoint) => endpoint.serving).sort(byTask)
  const local = serving.filter((endpoint) => endpoint.nodeNumber === view.selfNumber)

  const target = (chain: string, family: IpFamily, from: readonly OverlayEndpoint[], port?: PublishedPort): string => {
    const addresses = from.flatMap((endpoint) => endpointAddresses(endpoint, network, family))
    if (addresses.length === 0) return `goto ${REFUSE_CHAIN}`
    const turned = service.affinity ? addresses : rotated(addresses, view.selfNumber)
    const own = membersOf(view, chain, family, turned)
    members.set(chain, own)
    elements.push(...memberElements(own))
    const rule = balancedRule(own, service.affinity ? AFFINITY_SEED : undefined)
    chains.set(chain, port ? `meta l4proto ${port.protocol} ${rule} : ${port.target}` : rule)
    return `goto ${chain}`
  }

  // On the gateway network a service is its ports.
  for (const family of network.ingress ? [] : FAMILIES) {
    const virtual = service.virtualIps.filter((address) => familyOf(address) === family)
    if (virtual.length === 0) continue
    const value = target(`v${family}_${service.serviceId}_${network.id}`, family, serving)
    for (const address of virtual) {
      elements.push({ table: 'fabric', set: `vips${family}`, key: `"${bridgeName(network)}" . ${address}`, value })
    }
  }
  for (const port of network.ingress ? [...service.ports, ...(service.portsAt ?? [])] : []) {
    const key = `${port.protocol} . ${port.published}`
    const from = port.preferLocal && local.length > 0 ? local : serving
    for (const family of FAMILIES) {
      const value = target(`p${family}_${port.protocol}_${port.published}`, family, from, port)
      elements.push({ table: 'fabric', set: `ports${family}`, key, value })
    }
    elements.push(...publishedElements(port, view.here))
  }
  return { chains, elements, members }
}

/** The same order on every node. */
function byTask(a: OverlayEndpoint, b: OverlayEndpoint): number {
  return a.taskId < b.taskId ? -1 : a.taskId > b.taskId ? 1 : 0
}

function familyOf(address: string): IpFamily {
  return address.includes(':') ? 6 : 4
}

/** Addresses of an end point in its network; on the gateway network IPv6 is derived and not given. */
export function endpointAddresses(
  { addresses }: OverlayEndpoint,
  { ingress }: Pick<OverlayNetwork, 'ingress'>,
  family: IpFamily,
): readonly string[] {
  if (!ingress || family === 4) return addresses.filter((address) => familyOf(address) === family)
  return addresses.filter((address) => familyOf(address) === 4).map(gatewayIpv6)
}

/** Nodes that all begin at one task would give it more than its part of few connections. */
function rotated(addresses: readonly string[], selfNumber: number): readonly string[] {
  const first = selfNumber % addresses.length
  return [...addresses.slice(first), ...addresses.slice(0, first)]
}

function membersOf(view: ServiceView, chain: string, family: IpFamily, addresses: readonly string[]): Members {
  const old = view.before.members.get(chain)
  const same = old?.addresses.length === addresses.length && old.addresses.every((one, at) => one === addresses[at])
  return same ? old : { family, addresses, numbers: view.numbers.take(addresses.length) }
}

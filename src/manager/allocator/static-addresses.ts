// Virtual addresses that services choose for themselves (api/static-addresses.ts): whose is which network's, and what stands in the way
// of one. Pure.

import type { Network, Service } from '../../api/objects.ts'
import { taskName } from '../../api/objects.ts'
import type { Labels } from '../../api/spec.ts'
import { type StaticAddress, staticAddresses } from '../../api/static-addresses.ts'
import { containsAddress, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { holdsAddresses } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { ordinaryReserved } from './address-pool.ts'
import { networkName } from './wanted-networks.ts'

type View = Pick<StoreView, 'servicesUsingNetwork' | 'tasksUsingNetwork'>

export function staticAddressOn(labels: Labels | undefined, network: Network): StaticAddress | undefined {
  const isOf = ({ network: name }: StaticAddress) => name === network.id || name === network.spec.Name
  return staticAddresses(labels).find(isOf)
}

/** Of one family at most each; none: any will do. */
export function wishedAddresses(labels: Labels | undefined, network: Network | undefined): readonly string[] {
  return (network && staticAddressOn(labels, network)?.addresses) ?? []
}

/** Whether the service has there what it asks for. */
export function hasWished(service: Service, network: Network | undefined): boolean {
  const held = new Set(
    (service.endpoint?.virtualIps ?? []).flatMap(({ networkId, address }) =>
      networkId === network?.id ? [addressOnly(address)] : [],
    ),
  )
  return wishedAddresses(service.spec.Labels, network).every((address) => held.has(address))
}

/** Of those that it has on a network: what it asks for, and what it has of a family that it asks nothing of. */
export function addressesThatStay(held: readonly string[], wished: readonly string[]): readonly string[] {
  const families = new Set(wished.map(familyOf))
  return held.filter((cidr) => wished.includes(addressOnly(cidr)) || !families.has(familyOf(cidr)))
}

/** Why the network has no such address at all, for people; undefined: it has them. */
export function unsuitableAddress(network: Network, addresses: readonly string[]): string | undefined {
  const name = networkName(network, network.id)
  for (const text of addresses) {
    const address = parseAddress(text)
    const subnets = network.allocated?.subnets ?? []
    const subnet = subnets.find((one) => {
      const cidr = parseCidr(one.subnet)
      return cidr && address && containsAddress(cidr, address)
    })
    if (!subnet || !address) {
      const all = subnets.map((one) => one.subnet).join(' and ')
      return `address ${text} is not in network ${name}${all && `, which is ${all}`}`
    }
    if (subnet.gateway === text) return `address ${text} is the gateway of network ${name}`
    if (ordinaryReserved(subnet).has(address.value)) return `address ${text} is reserved on network ${name}`
  }
  return undefined
}

/** Who else has one of them, for people; undefined: nobody. */
export function addressHolder(
  view: View,
  network: Network,
  addresses: readonly string[],
  serviceId: string | undefined,
): string | undefined {
  const wanted = new Set(addresses)
  const isWanted = (address: string) => wanted.has(addressOnly(address))
  const taken = (text: string, by: string) =>
    `address ${addressOnly(text)} of network ${networkName(network, network.id)} is in use by ${by}`
  for (const service of view.servicesUsingNetwork(network.id)) {
    if (service.id === serviceId) continue
    const vip = service.endpoint?.virtualIps.find(
      ({ networkId, address }) => networkId === network.id && isWanted(address),
    )
    if (vip) return taken(vip.address, `service ${service.spec.Name ?? service.id}`)
  }
  for (const task of view.tasksUsingNetwork(network.id)) {
    const attachment = task.attachments.find(({ networkId }) => networkId === network.id)
    const address = holdsAddresses(task) ? attachment?.addresses.find(isWanted) : undefined
    if (address !== undefined) {
      const name = task.spec.NetworkAttachmentSpec?.ContainerID
      return taken(address, name === undefined ? `task ${taskName(task)}` : `container ${name}`)
    }
  }
  return undefined
}

/** The service that asks for one of them too; undefined: none. */
export function rival(
  view: View,
  network: Network,
  addresses: readonly string[],
  serviceId: string | undefined,
): string | undefined {
  for (const service of view.servicesUsingNetwork(network.id)) {
    if (service.id === serviceId) continue
    const both = wishedAddresses(service.spec.Labels, network).find((address) => addresses.includes(address))
    if (both !== undefined) {
      return `address ${both} of network ${networkName(network, network.id)} is asked for by service ${service.spec.Name ?? service.id}`
    }
  }
  return undefined
}

function familyOf(text: string): number | undefined {
  return parseAddress(addressOnly(text))?.family
}

function addressOnly(cidr: string): string {
  return cidr.split('/')[0] ?? ''
}

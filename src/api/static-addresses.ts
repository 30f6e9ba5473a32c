// A service's own choice of its virtual address on a network: a label of the service for each such network, since Docker's API has no
// field. It stays the service's while the service is there.

import { formatAddress, parseAddress } from '../lib/cidr.ts'
import type { Labels } from './spec.ts'

const PREFIX = 'io.swarmctl.network.'
const SUFFIX = '.ip'

/** @param network its name or its id */
export function staticAddressLabel(network: string): string {
  return `${PREFIX}${network}${SUFFIX}`
}

export interface StaticAddress {
  readonly label: string
  /** Name or id of the network. */
  readonly network: string
  /** One of a family at most. */
  readonly addresses: readonly string[]
}

/** What can't be understood is taken for absent. */
export function staticAddresses(labels: Labels | undefined): readonly StaticAddress[] {
  return Object.entries(labels ?? {}).flatMap(([label, value]): readonly StaticAddress[] => {
    const network = networkOfLabel(label)
    const addresses = network === undefined ? undefined : parse(value)
    return network === undefined || !addresses ? [] : [{ label, network, addresses }]
  })
}

/** What is wrong with such a label; undefined: nothing, or it is none. */
export function staticAddressProblem(label: string, value: string): string | undefined {
  if (networkOfLabel(label) === undefined || parse(value)) return undefined
  return `invalid value ${JSON.stringify(value)}: must be an IPv4 address, an IPv6 address, or one of each with a comma between them`
}

function networkOfLabel(label: string): string | undefined {
  if (!label.startsWith(PREFIX) || !label.endsWith(SUFFIX)) return undefined
  const network = label.slice(PREFIX.length, -SUFFIX.length)
  return network === '' ? undefined : network
}

/** Written as Go writes them, so that texts can be compared. */
function parse(value: string): readonly string[] | undefined {
  const parsed = value.split(',').map((part) => parseAddress(part.trim()))
  const families = new Set(parsed.map((address) => address?.family))
  if (families.size !== parsed.length) return undefined
  const addresses = parsed.flatMap((address) => (address ? [formatAddress(address)] : []))
  return addresses.length === parsed.length ? addresses : undefined
}

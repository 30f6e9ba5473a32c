// Ports that one container publishes on its own node (`mode=host`), of containers that have their way out by the gateway network:
// they are entered like the mesh's, at this node alone.

import type { LocalAttachment } from '../desired-state.ts'
import { gatewayIpv6 } from '../kernel/fabric-config.ts'
import type { Fragment, SetElement } from './fragment.ts'
import { type PortsHere, publishedElements } from './published-ports.ts'

export function hostPortsFragment({ addresses, ports = [] }: LocalAttachment, here: PortsHere): Fragment {
  const chains = new Map<string, string>()
  const elements: SetElement[] = []
  const address = addresses.find((one) => !one.includes(':'))
  for (const port of address === undefined ? [] : ports) {
    const { protocol, published, target } = port
    const key = `${protocol} . ${published}`
    for (const [family, to] of [
      [4, `ip to ${address}`],
      [6, `ip6 to [${gatewayIpv6(address ?? '')}]`],
    ] as const) {
      const chain = `h${family}_${protocol}_${published}`
      chains.set(chain, `meta l4proto ${protocol} dnat ${to} : ${target}`)
      elements.push({ table: 'fabric', set: `ports${family}`, key, value: `goto ${chain}` })
    }
    elements.push(...publishedElements(port, { ...here, taken: NONE_TAKEN }))
  }
  return { chains, elements, members: new Map() }
}

/** A container that runs has its port, whoever listens there too. */
const NONE_TAKEN: ReadonlySet<string> = new Set()

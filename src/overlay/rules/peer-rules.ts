// What the nodes are to this node's rules: senders of tunnelled packets, entries that replies go back to, and hosts whose control
// port is not for containers.

import type { OverlayEndpoint, OverlayNetwork, Peer } from '../../api/data-plane.ts'
import { formatAddress, parseAddress } from '../../lib/cidr.ts'
import type { Self } from '../desired-state.ts'
import {
  encryptedPeerMark,
  encryptedPeerZone,
  encryptedPortOf,
  type FabricConfig,
  GATEWAY_TUNNEL,
  GATEWAY_TUNNEL_ENCRYPTED,
  gatewayBlock,
  peerMark,
  peerZone,
} from '../kernel/fabric-config.ts'
import { elementFragment, type Fragment, type SetElement } from './fragment.ts'
import { endpointAddresses } from './service-rules.ts'

export interface PeersView {
  readonly config: FabricConfig
  readonly self: Self | undefined
  readonly peers: Iterable<Peer>
  /** The ingress network, where there is one. */
  readonly gateway: OverlayNetwork | undefined
  /** TCP ports of the control plane beside those that the peers tell. */
  readonly controlPorts: readonly number[]
}

/** One fragment of all: many have the same ports. */
export function peersFragment(view: PeersView): Fragment {
  const { config, self, gateway } = view
  const elements: SetElement[] = []
  const tunnels = new Set([config.dataPathPort])
  const sealed = new Set([config.encryptedPort])
  const control = new Set(view.controlPorts)
  for (const peer of view.peers) {
    tunnels.add(peer.port)
    sealed.add(encryptedPortOf(peer.port))
    if (peer.controlPort !== undefined) control.add(peer.controlPort)
    const address = parseAddress(peer.address)
    if (address) {
      elements.push({ table: 'host', set: `nodes${address.family}`, key: formatAddress(address), value: '' })
    }
    const block = gateway && peer.number !== self?.number ? gatewayBlock(gateway, peer.number) : undefined
    if (block) elements.push(...entryElements(block.mac, peer.number))
  }
  for (const port of tunnels) elements.push({ table: 'host', set: 'tunnels', key: String(port), value: '' })
  for (const port of sealed) elements.push({ table: 'host', set: 'tunnels_sealed', key: String(port), value: '' })
  for (const port of [...tunnels, ...sealed]) {
    elements.push({ table: 'host', set: 'control', key: `udp . ${port}`, value: '' })
  }
  for (const port of control) {
    elements.push({ table: 'host', set: 'control', key: `tcp . ${port}`, value: '' })
  }
  const own = gateway && self ? gatewayBlock(gateway, self.number) : undefined
  for (const tunnel of own ? [GATEWAY_TUNNEL, GATEWAY_TUNNEL_ENCRYPTED] : []) {
    elements.push({ table: 'fabric', set: 'own4', key: `"${tunnel}"`, value: own?.address ?? '' })
    elements.push({ table: 'fabric', set: 'own6', key: `"${tunnel}"`, value: own?.addressV6 ?? '' })
  }
  return elementFragment(elements)
}

function entryElements(mac: string, number: number): readonly SetElement[] {
  const element = (set: string, value: number): SetElement => ({ table: 'fabric', set, key: mac, value: String(value) })
  return [
    element('zones', peerZone(number)),
    element('zones_sealed', encryptedPeerZone(number)),
    element('marks', peerMark(number)),
    element('marks_sealed', encryptedPeerMark(number)),
  ]
}

/** An end point of the gateway network whose traffic between nodes goes over WireGuard. */
export function sealedFragment(endpoint: OverlayEndpoint, gateway: OverlayNetwork): Fragment {
  return elementFragment(
    ([4, 6] as const).flatMap((family) =>
      endpointAddresses(endpoint, gateway, family).map(
        (key): SetElement => ({ table: 'fabric', set: `sealed${family}`, key, value: '' }),
      ),
    ),
  )
}

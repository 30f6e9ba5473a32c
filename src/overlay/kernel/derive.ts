// Which kernel entries follow from one record. Pure: everything else that a record's entries depend on stands in Surroundings.

import {
  endpointMac,
  type OverlayEndpoint,
  type OverlayNetwork,
  type OverlayService,
  type Peer,
} from '../../api/data-plane.ts'
import { containsAddress, formatAddress, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { EGRESS_NETWORK_ID, type LocalAttachment, type Self } from '../desired-state.ts'
import type { Placement } from './container-link.ts'
import { type BridgePort, type KernelEntry, type LinkMake, MAIN_TABLE } from './entry.ts'
import {
  attachmentMac,
  BRIDGE_LINK_LOCAL,
  bridgeMac,
  bridgeName,
  containerPort,
  EGRESS_GATEWAY,
  EGRESS_SUBNET,
  encryptedPeerMark,
  encryptedRoutingTable,
  type FabricConfig,
  fabricPort,
  GATEWAY_BRIDGE,
  GATEWAY_TUNNEL,
  GATEWAY_TUNNEL_ENCRYPTED,
  type GatewayBlock,
  gatewayBlock,
  gatewayIpv6,
  LINK_PREFIX,
  LINK_PREFIX_V6,
  MARK_MASK,
  peerMark,
  routingTable,
  tunnelName,
  tunnelTarget,
  wireguardAddress,
} from './fabric-config.ts'
import { overlayMtu } from './mtu.ts'

/** What the entries of many records depend on. */
export interface Surroundings {
  readonly config: FabricConfig
  /** The kernel has it. */
  readonly ipv6: boolean
  readonly self: Self | undefined
  readonly networks: ReadonlyMap<string, OverlayNetwork>
  readonly peersByNumber: ReadonlyMap<number, Peer>
  readonly gateway: OverlayNetwork | undefined
  /** This node's part of `gateway`. */
  readonly block: GatewayBlock | undefined
  /** Smallest MTU of the nodes' underlay. */
  readonly underlayMtu: number
  /** Some of what runs behind published ports is reached over WireGuard only. */
  readonly encryptedGateway: boolean
}

/** In the range of table numbers, before all peers': what bears no peer's mark takes the main table at once. */
const UNMARKED_PRIORITY = 9999
const PEER_MARK_BIT = 0x20000
const ENCRYPTED_PRIORITY_OFFSET = 10_000
const FAMILIES = [4, 6] as const
/** The gateway network's own MTU, as overlayMtu needs it where there is no such network yet. */
const NO_NETWORK = { mtu: 0, encrypted: false, subnets: [{ subnet: '::/0', gateway: '' }] } as const

/** The link to the host, the name server's address, the gateway bridge and the tunnels between nodes. */
export function deriveBase(around: Surroundings): readonly KernelEntry[] {
  const { config, self, gateway, block } = around
  const mtu = gatewayMtu(around)
  const entries: KernelEntry[] = [
    deviceEntry('lo', 0),
    { kind: 'address', device: 'lo', address: `${config.dnsAddress}/32` },
    deviceEntry(config.fabricLink, 0),
    { kind: 'address', device: config.fabricLink, address: `${config.fabricLinkAddress}/${LINK_PREFIX}` },
    { kind: 'address', device: config.fabricLink, address: `${config.fabricLinkAddressV6}/${LINK_PREFIX_V6}` },
    route(4, MAIN_TABLE, 'default', config.hostLinkAddress, config.fabricLink),
    route(6, MAIN_TABLE, 'default', config.hostLinkAddressV6, config.fabricLink),
    ...FAMILIES.map((family) => ({
      kind: 'rule' as const,
      family,
      priority: UNMARKED_PRIORITY,
      mark: 0,
      mask: PEER_MARK_BIT,
      table: MAIN_TABLE,
    })),
    // Its MAC stays the same whatever becomes of the gateway network: containers know it.
    { kind: 'link', device: GATEWAY_BRIDGE, make: { kind: 'bridge', mac: endpointMac([EGRESS_GATEWAY]) } },
    deviceEntry(GATEWAY_BRIDGE, mtu),
    linkLocal(GATEWAY_BRIDGE),
    { kind: 'address', device: GATEWAY_BRIDGE, address: `${EGRESS_GATEWAY}/${prefixOf(EGRESS_SUBNET)}` },
    {
      kind: 'address',
      device: GATEWAY_BRIDGE,
      address: `${gatewayIpv6(EGRESS_GATEWAY)}/${96 + prefixOf(EGRESS_SUBNET)}`,
    },
  ]
  if (!self || !gateway || !block) return entries
  entries.push(
    { kind: 'address', device: GATEWAY_BRIDGE, address: `${block.address}/${block.prefix}` },
    { kind: 'address', device: GATEWAY_BRIDGE, address: `${block.addressV6}/${block.prefixV6}` },
    ...gatewayTunnel(GATEWAY_TUNNEL, gateway.vni, self.address, config.dataPathPort, block, mtu),
  )
  if (around.encryptedGateway) {
    const encryptedMtu = overlayMtu({ ...gateway, encrypted: true }, around.underlayMtu, self.address)
    const local = wireguardAddress(self.number)
    entries.push(
      ...gatewayTunnel(GATEWAY_TUNNEL_ENCRYPTED, gateway.vni, local, config.encryptedPort, block, encryptedMtu),
    )
  }
  return entries
}

function gatewayTunnel(
  device: string,
  vni: number,
  local: string,
  port: number,
  block: GatewayBlock,
  mtu: number,
): readonly KernelEntry[] {
  return [
    { kind: 'link', device, make: { kind: 'vxlan', vni, local: normal(local), port, proxy: false, mac: block.mac } },
    deviceEntry(device, mtu),
    { kind: 'address', device, address: `${block.address}/32` },
    { kind: 'address', device, address: `${block.addressV6}/128` },
  ]
}

/** How to reach a node's end points on the gateway network, and where replies go that came in through it. */
export function derivePeer(peer: Peer, around: Surroundings): readonly KernelEntry[] {
  const { self, gateway } = around
  const block = gateway && gatewayBlock(gateway, peer.number)
  if (!self || !around.block || !block || peer.number === self.number) return []
  const paths = [
    {
      device: GATEWAY_TUNNEL,
      encrypted: false,
      hopV6: block.addressV6,
      table: routingTable(peer.number),
      mark: peerMark(peer.number),
      priority: routingTable(peer.number),
    },
    ...(around.encryptedGateway
      ? [
          {
            device: GATEWAY_TUNNEL_ENCRYPTED,
            encrypted: true,
            hopV6: block.encryptedHopV6,
            table: encryptedRoutingTable(peer.number),
            mark: encryptedPeerMark(peer.number),
            priority: ENCRYPTED_PRIORITY_OFFSET + routingTable(peer.number),
          },
        ]
      : []),
  ]
  const entries: KernelEntry[] = paths.flatMap(({ device, encrypted, hopV6, table, mark, priority }): KernelEntry[] => [
    tunnelEntry(device, block.mac, peer, encrypted, around),
    { kind: 'neighbour', device, address: block.address, mac: block.mac },
    { kind: 'neighbour', device, address: hopV6, mac: block.mac },
    route(4, table, 'default', block.address, device),
    route(6, table, 'default', hopV6, device),
    ...FAMILIES.map((family) => ({ kind: 'rule' as const, family, priority, mark, mask: MARK_MASK, table })),
  ])
  entries.push(
    route(4, MAIN_TABLE, block.subnet, block.address, GATEWAY_TUNNEL),
    route(6, MAIN_TABLE, block.subnetV6, block.addressV6, GATEWAY_TUNNEL),
  )
  return entries
}

/** The network's bridge, which is its gateway, and its tunnel. */
export function deriveNetwork(network: OverlayNetwork, around: Surroundings): readonly KernelEntry[] {
  const { config, self } = around
  if (!self || network.ingress) return []
  const bridge = bridgeName(network)
  const tunnel = tunnelName(network)
  const mtu = networkMtu(network, around)
  const local = network.encrypted ? wireguardAddress(self.number) : normal(self.address)
  const port = network.encrypted ? config.encryptedPort : config.dataPathPort
  return [
    { kind: 'link', device: bridge, make: { kind: 'bridge', mac: bridgeMac(network) } },
    { kind: 'link', device: tunnel, make: { kind: 'vxlan', vni: network.vni, local, port, proxy: true, mac: '' } },
    deviceEntry(bridge, mtu),
    linkLocal(bridge),
    deviceEntry(tunnel, mtu, bridge, { hairpin: false, isolated: false }),
    ...network.subnets.flatMap(({ subnet, gateway }): readonly KernelEntry[] =>
      gateway === '' ? [] : [{ kind: 'address', device: bridge, address: `${normal(gateway)}/${prefixOf(subnet)}` }],
    ),
  ]
}

/** Where a task on another node is. */
export function deriveEndpoint(endpoint: OverlayEndpoint, around: Surroundings): readonly KernelEntry[] {
  const { self, networks, peersByNumber } = around
  const network = networks.get(endpoint.networkId)
  if (!self || !network || endpoint.nodeNumber === self.number) return []
  if (network.ingress) return endpoint.encrypted ? encryptedGatewayRoutes(endpoint, network, around) : []
  const peer = peersByNumber.get(endpoint.nodeNumber)
  const mac = endpointMac(endpoint.addresses)
  const device = tunnelName(network)
  return [
    ...(peer ? [tunnelEntry(device, mac, peer, network.encrypted, around)] : []),
    { kind: 'bridge-fdb', bridge: bridgeName(network), mac, device },
    ...endpoint.addresses.map((address): KernelEntry => ({ kind: 'neighbour', device, address: normal(address), mac })),
  ]
}

/** What enters here for a task on an encrypted network goes by WireGuard, though its node's other tasks are reached in clear. */
function encryptedGatewayRoutes(
  endpoint: OverlayEndpoint,
  network: OverlayNetwork,
  around: Surroundings,
): readonly KernelEntry[] {
  const block = gatewayBlock(network, endpoint.nodeNumber)
  if (!block || !around.block) return []
  return endpoint.addresses
    .filter((address) => !address.includes(':'))
    .flatMap((address) => [
      route(4, MAIN_TABLE, address, block.address, GATEWAY_TUNNEL_ENCRYPTED),
      route(6, MAIN_TABLE, gatewayIpv6(address), block.encryptedHopV6, GATEWAY_TUNNEL_ENCRYPTED),
    ])
}

/** Its virtual addresses are the gateway's, as ARP goes: the fabric's rules translate them. */
export function deriveService(service: OverlayService, around: Surroundings): readonly KernelEntry[] {
  const network = around.networks.get(service.networkId)
  if (!around.self || !network || network.ingress) return []
  const mac = bridgeMac(network)
  return service.virtualIps.map((address) => ({
    kind: 'neighbour',
    device: tunnelName(network),
    address: normal(address),
    mac,
  }))
}

/** A container's port on its network's bridge. Empty where the network is not known (any more). */
export function deriveLocal(local: LocalAttachment, around: Surroundings): readonly KernelEntry[] {
  const bridge = bridgeOfLocal(local, around)
  if (!bridge) return []
  const device = fabricPort(local.endpointId)
  const onGateway = bridge === GATEWAY_BRIDGE
  const make: LinkMake = { kind: 'container-port', peer: containerPort(local.endpointId) }
  return [
    { kind: 'link', device, make },
    // A container reaches its own service's virtual address: by its own port, back to itself.
    deviceEntry(device, localMtu(local, around), bridge, { hairpin: !onGateway, isolated: onGateway }),
    { kind: 'bridge-fdb', bridge, mac: local.mac === '' ? attachmentMac(local) : local.mac.toLowerCase(), device },
  ]
}

/** What the container's end of it has. */
export function placementOf(local: LocalAttachment, around: Surroundings): Placement {
  const { networks, block, ipv6 } = around
  const network = networks.get(local.networkId)
  if (network && !network.ingress) {
    const subnets = network.subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? [])
    const addresses = local.addresses.flatMap((text) => {
      const address = parseAddress(text)
      const subnet = address && subnets.find((one) => containsAddress(one, address))
      return subnet ? [`${normal(text)}/${subnet.prefix}`] : []
    })
    return { addresses, gateways: [] }
  }
  const [gateway, prefix] = network ? [block?.address, block?.prefix] : [EGRESS_GATEWAY, prefixOf(EGRESS_SUBNET)]
  if (gateway === undefined || prefix === undefined) return { addresses: [], gateways: [] }
  const addresses = local.addresses.filter((address) => !address.includes(':'))
  const v6 = ipv6 ? addresses.map((address) => `${gatewayIpv6(address)}/${96 + prefix}`) : []
  return {
    addresses: [...addresses.map((address) => `${address}/${prefix}`), ...v6],
    gateways: [gateway, ...v6.slice(0, 1).map(() => gatewayIpv6(gateway))],
  }
}

/** Undefined where the network is not known. */
export function bridgeOfLocal(
  { networkId }: Pick<LocalAttachment, 'networkId'>,
  { networks, self }: Pick<Surroundings, 'networks' | 'self'>,
): string | undefined {
  if (networkId === EGRESS_NETWORK_ID) return GATEWAY_BRIDGE
  const network = networks.get(networkId)
  return network && self && bridgeName(network)
}

export function localMtu({ networkId }: Pick<LocalAttachment, 'networkId'>, around: Surroundings): number {
  const network = around.networks.get(networkId)
  return network && !network.ingress ? networkMtu(network, around) : gatewayMtu(around)
}

function networkMtu(network: OverlayNetwork, around: Surroundings): number {
  return overlayMtu(network, around.underlayMtu, around.self?.address ?? '')
}

function gatewayMtu(around: Surroundings): number {
  // It carries IPv6 whatever its subnet says.
  const network = { ...NO_NETWORK, mtu: around.gateway?.mtu ?? 0 }
  return overlayMtu(network, around.underlayMtu, around.self?.address ?? '')
}

function linkLocal(device: string): KernelEntry {
  return { kind: 'address', device, address: `${BRIDGE_LINK_LOCAL}/64` }
}

function deviceEntry(device: string, mtu: number, master = '', port?: BridgePort): KernelEntry {
  return { kind: 'device', device, mtu, master, port, up: true }
}

function route(family: 4 | 6, table: number, destination: string, via: string, device: string): KernelEntry {
  return { kind: 'route', family, table, destination, via, device }
}

function tunnelEntry(
  device: string,
  mac: string,
  peer: Peer,
  encrypted: boolean,
  { config, self }: Surroundings,
): KernelEntry {
  const target = tunnelTarget(peer, encrypted)
  const own = encrypted ? config.encryptedPort : config.dataPathPort
  const port = target.port === own ? 0 : target.port
  // To a node in the same host: by an address that the kernel does not take for its own, which the host's rules translate.
  // Else it hands packets over inside, with a route of this fabric that leads them astray in the other.
  const beside = peer.address === self?.address
  const address = beside ? besideAddress(config, target.address) : target.address
  return { kind: 'tunnel-fdb', device, mac, target: normal(address), port }
}

/** Of an IPv6 underlay the checksum has to be right, and can't be made so: there such nodes reach each other's overlays only. */
function besideAddress({ fabricLinkAddress }: FabricConfig, address: string): string {
  return address.includes(':') ? address : fabricLinkAddress
}

function prefixOf(subnet: string): number {
  return parseCidr(subnet)?.prefix ?? 0
}

/** As the kernel prints it. */
function normal(address: string): string {
  if (!address.includes(':')) return address
  const parsed = parseAddress(address)
  return parsed ? formatAddress(parsed) : address
}

// Names, numbers and addresses of a node's data plane in the kernel. Everything that two parts of the data plane (kernel plan, nft
// rules, DNS, network driver) have to agree on is derived here, so that no two of them derive it differently.

import { endpointMac, type OverlayNetwork, type Peer } from '../../api/data-plane.ts'
import { blockOf } from '../../lib/address-block.ts'
import { type Cidr, formatAddress, formatCidr, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { CodedError } from '../../lib/errors.ts'
import type { LocalAttachment } from '../desired-state.ts'

/** What is fixed for as long as a node's data plane lives: it does not depend on the cluster's state. */
export interface FabricConfig {
  /** Tells apart the nodes that share one host network namespace; 0 where there is one. */
  readonly instance: number
  /** The fabric's network namespace: a name in /run/netns. */
  readonly namespace: string
  /** The host's end of the veth between host and fabric: `fab0`. */
  readonly hostLink: string
  /** The fabric's end of it. */
  readonly fabricLink: string
  /** Addresses of the two ends, without prefix lengths: LINK_PREFIX and LINK_PREFIX_V6. */
  readonly hostLinkAddress: string
  readonly fabricLinkAddress: string
  readonly hostLinkAddressV6: string
  readonly fabricLinkAddressV6: string
  /** The network (/30) of the two: CIDR. */
  readonly linkSubnet: string
  readonly linkSubnetV6: string
  /** Where containers with a gateway ask for names. The same on every node. */
  readonly dnsAddress: string
  /** UDP port of this node's plain VXLANs. */
  readonly dataPathPort: number
  /** UDP port of this node's VXLANs over WireGuard. */
  readonly encryptedPort: number
  /** Name of this node's nft tables in the host's namespace; those in the fabric's are called FABRIC_TABLE. */
  readonly hostTable: string
}

export const LINK_PREFIX = 30
export const LINK_PREFIX_V6 = 126
export const FABRIC_TABLE = 'swarmctl'
/** Containers' resolver; no instance's link network contains it. */
export const DNS_ADDRESS = '169.254.77.53'
const LINK_NETWORK = 0xa9fe4d00n
const DNS_SLOT = 13
const INSTANCE_MAX = 62

/** Addresses of containers that go out but publish nothing: the node's own pool, the same on every node. */
export const EGRESS_SUBNET = '100.96.0.0/16'
export const EGRESS_GATEWAY = '100.96.0.1'

/** Bridge of the gateway network: default routes of containers. */
export const GATEWAY_BRIDGE = 'brg'
/** Tunnel of the gateway network: node to node, routed. */
export const GATEWAY_TUNNEL = 'vxg'
/** The same (and the same VNI) over WireGuard, on its own UDP port. */
export const GATEWAY_TUNNEL_ENCRYPTED = 'vxge'
/** Of each node's addresses over WireGuard. */
export const WIREGUARD_SUBNET = '100.97.0.0/16'
/** IPv6 addresses on the gateway network and of links are IPv4's in these, in the last 32 bits. */
const GATEWAY_V6 = parseAddress('fd73:7761:726d:1::')
/** Of every bridge: the kernel looks for neighbours of what it forwards from a link-local address, and without one it does not. */
export const BRIDGE_LINK_LOCAL = 'fe80::1'
const LINK_LOCAL_V6 = parseAddress('fe80::')
const LINK_V6 = parseAddress('fd73:7761:726d:2::')
export const GATEWAY_SUBNET_V6 = 'fd73:7761:726d:1::/96'

/** Added to a plain VXLAN port where that leaves a valid one, else taken from it. */
const ENCRYPTED_PORT_OFFSET = 1000

export interface FabricOptions {
  readonly instance?: number
  readonly dataPathPort: number
  /** Where several hosts share /run/netns (a laboratory): a name of one's own. */
  readonly namespace?: string
}

/** @throws {CodedError} INSTANCE_OUT_OF_RANGE above 62 nodes in one host namespace. */
export function fabricConfig(options: FabricOptions): FabricConfig {
  const instance = options.instance ?? 0
  if (!Number.isInteger(instance) || instance < 0 || instance > INSTANCE_MAX) {
    throw new CodedError('INSTANCE_OUT_OF_RANGE', `instance ${instance} is not in 0 to ${INSTANCE_MAX}`)
  }
  const suffix = instance === 0 ? '' : String(instance)
  const base = LINK_NETWORK + 4n * BigInt(instance < DNS_SLOT ? instance : instance + 1)
  const link = (offset: bigint) => formatAddress({ family: 4, value: base + offset })
  const linkV6 = (offset: bigint) => embed(LINK_V6, base + offset)
  return {
    instance,
    namespace: options.namespace ?? `swarmctl${suffix}`,
    hostLink: `fab${instance}`,
    fabricLink: 'up0',
    hostLinkAddress: link(1n),
    fabricLinkAddress: link(2n),
    hostLinkAddressV6: linkV6(1n),
    fabricLinkAddressV6: linkV6(2n),
    linkSubnet: `${link(0n)}/${LINK_PREFIX}`,
    linkSubnetV6: `${linkV6(0n)}/${LINK_PREFIX_V6}`,
    dnsAddress: DNS_ADDRESS,
    dataPathPort: options.dataPathPort,
    encryptedPort: encryptedPortOf(options.dataPathPort),
    hostTable: `swarmctl${suffix}`,
  }
}

/** The UDP port of a node's VXLANs over WireGuard, of that of its plain ones (`Peer.port`). */
export function encryptedPortOf(plainPort: number): number {
  return plainPort + (plainPort + ENCRYPTED_PORT_OFFSET <= 0xffff ? ENCRYPTED_PORT_OFFSET : -ENCRYPTED_PORT_OFFSET)
}

export function bridgeName(network: Pick<OverlayNetwork, 'vni' | 'ingress'>): string {
  return network.ingress ? GATEWAY_BRIDGE : `br${network.vni}`
}

export function tunnelName(network: Pick<OverlayNetwork, 'vni' | 'ingress'>): string {
  return network.ingress ? GATEWAY_TUNNEL : `vx${network.vni}`
}

const SHORT_ID_LENGTH = 11
export const FABRIC_PORT_PREFIX = 'fh'
export const CONTAINER_PORT_PREFIX = 'fc'

/** The fabric's end of a container's veth: a bridge port. */
export function fabricPort(endpointId: string): string {
  return `${FABRIC_PORT_PREFIX}${endpointId.slice(0, SHORT_ID_LENGTH)}`
}

/** The container's end, before the engine takes and renames it. */
export function containerPort(endpointId: string): string {
  return `${CONTAINER_PORT_PREFIX}${endpointId.slice(0, SHORT_ID_LENGTH)}`
}

/** Bridge MAC of a network: of its (IPv4) gateway, the same on every node. */
export function bridgeMac(network: Pick<OverlayNetwork, 'subnets'>): string {
  return endpointMac(network.subnets.map(({ gateway }) => gateway))
}

/** MAC of a local attachment that the engine did not choose. */
export function attachmentMac(attachment: Pick<LocalAttachment, 'addresses'>): string {
  return endpointMac(attachment.addresses)
}

const TABLE_BASE = 10_000
/** 253 to 255 are the kernel's tables: ours lie far from them. */
export function routingTable(nodeNumber: number): number {
  return TABLE_BASE + nodeNumber
}

/** Table of replies over WireGuard (vxge). */
export function encryptedRoutingTable(nodeNumber: number): number {
  return 2 * TABLE_BASE + nodeNumber
}

/** Marks of connections (and their replies) that came in over a peer's tunnel: node number, and through which of the two. */
export const MARK_MASK = 0x3ffff
export function peerMark(nodeNumber: number): number {
  return 0x20000 | nodeNumber
}
export function encryptedPeerMark(nodeNumber: number): number {
  return 0x30000 | nodeNumber
}

/** Conntrack zone (16 bits) of the original direction of what a peer sends through vxg, and through vxge. */
export function peerZone(nodeNumber: number): number {
  return nodeNumber
}
export function encryptedPeerZone(nodeNumber: number): number {
  return 0x2000 | nodeNumber
}

/** A node's part of the gateway network. */
export interface GatewayBlock {
  /** CIDR of the block */
  readonly subnet: string
  /** Length of its prefix */
  readonly prefix: number
  /**
   * The second address of the block: on `brg` the gateway of this node's containers, on `vxg` the node's own end, which its
   * masqueraded traffic to other nodes comes from.
   */
  readonly address: string
  /** MAC of `brg` and `vxg`: who the others know the node by. */
  readonly mac: string
  readonly addressV6: string
  /** Next hop over WireGuard: `addressV6` lies behind `vxg`, and the kernel takes no next hop that another device leads to. */
  readonly encryptedHopV6: string
  readonly subnetV6: string
  /** Its containers' IPv6 prefix length */
  readonly prefixV6: number
}

/** Undefined where the network has no IPv4 subnet, or its subnet ends before the node's block. */
export function gatewayBlock(network: OverlayNetwork, nodeNumber: number): GatewayBlock | undefined {
  const subnet = network.subnets.map((one) => parseCidr(one.subnet)).find((one): one is Cidr => one?.family === 4)
  const block = subnet && blockOf(subnet, nodeNumber)
  if (!block) return undefined
  const address = formatAddress({ family: 4, value: block.base + 1n })
  const prefixV6 = 96 + block.prefix
  return {
    subnet: formatCidr(block),
    prefix: block.prefix,
    address,
    mac: endpointMac([address]),
    addressV6: gatewayIpv6(address),
    encryptedHopV6: embed(LINK_LOCAL_V6, parseAddress(address)?.value ?? 0n),
    subnetV6: `${embed(GATEWAY_V6, block.base)}/${prefixV6}`,
    prefixV6,
  }
}

/** Of the fabric's network namespace. */
export function namespacePath({ namespace }: Pick<FabricConfig, 'namespace'>): string {
  return `/run/netns/${namespace}`
}

/** The gateway network (ingress) of a state, if there is one. */
export function gatewayNetwork(networks: Iterable<OverlayNetwork>): OverlayNetwork | undefined {
  for (const network of networks) if (network.ingress) return network
  return undefined
}

/** IPv6 of an IPv4 address on the gateway network or in the egress pool: derived, never allocated. */
export function gatewayIpv6(ipv4: string): string {
  return embed(GATEWAY_V6, parseAddress(ipv4)?.value ?? 0n)
}

function embed(prefix: ReturnType<typeof parseAddress>, value: bigint): string {
  return formatAddress({ family: 6, value: (prefix?.value ?? 0n) + value })
}

/** A node's address on the WireGuard device: 100.97.hi.lo of its number. */
export function wireguardAddress(nodeNumber: number): string {
  return `100.97.${nodeNumber >> 8}.${nodeNumber & 0xff}`
}

/** `a` and `b`: during a rotation of keys there are two. */
export function wireguardDevice(config: Pick<FabricConfig, 'instance'>, which: 'a' | 'b'): string {
  return `swc-wg${config.instance}${which}`
}

/** Where packets for a peer go: its VTEP and its UDP port, in clear or over WireGuard. */
export function tunnelTarget(peer: Peer, encrypted: boolean): { readonly address: string; readonly port: number } {
  return encrypted
    ? { address: wireguardAddress(peer.number), port: encryptedPortOf(peer.port) }
    : { address: peer.address, port: peer.port }
}

// What WireGuard is to be on this node, and the steps there from what is. Pure: keys, peers and the age of handshakes in,
// devices, routes and changes out.

import { isIP } from 'node:net'
import type { Peer } from '../../api/data-plane.ts'
import { type FabricConfig, wireguardAddress } from '../kernel/fabric-config.ts'
import { type Announcement, parseAnnouncements } from './announcement.ts'
import { deviceOf, slotOf, WIREGUARD_OVERHEAD_BYTES, wireguardPort } from './layout.ts'

/** A key of this node's own. The private part is in the devices and the key file, nowhere else. */
export interface OwnKey {
  readonly generation: number
  readonly publicKey: string
  readonly privateKey: string
}

export interface TunnelPeer {
  /** `address:port`, as WireGuard reads it */
  readonly endpoint: string
  /** CIDR: what may come from it and goes to it */
  readonly allowedIp: string
  /** 0: none */
  readonly keepaliveSeconds: number
}

export interface TunnelDevice {
  readonly name: string
  readonly generation: number
  readonly privateKey: string
  readonly port: number
  readonly mtu: number
  /** by public key */
  readonly peers: ReadonlyMap<string, TunnelPeer>
}

export interface Tunnels {
  /** Own address inside: each device has it. */
  readonly address: string
  /** Newest key first. */
  readonly devices: readonly TunnelDevice[]
  /** Peer's address inside → device */
  readonly routes: ReadonlyMap<string, string>
  /** Nothing is left that needs another key than the newest. */
  readonly settled: boolean
}

export interface TunnelsInput {
  readonly config: Pick<FabricConfig, 'instance'>
  readonly self: { readonly nodeId: string; readonly number: number }
  readonly peers: Iterable<Peer>
  /** Newest first, at most two. */
  readonly keys: readonly OwnKey[]
  /** Seconds since the last handshake with a peer's public key; absent: none yet. */
  readonly handshakeAges: ReadonlyMap<string, number>
}

/** A session lives no longer than this without a new handshake (REJECT_AFTER_TIME): what is older carries nothing. */
const SESSION_SECONDS = 180
/** Makes the handshakes of a new key, and shows that they last, before traffic moves over. */
const ROTATION_KEEPALIVE_SECONDS = 5
const DEFAULT_MTU = 1500
/** IPv6 inside would need 1280; inside run only VXLANs over IPv4. */
const MTU_MIN = 576

export function planTunnels({ config, self, peers, keys, handshakeAges }: TunnelsInput): Tunnels {
  const others = [...peers].filter((peer) => peer.nodeId !== self.nodeId).sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1))
  const all = others.map((peer) => ({ peer, announced: parseAnnouncements(peer.encryptionKeys) }))
  const newest = keys[0]?.generation ?? 0
  const mtu = tunnelMtu(others)
  const routes = new Map<string, string>()
  let settled = true
  for (const { peer, announced } of all) {
    const common = announced.filter(({ generation }) => keys.some((key) => key.generation === generation))
    const chosen = choose(common, handshakeAges)
    if (chosen) routes.set(wireguardAddress(peer.number), deviceOf(config, chosen.generation))
    if (announced.length > 0 && chosen?.generation !== newest) settled = false
  }
  return {
    address: wireguardAddress(self.number),
    devices: keys.map((key) => ({
      name: deviceOf(config, key.generation),
      generation: key.generation,
      privateKey: key.privateKey,
      port: wireguardPort(config, slotOf(key.generation)),
      mtu,
      peers: peersOf(key, all, keys.length > 1),
    })),
    routes,
    settled,
  }
}

/** The newest that works; where none does, the newest. */
function choose(common: readonly Announcement[], ages: ReadonlyMap<string, number>): Announcement | undefined {
  const live = common.find(({ publicKey }) => (ages.get(publicKey) ?? SESSION_SECONDS) < SESSION_SECONDS)
  return live ?? common[0]
}

function peersOf(
  key: OwnKey,
  all: readonly { readonly peer: Peer; readonly announced: readonly Announcement[] }[],
  rotating: boolean,
): ReadonlyMap<string, TunnelPeer> {
  const peers = new Map<string, TunnelPeer>()
  for (const { peer, announced } of all) {
    const theirs = announced.find(({ generation }) => generation === key.generation)
    // A copied disk announces another node's (or this node's) key: the first keeps it.
    if (!theirs || theirs.publicKey === key.publicKey || peers.has(theirs.publicKey)) continue
    peers.set(theirs.publicKey, {
      endpoint: isIP(peer.address) === 6 ? `[${peer.address}]:${theirs.port}` : `${peer.address}:${theirs.port}`,
      allowedIp: `${wireguardAddress(peer.number)}/32`,
      keepaliveSeconds: rotating ? ROTATION_KEEPALIVE_SECONDS : 0,
    })
  }
  return peers
}

/** Of packets inside the tunnels. */
export function tunnelMtu(peers: readonly Pick<Peer, 'mtu'>[]): number {
  const known = peers.map(({ mtu }) => mtu).filter((mtu) => mtu > 0)
  const underlay = known.length > 0 ? Math.min(...known) : DEFAULT_MTU
  return Math.max(MTU_MIN, underlay - WIREGUARD_OVERHEAD_BYTES)
}

/** What a device says of itself. */
export interface ObservedDevice {
  /** base64; empty: none yet */
  readonly privateKey: string
  readonly port: number
  /** by public key */
  readonly peers: ReadonlyMap<string, ObservedPeer>
}

export interface ObservedPeer extends TunnelPeer {
  /** Wall time in seconds since 1970; 0: never */
  readonly handshakeAt: number
}

export type DeviceChange =
  | { readonly kind: 'identity'; readonly privateKey: string; readonly port: number }
  | { readonly kind: 'put-peer'; readonly publicKey: string; readonly peer: TunnelPeer }
  | { readonly kind: 'remove-peer'; readonly publicKey: string }

/**
 * In the order they are to be made: an address that moves from one key to another is free before it is taken.
 * `configured`: what was last asked for; WireGuard follows a peer whose address changed, which is no difference.
 */
export function deviceChanges(
  device: TunnelDevice,
  observed: ObservedDevice,
  configured: ReadonlyMap<string, TunnelPeer>,
): readonly DeviceChange[] {
  const changes: DeviceChange[] = []
  if (observed.privateKey !== device.privateKey || observed.port !== device.port)
    changes.push({ kind: 'identity', privateKey: device.privateKey, port: device.port })
  for (const publicKey of observed.peers.keys())
    if (!device.peers.has(publicKey)) changes.push({ kind: 'remove-peer', publicKey })
  for (const [publicKey, peer] of device.peers) {
    const seen = observed.peers.get(publicKey)
    const same =
      seen &&
      seen.allowedIp === peer.allowedIp &&
      seen.keepaliveSeconds === peer.keepaliveSeconds &&
      (configured.get(publicKey)?.endpoint ?? seen.endpoint) === peer.endpoint
    if (!same) changes.push({ kind: 'put-peer', publicKey, peer })
  }
  return changes
}

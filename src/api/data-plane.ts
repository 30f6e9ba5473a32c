// What a node's data plane is made from: small records that the leader derives from the store and sends as assignments. The
// worker hands them on to swarmd-net as they are. Addresses have no prefix length unless said. Types and pure functions only.

import { type IpAddress, parseAddress } from '../lib/cidr.ts'

/** A node as the far (or own) end of tunnels. Every node gets all of them: published ports are open everywhere. */
export interface Peer {
  readonly nodeId: string
  readonly hostname: string
  /** 1–4094; names the node's block of gateway addresses. */
  readonly number: number
  /** VTEP: where encapsulated packets for the node go. */
  readonly address: string
  /** UDP port of the node's plain VXLANs. */
  readonly port: number
  /** Smallest MTU of the node's links that carry tunnels; 0: not known. */
  readonly mtu: number
  /** WireGuard public keys as src/overlay/wireguard/announcement.ts writes them; empty: the node can't encrypt, for `encryptionProblem`. */
  readonly encryptionKeys: readonly string[]
  readonly encryptionProblem: string
  /** TCP port of the control plane, of a manager; absent: none, or an older manager's record. */
  readonly controlPort?: number
}

/** A cluster network as kernels need it. */
export interface OverlayNetwork {
  readonly id: string
  readonly name: string
  readonly vni: number
  readonly subnets: readonly {
    /** CIDR, host bits zero, either family */
    readonly subnet: string
    readonly gateway: string
  }[]
  readonly internal: boolean
  readonly encrypted: boolean
  readonly attachable: boolean
  /** The gateway network, of which each node has a block. */
  readonly ingress: boolean
  /** Given by the user; 0: derived from the peers. */
  readonly mtu: number
}

/** A task's (or attached container's) place on one network. Sent to every node that is on that network. */
export interface OverlayEndpoint {
  /** id of the task, or of the attachment */
  readonly taskId: string
  readonly networkId: string
  /** Peer.number of where it is */
  readonly nodeNumber: number
  readonly addresses: readonly string[]
  readonly serviceId: string
  readonly serviceName: string
  /** 0: a global service's */
  readonly slot: number
  /** Name of its container, as it resolves. */
  readonly name: string
  readonly hostname: string
  /** Aliases of this end point alone (an attached container's). */
  readonly aliases: readonly string[]
  /** Runs, is healthy and is not about to stop: it is in its service's virtual address, ports and names. */
  readonly serving: boolean
  /** Its node is down: what was connected to it by a virtual address or a published port is to be ended. Absent: it is not. */
  readonly lost?: boolean
  /** On the gateway network: its traffic between nodes must be encrypted, since the service is on such a network. */
  readonly encrypted: boolean
}

export interface PublishedPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly published: number
  readonly target: number
  /** A node with tasks of the service gives them all that enters at it. */
  readonly preferLocal: boolean
}

/** A port that is open on some addresses of nodes. */
export interface AddressedPort extends PublishedPort {
  /** Addresses, subnets and interfaces (publish-addresses.ts); not empty. */
  readonly addresses: readonly string[]
}

/** A service on one network. On the gateway network it has the ports that every node listens on. */
export interface OverlayService {
  readonly serviceId: string
  readonly networkId: string
  readonly name: string
  readonly aliases: readonly string[]
  /** Of either family; empty with `dnsrr`. */
  readonly virtualIps: readonly string[]
  readonly ports: readonly PublishedPort[]
  /** Apart, so that an older node, which knows nothing of addresses, has them open nowhere. Absent: none. */
  readonly portsAt?: readonly AddressedPort[]
  /** Connections of one client address go to one task while the set of tasks stays. */
  readonly affinity: boolean
}

export type DataPlaneRecord =
  | { readonly kind: 'peer'; readonly peer: Peer }
  | { readonly kind: 'overlay-network'; readonly network: OverlayNetwork }
  | { readonly kind: 'end-point'; readonly endpoint: OverlayEndpoint }
  | { readonly kind: 'overlay-service'; readonly service: OverlayService }

export type DataPlaneKind = DataPlaneRecord['kind']

export interface DataPlaneKey {
  readonly kind: DataPlaneKind
  /** peer: node id; overlay-network: id; end-point: taskId/networkId; overlay-service: serviceId/networkId */
  readonly id: string
}

export function dataPlaneKey(record: DataPlaneRecord): DataPlaneKey {
  switch (record.kind) {
    case 'peer':
      return { kind: 'peer', id: record.peer.nodeId }
    case 'overlay-network':
      return { kind: 'overlay-network', id: record.network.id }
    case 'end-point':
      return { kind: 'end-point', id: `${record.endpoint.taskId}/${record.endpoint.networkId}` }
    case 'overlay-service':
      return { kind: 'overlay-service', id: `${record.service.serviceId}/${record.service.networkId}` }
  }
}

/** What a worker tells of its node's data plane; written to Node.dataPath. */
export interface DataPathReport {
  /** UDP port of its plain VXLANs (another one than the cluster's where two nodes share a host). */
  readonly port: number
  readonly mtu: number
  readonly encryptionKeys: readonly string[]
  /** Why the node can't encrypt; empty: it can. */
  readonly encryptionProblem: string
  /** CIDRs of the host's routes, without those of the data plane itself. */
  readonly routes: readonly string[]
  /** What does not work here, for people: a published port that the host has in use and by whom, a missing kernel part. */
  readonly problems: readonly DataPathProblem[]
}

/** A published port is for addresses of which the node has none. */
export const ADDRESS_NOT_HERE = 'ADDRESS_NOT_HERE'

export interface DataPathProblem {
  /** PORT_IN_USE, ADDRESS_NOT_HERE, NETWORK_NAME_TAKEN, ENCRYPTION_UNAVAILABLE, DATA_PLANE_DOWN, … */
  readonly code: string
  readonly message: string
  /** `8080/tcp`, the network's id, or empty */
  readonly subject: string
}

/**
 * Of what an end point's MAC is made: 02:42 and its IPv4 address. One that has none: its IPv6 address, whose four words are folded
 * into one; those of one subnet differ in the last.
 */
export function endpointMac(addresses: readonly string[]): string {
  const parsed = addresses.flatMap((address) => parseAddress(address) ?? [])
  const address: IpAddress = parsed.find(({ family }) => family === 4) ?? parsed[0] ?? { family: 4, value: 0n }
  const words = [96n, 64n, 32n, 0n].map((shift) => (address.value >> shift) & 0xffffffffn)
  const value = words.reduce((sum, word) => sum ^ word, 0n)
  const bytes = [24n, 16n, 8n, 0n].map((shift) => ((value >> shift) & 0xffn).toString(16).padStart(2, '0'))
  return `02:42:${bytes.join(':')}`
}

// What this node's data plane is to be, as swarmd tells swarmd-net: records by key, changed by increments. Kept by swarmd-net
// on disk, so that it goes on from there without swarmd.

import {
  type DataPlaneKey,
  type DataPlaneRecord,
  dataPlaneKey,
  type OverlayEndpoint,
  type OverlayNetwork,
  type OverlayService,
  type Peer,
} from '../api/data-plane.ts'

/** This node. Absent (undefined in DesiredState) while it is in no cluster. */
export interface Self {
  readonly nodeId: string
  readonly number: number
  /** VTEP address of this node. */
  readonly address: string
  /** UDP port that the cluster's plain VXLANs use by default. */
  readonly dataPathPort: number
}

export interface DesiredChange {
  readonly self: Self | undefined
  /** Rises with each change that swarmd sends; what is applied is acknowledged by it. */
  readonly revision: number
  /** Nothing but `set` is to be there. */
  readonly complete: boolean
  readonly set: readonly DataPlaneRecord[]
  readonly removed: readonly DataPlaneKey[]
}

export interface DesiredState {
  readonly self: Self | undefined
  readonly revision: number
  /** by node id */
  readonly peers: ReadonlyMap<string, Peer>
  /** by id */
  readonly networks: ReadonlyMap<string, OverlayNetwork>
  /** by `taskId/networkId` */
  readonly endpoints: ReadonlyMap<string, OverlayEndpoint>
  /** by `serviceId/networkId` */
  readonly services: ReadonlyMap<string, OverlayService>
}

export interface HostModePort {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly published: number
  readonly target: number
  /** Addresses, subnets and interfaces (publish-addresses.ts); absent: every address. */
  readonly addresses?: readonly string[]
}

/** An end point of this node's engine, from the driver's Join to its Leave. */
export interface LocalAttachment {
  /** the engine's ids, 64 hexadecimal digits */
  readonly endpointId: string
  readonly engineNetworkId: string
  /** The cluster's network; EGRESS_NETWORK_ID: the node's own network for those that only go out. */
  readonly networkId: string
  readonly mac: string
  readonly addresses: readonly string[]
  /** The engine's key of the container's sandbox, known from Join: what a container's attachments have in common. */
  readonly sandbox?: string
  /** Ports of this node that lead to it alone (`mode=host`); of attachments to the gateway network. */
  readonly ports?: readonly HostModePort[]
  /** Name servers for what is no name of the cluster (DNS_DRIVER_OPTION); none: the host's. */
  readonly nameServers?: readonly string[]
}

export const EGRESS_NETWORK_ID = 'egress'

/** Driver option of an end point: the addresses of the container's own name servers (`--dns`), separated by commas. */
export const DNS_DRIVER_OPTION = 'io.swarmctl.dns'

export const EMPTY_STATE: DesiredState = {
  self: undefined,
  revision: 0,
  peers: new Map(),
  networks: new Map(),
  endpoints: new Map(),
  services: new Map(),
}

/** Mutable inside, so that one change in 10,000 records costs one. */
export class DesiredStore {
  #self: Self | undefined
  #revision = 0
  readonly #peers = new Map<string, Peer>()
  readonly #networks = new Map<string, OverlayNetwork>()
  readonly #endpoints = new Map<string, OverlayEndpoint>()
  readonly #services = new Map<string, OverlayService>()

  /** A live view: what it shows changes with `apply`. */
  get state(): DesiredState {
    return {
      self: this.#self,
      revision: this.#revision,
      peers: this.#peers,
      networks: this.#networks,
      endpoints: this.#endpoints,
      services: this.#services,
    }
  }

  /** Answers the keys whose records came, changed or went. */
  apply(change: DesiredChange): readonly DataPlaneKey[] {
    this.#self = change.self
    this.#revision = change.revision
    const named = new Map<string, DataPlaneKey>()
    for (const record of change.set) {
      const key = dataPlaneKey(record)
      named.set(`${key.kind}/${key.id}`, key)
    }
    const removed = change.complete
      ? this.records()
          .map(dataPlaneKey)
          .filter((key) => !named.has(`${key.kind}/${key.id}`))
      : change.removed
    for (const key of removed) this.#mapOf(key.kind).delete(key.id)
    for (const record of change.set) this.#put(record)
    return [...removed, ...named.values()]
  }

  records(): readonly DataPlaneRecord[] {
    return [
      ...[...this.#peers.values()].map((peer) => ({ kind: 'peer', peer }) as const),
      ...[...this.#networks.values()].map((network) => ({ kind: 'overlay-network', network }) as const),
      ...[...this.#endpoints.values()].map((endpoint) => ({ kind: 'end-point', endpoint }) as const),
      ...[...this.#services.values()].map((service) => ({ kind: 'overlay-service', service }) as const),
    ]
  }

  #put(record: DataPlaneRecord): void {
    const { id } = dataPlaneKey(record)
    switch (record.kind) {
      case 'peer':
        this.#peers.set(id, record.peer)
        break
      case 'overlay-network':
        this.#networks.set(id, record.network)
        break
      case 'end-point':
        this.#endpoints.set(id, record.endpoint)
        break
      case 'overlay-service':
        this.#services.set(id, record.service)
        break
    }
  }

  #mapOf(kind: DataPlaneKey['kind']): Map<string, unknown> {
    switch (kind) {
      case 'peer':
        return this.#peers
      case 'overlay-network':
        return this.#networks
      case 'end-point':
        return this.#endpoints
      case 'overlay-service':
        return this.#services
    }
  }
}

/**
 * Three nodes of a cluster, containers on two overlays, and a client that is no part of it: on a switch, all in namespaces. The
 * third node has no containers, and so was told of no overlay: it is an entry only.
 */
import type {
  DataPlaneKey,
  DataPlaneRecord,
  OverlayEndpoint,
  OverlayNetwork,
  OverlayService,
} from '../../../src/api/data-plane.ts'
import { gatewayBlock } from '../../../src/overlay/kernel/fabric-config.ts'
import { endpoint, ingress, overlayNetwork, Place, PlainNode } from './plain-fabric.ts'

export const front = overlayNetwork('front', 4097, 1)
export const back = overlayNetwork('back', 4098, 2)
/** Of the client, in the subnet of `front`. */
export const CLASHING_ADDRESS = '10.0.1.5'

export interface Container {
  readonly place: Place
  readonly taskId: string
  readonly network: OverlayNetwork
  /** on `network` */
  readonly addresses: readonly [v4: string, v6: string]
  /** on the gateway network */
  readonly gateway: string
  readonly node: PlainNode
}

export const networkRecord = (network: OverlayNetwork): DataPlaneRecord => ({ kind: 'overlay-network', network })
export const serviceRecord = (service: OverlayService): DataPlaneRecord => ({ kind: 'overlay-service', service })
export const endpointRecord = (one: OverlayEndpoint): DataPlaneRecord => ({ kind: 'end-point', endpoint: one })

/** What the nodes are told of a container: its place on its network and on the gateway network. */
export function placesOf(made: Container, serviceId: string, serving = true): readonly DataPlaneRecord[] {
  const common = { taskId: made.taskId, nodeNumber: made.node.number, serviceId, serving }
  return [
    endpointRecord(endpoint({ ...common, networkId: made.network.id, addresses: made.addresses })),
    endpointRecord(endpoint({ ...common, networkId: ingress.id, addresses: [made.gateway] })),
  ]
}

export class PlainWorld {
  readonly client: Place
  readonly nodes: readonly [PlainNode, PlainNode, PlainNode]
  readonly #prefix: string
  readonly #switch: Place
  readonly #places: Place[] = []
  #revision = 0

  constructor(prefix: string) {
    this.#prefix = prefix
    process.once('exit', () => this.close())
    this.#switch = this.place('sw')
    this.#switch.ip('link add br0 type bridge', 'link set br0 up')
    this.client = this.place('out')
    this.#plug(this.client, 'p0', '10.78.0.100/24', 'fd78::100/64', `${CLASHING_ADDRESS}/32`)
    const node = (number: number) => new PlainNode(prefix, number)
    this.nodes = [node(1), node(2), node(3)]
    for (const one of this.nodes) {
      this.#plug(one.host, `p${one.number}`, `${one.address}/24`, `${one.addressV6}/64`)
      one.host.ip(`route add ${CLASHING_ADDRESS} via 10.78.0.100`)
      one.wire([1, 2, 3], this.#hasOverlays(one) ? [front, back] : [])
    }
  }

  place(name: string): Place {
    const made = new Place(`${this.#prefix}${name}`)
    this.#places.push(made)
    return made
  }

  #plug(what: Place, name: string, ...addresses: readonly string[]): void {
    this.#switch.ip(
      `link add ${name} type veth peer name eth0 netns ${what.namespace}`,
      `link set ${name} master br0 up`,
    )
    what.exec('sysctl', '-qw', 'net.ipv6.conf.all.accept_dad=0', 'net.ipv6.conf.default.accept_dad=0')
    what.ip(
      ...addresses.map((address) => `addr add ${address} dev eth0${address.includes(':') ? ' nodad' : ''}`),
      'link set eth0 up',
    )
  }

  #hasOverlays({ number }: PlainNode): boolean {
    return number !== 3
  }

  /** On one overlay and the gateway network; `last`: of all its addresses. */
  container(taskId: string, node: PlainNode, network: OverlayNetwork, last: number): Container {
    const place = this.place(taskId)
    const octet = network === front ? 1 : 2
    const addresses = [`10.0.${octet}.${last}`, `fd00:${octet}::${last}`] as const
    const gateway = (gatewayBlock(ingress, node.number)?.address ?? '').replace(/\.\d+$/, `.${last}`)
    node.attach(place, network, addresses, 'eth0')
    node.attach(place, ingress, [gateway], 'eth1')
    for (const other of this.nodes) {
      if (other !== node && this.#hasOverlays(other)) other.know(network, addresses, node.number)
    }
    return { place, taskId, network, addresses, gateway, node }
  }

  /** Virtual addresses are to be found on their network. */
  announce(network: OverlayNetwork, addresses: readonly string[]): void {
    for (const node of this.nodes) if (this.#hasOverlays(node)) node.know(network, addresses, undefined)
  }

  /** All nodes' first state, loaded. */
  start(records: readonly DataPlaneRecord[]): void {
    const peers = this.nodes.map(peerRecord)
    for (const node of this.nodes) {
      this.#tell(node, true, [...peers, ...records], [])
      node.load()
    }
  }

  change(set: readonly DataPlaneRecord[], removed: readonly DataPlaneKey[] = []): void {
    this.#revision++
    for (const node of this.nodes) {
      node.run(node.rules.change(node.store.state, this.#tell(node, false, set, removed)))
    }
  }

  #tell(
    node: PlainNode,
    complete: boolean,
    set: readonly DataPlaneRecord[],
    removed: readonly DataPlaneKey[],
  ): readonly DataPlaneKey[] {
    const { number, address } = node
    const self = { nodeId: `node${number}`, number, address, dataPathPort: 4789 }
    const heard = set.filter((record) => this.#hasOverlays(node) || !isOfOverlay(record))
    return node.store.apply({ self, revision: this.#revision, complete, set: heard, removed })
  }

  /** Also done at the process's end. */
  close(): void {
    for (const node of this.nodes ?? []) node.close()
    for (const made of this.#places.splice(0)) made.close()
  }
}

function isOfOverlay(record: DataPlaneRecord): boolean {
  switch (record.kind) {
    case 'peer':
      return false
    case 'overlay-network':
      return !record.network.ingress
    case 'end-point':
      return record.endpoint.networkId !== ingress.id
    case 'overlay-service':
      return record.service.networkId !== ingress.id
  }
}

function peerRecord({ number, address }: PlainNode): DataPlaneRecord {
  return {
    kind: 'peer',
    peer: {
      nodeId: `node${number}`,
      hostname: '',
      number,
      address,
      port: 4789,
      mtu: 1500,
      encryptionKeys: [],
      encryptionProblem: '',
    },
  }
}

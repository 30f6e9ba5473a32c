// Records of the data plane for tests, with what a test does not care about filled in.

import {
  endpointMac,
  type OverlayEndpoint,
  type OverlayNetwork,
  type OverlayService,
  type Peer,
} from '../../../src/api/data-plane.ts'
import type { LocalAttachment } from '../../../src/overlay/desired-state.ts'

export const DATA_PATH_PORT = 4789

export function peer(number: number, address: string, over: Partial<Peer> = {}): Peer {
  return {
    nodeId: `node${number}`,
    hostname: `host${number}`,
    number,
    address,
    port: DATA_PATH_PORT,
    mtu: 1500,
    encryptionKeys: [],
    encryptionProblem: '',
    ...over,
  }
}

export function network(id: string, vni: number, over: Partial<OverlayNetwork> = {}): OverlayNetwork {
  return {
    id,
    name: id,
    vni,
    subnets: [{ subnet: '10.0.1.0/24', gateway: '10.0.1.1' }],
    internal: false,
    encrypted: false,
    attachable: false,
    ingress: false,
    mtu: 0,
    ...over,
  }
}

export const INGRESS = network('ingress', 4096, {
  ingress: true,
  subnets: [{ subnet: '100.64.0.0/11', gateway: '100.64.0.1' }],
})

export function endpoint(
  taskId: string,
  networkId: string,
  nodeNumber: number,
  addresses: readonly string[],
  over: Partial<OverlayEndpoint> = {},
): OverlayEndpoint {
  return {
    taskId,
    networkId,
    nodeNumber,
    addresses,
    serviceId: 'service',
    serviceName: 'web',
    slot: 1,
    name: taskId,
    hostname: taskId,
    aliases: [],
    serving: true,
    encrypted: false,
    ...over,
  }
}

/** The engine's side of an end point; its id from its address. */
export function localOf({ networkId, addresses }: Pick<OverlayEndpoint, 'networkId' | 'addresses'>): LocalAttachment {
  const mac = endpointMac(addresses)
  const endpointId = mac.replaceAll(':', '').slice(4).padStart(11, 'e').padEnd(64, '0')
  return { endpointId, engineNetworkId: 'e'.repeat(64), networkId, mac, addresses }
}

export function service(serviceId: string, networkId: string, over: Partial<OverlayService> = {}): OverlayService {
  return { serviceId, networkId, name: serviceId, aliases: [], virtualIps: [], ports: [], affinity: false, ...over }
}

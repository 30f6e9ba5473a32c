// What there is to try from a node, and from which network namespace each of it. Pure.

import { isIP } from 'node:net'
import type { OverlayEndpoint, Peer } from '../../api/data-plane.ts'
import type { ProbeRequest, ProbeResult } from '../../api/network-check.ts'
import type { DesiredState, LocalAttachment } from '../desired-state.ts'
import { gatewayBlock, gatewayNetwork } from '../kernel/fabric-config.ts'
import { overlayMtu, underlayMtu } from '../kernel/mtu.ts'

export interface ProbeTarget {
  readonly subject: Pick<ProbeResult, 'kind' | 'networkId' | 'to'>
  readonly host: string
  readonly port: number
  readonly count: number
  /** A packet of this size is tried, too; 0: none. */
  readonly mtu: number
}

export interface ProbeSpace {
  /** Path of a network namespace; empty: the host's */
  readonly namespace: string
  readonly targets: readonly ProbeTarget[]
}

export interface ProbePlanInput {
  readonly request: ProbeRequest
  readonly state: DesiredState
  readonly locals: readonly LocalAttachment[]
  /** Path of the fabric's network namespace. */
  readonly fabric: string
}

/** "discard": a container that listens there answers as well. */
const CLOSED_PORT = 9
const COUNT = 10
const HOST_COUNT = 2
const FAMILIES = [4, 6]

export function planProbes({ request, state, locals, fabric }: ProbePlanInput): readonly ProbeSpace[] {
  const { self } = state
  if (!self) return []
  const wanted = (id: string) => request.networkIds.length === 0 || request.networkIds.includes(id)
  const peers = [...state.peers.values()]
    .filter(({ nodeId, port }) => nodeId !== self.nodeId && port > 0)
    .sort((a, b) => a.number - b.number)
  const gateway = gatewayNetwork(state.networks.values())
  const spaces: ProbeSpace[] = [
    { namespace: '', targets: [...peers.map(hostTarget), ...managerTargets(request, self.nodeId)] },
  ]
  const mtuOf = (network: Parameters<typeof overlayMtu>[0]) => overlayMtu(network, underlayMtu(peers), self.address)
  if (gateway && wanted(gateway.id)) {
    const mtu = mtuOf(gateway)
    const targets = peers.flatMap((peer) => {
      const block = gatewayBlock(gateway, peer.number)
      return block ? [networkTarget(gateway.id, peer, block.address, mtu)] : []
    })
    spaces.push({ namespace: fabric, targets })
  }
  const byNetwork = endpointsByNetwork(state.endpoints.values())
  for (const network of [...state.networks.values()].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    const source = locals.find(({ networkId, sandbox }) => networkId === network.id && sandbox)
    if (network.ingress || !wanted(network.id) || !source?.sandbox) continue
    const endpoints = byNetwork.get(network.id) ?? []
    const targets = peers.flatMap((peer) => {
      const there = endpoints.filter(({ nodeNumber }) => nodeNumber === peer.number)
      const chosen = there.find(({ serving }) => serving) ?? there[0]
      return FAMILIES.flatMap((family) => {
        const address = chosen?.addresses.find((one) => isIP(one) === family)
        return address === undefined ? [] : [networkTarget(network.id, peer, address, mtuOf(network))]
      })
    })
    if (targets.length > 0) spaces.push({ namespace: source.sandbox, targets })
  }
  return spaces.filter(({ targets }) => targets.length > 0)
}

function endpointsByNetwork(endpoints: Iterable<OverlayEndpoint>): ReadonlyMap<string, readonly OverlayEndpoint[]> {
  const byNetwork = new Map<string, OverlayEndpoint[]>()
  for (const endpoint of endpoints) {
    const there = byNetwork.get(endpoint.networkId) ?? []
    there.push(endpoint)
    byNetwork.set(endpoint.networkId, there)
  }
  for (const there of byNetwork.values()) there.sort((a, b) => (a.taskId < b.taskId ? -1 : 1))
  return byNetwork
}

function networkTarget(networkId: string, peer: Peer, host: string, mtu: number): ProbeTarget {
  return { subject: { kind: 'network', networkId, to: peer.nodeId }, host, port: CLOSED_PORT, count: COUNT, mtu }
}

function hostTarget({ nodeId, address }: Peer): ProbeTarget {
  return {
    subject: { kind: 'host', networkId: '', to: nodeId },
    host: address,
    port: CLOSED_PORT,
    count: HOST_COUNT,
    mtu: 0,
  }
}

function managerTargets({ managers }: ProbeRequest, selfId: string): readonly ProbeTarget[] {
  return managers
    .filter(({ nodeId }) => nodeId !== selfId)
    .map(({ nodeId, address }) => {
      const colon = address.lastIndexOf(':')
      return {
        subject: { kind: 'control', networkId: '', to: nodeId },
        host: address.slice(0, colon).replace(/^\[|\]$/g, ''),
        port: Number(address.slice(colon + 1)),
        count: HOST_COUNT,
        mtu: 0,
      }
    })
}

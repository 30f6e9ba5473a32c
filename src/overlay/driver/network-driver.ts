// Docker's remote network driver (libnetwork's docs/remote.md): what the engine asks when networks and containers come and go. The
// engine keeps its calls until they are answered, and may repeat them or, after a crash, leave out the second half of a pair.

import { endpointMac } from '../../api/data-plane.ts'
import { parseAddress, parseCidr } from '../../lib/cidr.ts'
import { CodedError } from '../../lib/errors.ts'
import { type DesiredState, EGRESS_NETWORK_ID, type LocalAttachment } from '../desired-state.ts'
import {
  ENDPOINT_DNS_KEY,
  ENDPOINT_PORTS_KEY,
  ENDPOINT_SIBLINGS_KEY,
  NETWORK_ID_KEY,
  portsOf,
  siblingsOf,
  upstreamsOf,
} from '../driver-options.ts'
import { containerPort, EGRESS_GATEWAY, EGRESS_SUBNET, gatewayBlock, gatewayIpv6 } from '../kernel/fabric-config.ts'
import type { EngineState } from './engine-state.ts'

/** The part of swarmd-net that the drivers stand on. */
export interface DriverHost {
  readonly engine: EngineState
  readonly state: () => DesiredState
  /** Resolves when the kernel has the network. @throws {CodedError} NETWORK_UNKNOWN when that takes too long */
  readonly network: (networkId: string) => Promise<void>
  /** Makes the container's cable; its far end lies in the host's namespace, for the engine to take. */
  readonly attach: (local: LocalAttachment) => Promise<unknown>
  readonly detach: (endpointId: string) => Promise<void>
  /** Containers get IPv6 on their way out. */
  readonly ipv6: boolean
}

export type Answer = Readonly<Record<string, unknown>>
export type Method = (request: Answer, signal: AbortSignal) => Promise<Answer> | Answer

const GENERIC_OPTIONS = 'com.docker.network.generic'
const EGRESS_PREFIX_V6 = 96 + Number(EGRESS_SUBNET.split('/')[1])

export function networkDriverMethods(host: DriverHost): Readonly<Record<string, Method>> {
  const nothing = (): Answer => ({})
  const siblings = new Siblings()
  return {
    'NetworkDriver.GetCapabilities': () => ({ Scope: 'local', ConnectivityScope: 'local' }),
    'NetworkDriver.CreateNetwork': (request) => createNetwork(host, request),
    'NetworkDriver.DeleteNetwork': (request) => deleteNetwork(host, request),
    'NetworkDriver.CreateEndpoint': (request) => createEndpoint(host, request),
    'NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
    'NetworkDriver.DeleteEndpoint': (request) => deleteEndpoint(host, request),
    'NetworkDriver.Join': (request) => join(host, siblings, request),
    'NetworkDriver.Leave': (request) => leave(host, siblings, request),
    'NetworkDriver.DiscoverNew': nothing,
    'NetworkDriver.DiscoverDelete': nothing,
    'NetworkDriver.AllocateNetwork': nothing,
    'NetworkDriver.FreeNetwork': nothing,
    'NetworkDriver.ProgramExternalConnectivity': nothing,
    'NetworkDriver.RevokeExternalConnectivity': nothing,
  }
}

async function createNetwork(host: DriverHost, request: Answer): Promise<Answer> {
  const networkId = text(record(record(request.Options)[GENERIC_OPTIONS])[NETWORK_ID_KEY])
  if (!networkId) {
    throw new CodedError(
      'NOT_A_CLUSTER_NETWORK',
      'this driver is for the networks of the cluster: create them with "swarmctl network create" or "docker network create --driver overlay"',
    )
  }
  const id = idOf(request.NetworkID)
  const data = [...list(request.IPv4Data), ...list(request.IPv6Data)]
  const subnets = data.map((one) => text(record(one).Pool)).filter((pool) => parseCidr(pool) !== undefined)
  host.engine.networks.set(id, { id, networkId, subnets })
  await host.engine.save()
  return {}
}

async function deleteNetwork(host: DriverHost, request: Answer): Promise<Answer> {
  const id = idOf(request.NetworkID)
  for (const { local } of [...host.engine.endpoints.values()]) {
    if (local.engineNetworkId === id) await forget(host, local.endpointId)
  }
  host.engine.networks.delete(id)
  await host.engine.save()
  return {}
}

async function createEndpoint(host: DriverHost, request: Answer): Promise<Answer> {
  const { network, gateway } = networkOf(host, request)
  const endpointId = idOf(request.EndpointID)
  const given = record(request.Interface)
  const addresses = [given.Address, given.AddressIPv6]
    .map((address) => text(address).split('/')[0] ?? '')
    .filter((address) => parseAddress(address) !== undefined)
  if (addresses.length === 0) throw new CodedError('NO_ADDRESS', 'an end point must have an address')
  const wishedMac = text(given.MacAddress)
  const mac = wishedMac || endpointMac(addresses)
  // one that the engine forgot in a crash: the address is this one's now
  for (const { local } of [...host.engine.endpoints.values()]) {
    const stale = local.networkId === network.networkId && local.addresses[0] === addresses[0]
    if (stale && local.endpointId !== endpointId) await forget(host, local.endpointId)
  }
  const ports = gateway ? portsOf(record(request.Options)[ENDPOINT_PORTS_KEY]) : []
  const nameServers = upstreamsOf(record(request.Options)[ENDPOINT_DNS_KEY])
  const local: LocalAttachment = {
    endpointId,
    engineNetworkId: network.id,
    networkId: network.networkId,
    mac,
    addresses,
    ...(nameServers.length > 0 && { nameServers }),
    ...(ports.length > 0 && { ports }),
  }
  const siblings = siblingsOf(record(request.Options)[ENDPOINT_SIBLINGS_KEY])
  host.engine.endpoints.set(endpointId, { local, joined: false, ...(siblings > 1 && { siblings }) })
  await host.engine.save()
  const ipv6 = gateway && host.ipv6 && !given.AddressIPv6 ? { AddressIPv6: gateway.addressV6(addresses[0] ?? '') } : {}
  // what the engine has decided must not be said again
  return { Interface: { ...(!wishedMac && { MacAddress: mac }), ...ipv6 } }
}

async function deleteEndpoint(host: DriverHost, request: Answer): Promise<Answer> {
  await forget(host, idOf(request.EndpointID))
  await host.engine.save()
  return {}
}

/**
 * Links of a container whose last Join is still to come are made meanwhile: that one answers when all of them are there, and gives
 * the reason where one is not.
 */
class Siblings {
  /** By the container's sandbox: links under way, which never reject. */
  readonly #underWay = new Map<string, Promise<unknown>[]>()

  add(sandbox: string, link: Promise<unknown>): void {
    const outcome = link.then(
      () => undefined,
      (error: unknown) => error,
    )
    this.#underWay.set(sandbox, [...(this.#underWay.get(sandbox) ?? []), outcome])
  }

  /** @throws what the first of them was rejected with */
  async all(sandbox: string): Promise<void> {
    const outcomes = await Promise.all(this.#underWay.get(sandbox) ?? [])
    this.#underWay.delete(sandbox)
    for (const error of outcomes) if (error !== undefined) throw error
  }

  forget(sandbox: string): void {
    this.#underWay.delete(sandbox)
  }
}

async function join(host: DriverHost, siblings: Siblings, request: Answer): Promise<Answer> {
  const { network } = networkOf(host, request)
  const endpointId = idOf(request.EndpointID)
  const known = host.engine.endpoints.get(endpointId)
  if (!known) throw new CodedError('NO_END_POINT', `end point ${endpointId} is not known`)
  await host.network(network.networkId)
  const sandbox = text(request.SandboxKey)
  const local: LocalAttachment = { ...known.local, sandbox }
  host.engine.endpoints.set(endpointId, { ...known, local, joined: true })
  const link = host.attach(local)
  const isLast = joinedTo(host.engine, sandbox) >= (known.siblings ?? 1)
  if (isLast) await Promise.all([link, siblings.all(sandbox), host.engine.save()])
  else {
    siblings.add(sandbox, link)
    await host.engine.save()
  }
  const { gateway } = networkOf(host, request)
  return {
    InterfaceName: { SrcName: containerPort(endpointId), DstPrefix: 'eth' },
    ...(gateway
      ? { Gateway: gateway.address, ...(host.ipv6 && { GatewayIPv6: gatewayIpv6(gateway.address) }) }
      : { DisableGatewayService: true }),
  }
}

function joinedTo(engine: EngineState, sandbox: string): number {
  return [...engine.endpoints.values()].filter(({ local, joined }) => joined && local.sandbox === sandbox).length
}

async function leave(host: DriverHost, siblings: Siblings, request: Answer): Promise<Answer> {
  const endpointId = idOf(request.EndpointID)
  const known = host.engine.endpoints.get(endpointId)
  siblings.forget(known?.local.sandbox ?? '')
  if (known) host.engine.endpoints.set(endpointId, { ...known, joined: false })
  await Promise.all([host.detach(endpointId), host.engine.save()])
  return {}
}

async function forget(host: DriverHost, endpointId: string): Promise<void> {
  const known = host.engine.endpoints.get(endpointId)
  host.engine.endpoints.delete(endpointId)
  if (known?.joined) await host.detach(endpointId)
}

interface GatewayOf {
  readonly address: string
  /** The IPv6 address, with prefix length, of the container that has this IPv4 address. */
  readonly addressV6: (ipv4: string) => string
}

function networkOf(host: DriverHost, request: Answer) {
  const id = idOf(request.NetworkID)
  const network = host.engine.networks.get(id)
  if (!network) throw new CodedError('NO_NETWORK', `network ${id} is not known to this driver`)
  return { network, gateway: gatewayOf(host.state(), network.networkId) }
}

/** Undefined: containers have no default route by this network. */
function gatewayOf(state: DesiredState, networkId: string): GatewayOf | undefined {
  if (networkId === EGRESS_NETWORK_ID) {
    return { address: EGRESS_GATEWAY, addressV6: (ipv4) => `${gatewayIpv6(ipv4)}/${EGRESS_PREFIX_V6}` }
  }
  const network = state.networks.get(networkId)
  const block = network?.ingress && state.self ? gatewayBlock(network, state.self.number) : undefined
  return block && { address: block.address, addressV6: (ipv4) => `${gatewayIpv6(ipv4)}/${block.prefixV6}` }
}

const ENGINE_ID = /^[0-9a-f]{12,64}$/

/** Ids become names of links. */
function idOf(value: unknown): string {
  if (typeof value === 'string' && ENGINE_ID.test(value)) return value
  throw new CodedError('INVALID_REQUEST', 'an id must be hexadecimal')
}

export function record(value: unknown): Answer {
  return typeof value === 'object' && value !== null ? (value as Answer) : {}
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

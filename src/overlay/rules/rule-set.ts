// A node's nftables as a function of its desired state: the whole of it, and what a change of some records changes. Pure: it makes
// texts, the Fabric runs them. It remembers what it made, so that the work of a change is that of the services it concerns.

import type { DataPlaneKey, OverlayEndpoint, OverlayNetwork, OverlayService } from '../../api/data-plane.ts'
import { atOnce, type Steps } from '../../lib/slices.ts'
import type { DesiredState, LocalAttachment } from '../desired-state.ts'
import { type FabricConfig, gatewayIpv6, gatewayNetwork } from '../kernel/fabric-config.ts'
import { drainingFragment } from './draining.ts'
import { fabricTables } from './fabric-tables.ts'
import { additions, difference, EMPTY_FRAGMENT, elementFragment, type Fragment, type Scripts } from './fragment.ts'
import { hostPortsFragment } from './host-ports.ts'
import { hostTable } from './host-table.ts'
import { MemberNumbers } from './members.ts'
import { confinedFragment, networksFragment } from './network-rules.ts'
import { peersFragment, sealedFragment } from './peer-rules.ts'
import { portSecurityFragment } from './port-security.ts'
import { EVERY_PORT_HERE, type PortsHere, publishedUdpPort } from './published-ports.ts'
import { endpointAddresses, serviceFragment } from './service-rules.ts'
import type { FlowFlush } from './stale-flows.ts'

export interface RuleSetOptions {
  readonly config: FabricConfig
  /** TCP ports that containers may reach on no node. */
  readonly controlPorts: readonly number[]
  /** Until `setPortsHere`. */
  readonly portsHere?: PortsHere | undefined
}

/** Scripts for `nft -f`, and what conntrack is to forget once they have run. */
export interface RuleChange extends Scripts {
  readonly flows: readonly FlowFlush[]
}

export interface TaskAddresses {
  /** On the gateway network: conntrack knows who speaks with them. */
  readonly routed: readonly string[]
  /** On overlays: nothing tracks that. */
  readonly bridged: readonly string[]
}

type FragmentId = string

/** Keys of one kind by the key of what they belong to. */
class Index {
  readonly #members = new Map<string, Set<string>>()

  of(owner: string): ReadonlySet<string> {
    return this.#members.get(owner) ?? new Set()
  }

  add(owner: string, member: string): void {
    const members = this.#members.get(owner)
    if (members) members.add(member)
    else this.#members.set(owner, new Set([member]))
  }

  delete(owner: string, member: string): void {
    const members = this.#members.get(owner)
    members?.delete(member)
    if (members?.size === 0) this.#members.delete(owner)
  }

  clear(): void {
    this.#members.clear()
  }
}

/**
 * `full` first, and again whenever one of its scripts was refused or the kernel's tables are not what they should be; the other
 * methods give the way from what was made last. Nothing here breaks a connection.
 */
export class RuleSet {
  readonly #options: RuleSetOptions
  readonly #fragments = new Map<FragmentId, Fragment>()
  readonly #locals = new Map<string, LocalAttachment>()
  /** Addresses by task. */
  readonly #draining = new Map<string, readonly string[]>()
  readonly #numbers = new MemberNumbers()
  #here: PortsHere
  #engineBridges: readonly string[] = []
  /** As they were when they were last looked at: what a key that is gone stood for. */
  readonly #endpoints = new Map<string, OverlayEndpoint>()
  readonly #services = new Map<string, OverlayService>()
  readonly #endpointsOfService = new Index()
  /** Of tasks on this node. */
  readonly #endpointsOfTask = new Index()
  readonly #servicesOfNetwork = new Index()

  constructor(options: RuleSetOptions) {
    this.#options = options
    this.#here = options.portsHere ?? EVERY_PORT_HERE
  }

  /** Replaces every table, whatever is there: one transaction a namespace. */
  full(state: DesiredState, locals: Iterable<LocalAttachment>): RuleChange {
    return atOnce(this.fullSteps(state, locals))
  }

  /** As `full`. No other method may be called before its last step; records may change meanwhile, and their keys are told later. */
  *fullSteps(state: DesiredState, locals: Iterable<LocalAttachment>): Steps<RuleChange> {
    const { config } = this.#options
    this.#reset(locals)
    for (const [key, endpoint] of state.endpoints) this.#indexEndpoint(state, key, endpoint)
    for (const [key, service] of state.services) this.#indexService(key, service)
    const ids = new Set(['peers', 'networks', 'bridges'])
    for (const key of state.services.keys()) ids.add(serviceId(key))
    for (const key of state.endpoints.keys()) for (const id of this.#idsOfEndpoint(state, key)) ids.add(id)
    for (const key of this.#locals.keys()) ids.add(localId(key))
    for (const key of this.#draining.keys()) ids.add(drainId(key))
    for (const id of ids) {
      this.#put(id, this.#derive(state, id))
      yield
    }
    const fragments = [...this.#fragments.values()]
    const added = yield* additions(config, fragments)
    return {
      host: `${hostTable(config)}${added.host}`,
      fabric: `${fabricTables(config)}${added.fabric}`,
      flows: [
        {
          kind: 'others',
          addresses: [...targets(fragments)],
          known: this.#knownAddresses(state),
          virtualIps: [...state.services.values()].flatMap(({ virtualIps }) => virtualIps),
        },
      ],
    }
  }

  /** `keys`: of the records that came, changed or went. A change of `self` needs `full`. */
  change(state: DesiredState, keys: readonly DataPlaneKey[]): RuleChange {
    const ids = new Set<FragmentId>()
    const known = keys.flatMap(({ kind, id }) => (kind === 'end-point' ? (this.#endpoints.get(id) ?? []) : []))
    for (const key of keys) for (const id of this.#concerned(state, key)) ids.add(id)
    const gone = this.#goneAddresses(
      state,
      known.filter(({ lost }) => !lost),
    )
    const change = this.#update(state, ids)
    return gone.length === 0 ? change : { ...change, flows: [...change.flows, ...gone] }
  }

  attach(state: DesiredState, local: LocalAttachment): RuleChange {
    this.#locals.set(local.endpointId, local)
    return this.#update(state, [localId(local.endpointId)])
  }

  detach(state: DesiredState, endpointId: string): RuleChange {
    this.#locals.delete(endpointId)
    return this.#update(state, [localId(endpointId)])
  }

  /** Which published ports this node serves, and on which of its addresses. */
  setPortsHere(state: DesiredState, here: PortsHere): RuleChange {
    this.#here = here
    const locals = [...this.#locals.values()].filter(({ ports }) => ports !== undefined)
    return this.#update(state, [
      ...[...this.#services.keys()].map(serviceId),
      ...locals.map(({ endpointId }) => localId(endpointId)),
    ])
  }

  /** Bridges of the host that containers of cluster networks reach by published ports only; `docker0` is one anyway. */
  setEngineBridges(state: DesiredState, names: readonly string[]): RuleChange {
    this.#engineBridges = names
    return this.#update(state, ['bridges'])
  }

  /** Counts the packets of connections to the task's addresses on the gateway network, until `undrain`. */
  drain(state: DesiredState, taskId: string): RuleChange {
    this.#draining.set(taskId, this.addressesOf(state, taskId).routed)
    return this.#update(state, [drainId(taskId)])
  }

  undrain(state: DesiredState, taskId: string): RuleChange {
    this.#draining.delete(taskId)
    return this.#update(state, [drainId(taskId)])
  }

  /** All addresses under which a task of this node is reached. */
  addressesOf(state: DesiredState, taskId: string): TaskAddresses {
    const addresses = (ingress: boolean) =>
      [...this.#endpointsOfTask.of(taskId)].flatMap((key) => {
        const endpoint = this.#endpoints.get(key)
        const network = endpoint && state.networks.get(endpoint.networkId)
        return endpoint && network?.ingress === ingress ? addressesIn(endpoint, network) : []
      })
    return { routed: addresses(true), bridged: addresses(false) }
  }

  /** How many elements each set of the host's table has. */
  hostElements(): ReadonlyMap<string, number> {
    const keys = new Map<string, Set<string>>()
    for (const { elements } of this.#fragments.values()) {
      for (const { table, set, key } of elements) {
        if (table !== 'host') continue
        const known = keys.get(set)
        if (known) known.add(key)
        else keys.set(set, new Set([key]))
      }
    }
    return new Map([...keys].map(([set, { size }]) => [set, size]))
  }

  #reset(locals: Iterable<LocalAttachment>): void {
    this.#numbers.reset()
    this.#fragments.clear()
    this.#endpoints.clear()
    this.#services.clear()
    this.#locals.clear()
    for (const index of [this.#endpointsOfService, this.#endpointsOfTask, this.#servicesOfNetwork]) index.clear()
    for (const local of locals) this.#locals.set(local.endpointId, local)
  }

  /** Of end points whose records have gone, or whose nodes are down. */
  #goneAddresses({ networks }: DesiredState, before: readonly OverlayEndpoint[]): readonly FlowFlush[] {
    const gone = before.filter((endpoint) => {
      const now = this.#endpoints.get(endpointKey(endpoint))
      return !now || now.lost === true
    })
    return gone.flatMap((endpoint) =>
      addressesIn(endpoint, networks.get(endpoint.networkId) ?? { ingress: false }).map(
        (address): FlowFlush => ({ kind: 'gone', address }),
      ),
    )
  }

  /** Of all who may have connections. */
  #knownAddresses({ networks }: DesiredState): readonly string[] {
    const known = [...this.#endpoints.values()].flatMap((endpoint) => {
      const network = networks.get(endpoint.networkId)
      return network && !endpoint.lost ? addressesIn(endpoint, network) : []
    })
    const locals = [...this.#locals.values()].flatMap(({ addresses }) =>
      addresses.flatMap((address) => (address.includes(':') ? [address] : [address, gatewayIpv6(address)])),
    )
    return [...known, ...locals]
  }

  #put(id: FragmentId, fragment: Fragment): void {
    if (fragment.chains.size === 0 && fragment.elements.length === 0) this.#fragments.delete(id)
    else this.#fragments.set(id, fragment)
  }

  #update(state: DesiredState, ids: Iterable<FragmentId>): RuleChange {
    if (!this.#numbers.enough) return this.full(state, [...this.#locals.values()])
    const concerned = [...ids]
    const before = concerned.map((id) => this.#fragments.get(id) ?? EMPTY_FRAGMENT)
    const after = concerned.map((id) => this.#derive(state, id))
    concerned.forEach((id, at) => {
      this.#put(id, after[at] ?? EMPTY_FRAGMENT)
    })
    return { ...difference(this.#options.config, before, after), flows: staleFlows(before, after) }
  }

  /** Notes the record as it is now, and says whose rules it is part of, before or after. */
  #concerned(state: DesiredState, key: DataPlaneKey): readonly FragmentId[] {
    switch (key.kind) {
      case 'peer':
        return ['peers']
      case 'overlay-network':
        return [
          'peers',
          'networks',
          ...[...this.#servicesOfNetwork.of(key.id)].map(serviceId),
          ...[...this.#endpoints].flatMap(([id, { networkId }]) =>
            networkId === key.id ? this.#idsOfEndpoint(state, id) : [],
          ),
          ...[...this.#locals.values()]
            .filter(({ networkId }) => networkId === key.id)
            .map((local) => localId(local.endpointId)),
        ]
      case 'end-point': {
        const before = this.#idsOfEndpoint(state, key.id)
        this.#indexEndpoint(state, key.id, state.endpoints.get(key.id))
        return [...before, ...this.#idsOfEndpoint(state, key.id)]
      }
      case 'overlay-service':
        this.#indexService(key.id, state.services.get(key.id))
        return [serviceId(key.id)]
    }
  }

  /** Fragments that an end point has a part in. */
  #idsOfEndpoint({ self }: DesiredState, key: string): readonly FragmentId[] {
    const endpoint = this.#endpoints.get(key)
    if (!endpoint) return []
    const ids = [serviceId(serviceKey(endpoint))]
    if (endpoint.encrypted) ids.push(`sealed ${key}`)
    if (endpoint.nodeNumber === self?.number) ids.push(`confined ${endpoint.taskId}`)
    return ids
  }

  #indexEndpoint({ self }: DesiredState, key: string, endpoint: OverlayEndpoint | undefined): void {
    const old = this.#endpoints.get(key)
    if (old) {
      this.#endpointsOfService.delete(serviceKey(old), key)
      this.#endpointsOfTask.delete(old.taskId, key)
      this.#endpoints.delete(key)
    }
    if (!endpoint) return
    this.#endpoints.set(key, endpoint)
    this.#endpointsOfService.add(serviceKey(endpoint), key)
    if (endpoint.nodeNumber === self?.number) this.#endpointsOfTask.add(endpoint.taskId, key)
  }

  #indexService(key: string, service: OverlayService | undefined): void {
    const old = this.#services.get(key)
    if (old) this.#servicesOfNetwork.delete(old.networkId, key)
    this.#services.delete(key)
    if (!service) return
    this.#services.set(key, service)
    this.#servicesOfNetwork.add(service.networkId, key)
  }

  #derive(state: DesiredState, id: FragmentId): Fragment {
    const space = id.indexOf(' ')
    const key = id.slice(space + 1)
    switch (space < 0 ? id : id.slice(0, space)) {
      case 'peers':
        return peersFragment({
          config: this.#options.config,
          self: state.self,
          peers: state.peers.values(),
          gateway: gatewayNetwork(state.networks.values()),
          controlPorts: this.#options.controlPorts,
        })
      case 'networks':
        return networksFragment(state.networks.values())
      case 'bridges':
        return elementFragment(
          this.#engineBridges.map((name) => ({ table: 'host', set: 'engine_bridges', key: `"${name}"`, value: '' })),
        )
      case 'service':
        return this.#deriveService(state, key)
      case 'sealed': {
        const endpoint = this.#endpoints.get(key)
        const network = endpoint && state.networks.get(endpoint.networkId)
        return endpoint?.encrypted && network?.ingress ? sealedFragment(endpoint, network) : EMPTY_FRAGMENT
      }
      case 'confined':
        return this.#deriveConfined(state, key)
      case 'local': {
        const local = this.#locals.get(key)
        if (!local) return EMPTY_FRAGMENT
        const secured = portSecurityFragment(local, state.networks.get(local.networkId))
        if (!local.ports) return secured
        const { chains, elements } = hostPortsFragment(local, this.#here)
        return { ...secured, chains, elements: [...secured.elements, ...elements] }
      }
      case 'drain':
        return drainingFragment(this.#draining.get(key) ?? [])
      default:
        return EMPTY_FRAGMENT
    }
  }

  #deriveService(state: DesiredState, key: string): Fragment {
    const service = this.#services.get(key)
    const network = service && state.networks.get(service.networkId)
    if (!service || !network) return EMPTY_FRAGMENT
    const endpoints = [...this.#endpointsOfService.of(key)].flatMap((id) => this.#endpoints.get(id) ?? [])
    return serviceFragment({
      service,
      network,
      endpoints,
      selfNumber: state.self?.number ?? 0,
      here: this.#here,
      numbers: this.#numbers,
      before: this.#fragments.get(serviceId(key)) ?? EMPTY_FRAGMENT,
    })
  }

  #deriveConfined(state: DesiredState, taskId: string): Fragment {
    const endpoints = [...this.#endpointsOfTask.of(taskId)].flatMap((key) => this.#endpoints.get(key) ?? [])
    const placed = endpoints.flatMap((endpoint) => {
      const network = state.networks.get(endpoint.networkId)
      return network ? [{ endpoint, network }] : []
    })
    const others = placed.filter(({ network }) => !network.ingress)
    if (others.length === 0 || others.some(({ network }) => !network.internal)) return EMPTY_FRAGMENT
    const gateways = placed.filter(({ network }) => network.ingress)
    return confinedFragment(gateways.flatMap(({ endpoint, network }) => addressesIn(endpoint, network)))
  }
}

const endpointKey = ({ taskId, networkId }: OverlayEndpoint): string => `${taskId}/${networkId}`
const serviceKey = ({ serviceId, networkId }: OverlayEndpoint): string => `${serviceId}/${networkId}`
const serviceId = (key: string): FragmentId => `service ${key}`
const localId = (endpointId: string): FragmentId => `local ${endpointId}`
const drainId = (taskId: string): FragmentId => `drain ${taskId}`

/** UDP flows to end points that are no service's any more, or to host ports that lead elsewhere now. */
function staleFlows(before: readonly Fragment[], after: readonly Fragment[]): readonly FlowFlush[] {
  const now = targets(after)
  const gone = [...targets(before)].filter((address) => !now.has(address))
  const [oldPorts, newPorts] = [udpPorts(before), udpPorts(after)]
  const changed = [...oldPorts, ...newPorts].filter(([key]) => oldPorts.has(key) !== newPorts.has(key))
  return [
    ...gone.map((address): FlowFlush => ({ kind: 'back-end', address })),
    ...[...new Set(changed.map(([, port]) => port))].map((port): FlowFlush => ({ kind: 'port', port })),
  ]
}

/** Addresses that the fragments balance to. */
function targets(fragments: readonly Fragment[]): ReadonlySet<string> {
  return new Set(fragments.flatMap(({ members }) => [...members.values()].flatMap(({ addresses }) => addresses)))
}

/** By the key of their element. */
function udpPorts(fragments: readonly Fragment[]): ReadonlyMap<string, number> {
  return new Map(
    fragments.flatMap(({ elements }) =>
      elements.flatMap((element) => {
        const port = publishedUdpPort(element)
        return port === undefined ? [] : [[element.key, port] as const]
      }),
    ),
  )
}

function addressesIn(endpoint: OverlayEndpoint, network: Pick<OverlayNetwork, 'ingress'>): readonly string[] {
  return ([4, 6] as const).flatMap((family) => endpointAddresses(endpoint, network, family))
}

// Which name means which addresses, network by network: pure, and kept by the records that change, so that one change costs what
// it concerns. What it answers stands in docs/overlay.md.

import type { DataPlaneKey, OverlayEndpoint, OverlayNetwork, OverlayService } from '../../api/data-plane.ts'
import { type Cidr, containsAddress, formatAddress, parseAddress, parseCidr } from '../../lib/cidr.ts'
import type { DesiredState } from '../desired-state.ts'
import { encodeRecord, nameKey, TYPE } from './message.ts'

/** Addresses of tasks are not to be kept at all: a task that drains must get no new connection. */
const TASK_TTL_SECONDS = 0
/** A virtual address stays as long as its service does. */
const VIRTUAL_TTL_SECONDS = 1

export interface NamedAddress {
  readonly text: string
  readonly type: typeof TYPE.A | typeof TYPE.AAAA
  /** As an answer has it; made once, as answers are made far more often. */
  readonly record: Buffer
}

export type Found =
  /** No name of the asker's networks: others may know it. */
  | { readonly kind: 'unknown' }
  /** Of a service or network of ours, and not there: nobody else is asked. */
  | { readonly kind: 'nonexistent' }
  /** Ours; empty while nothing that bears the name serves. */
  | { readonly kind: 'addresses'; readonly addresses: readonly NamedAddress[] }

interface EndpointNode {
  readonly record: OverlayEndpoint
  readonly names: readonly string[]
  readonly addresses: readonly NamedAddress[]
}

interface ServiceNode {
  record: OverlayService | undefined
  names: readonly string[]
  virtual: readonly NamedAddress[]
  /** by task id */
  readonly tasks: Map<string, EndpointNode>
}

interface Zone {
  network: OverlayNetwork | undefined
  subnets: readonly Cidr[]
  /** `.front`, as questions spell it */
  suffix: string
  /** by service id */
  readonly serviceNodes: Map<string, ServiceNode>
  /** by name and alias */
  readonly services: Map<string, Set<ServiceNode>>
  /** by container's name, host name and alias */
  readonly hosts: Map<string, Set<EndpointNode>>
  /** by address, as formatAddress writes it: who has it */
  readonly owners: Map<string, Set<ServiceNode | EndpointNode>>
}

const UNKNOWN: Found = { kind: 'unknown' }
const NONEXISTENT: Found = { kind: 'nonexistent' }
const TASKS = 'tasks.'
const SLOT = /^([1-9]\d{0,8})\.(.+)$/

export class NameTable {
  readonly #zones = new Map<string, Zone>()
  /** by `taskId/networkId` */
  readonly #endpoints = new Map<string, EndpointNode>()
  #version = 0

  /** Another one after each change: what was found before may no longer be true. */
  get version(): number {
    return this.#version
  }

  /** @param changed the keys of the records that came, changed or went; undefined: any may have */
  update(state: DesiredState, changed: readonly DataPlaneKey[] | undefined): void {
    this.#version++
    if (!changed) {
      this.#zones.clear()
      this.#endpoints.clear()
      for (const id of state.networks.keys()) this.#network(id, state.networks.get(id))
      for (const [id, record] of state.services) this.#service(id, record)
      for (const [id, record] of state.endpoints) this.#endpoint(id, record)
      return
    }
    for (const { kind, id } of changed) {
      if (kind === 'overlay-network') this.#network(id, state.networks.get(id))
      else if (kind === 'overlay-service') this.#service(id, state.services.get(id))
      else if (kind === 'end-point') this.#endpoint(id, state.endpoints.get(id))
    }
  }

  /**
   * @param networkIds of the asker, in the order in which they are looked at: the first one that knows the name answers
   * @param name as in Query: lower case
   */
  find(networkIds: readonly string[], name: string): Found {
    const zones = networkIds.flatMap((id) => this.#zones.get(id) ?? [])
    let best: Found = UNKNOWN
    for (const zone of zones) {
      best = better(best, findIn(zone, name))
      if (best.kind === 'addresses' && best.addresses.length > 0) return best
    }
    if (best.kind !== 'unknown') return best
    for (const zone of zones) {
      if (zone.suffix !== '' && name.endsWith(zone.suffix)) {
        best = better(best, findIn(zone, name.slice(0, -zone.suffix.length)))
      }
    }
    return best
  }

  /** Names `task.network` of who has `address`; undefined where no network of the asker contains it. */
  findNames(networkIds: readonly string[], address: string): readonly string[] | undefined {
    const parsed = parseAddress(address)
    if (!parsed) return undefined
    const key = formatAddress(parsed)
    let inside = false
    for (const id of networkIds) {
      const zone = this.#zones.get(id)
      if (!zone?.network) continue
      inside ||= zone.subnets.some((subnet) => containsAddress(subnet, parsed))
      const owners = [...(zone.owners.get(key) ?? [])]
      // An address that was given anew may still be with one who stops.
      const live = owners.filter((owner) => 'tasks' in owner || owner.record.serving)
      const suffix = `.${zone.network.name}`
      const names = (live.length > 0 ? live : owners).flatMap(({ record }) =>
        record ? [`${record.name}${suffix}`] : [],
      )
      if (names.length > 0) return names
    }
    return inside ? [] : undefined
  }

  /**
   * Where to ask a name server of this address: itself, or the tasks behind it if it is a service's; undefined if it lies in no
   * network of the asker.
   */
  findServers(networkIds: readonly string[], address: string): readonly string[] | undefined {
    const parsed = parseAddress(address)
    const zone = networkIds
      .map((id) => this.#zones.get(id))
      .find((each) => parsed && each?.subnets.some((subnet) => containsAddress(subnet, parsed)))
    if (!parsed || !zone) return undefined
    const services = [...(zone.owners.get(formatAddress(parsed)) ?? [])].filter((owner) => 'tasks' in owner)
    if (services.length === 0) return [address]
    const tasks = serving(services.flatMap((service) => [...service.tasks.values()])).addresses
    return tasks.filter(({ type }) => (type === TYPE.A) === (parsed.family === 4)).map(({ text }) => text)
  }

  #network(id: string, record: OverlayNetwork | undefined): void {
    const zone = this.#zone(id)
    zone.network = record
    zone.suffix = record ? `.${nameKey(record.name)}` : ''
    zone.subnets = (record?.subnets ?? []).flatMap(({ subnet }) => parseCidr(subnet) ?? [])
    this.#tidyZone(id, zone)
  }

  #service(key: string, record: OverlayService | undefined): void {
    const { ownerId, networkId } = splitKey(key)
    const zone = this.#zone(networkId)
    const node = serviceNode(zone, ownerId)
    for (const name of node.names) drop(zone.services, name, node)
    for (const { text } of node.virtual) drop(zone.owners, text, node)
    node.record = record
    node.names = record ? distinct([record.name, ...record.aliases]) : []
    node.virtual = named(record?.virtualIps ?? [], VIRTUAL_TTL_SECONDS)
    for (const name of node.names) add(zone.services, name, node)
    for (const { text } of node.virtual) add(zone.owners, text, node)
    tidyService(zone, ownerId, node)
    this.#tidyZone(networkId, zone)
  }

  #endpoint(key: string, record: OverlayEndpoint | undefined): void {
    const { ownerId, networkId } = splitKey(key)
    const zone = this.#zone(networkId)
    const old = this.#endpoints.get(key)
    if (old) {
      for (const name of old.names) drop(zone.hosts, name, old)
      for (const { text } of old.addresses) drop(zone.owners, text, old)
      if (old.record.serviceId !== '' && old.record.serviceId !== record?.serviceId) {
        const service = serviceNode(zone, old.record.serviceId)
        service.tasks.delete(ownerId)
        tidyService(zone, old.record.serviceId, service)
      }
    }
    if (record) {
      const names = distinct([record.name, record.hostname, ...record.aliases])
      const node: EndpointNode = { record, names, addresses: named(record.addresses, TASK_TTL_SECONDS) }
      this.#endpoints.set(key, node)
      for (const name of names) add(zone.hosts, name, node)
      for (const { text } of node.addresses) add(zone.owners, text, node)
      if (record.serviceId !== '') serviceNode(zone, record.serviceId).tasks.set(ownerId, node)
    } else {
      this.#endpoints.delete(key)
      this.#tidyZone(networkId, zone)
    }
  }

  #zone(id: string): Zone {
    const known = this.#zones.get(id)
    if (known) return known
    const zone: Zone = {
      network: undefined,
      subnets: [],
      suffix: '',
      serviceNodes: new Map(),
      services: new Map(),
      hosts: new Map(),
      owners: new Map(),
    }
    this.#zones.set(id, zone)
    return zone
  }

  #tidyZone(id: string, zone: Zone): void {
    if (!zone.network && zone.serviceNodes.size === 0 && zone.hosts.size === 0 && zone.owners.size === 0) {
      this.#zones.delete(id)
    }
  }
}

function findIn(zone: Zone, name: string): Found {
  const services = zone.services.get(name)
  if (services) {
    const virtual = [...services].flatMap((service) => service.virtual)
    if (virtual.length === 0) return serving([...services].flatMap(({ tasks }) => [...tasks.values()]))
    // Of several services under one alias each counts once, whatever its mode.
    const direct = [...services].filter((service) => service.virtual.length === 0)
    const others = serving(direct.flatMap(({ tasks }) => [...tasks.values()])).addresses
    return { kind: 'addresses', addresses: [...virtual, ...others] }
  }
  const all = name.startsWith(TASKS) ? zone.services.get(name.slice(TASKS.length)) : undefined
  if (all) return serving([...all].flatMap(({ tasks }) => [...tasks.values()]))
  const match = SLOT.exec(name)
  const slotted = match ? zone.services.get(match[2]!) : undefined
  const slot = Number(match?.[1])
  const inSlot = slotted
    ? [...slotted].flatMap(({ tasks }) => [...tasks.values()]).filter((n) => n.record.slot === slot)
    : []
  if (inSlot.length > 0) return serving(inSlot)
  const hosts = zone.hosts.get(name)
  if (hosts) return serving([...hosts])
  return slotted ? NONEXISTENT : UNKNOWN
}

function serving(nodes: readonly EndpointNode[]): Extract<Found, { kind: 'addresses' }> {
  const addresses = nodes.flatMap((node) => (node.record.serving ? node.addresses : []))
  return { kind: 'addresses', addresses }
}

const RANK: Readonly<Record<Found['kind'], number>> = { unknown: 0, nonexistent: 1, addresses: 2 }

/** `next` only where it says more. */
function better(best: Found, next: Found): Found {
  const fuller = next.kind === 'addresses' && best.kind === 'addresses' && best.addresses.length === 0
  return fuller || RANK[next.kind] > RANK[best.kind] ? next : best
}

function splitKey(key: string): { readonly ownerId: string; readonly networkId: string } {
  const slash = key.indexOf('/')
  return { ownerId: key.slice(0, slash), networkId: key.slice(slash + 1) }
}

function serviceNode(zone: Zone, id: string): ServiceNode {
  const known = zone.serviceNodes.get(id)
  if (known) return known
  const node: ServiceNode = { record: undefined, names: [], virtual: [], tasks: new Map() }
  zone.serviceNodes.set(id, node)
  return node
}

function tidyService(zone: Zone, id: string, node: ServiceNode): void {
  if (!node.record && node.tasks.size === 0) zone.serviceNodes.delete(id)
}

function distinct(names: readonly string[]): readonly string[] {
  return [...new Set(names.filter((name) => name !== '').map(nameKey))]
}

function named(addresses: readonly string[], ttlSeconds: number): readonly NamedAddress[] {
  return addresses.flatMap((text) => {
    const parsed = parseAddress(text)
    if (!parsed) return []
    const bytes = new Uint8Array(parsed.family === 4 ? 4 : 16)
    let rest = parsed.value
    for (let at = bytes.length - 1; at >= 0; at--) {
      bytes[at] = Number(rest & 0xffn)
      rest >>= 8n
    }
    const type = parsed.family === 4 ? TYPE.A : TYPE.AAAA
    return [{ text: formatAddress(parsed), type, record: encodeRecord(type, ttlSeconds, bytes) }]
  })
}

function add<T>(index: Map<string, Set<T>>, key: string, value: T): void {
  const known = index.get(key)
  if (known) known.add(value)
  else index.set(key, new Set([value]))
}

function drop<T>(index: Map<string, Set<T>>, key: string, value: T): void {
  const known = index.get(key)
  known?.delete(value)
  if (known?.size === 0) index.delete(key)
}

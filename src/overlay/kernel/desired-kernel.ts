// What is to be in the kernel, kept up to date record by record: a change of one record of 10,000 costs what that record's entries
// cost. What other records depend on (a network, a node's address, the smallest MTU) is followed to those.

import type { DataPlaneKey, OverlayNetwork, Peer } from '../../api/data-plane.ts'
import { atOnce, type Steps } from '../../lib/slices.ts'
import { type DesiredState, EMPTY_STATE, type LocalAttachment } from '../desired-state.ts'
import {
  deriveBase,
  deriveEndpoint,
  deriveLocal,
  deriveNetwork,
  derivePeer,
  deriveService,
  type Surroundings,
} from './derive.ts'
import { type EntryMap, entryKey, isIpv6, type KernelEntry, sameEntry } from './entry.ts'
import { type FabricConfig, gatewayBlock, gatewayNetwork } from './fabric-config.ts'
import { underlayMtu } from './mtu.ts'

/** Of the keys that changed: what stood there before, and what is to stand there now. */
export interface KernelChange {
  readonly before: EntryMap
  readonly after: EntryMap
}

interface Claim {
  readonly subject: string
  readonly entry: KernelEntry
}

const BASE = 'base'

export class DesiredKernel {
  readonly #config: FabricConfig
  readonly #ipv6: boolean
  readonly #entries = new Map<string, KernelEntry>()
  /** Who asks for a key; of several (an address that changes hands) the one that came last is heard, the others wait. */
  readonly #owners = new Map<string, string>()
  readonly #waiting = new Map<string, readonly Claim[]>()
  readonly #keysOf = new Map<string, readonly string[]>()
  readonly #endpointsOf = new Map<string, Set<string>>()
  readonly #numbers = new Map<string, number>()
  readonly #places = new Map<string, readonly string[]>()
  readonly #locals = new Map<string, LocalAttachment>()
  #state: DesiredState = EMPTY_STATE
  #around: Surroundings
  #encryptedEndpoints = new Set<string>()

  /** @param ipv6 false: the kernel has none */
  constructor(config: FabricConfig, ipv6 = true) {
    this.#config = config
    this.#ipv6 = ipv6
    this.#around = this.#look()
    this.#collect(() => this.#put(BASE, deriveBase(this.#around)))
  }

  get entries(): EntryMap {
    return this.#entries
  }

  get surroundings(): Surroundings {
    return this.#around
  }

  get locals(): ReadonlyMap<string, LocalAttachment> {
    return this.#locals
  }

  /** `changed`: what differs from the state of the last call; undefined: anything may. */
  apply(state: DesiredState, changed: readonly DataPlaneKey[] | undefined): KernelChange {
    return atOnce(this.applySteps(state, changed))
  }

  /** As `apply`. No other change may begin before its last step; records may change meanwhile, and their keys are told later. */
  *applySteps(state: DesiredState, changed: readonly DataPlaneKey[] | undefined): Steps<KernelChange> {
    this.#state = state
    const keys = changed ?? this.#everything()
    for (const key of keys) {
      if (key.kind !== 'end-point') continue
      this.#place(key.id)
      yield
    }
    const before = this.#around
    // A record's own change may change what all others see.
    const wide =
      changed === undefined ||
      keys.some(({ kind }) => kind === 'peer' || kind === 'overlay-network') ||
      this.#selfChanged()
    this.#around = wide ? this.#look() : { ...before, encryptedGateway: this.#encryptedEndpoints.size > 0 }
    const all = changed === undefined || this.#changedForAll(before)
    const concerned = all ? this.#everything() : this.#withDependents(keys)
    for (const key of keys) if (key.kind === 'peer') this.#note(key.id)
    this.#touched = new Map()
    const subjects = new Set<string>()
    for (const key of concerned) subjects.add(`${key.kind}/${key.id}`)
    for (const subject of subjects) {
      this.#derive(subject)
      yield
    }
    if (all || before.encryptedGateway !== this.#around.encryptedGateway || gatewayChanged(before, this.#around)) {
      this.#put(BASE, deriveBase(this.#around))
    }
    const networks = new Set(keys.filter(({ kind }) => kind === 'overlay-network').map(({ id }) => id))
    for (const local of this.#locals.values()) {
      if (all || networks.has(local.networkId)) this.#putLocal(local)
    }
    yield
    return yield* this.#difference()
  }

  attach(local: LocalAttachment): KernelChange {
    return this.#collect(() => {
      this.#locals.set(local.endpointId, local)
      this.#putLocal(local)
    })
  }

  detach(endpointId: string): KernelChange {
    return this.#collect(() => {
      this.#locals.delete(endpointId)
      this.#put(`local/${endpointId}`, [])
    })
  }

  #putLocal(local: LocalAttachment): void {
    this.#put(`local/${local.endpointId}`, deriveLocal(local, this.#around))
  }

  #selfChanged(): boolean {
    return !sameSelf(this.#around.self, this.#state.self)
  }

  /** What every entry may depend on. */
  #changedForAll(before: Surroundings): boolean {
    const after = this.#around
    return (
      !sameSelf(before.self, after.self) ||
      before.underlayMtu !== after.underlayMtu ||
      gatewayChanged(before, after) ||
      before.encryptedGateway !== after.encryptedGateway
    )
  }

  #look(): Surroundings {
    const { self, networks, peers } = this.#state
    const gateway = gatewayNetwork(networks.values())
    return {
      config: this.#config,
      ipv6: this.#ipv6,
      self,
      networks,
      peersByNumber: new Map([...peers.values()].map((peer): [number, Peer] => [peer.number, peer])),
      gateway,
      block: self && gateway && gatewayBlock(gateway, self.number),
      underlayMtu: underlayMtu(peers.values()),
      encryptedGateway: this.#encryptedEndpoints.size > 0,
    }
  }

  /** Of the state, and of what stood in the one before. */
  #everything(): readonly DataPlaneKey[] {
    const { peers, networks, endpoints, services } = this.#state
    const known = [...this.#keysOf.keys()].flatMap((subject) => {
      const key = keyOf(subject)
      return key ? [key] : []
    })
    return [
      ...known,
      ...[...peers.keys()].map((id) => ({ kind: 'peer', id }) as const),
      ...[...networks.keys()].map((id) => ({ kind: 'overlay-network', id }) as const),
      ...[...endpoints.keys()].map((id) => ({ kind: 'end-point', id }) as const),
      ...[...services.keys()].map((id) => ({ kind: 'overlay-service', id }) as const),
    ]
  }

  #withDependents(keys: readonly DataPlaneKey[]): readonly DataPlaneKey[] {
    return keys.flatMap((key): readonly DataPlaneKey[] => {
      if (key.kind === 'peer') {
        const numbers = new Set([this.#numbers.get(key.id), this.#state.peers.get(key.id)?.number])
        return [key, ...[...numbers].flatMap((number) => this.#endpointsAt(`node/${number}`))]
      }
      if (key.kind !== 'overlay-network') return [key]
      const services = [...this.#state.services.entries()].filter(([, { networkId }]) => networkId === key.id)
      return [
        key,
        ...this.#endpointsAt(`network/${key.id}`),
        ...services.map(([id]) => ({ kind: 'overlay-service', id }) as const),
      ]
    })
  }

  #endpointsAt(place: string): readonly DataPlaneKey[] {
    return [...(this.#endpointsOf.get(place) ?? [])].map((id) => ({ kind: 'end-point', id }))
  }

  /** Notes a peer's number, by which its end points are known when it is gone. */
  #note(nodeId: string): void {
    const peer = this.#state.peers.get(nodeId)
    if (peer) this.#numbers.set(nodeId, peer.number)
    else this.#numbers.delete(nodeId)
  }

  /** Notes on which network and node an end point is now. */
  #place(id: string): void {
    for (const place of this.#places.get(id) ?? []) {
      const there = this.#endpointsOf.get(place)
      there?.delete(id)
      if (there?.size === 0) this.#endpointsOf.delete(place)
    }
    const endpoint = this.#state.endpoints.get(id)
    if (endpoint?.encrypted) this.#encryptedEndpoints.add(id)
    else this.#encryptedEndpoints.delete(id)
    if (!endpoint) {
      this.#places.delete(id)
      return
    }
    const places = [`network/${endpoint.networkId}`, `node/${endpoint.nodeNumber}`]
    this.#places.set(id, places)
    for (const place of places) {
      const there = this.#endpointsOf.get(place) ?? new Set()
      there.add(id)
      this.#endpointsOf.set(place, there)
    }
  }

  #derive(subject: string): void {
    const key = keyOf(subject)
    if (!key) return
    this.#put(subject, this.#entriesOf(key))
  }

  #entriesOf({ kind, id }: DataPlaneKey): readonly KernelEntry[] {
    switch (kind) {
      case 'peer': {
        const peer = this.#state.peers.get(id)
        return peer ? derivePeer(peer, this.#around) : []
      }
      case 'overlay-network': {
        const network = this.#state.networks.get(id)
        return network ? deriveNetwork(network, this.#around) : []
      }
      case 'end-point': {
        const endpoint = this.#state.endpoints.get(id)
        return endpoint ? deriveEndpoint(endpoint, this.#around) : []
      }
      case 'overlay-service': {
        const service = this.#state.services.get(id)
        return service ? deriveService(service, this.#around) : []
      }
    }
  }

  #touched = new Map<string, KernelEntry | undefined>()

  #collect(work: () => void): KernelChange {
    this.#touched = new Map()
    work()
    return atOnce(this.#difference())
  }

  /** What was touched since `#touched` was emptied. */
  *#difference(): Steps<KernelChange> {
    const before = new Map<string, KernelEntry>()
    const after = new Map<string, KernelEntry>()
    for (const [key, old] of this.#touched) {
      const now = this.#entries.get(key)
      if (old && now && sameEntry(old, now)) continue
      if (old) before.set(key, old)
      if (now) after.set(key, now)
      yield
    }
    return { before, after }
  }

  #put(subject: string, derived: readonly KernelEntry[]): void {
    const entries = this.#ipv6 ? derived : derived.filter((entry) => !isIpv6(entry))
    const keys = entries.map(entryKey)
    for (const key of this.#keysOf.get(subject) ?? []) if (!keys.includes(key)) this.#claim(key, subject, undefined)
    if (keys.length === 0) this.#keysOf.delete(subject)
    else this.#keysOf.set(subject, keys)
    for (const [at, key] of keys.entries()) this.#claim(key, subject, entries[at])
  }

  #claim(key: string, subject: string, entry: KernelEntry | undefined): void {
    const old = this.#entries.get(key)
    const owner = this.#owners.get(key)
    if (!this.#touched.has(key)) this.#touched.set(key, old)
    const waiting = this.#waiting.get(key)?.filter((claim) => claim.subject !== subject) ?? []
    if (entry) {
      // A claim that stays what it was does not come last again.
      if (this.#waiting.get(key)?.some((claim) => claim.subject === subject && sameEntry(claim.entry, entry))) return
      if (old && owner !== undefined && owner !== subject)
        this.#setWaiting(key, [...waiting, { subject: owner, entry: old }])
      else this.#setWaiting(key, waiting)
      this.#entries.set(key, entry)
      this.#owners.set(key, subject)
      return
    }
    if (owner !== subject) {
      this.#setWaiting(key, waiting)
      return
    }
    const next = waiting.pop()
    this.#setWaiting(key, waiting)
    if (next) {
      this.#entries.set(key, next.entry)
      this.#owners.set(key, next.subject)
    } else {
      this.#entries.delete(key)
      this.#owners.delete(key)
    }
  }

  #setWaiting(key: string, claims: readonly Claim[]): void {
    if (claims.length > 0) this.#waiting.set(key, claims)
    else if (this.#waiting.size > 0) this.#waiting.delete(key)
  }
}

function keyOf(subject: string): DataPlaneKey | undefined {
  const slash = subject.indexOf('/')
  const kind = subject.slice(0, slash)
  const id = subject.slice(slash + 1)
  if (kind === 'peer' || kind === 'overlay-network' || kind === 'end-point' || kind === 'overlay-service') {
    return { kind, id }
  }
  return undefined
}

function sameSelf(a: Surroundings['self'], b: Surroundings['self']): boolean {
  return a?.number === b?.number && a?.address === b?.address && a?.dataPathPort === b?.dataPathPort
}

function gatewayChanged(before: Surroundings, after: Surroundings): boolean {
  const text = (network: OverlayNetwork | undefined) => (network ? JSON.stringify(network) : '')
  return text(before.gateway) !== text(after.gateway)
}

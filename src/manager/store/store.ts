// The replicated state, in memory: tables with indexes, and `apply`, the only way to change them. Apply is total: the same
// entries give the same state and the same answers on every manager, and what it can't do it refuses.

import type { ObjectKind, ObjectsByKind, StoreObject, Task, TaskStatus } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { formatTime } from '../../lib/clock.ts'
import { atOnce, type Steps } from '../../lib/slices.ts'
import {
  claims,
  INGRESS_NETWORK_KEY,
  nameKey,
  occupiesNode,
  overlappingNetwork,
  portKey,
  subnetsOf,
} from './indexes.ts'
import { reservationOf } from './reservations.ts'
import { StoreState } from './store-state.ts'
import {
  type Change,
  MAX_CHANGES_PER_ENTRY,
  type RefusalCode,
  type StoreEvent,
  type StoreView,
  type Transaction,
  type TransactionResult,
} from './types.ts'

export const OBJECT_KINDS = ['cluster', 'node', 'service', 'task', 'network', 'secret', 'config'] as const

/** More than an entry changes: only what a snapshot brought is left for later entries. */
const MAX_HASHES_PER_ENTRY = MAX_CHANGES_PER_ENTRY + 100

interface Refusal {
  readonly code: RefusalCode
  readonly message: string
  readonly objectKind: ObjectKind
  readonly id: string
}

/** An observed state replaces another when it is further on, or the same and newer. */
function supersedes(next: TaskStatus, current: TaskStatus): boolean {
  const order = compareTaskStates(next.state, current.state)
  return order > 0 || (order === 0 && next.timestamp > current.timestamp)
}

export class Store implements StoreView {
  #index = 0
  #state = new StoreState()
  readonly #listeners = new Set<(events: readonly StoreEvent[]) => void>()

  get index(): number {
    return this.#index
  }

  get<K extends ObjectKind>(kind: K, id: string): ObjectsByKind[K] | undefined {
    return this.#state.tables[kind].get(id)
  }

  list<K extends ObjectKind>(kind: K): readonly ObjectsByKind[K][] {
    return this.#state.tables[kind].toArray()
  }

  count(kind: ObjectKind): number {
    return this.#state.tables[kind].size
  }

  byName<K extends 'service' | 'network' | 'secret' | 'config'>(kind: K, name: string): ObjectsByKind[K] | undefined {
    const holder = this.#state.claims.get(nameKey(kind, name))
    return holder && this.get(kind, holder.id)
  }

  cluster(): ObjectsByKind['cluster'] | undefined {
    return this.#state.tables.cluster.toArray()[0]
  }

  tasksOfService(serviceId: string): readonly Task[] {
    return this.#state.tasks.get(`service/${serviceId}`)
  }

  tasksOfNode(nodeId: string): readonly Task[] {
    return this.#state.tasks.get(`node/${nodeId}`)
  }

  tasksOfSlot(serviceId: string, slot: number): readonly Task[] {
    return this.#state.tasks.get(`slot/${serviceId}/${slot}`)
  }

  servicesUsingSecret(secretId: string): readonly ObjectsByKind['service'][] {
    return this.#state.services.get(`secret/${secretId}`)
  }

  servicesUsingConfig(configId: string): readonly ObjectsByKind['service'][] {
    return this.#state.services.get(`config/${configId}`)
  }

  servicesUsingNetwork(networkId: string): readonly ObjectsByKind['service'][] {
    return this.#state.services.get(`network/${networkId}`)
  }

  tasksUsingNetwork(networkId: string): readonly Task[] {
    return this.#state.tasks.get(`network/${networkId}`)
  }

  ingressNetwork(): ObjectsByKind['network'] | undefined {
    const holder = this.#state.claims.get(INGRESS_NETWORK_KEY)
    return holder && this.get('network', holder.id)
  }

  servicePublishing(protocol: string, publishedPort: number): ObjectsByKind['service'] | undefined {
    const holder = this.#state.claims.get(`port/${portKey(protocol, publishedPort)}`)
    return holder && this.get('service', holder.id)
  }

  /** Objects that `stateHash` would have to look at: some milliseconds for a hundred. */
  get unhashed(): number {
    return this.#state.hash.pending
  }

  /** Hash of the whole state: equal on all managers at an equal index. */
  stateHash(): string {
    return this.#state.hash.value()
  }

  /** Listeners are called synchronously after each applied entry, with what it changed; they must not throw. */
  subscribe(listener: (events: readonly StoreEvent[]) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Executes one entry's transactions in order, each all or nothing.
   * @param wallMs the proposer's time, which becomes the objects' times
   */
  apply(index: number, wallMs: number, transactions: readonly Transaction[]): readonly TransactionResult[] {
    this.#index = index
    const time = formatTime(wallMs)
    const events: StoreEvent[] = []
    const results = transactions.map((transaction): TransactionResult => {
      const start = events.length
      for (const change of transaction) {
        const refusal = this.#change(index, time, change, events)
        if (refusal) {
          this.#undo(events.splice(start))
          return { kind: 'refused', ...refusal }
        }
      }
      return { kind: 'applied', index }
    })
    this.#state.hash.work(MAX_HASHES_PER_ENTRY)
    this.#publish(events)
    return results
  }

  /** Replaces the whole state by a snapshot's; subscribers hear the differences. */
  restore(index: number, objects: Iterable<StoreObject>): void {
    atOnce(this.restoring(index, objects))
  }

  /** The same in steps: readers see the old state until the last one. Nothing is applied meanwhile. */
  *restoring(index: number, objects: Iterable<StoreObject>): Steps<void> {
    const next = new StoreState()
    for (const object of objects) {
      next.insert(object)
      yield
    }
    const events = yield* differences(index, this.#state, next)
    this.#index = index
    this.#state = next
    this.#publish(events)
  }

  #publish(events: readonly StoreEvent[]): void {
    if (events.length === 0) return
    for (const listener of [...this.#listeners]) listener(events)
  }

  #change(index: number, time: string, change: Change, events: StoreEvent[]): Refusal | undefined {
    switch (change.kind) {
      case 'create':
        return this.#create(index, time, change.object, events)
      case 'update':
        return this.#update(index, time, change.object, change.expectedVersion, events)
      case 'remove':
        return this.#remove(index, change, events)
      case 'task-status':
        return this.#mergeStatus(index, time, change.taskId, change.status, events)
      case 'check':
        return this.#expect(change.objectKind, change.id, change.expectedVersion)
    }
  }

  #create(index: number, time: string, object: StoreObject, events: StoreEvent[]): Refusal | undefined {
    if (this.get(object.kind, object.id)) {
      return { code: 'EXISTS', message: `${object.kind} ${object.id} exists`, objectKind: object.kind, id: object.id }
    }
    const created = stamped(object, { version: index, createdAt: object.meta.createdAt || time, updatedAt: time })
    return this.#replace(index, undefined, created, events)
  }

  #update(
    index: number,
    time: string,
    object: StoreObject,
    expectedVersion: number,
    events: StoreEvent[],
  ): Refusal | undefined {
    const unexpected = this.#expect(object.kind, object.id, expectedVersion)
    if (unexpected) return unexpected
    const old: StoreObject = this.get(object.kind, object.id)!
    const merged: StoreObject =
      object.kind === 'task' && old.kind === 'task'
        ? { ...object, status: old.status, statusVersion: old.statusVersion }
        : object
    const updated = stamped(merged, { version: index, createdAt: old.meta.createdAt, updatedAt: time })
    return this.#replace(index, old, updated, events)
  }

  #remove(index: number, change: Extract<Change, { kind: 'remove' }>, events: StoreEvent[]): Refusal | undefined {
    const old: StoreObject | undefined = this.get(change.objectKind, change.id)
    if (!old) return notFound(change.objectKind, change.id)
    if (change.expectedVersion !== undefined && change.expectedVersion !== old.meta.version) {
      return outOfSequence(old, change.expectedVersion)
    }
    const user = this.#user(old)
    if (user) {
      const message = `${old.kind} '${nameOf(old)}' is in use by service ${nameOf(user)}`
      return { code: 'IN_USE', message, objectKind: old.kind, id: old.id }
    }
    this.#state.delete(old)
    events.push({ index, kind: 'remove', objectKind: old.kind, id: old.id, old, new: undefined })
    return undefined
  }

  #mergeStatus(
    index: number,
    time: string,
    taskId: string,
    status: TaskStatus,
    events: StoreEvent[],
  ): Refusal | undefined {
    const old = this.get('task', taskId)
    if (!old || !supersedes(status, old.status)) return undefined
    const updated: Task = { ...old, status, statusVersion: index, meta: { ...old.meta, updatedAt: time } }
    return this.#replace(index, old, updated, events)
  }

  #expect(kind: ObjectKind, id: string, version: number): Refusal | undefined {
    const object: StoreObject | undefined = this.get(kind, id)
    if (!object) return notFound(kind, id)
    return object.meta.version === version ? undefined : outOfSequence(object, version)
  }

  /** A service that uses the object, which therefore can't go. */
  #user(object: StoreObject): StoreObject | undefined {
    if (object.kind === 'secret') return this.servicesUsingSecret(object.id)[0]
    if (object.kind === 'config') return this.servicesUsingConfig(object.id)[0]
    if (object.kind === 'network') return this.servicesUsingNetwork(object.id)[0]
    return undefined
  }

  #replace(index: number, old: StoreObject | undefined, next: StoreObject, events: StoreEvent[]): Refusal | undefined {
    const claimed = claims(next)
    for (const claim of claimed) {
      const holder = this.#state.claims.get(claim.key)
      if (holder && holder.id !== next.id) {
        const message = `${claim.what} is already in use by ${holder.kind} '${nameOf(holder)}' (${holder.id})`
        return { code: claim.code, message, objectKind: next.kind, id: next.id }
      }
    }
    const obstacle = this.#shortage(old, next) ?? this.#overlap(old, next)
    if (obstacle) return obstacle
    if (old) this.#state.delete(old)
    this.#state.insert(next, claimed)
    const kind = old ? 'update' : 'create'
    events.push({ index, kind, objectKind: next.kind, id: next.id, old, new: next })
    return undefined
  }

  /** Only an assignment can overbook a node: a task that already stands there keeps its place. */
  #shortage(old: StoreObject | undefined, next: StoreObject): Refusal | undefined {
    if (next.kind !== 'task' || !occupiesNode(next)) return undefined
    if (old?.kind === 'task' && occupiesNode(old)) return undefined
    const node = this.get('node', next.nodeId)
    if (!node || this.#state.reservations.fits(node, reservationOf(next))) return undefined
    const message = `insufficient resources on node ${node.id}`
    return { code: 'RESOURCES_CONFLICT', message, objectKind: 'task', id: next.id }
  }

  /** Two networks that were made at once may have been given subnets that differ, and yet overlap. */
  #overlap(old: StoreObject | undefined, next: StoreObject): Refusal | undefined {
    if (next.kind !== 'network' || !next.allocated) return undefined
    if (old?.kind === 'network' && old.allocated === next.allocated) return undefined
    const others = this.list('network').filter((network) => network.id !== next.id)
    const other = overlappingNetwork(others, subnetsOf(next))
    if (!other) return undefined
    const message = `a subnet of network '${nameOf(next)}' overlaps with network '${nameOf(other)}' (${other.id})`
    return { code: 'ADDRESS_CONFLICT', message, objectKind: 'network', id: next.id }
  }

  #undo(events: readonly StoreEvent[]): void {
    for (const event of events.toReversed()) {
      if (event.new) this.#state.delete(event.new)
      if (event.old) this.#state.insert(event.old)
    }
  }
}

/** What turns one state into the other. */
function* differences(index: number, before: StoreState, after: StoreState): Steps<StoreEvent[]> {
  const events: StoreEvent[] = []
  for (const objectKind of OBJECT_KINDS) {
    const [old, present] = [before.tables[objectKind], after.tables[objectKind]]
    for (const object of present.toArray()) {
      yield
      const was: StoreObject | undefined = old.get(object.id)
      if (was && isSameVersion(was, object)) continue
      const { id } = object
      events.push({ index, kind: was ? 'update' : 'create', objectKind, id, old: was, new: object })
    }
  }
  for (const objectKind of OBJECT_KINDS) {
    for (const gone of before.tables[objectKind].toArray()) {
      yield
      const { id } = gone
      if (!after.tables[objectKind].get(id))
        events.push({ index, kind: 'remove', objectKind, id, old: gone, new: undefined })
    }
  }
  return events
}

function isSameVersion(a: StoreObject, b: StoreObject): boolean {
  const statusVersion = (object: StoreObject) => (object.kind === 'task' ? object.statusVersion : 0)
  return a.meta.version === b.meta.version && statusVersion(a) === statusVersion(b)
}

/** The object with its times and version filled in; a spec version of 0 becomes the index of this entry. */
function stamped(object: StoreObject, meta: StoreObject['meta']): StoreObject {
  if (object.kind === 'service' && object.specVersion === 0) return { ...object, meta, specVersion: meta.version }
  return { ...object, meta }
}

function nameOf(object: StoreObject): string {
  if (object.kind === 'task') return object.id
  return ('Name' in object.spec && object.spec.Name) || object.id
}

function notFound(objectKind: ObjectKind, id: string): Refusal {
  return { code: 'NOT_FOUND', message: `${objectKind} ${id} not found`, objectKind, id }
}

function outOfSequence(object: StoreObject, expected: number): Refusal {
  const message = `update out of sequence (${object.kind} ${object.id} is at version ${object.meta.version}, not ${expected})`
  return { code: 'OUT_OF_SEQUENCE', message, objectKind: object.kind, id: object.id }
}

// The store's vocabulary: what a proposal may change, how it is refused, what a reader sees and what subscribers hear.

import type { ObjectKind, ObjectsByKind, StoreObject, TaskStatus } from '../../api/objects.ts'

/** One change of one object. `expectedVersion` is the `meta.version` that the proposer decided on. */
export type Change =
  /** Refused with EXISTS where the id is taken; unique indexes are checked. `meta.version` is filled in by `apply`. */
  | { readonly kind: 'create'; readonly object: StoreObject }
  /** Replaces the object. A task's `status` is left as it is: it changes through `task-status` only. */
  | { readonly kind: 'update'; readonly object: StoreObject; readonly expectedVersion: number }
  | { readonly kind: 'remove'; readonly objectKind: ObjectKind; readonly id: string; readonly expectedVersion?: number }
  /** Merged by rule: it only rises. Of a task that is gone, or lower than what is there: ignored, not refused. */
  | { readonly kind: 'task-status'; readonly taskId: string; readonly status: TaskStatus }
  /** Refuses the transaction unless the object (a secret in use, a service …) still is at that version. */
  | { readonly kind: 'check'; readonly objectKind: ObjectKind; readonly id: string; readonly expectedVersion: number }

/** Changes that are applied together or not at all. At most 200. */
export type Transaction = readonly Change[]

export const MAX_CHANGES_PER_ENTRY = 200

export type RefusalCode =
  | 'OUT_OF_SEQUENCE'
  | 'NOT_FOUND'
  | 'EXISTS'
  | 'NAME_CONFLICT'
  | 'PORT_CONFLICT'
  | 'ADDRESS_CONFLICT'
  | 'VNI_CONFLICT'
  | 'NODE_NUMBER_CONFLICT'
  | 'RESOURCES_CONFLICT'
  | 'IN_USE'
  | 'FEATURE_LEVEL'
  | 'MALFORMED'

export type TransactionResult =
  | { readonly kind: 'applied'; readonly index: number }
  | {
      readonly kind: 'refused'
      readonly code: RefusalCode
      readonly message: string
      readonly objectKind: ObjectKind | undefined
      readonly id: string | undefined
    }

/** What subscribers hear after an entry was applied, once per changed object, in order. */
export interface StoreEvent {
  readonly index: number
  readonly kind: 'create' | 'update' | 'remove'
  readonly objectKind: ObjectKind
  readonly id: string
  /** before; undefined for `create` */
  readonly old: StoreObject | undefined
  /** after; undefined for `remove` */
  readonly new: StoreObject | undefined
}

/**
 * Reads of the applied state. A synchronous slice of code sees one consistent version; objects are immutable, so what
 * was read stays what it was. Iteration order is by id unless said otherwise, so that decisions are deterministic.
 */
export interface StoreView {
  /** index of the last applied entry */
  readonly index: number
  get<K extends ObjectKind>(kind: K, id: string): ObjectsByKind[K] | undefined
  /** all of a kind, sorted by id */
  list<K extends ObjectKind>(kind: K): readonly ObjectsByKind[K][]
  count(kind: ObjectKind): number
  /** by `spec.Name` (services, networks, secrets, configs: unique); nodes have no unique name */
  byName<K extends 'service' | 'network' | 'secret' | 'config'>(kind: K, name: string): ObjectsByKind[K] | undefined
  cluster(): ObjectsByKind['cluster'] | undefined
  tasksOfService(serviceId: string): readonly ObjectsByKind['task'][]
  tasksOfNode(nodeId: string): readonly ObjectsByKind['task'][]
  tasksOfSlot(serviceId: string, slot: number): readonly ObjectsByKind['task'][]
  servicesUsingSecret(secretId: string): readonly ObjectsByKind['service'][]
  servicesUsingConfig(configId: string): readonly ObjectsByKind['service'][]
  servicesUsingNetwork(networkId: string): readonly ObjectsByKind['service'][]
  /** tasks with an attachment to it, also those that ended */
  tasksUsingNetwork(networkId: string): readonly ObjectsByKind['task'][]
  ingressNetwork(): ObjectsByKind['network'] | undefined
  /** the service that publishes this port in ingress mode */
  servicePublishing(protocol: string, publishedPort: number): ObjectsByKind['service'] | undefined
}

/** The one write path, as the leader's loops and the API's handlers use it. */
export interface Proposer {
  /**
   * Commits and applies the transaction on this manager, atomically.
   * @returns index of the entry
   * @throws {CodedError} the RefusalCode where `apply` refused; NOT_LEADER, NO_LEADER, PROPOSAL_DROPPED (retryable, not applied),
   *   PROPOSAL_UNKNOWN (may or may not be applied later), TRANSACTION_TOO_LARGE.
   */
  propose(transaction: Transaction): Promise<number>
}

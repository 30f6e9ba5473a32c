// What one node has been told, and what it must be told next. Pure bookkeeping: the session asks for the difference whenever
// something that concerns the node has changed.

import type { Assigned, AssignedKey } from '../../api/dispatcher.ts'
import type { Task } from '../../api/objects.ts'
import { addressesOfPort, PUBLISH_ADDRESS_FEATURE_LEVEL } from '../../api/publish-addresses.ts'
import { compareTaskStates, isTerminal, isToRun, type PortConfig } from '../../api/spec.ts'
import { awaitsAddresses } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { awaitsSecrets, DRIVER_SECRET_FEATURE_LEVEL, type DriverSecrets, driverSecretId } from './driver-secrets.ts'

export interface AssignmentDifference {
  /** What the node gets or gets anew: what tasks need stands before them. */
  readonly set: readonly Assigned[]
  readonly removed: readonly AssignedKey[]
}

function keyText(key: AssignedKey): string {
  return `${key.kind}/${key.id}`
}

/**
 * A task is the node's business from its assignment, with all its addresses, until its record is gone: dead ones keep their
 * container for logs.
 */
function isAssigned(task: Task, nodeId: string): boolean {
  return task.nodeId === nodeId && compareTaskStates(task.status.state, 'assigned') >= 0 && !awaitsAddresses(task)
}

/** A task that ended, or never will start, needs no secrets any more. Those of jobs are to be COMPLETE: they are to run all the same. */
function needsDependencies(task: Task): boolean {
  return !isTerminal(task.status.state) && isToRun(task.desiredState)
}

function dependencies(view: StoreView, task: Task, featureLevel: number): readonly AssignedKey[] {
  if (!needsDependencies(task)) return []
  const container = task.spec.ContainerSpec
  const hasAuth = (view.get('service', task.serviceId)?.registryAuth ?? '') !== ''
  return [
    ...(container?.Secrets ?? []).flatMap(({ SecretID: id = '' }) => secretKey(view, task, id, featureLevel)),
    ...(container?.Configs ?? []).map((reference): AssignedKey => ({ kind: 'config', id: reference.ConfigID ?? '' })),
    ...task.attachments.map((attachment): AssignedKey => ({ kind: 'network', id: attachment.networkId })),
    ...(hasAuth ? [{ kind: 'registry-auth', id: task.serviceId } as const] : []),
  ]
}

/**
 * A driver gives each task its own, which the task needs until its container is made. An older worker gets the secret as it is, and
 * refuses the task with the reason: for what it does not know it would wait for ever.
 */
function secretKey(view: StoreView, task: Task, secretId: string, featureLevel: number): readonly AssignedKey[] {
  const isDrivers = view.get('secret', secretId)?.spec.Driver !== undefined
  if (!isDrivers || featureLevel < DRIVER_SECRET_FEATURE_LEVEL) return [{ kind: 'secret', id: secretId }]
  return awaitsSecrets(task) ? [{ kind: 'secret', id: driverSecretId(secretId, task.id) }] : []
}

/** An older worker would open ports that are for some addresses on all of them: it opens them nowhere. */
function withoutAddressed(assigned: Assigned): Assigned {
  if (assigned.kind !== 'task') return assigned
  const { task } = assigned
  const { endpoint, serviceLabels } = task
  const keep = (port: PortConfig) => port.PublishMode !== 'host' || addressesOfPort(serviceLabels, port).length === 0
  if (!endpoint || endpoint.ports.every(keep)) return assigned
  return { kind: 'task', task: { ...task, endpoint: { ...endpoint, ports: endpoint.ports.filter(keep) } } }
}

/** The object behind a key with a text that changes when the node must get it again. */
function load(
  view: StoreView,
  secrets: Pick<DriverSecrets, 'get'>,
  key: AssignedKey,
): { readonly assigned: Assigned; readonly version: string } | undefined {
  switch (key.kind) {
    case 'task': {
      const task = view.get('task', key.id)
      return task && { assigned: { kind: 'task', task }, version: String(task.meta.version) }
    }
    case 'secret': {
      const [secretId = '', taskId] = key.id.split('.')
      const secret = taskId === undefined ? view.get('secret', secretId) : secrets.get(secretId, taskId)
      return secret && { assigned: { kind: 'secret', secret }, version: String(secret.meta.version) }
    }
    case 'config': {
      const config = view.get('config', key.id)
      return config && { assigned: { kind: 'config', config }, version: String(config.meta.version) }
    }
    case 'network': {
      const network = view.get('network', key.id)
      return network && { assigned: { kind: 'network', network }, version: String(network.meta.version) }
    }
    case 'registry-auth': {
      const auth = view.get('service', key.id)?.registryAuth
      return auth ? { assigned: { kind: 'registry-auth', serviceId: key.id, auth }, version: auth } : undefined
    }
    case 'peer':
    case 'overlay-network':
    case 'end-point':
    case 'overlay-service':
      return undefined // NodeDataPlane's
  }
}

export class AssignmentSet {
  readonly #nodeId: string
  readonly #secrets: Pick<DriverSecrets, 'get'>
  readonly #featureLevel: number
  /** version last sent, by key */
  readonly #sent = new Map<string, { readonly key: AssignedKey; readonly version: string }>()
  /** tasks that need a key, by key */
  readonly #users = new Map<string, Set<string>>()
  readonly #needs = new Map<string, readonly AssignedKey[]>()

  /**
   * @param secrets gives what drivers have: what is not there yet is left out until the task is named again
   * @param featureLevel of the worker
   */
  constructor(
    nodeId: string,
    secrets: Pick<DriverSecrets, 'get'>,
    featureLevel: number = PUBLISH_ADDRESS_FEATURE_LEVEL,
  ) {
    this.#nodeId = nodeId
    this.#secrets = secrets
    this.#featureLevel = featureLevel
  }

  /** Everything the node is to have, from nothing. */
  complete(view: StoreView): AssignmentDifference {
    this.#sent.clear()
    this.#users.clear()
    this.#needs.clear()
    return this.difference(
      view,
      view.tasksOfNode(this.#nodeId).map((task) => task.id),
    )
  }

  /** What follows from the changes of these tasks (of this node, or not any more). Ids in any order, repeats allowed. */
  difference(view: StoreView, taskIds: readonly string[]): AssignmentDifference {
    const set: Assigned[] = []
    const removed: AssignedKey[] = []
    const released = new Map<string, AssignedKey>()
    for (const id of [...new Set(taskIds)].sort()) {
      const task = view.get('task', id)
      const present = task && isAssigned(task, this.#nodeId) ? task : undefined
      const needs = present ? dependencies(view, present, this.#featureLevel) : []
      for (const key of this.#release(id, needs)) released.set(keyText(key), key)
      for (const key of needs) this.#send(view, key, set)
      const key: AssignedKey = { kind: 'task', id }
      if (present) this.#send(view, key, set)
      else if (this.#sent.delete(keyText(key))) removed.push(key)
    }
    for (const [text, key] of released) {
      if (!this.#users.has(text) && this.#sent.delete(text)) removed.push(key)
    }
    return { set, removed }
  }

  #send(view: StoreView, key: AssignedKey, set: Assigned[]): void {
    const text = keyText(key)
    const loaded = load(view, this.#secrets, key)
    if (!loaded || this.#sent.get(text)?.version === loaded.version) return
    this.#sent.set(text, { key, version: loaded.version })
    const knowsAddresses = this.#featureLevel >= PUBLISH_ADDRESS_FEATURE_LEVEL
    set.push(knowsAddresses ? loaded.assigned : withoutAddressed(loaded.assigned))
  }

  /** Notes what a task needs now; returns what it needed before and does not any more. */
  #release(taskId: string, needs: readonly AssignedKey[]): readonly AssignedKey[] {
    const before = this.#needs.get(taskId) ?? []
    if (needs.length > 0) this.#needs.set(taskId, needs)
    else this.#needs.delete(taskId)
    const texts = new Set(needs.map(keyText))
    for (const text of texts) {
      const users = this.#users.get(text)
      if (users) users.add(taskId)
      else this.#users.set(text, new Set([taskId]))
    }
    return before.filter((key) => {
      const text = keyText(key)
      if (texts.has(text)) return false
      const users = this.#users.get(text)
      users?.delete(taskId)
      if (users?.size === 0) this.#users.delete(text)
      return true
    })
  }
}

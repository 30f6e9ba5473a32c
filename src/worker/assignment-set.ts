// What the managers have assigned to this node: one COMPLETE set, then increments whose sequence must be gapless. The data
// plane's records come along and are passed on: DataPlaneLink keeps them.

import type { DataPlaneKey, DataPlaneRecord } from '../api/data-plane.ts'
import type { Assigned, AssignedKey, ManagerMessage } from '../api/dispatcher.ts'
import type { Config, Network, Secret, Task } from '../api/objects.ts'
import type { NodeDescription } from '../api/spec.ts'
import type { TaskOrder } from './executor.ts'

export type AssignmentsMessage = Extract<ManagerMessage, { kind: 'assignments' }>

/** What containers are made from. */
export type AssignedObject = Exclude<Assigned, DataPlaneRecord>

export interface AssignmentChange {
  /** Nothing but this set is assigned. */
  readonly complete: boolean
  /** Sorted by kind and id. */
  readonly set: readonly AssignedObject[]
  readonly removed: readonly AssignedKey[]
  readonly records: { readonly set: readonly DataPlaneRecord[]; readonly removed: readonly DataPlaneKey[] }
}

export function assignedKey(assigned: AssignedObject): AssignedKey {
  switch (assigned.kind) {
    case 'task':
      return { kind: 'task', id: assigned.task.id }
    case 'secret':
      return { kind: 'secret', id: assigned.secret.id }
    case 'config':
      return { kind: 'config', id: assigned.config.id }
    case 'network':
      return { kind: 'network', id: assigned.network.id }
    case 'registry-auth':
      return { kind: 'registry-auth', id: assigned.serviceId }
  }
}

function isRecord(assigned: Assigned): assigned is DataPlaneRecord {
  return isRecordKind(assigned.kind)
}

function isRecordKey(key: AssignedKey): key is DataPlaneKey {
  return isRecordKind(key.kind)
}

function isRecordKind(kind: Assigned['kind']): boolean {
  return kind === 'peer' || kind === 'overlay-network' || kind === 'end-point' || kind === 'overlay-service'
}

interface Parts {
  readonly complete: boolean
  readonly set: Assigned[]
  readonly removed: AssignedKey[]
}

export class AssignmentSet {
  readonly #objects = new Map<string, AssignedObject>()
  #sequence: number | undefined
  /** Parts of a set whose last one has not come yet. */
  #parts: Parts | undefined

  /** What the worker remembers from before its restart; the next message must be COMPLETE. */
  restore(assigned: readonly Assigned[]): void {
    for (const object of assigned) if (!isRecord(object)) this.#objects.set(keyText(assignedKey(object)), object)
  }

  /** A new session begins: its first message must be COMPLETE. */
  beginSession(): void {
    this.#sequence = undefined
    this.#parts = undefined
  }

  /**
   * Answers what has changed; 'more' while parts of the set are missing; 'gap' when the message does not follow the last
   * one: ask for a COMPLETE set.
   */
  apply(message: AssignmentsMessage): AssignmentChange | 'more' | 'gap' {
    if (!message.complete && (this.#sequence === undefined || message.sequence !== this.#sequence + 1)) {
      this.beginSession()
      return 'gap'
    }
    this.#sequence = message.sequence
    const before = message.complete ? undefined : this.#parts
    const parts: Parts = before ?? { complete: message.complete, set: [], removed: [] }
    parts.set.push(...message.set)
    parts.removed.push(...message.removed)
    this.#parts = message.more ? parts : undefined
    return message.more ? 'more' : this.#change(parts)
  }

  #change(parts: Parts): AssignmentChange {
    const { complete } = parts
    const set = parts.set.filter((one): one is AssignedObject => !isRecord(one))
    const removed = parts.removed.filter((key) => !isRecordKey(key))
    if (complete) {
      const named = new Set(set.map((object) => keyText(assignedKey(object))))
      for (const [text, object] of this.#objects) if (!named.has(text)) removed.push(assignedKey(object))
    }
    for (const key of removed) this.#objects.delete(keyText(key))
    for (const object of set) this.#objects.set(keyText(assignedKey(object)), object)
    const order = (a: AssignedKey, b: AssignedKey) => (keyText(a) < keyText(b) ? -1 : 1)
    return {
      complete,
      set: set.sort((a, b) => order(assignedKey(a), assignedKey(b))),
      removed: removed.sort(order),
      records: { set: parts.set.filter(isRecord), removed: parts.removed.filter(isRecordKey) },
    }
  }

  get(key: AssignedKey): AssignedObject | undefined {
    return this.#objects.get(keyText(key))
  }

  tasks(): readonly Task[] {
    const tasks = [...this.#objects.values()].flatMap((object) => (object.kind === 'task' ? [object.task] : []))
    return tasks.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** undefined while a secret or config that the task names is not here with its payload. */
  order(task: Task, node: { readonly id: string; readonly description: NodeDescription }): TaskOrder | undefined {
    const secrets = new Map<string, Secret>()
    const configs = new Map<string, Config>()
    const networks = new Map<string, Network>()
    for (const { SecretID: id = '' } of task.spec.ContainerSpec?.Secrets ?? []) {
      // What a driver gave is this task's alone.
      const found = this.get({ kind: 'secret', id: `${id}.${task.id}` }) ?? this.get({ kind: 'secret', id })
      if (found?.kind !== 'secret' || (found.secret.spec.Data === undefined && !found.secret.spec.Driver))
        return undefined
      secrets.set(id, found.secret)
    }
    for (const { ConfigID: id = '' } of task.spec.ContainerSpec?.Configs ?? []) {
      const found = this.get({ kind: 'config', id })
      if (found?.kind !== 'config') return undefined
      configs.set(id, found.config)
    }
    const networkIds = [
      ...(task.spec.Networks ?? []).map(({ Target }) => Target ?? ''),
      ...task.attachments.map(({ networkId }) => networkId),
    ]
    for (const id of networkIds) {
      const found = this.get({ kind: 'network', id })
      if (found?.kind === 'network') networks.set(id, found.network)
    }
    const auth = this.get({ kind: 'registry-auth', id: task.serviceId })
    return {
      task,
      node: {
        id: node.id,
        hostname: node.description.Hostname ?? '',
        platform: node.description.Platform ?? {},
      },
      secrets,
      configs,
      networks,
      registryAuth: auth?.kind === 'registry-auth' ? auth.auth : '',
    }
  }
}

function keyText(key: AssignedKey): string {
  return `${key.kind}/${key.id}`
}

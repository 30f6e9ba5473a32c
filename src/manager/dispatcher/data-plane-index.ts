// The data plane's records of the scopes (networks, and the peers of everywhere) that nodes with a session follow. Built from
// the store when the first one follows, kept by events: one change costs the nodes that it concerns. Each record is encoded
// once, however many nodes get it.

import type { DataPlaneKey, DataPlaneRecord } from '../../api/data-plane.ts'
import type { Node, StoreObject } from '../../api/objects.ts'
import { encode } from '../../lib/codec.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'
import { deriveRecord, EVERYWHERE, isDraining, networksOfService } from './data-plane-records.ts'

export interface RecordEntry {
  readonly key: DataPlaneKey
  /** The record, as `encode` has it. */
  readonly bytes: Uint8Array
  readonly serving: boolean
}

export interface RecordFollower {
  /** A record of a scope that it follows has come, changed or gone. */
  recordChanged(scope: string, key: DataPlaneKey): void
}

/** An end point that got its connections until now, and is to stop. */
export interface WithdrawnEndpoint {
  readonly taskId: string
  readonly nodeId: string
  /** Who has to know. */
  readonly followers: ReadonlySet<RecordFollower>
}

interface ScopeRecords {
  readonly entries: Map<string, RecordEntry>
  readonly followers: Set<RecordFollower>
}

export function recordKeyText({ kind, id }: DataPlaneKey): string {
  return `${kind}/${id}`
}

function entryOf(key: DataPlaneKey, record: DataPlaneRecord): RecordEntry {
  return { key, bytes: encode(record), serving: record.kind === 'end-point' && record.endpoint.serving }
}

export class DataPlaneIndex {
  readonly #view: StoreView
  readonly #scopes = new Map<string, ScopeRecords>()

  constructor(view: StoreView) {
    this.#view = view
  }

  /** From now on the follower hears of the scope's changes. */
  join(scope: string, follower: RecordFollower): Iterable<RecordEntry> {
    let records = this.#scopes.get(scope)
    if (!records) {
      records = { entries: new Map(), followers: new Set() }
      for (const key of this.#keys(scope)) {
        const record = deriveRecord(this.#view, key)
        if (record) records.entries.set(recordKeyText(key), entryOf(key, record))
      }
      this.#scopes.set(scope, records)
    }
    records.followers.add(follower)
    return records.entries.values()
  }

  leave(scope: string, follower: RecordFollower): void {
    const records = this.#scopes.get(scope)
    records?.followers.delete(follower)
    if (records?.followers.size === 0) this.#scopes.delete(scope)
  }

  /** Of a scope that somebody follows. */
  entries(scope: string): Iterable<RecordEntry> {
    return this.#scopes.get(scope)?.entries.values() ?? []
  }

  get(scope: string, key: DataPlaneKey): RecordEntry | undefined {
    return this.#scopes.get(scope)?.entries.get(recordKeyText(key))
  }

  /** Takes in what an entry of the log has changed; the view shows it already. */
  observe(event: StoreEvent): readonly WithdrawnEndpoint[] {
    const withdrawn: WithdrawnEndpoint[] = []
    switch (event.objectKind) {
      case 'node':
        this.#nodeChanged(event)
        break
      case 'network':
        this.#refresh(event.id, { kind: 'overlay-network', id: event.id })
        break
      case 'service':
        for (const networkId of concerned(event, (object) =>
          object.kind === 'service' ? networksOfService(object) : [],
        ))
          this.#refresh(networkId, { kind: 'overlay-service', id: `${event.id}/${networkId}` })
        break
      case 'task':
        for (const networkId of concerned(event, attachedTo)) {
          const followers = this.#refreshEndpoint(event.id, networkId)
          const task = followers && this.#view.get('task', event.id)
          if (followers && task && isDraining(task))
            withdrawn.push({ taskId: event.id, nodeId: task.nodeId, followers })
        }
        break
      case 'cluster':
      case 'secret':
      case 'config':
        break
    }
    return withdrawn
  }

  /** Its end points follow its number, its names, and whether it is up; all else is in its peer's record. */
  #nodeChanged({ id, old, new: next }: StoreEvent): void {
    this.#refresh(EVERYWHERE, { kind: 'peer', id })
    const before = old?.kind === 'node' ? factsOf(old) : ''
    const after = next?.kind === 'node' ? factsOf(next) : ''
    if (before === after) return
    for (const task of this.#view.tasksOfNode(id))
      for (const networkId of attachedTo(task)) this.#refreshEndpoint(task.id, networkId)
  }

  /** @returns who hears of it, where it was serving and is there still, but serves no more */
  #refreshEndpoint(taskId: string, networkId: string): ReadonlySet<RecordFollower> | undefined {
    const key: DataPlaneKey = { kind: 'end-point', id: `${taskId}/${networkId}` }
    const before = this.get(networkId, key)
    this.#refresh(networkId, key)
    const after = this.get(networkId, key)
    return before?.serving && after && !after.serving ? this.#scopes.get(networkId)?.followers : undefined
  }

  #refresh(scope: string, key: DataPlaneKey): void {
    const records = this.#scopes.get(scope)
    if (!records) return
    const text = recordKeyText(key)
    const before = records.entries.get(text)
    const record = deriveRecord(this.#view, key)
    const after = record && entryOf(key, record)
    if (before && after ? Buffer.compare(before.bytes, after.bytes) === 0 : before === after) return
    if (after) records.entries.set(text, after)
    else records.entries.delete(text)
    for (const follower of records.followers) follower.recordChanged(scope, key)
  }

  #keys(scope: string): readonly DataPlaneKey[] {
    if (scope === EVERYWHERE) return this.#view.list('node').map(({ id }) => ({ kind: 'peer', id }))
    return [
      { kind: 'overlay-network', id: scope },
      ...this.#view
        .servicesUsingNetwork(scope)
        .map(({ id }) => ({ kind: 'overlay-service', id: `${id}/${scope}` }) as const),
      ...this.#view.tasksUsingNetwork(scope).map(({ id }) => ({ kind: 'end-point', id: `${id}/${scope}` }) as const),
    ]
  }
}

/** What end points say of their node. */
function factsOf({ number, status, description: { Hostname, Platform } }: Node): string {
  return JSON.stringify([number, status.state === 'down', Hostname, Platform])
}

function attachedTo(object: StoreObject): readonly string[] {
  return object.kind === 'task' ? object.attachments.map(({ networkId }) => networkId) : []
}

function concerned(
  { old, new: next }: StoreEvent,
  networks: (object: StoreObject) => readonly string[],
): ReadonlySet<string> {
  return new Set([...(old ? networks(old) : []), ...(next ? networks(next) : [])])
}

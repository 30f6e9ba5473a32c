// Which of the data plane's records one node has: those of everywhere, of the gateway network and of the networks that its
// tasks use. Bookkeeping for its session, which asks for the difference and sends it.

import type { DataPlaneKey } from '../../api/data-plane.ts'
import type { StoreView } from '../store/types.ts'
import { type DataPlaneIndex, type RecordEntry, type RecordFollower, recordKeyText } from './data-plane-index.ts'
import { EVERYWHERE, hasEndpoints } from './data-plane-records.ts'

export interface RecordDifference {
  /** Encoded records. */
  readonly set: readonly Uint8Array[]
  readonly removed: readonly DataPlaneKey[]
}

export class NodeDataPlane implements RecordFollower {
  readonly #nodeId: string
  readonly #view: StoreView
  readonly #index: DataPlaneIndex
  readonly #changed: () => void
  /** Networks by task of this node, and how many tasks need each. */
  readonly #networks = new Map<string, readonly string[]>()
  readonly #users = new Map<string, number>()
  readonly #followed = new Set<string>()
  readonly #dirty = new Map<string, { readonly scope: string; readonly key: DataPlaneKey }>()

  /** @param changed there is a difference to send */
  constructor(options: {
    readonly nodeId: string
    readonly view: StoreView
    readonly index: DataPlaneIndex
    readonly changed: () => void
  }) {
    this.#nodeId = options.nodeId
    this.#view = options.view
    this.#index = options.index
    this.#changed = options.changed
  }

  recordChanged(scope: string, key: DataPlaneKey): void {
    this.#dirty.set(recordKeyText(key), { scope, key })
    this.#changed()
  }

  /** Everything, from nothing. */
  complete(): RecordDifference {
    this.close()
    const tasks = this.#view.tasksOfNode(this.#nodeId).map(({ id }) => id)
    return this.difference(tasks)
  }

  /** What has changed, and what follows from the changes of these tasks, of this node or not any more. */
  difference(taskIds: Iterable<string>): RecordDifference {
    for (const id of taskIds) this.#count(id)
    const wanted = this.#wanted()
    const removed: DataPlaneKey[] = []
    for (const scope of this.#followed) {
      if (wanted.has(scope)) continue
      for (const { key } of this.#index.entries(scope)) removed.push(key)
      this.#index.leave(scope, this)
      this.#followed.delete(scope)
    }
    const set: RecordEntry[] = []
    for (const scope of wanted) {
      if (this.#followed.has(scope)) continue
      this.#followed.add(scope)
      set.push(...this.#index.join(scope, this))
    }
    const joined = new Set(set)
    for (const { scope, key } of this.#dirty.values()) {
      const entry = this.#followed.has(scope) ? this.#index.get(scope, key) : undefined
      if (!entry) removed.push(key)
      else if (!joined.has(entry)) set.push(entry)
    }
    this.#dirty.clear()
    return { set: set.map(({ bytes }) => bytes), removed: distinct(removed) }
  }

  /** Hears of nothing more. */
  close(): void {
    for (const scope of this.#followed) this.#index.leave(scope, this)
    this.#followed.clear()
    this.#networks.clear()
    this.#users.clear()
    this.#dirty.clear()
  }

  #wanted(): ReadonlySet<string> {
    const ingress = this.#view.ingressNetwork()
    return new Set([EVERYWHERE, ...(ingress ? [ingress.id] : []), ...this.#users.keys()])
  }

  #count(taskId: string): void {
    const task = this.#view.get('task', taskId)
    const isHere = task?.nodeId === this.#nodeId && hasEndpoints(task)
    const now = isHere ? task.attachments.map(({ networkId }) => networkId) : []
    for (const id of now) this.#users.set(id, (this.#users.get(id) ?? 0) + 1)
    for (const id of this.#networks.get(taskId) ?? []) {
      const left = (this.#users.get(id) ?? 0) - 1
      if (left > 0) this.#users.set(id, left)
      else this.#users.delete(id)
    }
    if (now.length > 0) this.#networks.set(taskId, now)
    else this.#networks.delete(taskId)
  }
}

/** A record may have gone with its change, and its network with it. */
function distinct(keys: readonly DataPlaneKey[]): readonly DataPlaneKey[] {
  return [...new Map(keys.map((key) => [recordKeyText(key), key])).values()]
}

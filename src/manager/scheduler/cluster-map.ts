// The nodes as the scheduler sees them: derived from the store once per leadership, kept up to date by its events, and
// ahead of it by the assignments that are proposed but not applied yet.

import type { Node, Task } from '../../api/objects.ts'
import { parseTime } from '../../lib/clock.ts'
import { occupiesNode } from '../store/indexes.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'
import { NodeInfo } from './node-info.ts'

export class ClusterMap {
  readonly #nodes = new Map<string, NodeInfo>();

  /** Reads all nodes and their tasks anew; yields between nodes. Events may come in between. */
  *build(view: StoreView): Iterable<undefined> {
    this.#nodes.clear()
    for (const { id } of view.list('node')) {
      const node = view.get('node', id)
      if (node && !this.#nodes.has(id)) this.#add(node, view)
      yield undefined
    }
  }

  /** In no particular order: who needs one ranks them. */
  nodes(): Iterable<NodeInfo> {
    return this.#nodes.values()
  }

  get(nodeId: string): NodeInfo | undefined {
    return this.#nodes.get(nodeId)
  }

  observe(event: StoreEvent, view: StoreView): void {
    const { old, new: next } = event
    if (event.objectKind === 'node') {
      if (next?.kind !== 'node') this.#nodes.delete(event.id)
      else {
        const info = this.#nodes.get(next.id)
        if (info) info.node = next
        else this.#add(next, view)
      }
    } else if (event.objectKind === 'task') {
      this.#observeTask(old?.kind === 'task' ? old : undefined, next?.kind === 'task' ? next : undefined)
    }
  }

  /** The proposal that put the task on the node was answered: what counts now is what the store says. */
  confirm(taskId: string, nodeId: string, view: StoreView): void {
    const task = view.get('task', taskId)
    const info = this.#nodes.get(nodeId)
    if (!task || task.nodeId !== nodeId || !occupiesNode(task)) info?.remove(taskId)
    else info?.put(task)
  }

  #observeTask(old: Task | undefined, next: Task | undefined): void {
    const task = next ?? old
    if (!task?.nodeId) return
    const info = this.#nodes.get(task.nodeId)
    if (!info) return
    if (next && occupiesNode(next)) info.put(next)
    else info.remove(task.id)
    if (next && isFailure(next) && old && old.status.state !== next.status.state) noteFailure(info, next)
  }

  #add(node: Node, view: StoreView): void {
    this.#nodes.set(node.id, nodeInfoOf(node, view))
  }
}

/** One node as it is in the store now. */
export function nodeInfoOf(node: Node, view: StoreView): NodeInfo {
  const info = new NodeInfo(node)
  for (const task of view.tasksOfNode(node.id)) {
    if (occupiesNode(task)) info.put(task)
    else if (isFailure(task)) noteFailure(info, task)
  }
  return info
}

/** Of tasks that the scheduler placed; where global ones run is not its choice. */
function isFailure(task: Task): boolean {
  return task.slot > 0 && (task.status.state === 'failed' || task.status.state === 'rejected')
}

function noteFailure(info: NodeInfo, task: Task): void {
  const atMs = parseTime(task.status.timestamp)
  if (!Number.isNaN(atMs)) info.failed(task.serviceId, task.specVersion, atMs)
}

// Tasks whose node will not speak for them any more: it was removed, or has been down for a day. They become ORPHANED, which
// frees their slots' history and, once overlay networks are there, their addresses. One key is a node.

import type { Node, Task } from '../../api/objects.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import type { Controller, Decision, ReconcileContext } from '../loop/controller.ts'
import { NOTHING } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import type { Change, StoreEvent, StoreView } from '../store/types.ts'
import { mayRun } from './slots.ts'

const ORPHANED_AFTER_MS = 24 * 60 * 60_000

export class OrphanController implements Controller {
  readonly name = 'orphans';

  *start(view: StoreView): Iterable<string | undefined> {
    for (const node of view.list('node')) if (node.status.state === 'down') yield node.id
    for (const [at, task] of view.list('task').entries()) {
      if (mayRun(task) && !view.get('node', task.nodeId)) yield task.nodeId
      else if (at % 100 === 0) yield undefined
    }
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    const { old, new: next } = event
    if (event.objectKind === 'node') {
      const wasDown = old?.kind === 'node' && old.status.state === 'down'
      if (next?.kind !== 'node' || next.status.state === 'down' || wasDown) yield event.id
    } else if (next?.kind === 'task' && next.nodeId && old?.kind === 'task' && old.nodeId !== next.nodeId) {
      // Assigned while its node was being removed.
      if (!view.get('node', next.nodeId)) yield next.nodeId
    }
  }

  reconcile(view: StoreView, nodeId: string, { nowMs }: ReconcileContext): Decision {
    const node = view.get('node', nodeId)
    if (!node) return orphan(view.tasksOfNode(nodeId), 'Task belonged to a node that has been deleted', nowMs)
    const dueMs = downSinceMs(node) + ORPHANED_AFTER_MS
    if (node.status.state !== 'down' || Number.isNaN(dueMs)) return NOTHING
    if (dueMs > nowMs) return { transactions: [], requeueAtMs: dueMs }
    return orphan(view.tasksOfNode(nodeId), 'Task belonged to a node that has been down for 24 hours', nowMs)
  }
}

function downSinceMs(node: Node): number {
  return parseTime(node.downSince || node.meta.updatedAt)
}

function orphan(tasks: readonly Task[], message: string, nowMs: number): Decision {
  const timestamp = formatTime(nowMs)
  const units = tasks
    .filter(mayRun)
    .map((task): readonly Change[] => [
      { kind: 'task-status', taskId: task.id, status: { ...task.status, state: 'orphaned', timestamp, message } },
    ])
  return { transactions: packChanges(units) }
}

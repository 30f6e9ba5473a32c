// Takes tasks out of the store: those that were to be removed once they have stopped (or never started), and the oldest dead
// ones of a slot beyond the history limit. One key is a slot.

import type { Cluster, Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { Controller, Decision } from '../loop/controller.ts'
import { isAttachment } from '../store/indexes.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'
import { DEFAULT_TASK_HISTORY, isJob, restartSettings } from './service-settings.ts'
import { hasEnded, isOlder, newest } from './slots.ts'

/** One key's tasks in one transaction. */
const MAX_REMOVALS_PER_LOOK = 200

interface SlotKey {
  readonly serviceId: string
  readonly slot: number
  readonly nodeId: string
}

function keyOf(task: Task): string {
  return `${task.serviceId}/${task.slot}/${task.slot > 0 ? '' : task.nodeId}`
}

function parseKey(key: string): SlotKey {
  const [serviceId = '', slot = '', nodeId = ''] = key.split('/')
  return { serviceId, slot: Number(slot), nodeId }
}

function tasksOf(view: StoreView, { serviceId, slot, nodeId }: SlotKey): readonly Task[] {
  if (slot > 0) return view.tasksOfSlot(serviceId, slot)
  const tasks = nodeId ? view.tasksOfNode(nodeId) : view.tasksOfSlot(serviceId, 0)
  return tasks.filter((task) => task.serviceId === serviceId && task.slot === 0 && task.nodeId === nodeId)
}

export class TaskReaper implements Controller {
  readonly name = 'task reaper';

  *start(view: StoreView): Iterable<string | undefined> {
    for (const [at, task] of view.list('task').entries()) {
      if (hasEnded(task) || task.desiredState === 'remove') yield keyOf(task)
      else if (at % 100 === 0) yield undefined
    }
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    const { old, new: next } = event
    if (next?.kind === 'task') {
      if (old?.kind !== 'task' || isReapable(next) || (hasEnded(next) && !hasEnded(old))) yield keyOf(next)
    } else if (next?.kind === 'cluster' && old?.kind === 'cluster' && historyOf(next) !== historyOf(old)) {
      for (const task of view.list('task')) if (hasEnded(task)) yield keyOf(task)
    }
  }

  reconcile(view: StoreView, key: string): Decision {
    const slot = parseKey(key)
    const tasks = tasksOf(view, slot)
    const removed = tasks.filter(isReapable)
    const kept = tasks.filter((task) => !isReapable(task))
    const excess = excessOf(kept, view.get('service', slot.serviceId), view.cluster())
    const changes = [...removed, ...excess].slice(0, MAX_REMOVALS_PER_LOOK).map((task) => ({
      kind: 'remove' as const,
      objectKind: 'task' as const,
      id: task.id,
      expectedVersion: task.meta.version,
    }))
    return { transactions: changes.length > 0 ? [changes] : [] }
  }
}

/** It is to be removed, and no worker runs it (any more). A plain container's place has no history. */
function isReapable(task: Task): boolean {
  if (isAttachment(task) && hasEnded(task)) return true
  return task.desiredState === 'remove' && (hasEnded(task) || neverAssigned(task))
}

function neverAssigned(task: Task): boolean {
  return compareTaskStates(task.status.state, 'assigned') < 0
}

function historyOf(cluster: Cluster | undefined): number {
  return cluster?.spec.Orchestration?.TaskHistoryRetentionLimit ?? DEFAULT_TASK_HISTORY
}

/** The oldest dead tasks, so that at most the limit is left of the slot; a negative limit keeps everything. */
function excessOf(tasks: readonly Task[], service: Service | undefined, cluster: Cluster | undefined): readonly Task[] {
  if (!service) return []
  const { maxAttempts } = restartSettings(service.spec.TaskTemplate ?? {})
  // The restart policy counts attempts by the tasks that it finds.
  const limit = maxAttempts > 0 ? maxAttempts + 1 : historyOf(cluster)
  if (limit < 0 || tasks.length <= limit) return []
  const last = newest(tasks)
  const dead = tasks.filter((task) => task !== last && isHistory(task) && !isResult(task, service))
  return dead.toSorted((a, b) => (isOlder(a, b) ? -1 : 1)).slice(0, tasks.length - limit)
}

function isHistory(task: Task): boolean {
  return hasEnded(task) || (neverAssigned(task) && compareTaskStates(task.desiredState, 'complete') > 0)
}

/** What a job has completed stays as long as the iteration is the current one. */
function isResult(task: Task, service: Service): boolean {
  return (
    isJob(service.spec) &&
    task.status.state === 'complete' &&
    (task.jobIteration ?? 0) === (service.jobStatus?.iteration ?? 0)
  )
}

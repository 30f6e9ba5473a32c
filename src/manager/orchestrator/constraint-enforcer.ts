// A node's labels, role or resources may change under the tasks that it runs. Tasks that no longer belong there are rejected;
// the restart supervisor then finds them another place. Those with end points are told to stop instead, so that they drain and
// keep their addresses until they have ended. One key is a node.

import type { Node, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { Controller, Decision, ReconcileContext } from '../loop/controller.ts'
import { NOTHING } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { statusAfter } from '../loop/task-status.ts'
import { nodeMeetsExpressions } from '../scheduler/constraint.ts'
import { FreeGenericResources } from '../scheduler/generic-resources.ts'
import type { Change, StoreEvent, StoreView } from '../store/types.ts'
import { hasEnded, isLive, isOlder } from './slots.ts'

export class ConstraintEnforcer implements Controller {
  readonly name = 'constraint enforcer';

  *start(view: StoreView): Iterable<string> {
    for (const node of view.list('node')) yield node.id
  }

  *affected(event: StoreEvent): Iterable<string> {
    if (event.objectKind === 'node' && event.kind === 'update') yield event.id
  }

  reconcile(view: StoreView, nodeId: string, { nowMs }: ReconcileContext): Decision {
    const node = view.get('node', nodeId)
    // A drained node is emptied anyway, a paused one is to be left alone.
    if (!node || (node.spec.Availability ?? 'active') !== 'active') return NOTHING
    const tasks = view.tasksOfNode(nodeId).filter(isPlaced)
    const units = misplaced(node, tasks, view).map((task): readonly Change[] => {
      if (task.attachments.length > 0) {
        const object = { ...task, desiredState: 'shutdown' } as const
        return [{ kind: 'update', object, expectedVersion: task.meta.version }]
      }
      const rejection = {
        state: 'rejected',
        message: 'task rejected by constraint enforcer',
        error: 'assigned node no longer meets constraints',
      } as const
      return [{ kind: 'task-status', taskId: task.id, status: statusAfter(task, rejection, nowMs) }]
    })
    return { transactions: packChanges(units) }
  }
}

function isPlaced(task: Task): boolean {
  return isLive(task) && compareTaskStates(task.status.state, 'assigned') >= 0 && !hasEnded(task)
}

/** The oldest tasks keep their place when there is not enough for all. */
function misplaced(node: Node, tasks: readonly Task[], view: StoreView): readonly Task[] {
  const total = node.description.Resources
  const generic = new FreeGenericResources(total?.GenericResources ?? [])
  let nanoCpus = total?.NanoCPUs ?? 0
  let memoryBytes = total?.MemoryBytes ?? 0
  return tasks
    .toSorted((a, b) => (isOlder(a, b) ? -1 : 1))
    .filter((task) => {
      // The task's own constraints may be older than the service's, which it was found to meet.
      const placement = (view.get('service', task.serviceId)?.spec.TaskTemplate ?? task.spec).Placement
      if (!nodeMeetsExpressions(node, placement?.Constraints)) return true
      const { NanoCPUs = 0, MemoryBytes = 0 } = task.spec.Resources?.Reservations ?? {}
      if ((NanoCPUs > 0 && NanoCPUs > nanoCpus) || (MemoryBytes > 0 && MemoryBytes > memoryBytes))
        return total !== undefined
      if (!generic.covers(task.genericResources)) return true
      nanoCpus -= NanoCPUs
      memoryBytes -= MemoryBytes
      generic.take(task.genericResources)
      return false
    })
}

// The orchestrator: one key is a service, and one look brings its tasks nearer to its spec: replicas or nodes, restarts,
// updates, jobs, and the end of a service that was removed.

import type { Node, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { Controller, Decision, Problem, ReconcileContext } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { serviceProblem } from '../loop/service-problem.ts'
import type { Change, StoreEvent, StoreView, Transaction } from '../store/types.ts'
import { reconcileGlobal } from './global.ts'
import { reconcileGlobalJob, reconcileReplicatedJob } from './jobs.ts'
import { reconcileReplicated } from './replicated.ts'
import { ServicePlan } from './service-plan.ts'
import { isGlobal, serviceKind } from './service-settings.ts'
import { hasEnded, isInvalidNode, isLive } from './slots.ts'

const MAX_REMOVALS_PER_LOOK = 1_000

export class ServiceController implements Controller {
  readonly name = 'orchestrator'
  /** Services whose tasks follow the nodes. */
  readonly #globals = new Set<string>();

  *start(view: StoreView): Iterable<string | undefined> {
    this.#globals.clear()
    for (const service of view.list('service')) {
      if (isGlobal(service.spec)) this.#globals.add(service.id)
      yield service.id
    }
    // Tasks of services that were removed just before the election.
    for (const [at, task] of view.list('task').entries()) {
      if (task.desiredState !== 'remove' && !view.get('service', task.serviceId)) yield task.serviceId
      else if (at % 100 === 0) yield undefined
    }
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    const { old, new: next } = event
    if (event.objectKind === 'service') {
      if (next?.kind === 'service' && isGlobal(next.spec)) this.#globals.add(event.id)
      else this.#globals.delete(event.id)
      yield event.id
    } else if (event.objectKind === 'task') {
      yield* taskConcerns(old?.kind === 'task' ? old : undefined, next?.kind === 'task' ? next : undefined, view)
    } else if (event.objectKind === 'node') {
      yield* this.#nodeConcerns(event.id, next?.kind === 'node' ? next : undefined, view)
    }
  }

  reconcile(view: StoreView, serviceId: string, context: ReconcileContext): Decision {
    const service = view.get('service', serviceId)
    const tasks = view.tasksOfService(serviceId)
    if (!service) return removeTasks(tasks, context.nowMs)
    const plan = new ServicePlan(view, service, context)
    switch (serviceKind(service.spec)) {
      case 'replicated':
        reconcileReplicated(plan, tasks)
        break
      case 'global':
        reconcileGlobal(plan, tasks)
        break
      case 'replicated-job':
        reconcileReplicatedJob(plan, tasks)
        break
      case 'global-job':
        reconcileGlobalJob(plan, tasks)
        break
    }
    return plan.decision()
  }

  report(
    view: StoreView,
    serviceId: string,
    problem: Problem | undefined,
    context: ReconcileContext,
  ): Transaction | undefined {
    return serviceProblem(view.get('service', serviceId), this.name, problem, context.nowMs)
  }

  *#nodeConcerns(nodeId: string, node: Node | undefined, view: StoreView): Iterable<string> {
    yield* this.#globals
    if (!isInvalidNode(node)) return
    for (const task of view.tasksOfNode(nodeId)) if (isLive(task)) yield task.serviceId
  }
}

/** Most changes of a task (that it is assigned, that its image is there …) leave nothing to decide. */
function* taskConcerns(old: Task | undefined, next: Task | undefined, view: StoreView): Iterable<string> {
  if (!next) {
    if (old && isLive(old)) yield old.serviceId
    return
  }
  if (!old) return
  const { serviceId } = next
  if (next.nodeId !== old.nodeId && isInvalidNode(view.get('node', next.nodeId))) yield serviceId
  else if (next.status.state === old.status.state || compareTaskStates(next.status.state, 'running') < 0) return
  else if (hasEnded(next) || next.failures || isReplacement(next, view)) yield serviceId
}

/** Somebody waits for this task to run: an update, or a second task of its slot. */
function isReplacement(task: Task, view: StoreView): boolean {
  const state = view.get('service', task.serviceId)?.updateStatus?.State
  if (state === 'updating' || state === 'rollback_started') return true
  const others = (one: Task) => one.id !== task.id && one.serviceId === task.serviceId && isLive(one)
  // The slot of a global service is a node.
  return (task.slot > 0 ? view.tasksOfSlot(task.serviceId, task.slot) : view.tasksOfNode(task.nodeId)).some(others)
}

function removeTasks(tasks: readonly Task[], nowMs: number): Decision {
  const left = tasks.filter((task) => task.desiredState !== 'remove')
  const units = left
    .slice(0, MAX_REMOVALS_PER_LOOK)
    .map((task): readonly Change[] => [
      { kind: 'update', object: { ...task, desiredState: 'remove' }, expectedVersion: task.meta.version },
    ])
  const requeueAtMs = left.length > MAX_REMOVALS_PER_LOOK ? nowMs : undefined
  return { transactions: packChanges(units), requeueAtMs }
}

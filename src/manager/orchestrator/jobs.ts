// Jobs: tasks that are to complete. A replicated job runs MaxConcurrent at a time until TotalCompletions have completed, one
// in each slot; a global job completes once on every node, also on those that come later. A new iteration starts afresh.

import type { Node, Task } from '../../api/objects.ts'
import { constraintsOf, nodeMeets } from '../scheduler/constraint.ts'
import { superviseSlot } from './restart-supervisor.ts'
import type { ServicePlan } from './service-plan.ts'
import { jobSize } from './service-settings.ts'
import { isInvalidNode, isLive, isStarting, newest, type Slot, slotsOf } from './slots.ts'

/** Tasks of the current iteration; those of earlier ones are sent away. */
function currentTasks(plan: ServicePlan, tasks: readonly Task[]): readonly Task[] {
  const iteration = plan.service.jobStatus?.iteration ?? 0
  const current: Task[] = []
  for (const task of tasks) {
    if ((task.jobIteration ?? 0) === iteration) current.push(task)
    else plan.add(...plan.stop(task, 'remove'))
  }
  return current
}

export function reconcileReplicatedJob(plan: ServicePlan, tasks: readonly Task[]): void {
  const { maxConcurrent, totalCompletions } = jobSize(plan.service.spec)
  const used = new Set<number>()
  let completed = 0
  let active = 0
  let starting = 0
  for (const slot of slotsOf(currentTasks(plan, tasks), false)) {
    if (plan.isFull) return
    // A slot that completed or gave up is used as well: it is not tried again in this iteration.
    used.add(slot.slot)
    const changed = superviseSlot(plan, slot)
    if (slot.live.some(isStarting)) starting++
    if (slot.tasks.some((task) => task.status.state === 'complete')) completed++
    else if (changed || slot.live.length > 0) active++
  }
  const open = totalCompletions - used.size
  const missing = Math.min(maxConcurrent - active, totalCompletions - completed - active, open)
  let slot = 1
  for (let made = 0; made < missing && !plan.isFull && !plan.isCrowded(starting + made); made++) {
    while (used.has(slot)) slot++
    used.add(slot)
    plan.add(plan.create({ slot, nodeId: '', desiredState: 'complete', origin: { kind: 'job' } }))
  }
}

export function reconcileGlobalJob(plan: ServicePlan, tasks: readonly Task[]): void {
  const slots = new Map(slotsOf(currentTasks(plan, tasks), true).map((slot) => [slot.nodeId, slot]))
  const constraints = constraintsOf(plan.service.spec.TaskTemplate?.Placement?.Constraints)
  for (const node of plan.nodes()) {
    if (plan.isFull) return
    const slot = slots.get(node.id)
    slots.delete(node.id)
    if (isInvalidNode(node)) {
      for (const task of slot?.live.filter((one) => one.status.state !== 'complete') ?? []) {
        plan.add(...plan.stop(task, 'shutdown'))
      }
    } else if (slot && !isVacated(slot)) superviseSlot(plan, slot)
    else if (isCandidate(node) && nodeMeets(node, constraints)) {
      plan.add(plan.create({ slot: 0, nodeId: node.id, desiredState: 'complete', origin: { kind: 'job' } }))
    }
  }
  for (const slot of slots.values()) for (const task of slot.tasks) plan.add(...plan.stop(task, 'remove'))
}

/** Its last task was stopped because of the node, not by an end of its own: the node is to run it again. */
function isVacated(slot: Slot): boolean {
  const last = newest(slot.tasks)
  return last !== undefined && !isLive(last) && ['shutdown', 'orphaned'].includes(last.status.state)
}

function isCandidate(node: Node): boolean {
  return node.status.state === 'ready' && (node.spec.Availability ?? 'active') === 'active'
}

// A global service: one task on each node that meets its constraints and is neither down nor drained. Paused nodes keep what
// they have and get nothing new.

import type { Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { constraintsOf, nodeMeets } from '../scheduler/constraint.ts'
import { standingTasks } from './restart-policy.ts'
import { superviseSlot } from './restart-supervisor.ts'
import type { ServicePlan } from './service-plan.ts'
import { hasEnded, isInvalidNode, isRunning, newest, type Slot, slotsOf } from './slots.ts'
import { judgeUpdate, type StandingSlot, stepUpdate } from './update.ts'

export function reconcileGlobal(plan: ServicePlan, tasks: readonly Task[]): void {
  if (judgeUpdate(plan, tasks) === 'stop') return
  const slots = new Map(slotsOf(tasks, true).map((slot) => [slot.nodeId, slot]))
  const constraints = constraintsOf(plan.service.spec.TaskTemplate?.Placement?.Constraints)
  const standing: StandingSlot[] = []
  let wanted = 0
  for (const node of plan.nodes()) {
    if (plan.isFull) return
    const slot = slots.get(node.id)
    slots.delete(node.id)
    if (isInvalidNode(node) || !nodeMeets(node, constraints)) stopAll(plan, slot, 'shutdown')
    else if (node.spec.Availability === 'pause') settlePaused(plan, slot)
    else {
      wanted++
      const occupied = slot && occupiedSlot(plan, slot)
      if (occupied) standing.push(occupied)
      else if (!plan.isFull) {
        const origin = { kind: 'node' } as const
        plan.add(plan.create({ slot: 0, nodeId: node.id, desiredState: 'running', origin }))
      }
    }
  }
  // What is left belongs to nodes that are gone: so does its history.
  for (const slot of slots.values()) stopAll(plan, slot, 'remove')
  stepUpdate(plan, standing, wanted)
}

function occupiedSlot(plan: ServicePlan, slot: Slot): StandingSlot | undefined {
  const busy = superviseSlot(plan, slot)
  const standing = standingTasks(plan.service, slot)
  return busy || standing.length > 0 ? { ...slot, standing, busy } : undefined
}

function stopAll(plan: ServicePlan, slot: Slot | undefined, desiredState: 'shutdown' | 'remove'): void {
  const tasks = desiredState === 'remove' ? slot?.tasks : slot?.live
  for (const task of tasks ?? []) plan.add(...plan.stop(task, desiredState))
}

/**
 * On a paused node nothing is started again; what an update was replacing still goes when its successor runs, and what can't
 * begin there now is made again when the node is active.
 */
function settlePaused(plan: ServicePlan, slot: Slot | undefined): void {
  const live = slot?.live ?? []
  const running = live.filter(isRunning)
  const successor = newest(running.filter((task) => !plan.isDirty(task)))
  const kept = successor ?? newest(running)
  for (const task of live) {
    const waits = live.length > 1 && compareTaskStates(task.status.state, 'assigned') < 0
    const superfluous = task !== kept && (successor !== undefined || isRunning(task))
    if (hasEnded(task) || waits || superfluous) plan.add(...plan.stop(task, 'shutdown'))
  }
}

// A replicated service: as many slots as replicas. Scaling up fills the lowest free numbers; scaling down takes slots that do
// not run first, then those on nodes with the most.

import type { Task } from '../../api/objects.ts'
import { standingTasks } from './restart-policy.ts'
import { superviseSlot } from './restart-supervisor.ts'
import type { ServicePlan } from './service-plan.ts'
import { replicas } from './service-settings.ts'
import { hasEnded, isRunning, isStarting, type Slot, slotsOf } from './slots.ts'
import { judgeUpdate, type StandingSlot, stepUpdate } from './update.ts'

export function reconcileReplicated(plan: ServicePlan, tasks: readonly Task[]): void {
  const slots = slotsOf(tasks, false)
  if (judgeUpdate(plan, tasks) === 'stop') return
  const standing: StandingSlot[] = []
  const vacant: Slot[] = []
  for (const slot of slots) {
    if (plan.isFull) return
    const busy = superviseSlot(plan, slot)
    const stand = standingTasks(plan.service, slot)
    if (busy || stand.length > 0) standing.push({ ...slot, standing: stand, busy })
    else vacant.push(slot)
  }
  const wanted = replicas(plan.service.spec)
  const { kept, surplus } = choose(standing, wanted)
  removeSlots(plan, surplus)
  const filled = addSlots(plan, standing, wanted)
  forget(
    plan,
    vacant.filter((slot) => !filled.has(slot.slot)),
  )
  stepUpdate(plan, kept, wanted)
}

function choose(
  standing: readonly StandingSlot[],
  wanted: number,
): { readonly kept: readonly StandingSlot[]; readonly surplus: readonly StandingSlot[] } {
  if (standing.length <= wanted) return { kept: standing, surplus: [] }
  const running = standing.toSorted((a, b) => Number(runs(b)) - Number(runs(a)) || a.slot - b.slot)
  // The how many-th slot of the service on its node each one is; slots on no node, or on two, go first.
  const onNode = new Map<string, number>()
  const ranked = running.map((slot) => {
    const nodeId = slot.standing.length === 1 ? slot.standing[0]!.nodeId : ''
    if (!nodeId) return { slot, rank: Number.POSITIVE_INFINITY }
    const rank = (onNode.get(nodeId) ?? 0) + 1
    onNode.set(nodeId, rank)
    return { slot, rank }
  })
  const sorted = ranked.toSorted((a, b) => (a.rank === b.rank ? 0 : a.rank - b.rank)).map(({ slot }) => slot)
  const kept = new Set(sorted.slice(0, wanted))
  return { kept: standing.filter((slot) => kept.has(slot)), surplus: sorted.slice(wanted) }
}

function runs(slot: StandingSlot): boolean {
  return slot.standing.some(isRunning)
}

function removeSlots(plan: ServicePlan, surplus: readonly StandingSlot[]): void {
  for (const slot of surplus) {
    if (plan.isFull) return
    // A slot that the supervisor has just changed is removed by the next look, which follows every change.
    if (!slot.busy) for (const task of slot.standing) plan.add(...plan.stop(task, 'remove'))
  }
}

function addSlots(plan: ServicePlan, standing: readonly StandingSlot[], wanted: number): ReadonlySet<number> {
  const used = new Set(standing.map(({ slot }) => slot))
  const filled = new Set<number>()
  const starting = standing.filter((slot) => slot.standing.some(isStarting)).length
  for (let slot = 1; standing.length + filled.size < wanted && !plan.isFull; slot++) {
    if (used.has(slot)) continue
    if (plan.isCrowded(starting + filled.size)) break
    filled.add(slot)
    plan.add(plan.create({ slot, nodeId: '', desiredState: 'running', origin: { kind: 'replica' } }))
  }
  return filled
}

/** Slots that are no longer used leave no history; what still runs in them goes when it has ended. */
function forget(plan: ServicePlan, vacant: readonly Slot[]): void {
  for (const task of vacant.flatMap((slot) => slot.tasks)) {
    if (plan.isFull) return
    if (hasEnded(task)) {
      plan.add({ kind: 'remove', objectKind: 'task', id: task.id, expectedVersion: task.meta.version })
    }
  }
}

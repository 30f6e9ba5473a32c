// A slot is a place for one running task: a numbered one of a replicated service, or a node of a global one. Tasks succeed
// each other in it; for a moment there may be two.

import type { Node, Task } from '../../api/objects.ts'
import { compareTaskStates, isTerminal } from '../../api/spec.ts'
import { groupBy } from '../../lib/group-by.ts'

export interface Slot {
  /** Names the slot within its service. */
  readonly key: string
  readonly slot: number
  /** Of global services; else empty. */
  readonly nodeId: string
  readonly tasks: readonly Task[]
  /** Tasks that are not told to stop. */
  readonly live: readonly Task[]
}

/** Desired state NEW to RUNNING, or COMPLETE: nobody has told it to stop. */
export function isLive(task: Task): boolean {
  return compareTaskStates(task.desiredState, 'complete') <= 0
}

export function hasEnded(task: Task): boolean {
  return isTerminal(task.status.state)
}

/** A worker may be running it: assigned and not ended. */
export function mayRun(task: Task): boolean {
  return compareTaskStates(task.status.state, 'assigned') >= 0 && !hasEnded(task)
}

export function isRunning(task: Task): boolean {
  return task.status.state === 'running' && isLive(task)
}

/** On its way to a container that runs, or waiting for a place. */
export function isStarting(task: Task): boolean {
  return isLive(task) && compareTaskStates(task.status.state, 'running') < 0
}

/** Nothing new belongs on the node, and what is there has to go. */
export function isInvalidNode(node: Node | undefined): boolean {
  return !node || isDown(node) || node.spec.Availability === 'drain'
}

export function isDown(node: Node | undefined): boolean {
  return !node || node.status.state === 'down'
}

/** Slots of the tasks, by number (and key) or by node. */
export function slotsOf(tasks: readonly Task[], byNode: boolean): readonly Slot[] {
  const groups = groupBy(tasks, (task) => (byNode ? task.nodeId : task.slot))
  const slots = [...groups].map(([, group]): Slot => {
    const { slot, nodeId } = group[0]!
    const key = byNode ? nodeId : String(slot)
    return { key, slot, nodeId: byNode ? nodeId : '', tasks: group, live: group.filter(isLive) }
  })
  return slots.sort((a, b) => a.slot - b.slot || (a.key < b.key ? -1 : 1))
}

/** The task that was made last. */
export function newest(tasks: readonly Task[]): Task | undefined {
  let last: Task | undefined
  for (const task of tasks) if (!last || isOlder(last, task)) last = task
  return last
}

export function isOlder(a: Task, b: Task): boolean {
  if (a.meta.createdAt !== b.meta.createdAt) return a.meta.createdAt < b.meta.createdAt
  return a.meta.version === b.meta.version ? a.id < b.id : a.meta.version < b.meta.version
}

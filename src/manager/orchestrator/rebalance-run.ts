// A rebalancing of a service as it stands: its moves that are under way, and what of them has gone wrong. Read from the tasks,
// so that any leader sees the same.

import type { Rebalance, Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { parseTime } from '../../lib/clock.ts'
import { endOfWait } from '../loop/waits.ts'
import type { StoreView } from '../store/types.ts'
import { updateSettings } from './service-settings.ts'
import { isDown, isLive, isRunning, mayRun } from './slots.ts'

export interface MoveUnderWay {
  readonly task: Task
  /** The one that it takes over from, while that is in the store. */
  readonly predecessor: Task | undefined
  readonly stage: 'starting' | 'stopping' | 'watching'
}

export interface RunAccount {
  readonly underWay: readonly MoveUnderWay[]
  /** What has to end the run. */
  readonly failure: string | undefined
  /** When a place becomes free by time alone. */
  readonly lookAgainAtMs: number | undefined
}

export function isRebalancing(service: Service): service is Service & { readonly rebalance: Rebalance } {
  return service.rebalance?.state === 'running'
}

/**
 * A move holds its place until the new task has run for the monitor period of the service's updates and the old one has
 * stopped.
 */
export function accountOf(view: StoreView, service: Service, run: Rebalance, nowMs: number): RunAccount {
  const { monitorMs } = updateSettings(service.spec.UpdateConfig)
  const underWay: MoveUnderWay[] = []
  let failure: string | undefined
  let lookAgainAtMs = Number.POSITIVE_INFINITY
  for (const task of view.tasksOfService(service.id)) {
    if (task.origin?.kind !== 'move' || task.origin.rebalanceId !== run.id) continue
    const { state, error } = task.status
    if (state === 'failed' || state === 'rejected' || state === 'complete') {
      failure ??= `task ${task.id} (${service.spec.Name}.${task.slot}) ${state} on its new node${error ? `: ${error}` : ''}`
    }
    if (!isLive(task) || compareTaskStates(state, 'running') > 0) continue
    if (state === 'pending' && error) failure ??= `task ${task.id} (${service.spec.Name}.${task.slot}): ${error}`
    const predecessor = view.get('task', task.origin.predecessorId ?? '')
    const add = (stage: MoveUnderWay['stage']) => underWay.push({ task, predecessor, stage })
    if (!isRunning(task)) add('starting')
    else if (predecessor && mayRun(predecessor) && !isDown(view.get('node', predecessor.nodeId))) add('stopping')
    else {
      const endMs = endOfWait(parseTime(task.meta.updatedAt), monitorMs, nowMs)
      if (endMs <= nowMs) continue
      add('watching')
      lookAgainAtMs = Math.min(lookAgainAtMs, endMs)
    }
  }
  return { underWay, failure, lookAgainAtMs: Number.isFinite(lookAgainAtMs) ? lookAgainAtMs : undefined }
}

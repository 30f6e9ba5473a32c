// What rebalancing may do with a service: whether its tasks may be moved at all, whether now, and in which order.

import type { Service, Task } from '../../api/objects.ts'
import type { MountSpec } from '../../api/spec.ts'
import type { StoreView } from '../store/types.ts'
import { isGlobal, isJob, replicas } from './service-settings.ts'
import { isLive, isRunning } from './slots.ts'
import { DirtyTasks } from './task-dirty.ts'

export type Obstacle =
  /** It is not a thing to wait for. */
  { readonly kind: 'never'; readonly reason: string } | { readonly kind: 'not-now'; readonly reason: string }

/**
 * What keeps the service from being rebalanced; undefined: nothing.
 * @param volumes allows to move tasks away from their data
 * @param moving slots of moves that are under way
 */
export function obstacleOf(
  view: StoreView,
  service: Service,
  volumes: boolean,
  moving: readonly number[] = [],
): Obstacle | undefined {
  const { spec, updateStatus } = service
  if (isJob(spec)) return { kind: 'never', reason: 'it is a job' }
  if (isGlobal(spec)) return { kind: 'never', reason: 'it is global: it has a task on every node' }
  const data = localData(service)
  if (data && !volumes) {
    return {
      kind: 'never',
      reason: `its tasks have data on their nodes (${data}), which would stay behind: see --volumes`,
    }
  }
  const state = updateStatus?.State
  if (state === 'updating' || state === 'rollback_started') return { kind: 'never', reason: 'it is being updated' }
  const tasks = view.tasksOfService(service.id).filter(isLive)
  const dirty = new DirtyTasks(service)
  if (tasks.some((task) => dirty.has(task, view.get('node', task.nodeId)))) {
    const isPaused = state === 'paused' || state === 'rollback_paused'
    return { kind: isPaused ? 'never' : 'not-now', reason: `its update is ${isPaused ? 'paused' : 'about to begin'}` }
  }
  const running = new Set([...tasks.filter(isRunning).map((task) => task.slot), ...moving]).size
  const wanted = replicas(spec)
  return running < wanted ? { kind: 'not-now', reason: `${running} of ${wanted} replicas run` } : undefined
}

/** The tasks that may be moved: those that run, alone in their slots, as the service's spec wants them now. */
export function movableTasks(view: StoreView, service: Service): readonly Task[] {
  const template = service.spec.TaskTemplate ?? {}
  const live = view.tasksOfService(service.id).filter(isLive)
  const slots = new Map<number, number>()
  for (const { slot } of live) slots.set(slot, (slots.get(slot) ?? 0) + 1)
  return live
    .filter((task) => isRunning(task) && slots.get(task.slot) === 1)
    .map((task) => ({ ...task, spec: template }))
}

/**
 * Start-first, unless the service's update order says otherwise in so many words, or there is a volume or directory that two
 * tasks of one slot might write at the same time. A host-mode port is no reason: the successor has another node's.
 */
export function moveOrder({ spec }: Service): 'start-first' | 'stop-first' {
  const shares = (spec.TaskTemplate?.ContainerSpec?.Mounts ?? []).some(
    (mount) => mount.Type !== 'tmpfs' && !mount.ReadOnly,
  )
  return shares || spec.UpdateConfig?.Order === 'stop-first' ? 'stop-first' : 'start-first'
}

/** The first two mounts of a node's own disk; empty: the tasks have none. */
function localData({ spec }: Service): string {
  const local = (spec.TaskTemplate?.ContainerSpec?.Mounts ?? []).filter(isLocal)
  const names = local.slice(0, 2).map((mount) => `${mount.Type ?? 'volume'} ${mount.Source || mount.Target || ''}`)
  return local.length > 2 ? `${names.join(', ')} and ${local.length - 2} more` : names.join(', ')
}

function isLocal({ Type, VolumeOptions }: MountSpec): boolean {
  if (Type === 'bind' || Type === 'npipe') return true
  const driver = VolumeOptions?.DriverConfig?.Name
  return Type === 'volume' && (driver === undefined || driver === '' || driver === 'local')
}

// Where an update stands and what its next step waits for, read as the updater reads it.

import type { Service, Task } from '../../api/objects.ts'
import { progressDeadlineMs } from '../../api/service-labels.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { WhyEventJson, WhyWaitJson } from '../../api/why.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { currentUpdateSettings } from '../orchestrator/service-settings.ts'
import { isLive } from '../orchestrator/slots.ts'
import { DirtyTasks } from '../orchestrator/task-dirty.ts'
import type { StoreView } from '../store/types.ts'
import { hostname, slotName } from './why-history.ts'

const MAX_LINES = 4

export interface UpdateAccount {
  readonly because: readonly string[]
  readonly waits: readonly WhyWaitJson[]
}

export function updateAccount(view: StoreView, service: Service, tasks: readonly Task[], nowMs: number): UpdateAccount {
  const { updateStatus, updateProgress } = service
  const progress = updateProgress?.specVersion === service.specVersion ? updateProgress : undefined
  if (!updateStatus || !progress) return { because: [], waits: [] }
  const failed = tasks.filter((task) => progress.failedTaskIds.includes(task.id))
  const failures = failed.slice(-MAX_LINES).map((task) => {
    const { state, error } = task.status
    return `${slotName(view, task)} (task ${task.id}) ${state} on node ${hostname(view, task.nodeId)}${error ? `: ${error}` : ''}`
  })
  const state = updateStatus.State
  if (state === 'updating' || state === 'rollback_started') return underWay(view, service, tasks, nowMs, failures)
  if (state !== 'paused' && state !== 'rollback_paused') return { because: [], waits: [] }
  const rest = `${dirtyText(view, service, tasks)}; it goes on with the next update or rollback of the service`
  return { because: [...failures, rest], waits: [] }
}

function dirtyText(view: StoreView, service: Service, tasks: readonly Task[]): string {
  const judge = new DirtyTasks(service)
  const live = tasks.filter(isLive)
  const dirty = live.filter((task) => judge.has(task, view.get('node', task.nodeId))).length
  return `${dirty} of ${live.length} tasks are of another version`
}

function underWay(
  view: StoreView,
  service: Service,
  tasks: readonly Task[],
  nowMs: number,
  failures: readonly string[],
): UpdateAccount {
  const settings = currentUpdateSettings(service)
  const { id, failedTaskIds, totalSlots, lastSlotDoneAt } = service.updateProgress!
  const made = tasks.filter((task) => task.origin?.updateId === id && isLive(task))
  const starting = made.filter((task) => compareTaskStates(task.status.state, 'running') < 0)
  const allowed = Math.floor(settings.maxFailureRatio * totalSlots)
  const because = [
    `${dirtyText(view, service, tasks)}; ${settings.order}, ${Number.isFinite(settings.parallelism) ? `${settings.parallelism} at a time` : 'all at once'}`,
    ...starting.slice(0, MAX_LINES).map((task) => {
      const { state, timestamp, error } = task.status
      return `it waits for ${slotName(view, task)} (task ${task.id}) to run: ${state} since ${timestamp}${error ? `: ${error}` : ''}`
    }),
    ...(starting.length > MAX_LINES ? [`and for ${starting.length - MAX_LINES} more`] : []),
    ...(failedTaskIds.length > 0
      ? [
          `${failedTaskIds.length} of its tasks failed; more than ${allowed} would ${actionText(settings.failureAction)}`,
        ]
      : []),
    ...failures,
  ]
  const deadlineMs = progressDeadlineMs(service.spec.Labels)
  const deadlines = starting.flatMap((task): WhyWaitJson[] => {
    const untilMs = deadlineMs === undefined ? 0 : parseTime(task.meta.createdAt) + deadlineMs
    if (untilMs <= nowMs) return []
    return [{ For: `${slotName(view, task)} to run (progress deadline)`, Until: formatTime(untilMs) }]
  })
  const delays = made.flatMap(({ settledAt, ...task }): WhyWaitJson[] => {
    const untilMs = settledAt ? parseTime(settledAt) + settings.delayMs : 0
    if (untilMs <= nowMs) return []
    return [
      {
        For: `the update's next slot (delay after ${task.serviceName}.${task.slot || task.nodeId})`,
        Until: formatTime(untilMs),
      },
    ]
  })
  const watchMs = settings.delayMs >= settings.monitorMs ? settings.delayMs + 1_000 : settings.monitorMs
  const endMs = lastSlotDoneAt ? parseTime(lastSlotDoneAt) + watchMs : 0
  const end = endMs > nowMs ? [{ For: 'the end of the update (last monitor period)', Until: formatTime(endMs) }] : []
  return { because, waits: [...deadlines.slice(0, MAX_LINES), ...delays.slice(0, MAX_LINES), ...end] }
}

function actionText(action: 'pause' | 'continue' | 'rollback'): string {
  if (action === 'pause') return 'pause it'
  return action === 'rollback' ? 'roll it back' : 'not stop it either'
}

export function updateEvents({ updateStatus, previousSpec, meta, problem }: Service): readonly WhyEventJson[] {
  const event = (Time: string, By: string, What: string): WhyEventJson => ({ Time, By, Task: '', TaskID: '', What })
  const { StartedAt = '', CompletedAt = '', State = '', Message = '' } = updateStatus ?? {}
  return [
    event(meta.createdAt, 'user', 'service created'),
    ...(updateStatus
      ? [event(StartedAt, 'updater', previousSpec ? 'update begun: the spec was changed' : 'update begun')]
      : []),
    ...(CompletedAt ? [event(CompletedAt, 'updater', `${State.replace('_', ' ')}: ${Message}`)] : []),
    ...(problem ? [event(problem.since, problem.source, `${problem.code}: ${problem.message}`)] : []),
  ]
}

// Why a service is as it is: how many of its tasks run, what keeps the others, where its update stands, and what was done last.

import type { Service, Task } from '../../api/objects.ts'
import type { WhyJson } from '../../api/why.ts'
import { shouldRestart } from '../orchestrator/restart-policy.ts'
import { isGlobal, isJob, jobSize, replicas } from '../orchestrator/service-settings.ts'
import { hasEnded, isLive, isRunning, newest, slotsOf } from '../orchestrator/slots.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import type { StoreView } from '../store/types.ts'
import { rebalanceStatus } from './rebalance.ts'
import { newestEvents, newestTasks, slotName, taskEvents, type WhyOptions } from './why-history.ts'
import { awaitsNode, placementOf, placementSummary } from './why-placement.ts'
import { restText, taskWaits } from './why-task.ts'
import { updateAccount, updateEvents } from './why-update.ts'

const MAX_WAITS = 4
const MAX_LINES = 4

export function whyService(
  view: StoreView,
  service: Service,
  map: ClusterMap | undefined,
  options: WhyOptions,
): WhyJson {
  const { nowMs, limit } = options
  const tasks = view.tasksOfService(service.id)
  const update = updateAccount(view, service, tasks, nowMs)
  const waiting = tasks.filter(awaitsNode)
  const placement = map && placementOf(view, waiting, map)
  const because = [
    ...(service.problem ? [service.problem.message] : []),
    ...(placement
      ? [
          `${waiting.length} of its tasks ${waiting.length === 1 ? 'waits' : 'wait'} for a node; ${placementSummary(placement)}`,
        ]
      : []),
    ...update.because,
    ...rebalancing(view, service, nowMs),
    ...failing(view, tasks),
    ...resting(view, service, tasks),
  ]
  const waits = [...update.waits, ...tasks.flatMap((task) => taskWaits(view, task, nowMs)).slice(0, MAX_WAITS)]
  const events = [...updateEvents(service), ...newestTasks(tasks, limit).flatMap((task) => taskEvents(view, task))]
  return {
    Kind: 'service',
    ID: service.id,
    Name: service.spec.Name ?? '',
    Now: nowText(service, tasks),
    Because: because,
    Waits: waits,
    ...(placement ? { Placement: placement } : {}),
    History: newestEvents(events, limit),
  }
}

function nowText(service: Service, tasks: readonly Task[]): string {
  const running = tasks.filter(isRunning).length
  const { updateStatus } = service
  const update = updateStatus ? `; ${updateStatus.Message || updateStatus.State}` : ''
  if (isJob(service.spec)) {
    const iteration = service.jobStatus?.iteration ?? 0
    const done = tasks.filter(
      (task) => (task.jobIteration ?? 0) === iteration && task.status.state === 'complete',
    ).length
    const runs = tasks.filter((task) => isLive(task) && task.status.state === 'running').length
    const wanted = isGlobal(service.spec) ? 'one on each node' : `${jobSize(service.spec).totalCompletions}`
    return `${done} completed of ${wanted}, ${runs} running`
  }
  const wanted = isGlobal(service.spec) ? 'one on each node that it may run on' : `${replicas(service.spec)}`
  return `${running} running of ${wanted}${update}`
}

/** What rebalancing does now, or why it ended before its end. */
function rebalancing(view: StoreView, service: Service, nowMs: number): readonly string[] {
  const [run] = rebalanceStatus(view, [service], nowMs)
  if (!run || run.State === 'completed') return []
  const { Cause, Planned, Done, UnderWay, Message, EndedAt } = run
  if (run.State === 'stopped')
    return [`its rebalancing was stopped at ${EndedAt} after ${Done} of ${Planned} moves: ${Message}`]
  const moves = UnderWay.slice(0, MAX_LINES).map(
    ({ Task, TaskID, From, To, Stage }) =>
      `${Task} from ${From.Hostname || From.ID} to ${To.Hostname || To.ID} (task ${TaskID}: ${Stage})`,
  )
  const waits = Message ? [`it waits: ${Message}`] : []
  return [[`it is being rebalanced as ${Cause}: ${Done} of ${Planned} tasks moved`, ...moves, ...waits].join('; ')]
}

/** Slots whose tasks keep ending: the last end of each. */
function failing(view: StoreView, tasks: readonly Task[]): readonly string[] {
  const restarted = tasks.filter((task) => isLive(task) && !isRunning(task) && task.origin?.kind === 'restart')
  const lines = restarted
    .slice(0, MAX_LINES)
    .map((task) => `${slotName(view, task)} is being restarted: ${task.origin?.detail ?? ''}`)
  return restarted.length > MAX_LINES ? [...lines, `and ${restarted.length - MAX_LINES} more`] : lines
}

/** Slots that nobody starts again. */
function resting(view: StoreView, service: Service, tasks: readonly Task[]): readonly string[] {
  if (isJob(service.spec)) return []
  const byNode = isGlobal(service.spec)
  const place = (task: Task) => (byNode ? task.nodeId : task.slot)
  const served = new Set(tasks.filter((task) => isLive(task) && !hasEnded(task)).map(place))
  const left = tasks.filter((task) => !served.has(place(task)))
  const resting = slotsOf(left, byNode).flatMap((slot) => {
    const last = newest(slot.tasks)
    const rests = last !== undefined && hasEnded(last) && last.desiredState !== 'remove'
    return rests && !shouldRestart(service, last, slot.tasks) ? [last] : []
  })
  const lines = resting.slice(0, MAX_LINES).map((task) => {
    const { state, error } = task.status
    return `${slotName(view, task)} ${state}${error ? ` (${error})` : ''} and is not restarted: ${restText(task)}`
  })
  return resting.length > MAX_LINES ? [...lines, `and ${resting.length - MAX_LINES} more`] : lines
}

// The updater, as a function of the store: which slots are out of date, which are under way, whether too much has failed, and
// what to do next. It remembers nothing, so the next leader goes on where this one stopped: a task that an update made names
// the run that made it and says when it had settled; the service holds the failures and the end of the last slot.

import type { Service, Task, UpdateProgress } from '../../api/objects.ts'
import { progressDeadlineMs } from '../../api/service-labels.ts'
import { compareTaskStates, type TaskState } from '../../api/spec.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { endOfWait } from '../loop/waits.ts'
import type { Change } from '../store/types.ts'
import type { ServicePlan } from './service-plan.ts'
import { currentUpdateSettings, isRollingBack, type UpdateSettings } from './service-settings.ts'
import { hasEnded, isDown, isInvalidNode, isLive, isRunning, isStarting, mayRun, newest, type Slot } from './slots.ts'
import { isPaused, isUnderWay, progressOf } from './update-run.ts'

export interface StandingSlot extends Slot {
  /** The tasks that stand for the slot (see standingTasks). */
  readonly standing: readonly Task[]
  /** This look has already changed the slot: it is not to be touched again. */
  readonly busy: boolean
}

/** A task that ended by itself; one that was told to stop, or whose node is lost, is no failure of the update. */
const FAILURES: ReadonlySet<TaskState> = new Set(['complete', 'failed', 'rejected'])

/**
 * Counts failures of tasks that the running update made, and pauses it or rolls it back when they are too many.
 * @returns 'stop' when the plan now changes the course: the rest is for the next look
 */
export function judgeUpdate(plan: ServicePlan, tasks: readonly Task[]): 'go' | 'stop' {
  const { service } = plan
  const progress = progressOf(service)
  const settings = currentUpdateSettings(service)
  if (!isUnderWay(service.updateStatus?.State) || !progress || settings.failureAction === 'continue') return 'go'
  const late = lateTask(plan, tasks, progress)
  if (late) {
    const failedTaskIds = [...progress.failedTaskIds, late.task.id]
    const cause = `as task ${late.task.id} did not run within ${late.withinMs / 1000}s`
    actOnFailure(plan, settings, cause, { ...progress, failedTaskIds })
    return 'stop'
  }
  const failed = tasks.filter((task) => isNewFailure(task, progress, settings.monitorMs, plan.nowMs)).sort(byEnd)
  if (failed.length === 0) return 'go'
  const before = progress.failedTaskIds.length
  const decisive = failed.find((_, at) => (before + at + 1) / progress.totalSlots > settings.maxFailureRatio)
  const failedTaskIds = [...progress.failedTaskIds, ...failed.map((task) => task.id)]
  if (!decisive) {
    plan.updateService({ updateProgress: { ...progress, failedTaskIds } })
    return 'go'
  }
  const cause = `due to failure or early termination of task ${decisive.id}`
  actOnFailure(plan, settings, cause, { ...progress, failedTaskIds })
  return 'stop'
}

function isNewFailure(task: Task, progress: UpdateProgress, monitorMs: number, nowMs: number): boolean {
  if (task.origin?.updateId === undefined || task.origin.updateId !== progress.id) return false
  if (!FAILURES.has(task.status.state) || progress.failedTaskIds.includes(task.id)) return false
  if (task.settledAt === undefined) return true
  const settledMs = parseTime(task.settledAt)
  const endedMs = Math.min(nowMs, Math.max(settledMs, parseTime(task.status.timestamp)))
  return endedMs - settledMs <= monitorMs
}

/**
 * A task of the run that is still not running at the progress deadline. It ends the update whatever failures that allows, since
 * it would wait for the task for ever.
 */
function lateTask(
  plan: ServicePlan,
  tasks: readonly Task[],
  progress: UpdateProgress,
): { readonly task: Task; readonly withinMs: number } | undefined {
  const withinMs = progressDeadlineMs(plan.service.spec.Labels)
  if (withinMs === undefined) return undefined
  for (const task of tasks) {
    if (task.origin?.updateId === undefined || task.origin.updateId !== progress.id) continue
    if (isLate(plan, task, withinMs)) return { task, withinMs }
  }
  return undefined
}

/** Sees to it that it is asked again when the time has come. */
function isLate(plan: ServicePlan, task: Task, withinMs: number | undefined): boolean {
  if (withinMs === undefined || !isLive(task) || compareTaskStates(task.status.state, 'running') >= 0) return false
  const deadlineMs = parseTime(task.meta.createdAt) + withinMs
  if (deadlineMs <= plan.nowMs) return true
  plan.lookAgainAt(deadlineMs)
  return false
}

function byEnd(a: Task, b: Task): number {
  if (a.status.timestamp !== b.status.timestamp) return a.status.timestamp < b.status.timestamp ? -1 : 1
  return a.id < b.id ? -1 : 1
}

function actOnFailure(
  plan: ServicePlan,
  settings: UpdateSettings,
  cause: string,
  updateProgress: UpdateProgress,
): void {
  const { service } = plan
  const rollsBack = settings.failureAction === 'rollback'
  if (rollsBack && !isRollingBack(service) && service.previousSpec) {
    plan.updateService({
      spec: service.previousSpec,
      specVersion: service.previousSpecVersion ?? 0,
      previousSpec: undefined,
      previousSpecVersion: undefined,
      registryAuth: service.previousRegistryAuth,
      previousRegistryAuth: '',
      updateStatus: { ...service.updateStatus, State: 'rollback_started', Message: `update rolled back ${cause}` },
      updateProgress: undefined,
    })
    return
  }
  const what = rollsBack && isRollingBack(service) ? 'rollback' : 'update'
  const State = isRollingBack(service) ? 'rollback_paused' : 'paused'
  plan.updateService({
    updateStatus: { ...service.updateStatus, State, Message: `${what} paused ${cause}` },
    updateProgress,
  })
}

/** Takes the next steps of an update, if there is one: `slots` are all that the service is to keep, `wanted` how many there should be. */
export function stepUpdate(plan: ServicePlan, slots: readonly StandingSlot[], wanted: number): void {
  const { service } = plan
  const state = service.updateStatus?.State
  const step = new UpdateStep(plan)
  for (const slot of slots) step.look(slot)
  if (isPaused(state)) {
    step.tidy()
    return
  }
  if (!isUnderWay(state)) {
    if (step.dirty === 0) step.tidy()
    else if (state === undefined) begin(plan, step.dirty)
    // What turns dirty after an update's end (a node that came back, say) follows it without a word.
    else step.advance()
    return
  }
  const progress = progressOf(service)
  if (!progress) {
    plan.updateService({ updateProgress: newProgress(plan, step.dirty) })
    return
  }
  step.advance()
  if (step.isOver && !plan.writesService) finish(plan, progress, slots, wanted)
}

function newProgress(plan: ServicePlan, totalSlots: number): UpdateProgress {
  const { specVersion } = plan.service
  return { id: plan.newId(), specVersion, failedTaskIds: [], totalSlots, lastSlotDoneAt: '' }
}

function begin(plan: ServicePlan, dirtySlots: number): void {
  plan.updateService({
    updateStatus: { State: 'updating', StartedAt: formatTime(plan.nowMs), Message: 'update in progress' },
    updateProgress: newProgress(plan, dirtySlots),
  })
}

/** One look at the slots: sorts them, then starts, ends and records what is due. */
class UpdateStep {
  /** Slots with a task that is out of date. */
  dirty = 0
  readonly #plan: ServicePlan
  readonly #settings: UpdateSettings
  readonly #runId: string
  readonly #progressDeadlineMs: number | undefined
  readonly #startable: StandingSlot[] = []
  readonly #changes: (readonly Change[])[] = []
  /** Slots that hold one of the `parallelism` places. */
  #places = 0
  #unsettled = 0

  constructor(plan: ServicePlan) {
    const { service } = plan
    this.#plan = plan
    this.#settings = currentUpdateSettings(service)
    this.#runId = progressOf(service)?.id ?? `v${service.specVersion}`
    this.#progressDeadlineMs = progressDeadlineMs(service.spec.Labels)
  }

  /** Every slot has been updated, and what was made for it has run or failed. */
  get isOver(): boolean {
    return this.#startable.length === 0 && this.#unsettled === 0
  }

  look(slot: StandingSlot): void {
    if (slot.busy) {
      this.#places++
      this.#unsettled++
      return
    }
    const dirty = slot.standing.filter((task) => this.#plan.isDirty(task))
    const clean = slot.standing.filter((task) => !dirty.includes(task))
    if (dirty.length > 0) this.dirty++
    const made = newest(slot.tasks.filter((task) => task.origin?.updateId === this.#runId))
    const settled = made ? this.#follow(made) : []
    this.#changes.push([...settled, ...this.#replaced(slot, dirty, clean)])
  }

  /** Only what a past update left behind: a second task in a slot. */
  tidy(): void {
    for (const changes of this.#changes) this.#plan.add(...changes)
  }

  advance(): void {
    this.tidy()
    for (const slot of [...this.#startable]) {
      if (this.#places >= this.#settings.parallelism || this.#plan.isFull) return
      this.#places++
      this.#unsettled++
      this.#start(slot)
    }
  }

  /** The task that this run made for a slot: is it settled, and for how long? */
  #follow(made: Task): readonly Change[] {
    const { nowMs } = this.#plan
    if (compareTaskStates(made.status.state, 'running') < 0) {
      // With the failure action `continue` the update goes on without it.
      const abandoned =
        this.#settings.failureAction === 'continue' && isLate(this.#plan, made, this.#progressDeadlineMs)
      if (isLive(made) && !abandoned) {
        this.#places++
        this.#unsettled++
      }
      return []
    }
    const settledMs = made.settledAt === undefined ? nowMs : parseTime(made.settledAt)
    const freeMs = endOfWait(settledMs, this.#settings.delayMs, nowMs)
    if (freeMs > nowMs) {
      this.#places++
      this.#plan.lookAgainAt(freeMs)
    }
    return made.settledAt === undefined ? [this.#plan.update(made, { settledAt: formatTime(nowMs) })] : []
  }

  /** Of a slot with several tasks, or with one of another spec: what to stop now. */
  #replaced(slot: StandingSlot, dirty: readonly Task[], clean: readonly Task[]): readonly Change[] {
    if (dirty.length === 0 && slot.standing.length <= 1) return []
    if (clean.length === 0) {
      // Start-first of a run that was overtaken: one is enough to wait for this one, which may be paused for good.
      const running = dirty.filter(isRunning)
      if (running.length > 1) {
        this.#unsettled++
        return this.#stop(running.filter((task) => task !== newest(running)))
      }
      // With start-first the old task runs on when the new one has failed for good: it has been tried, and is not again and again.
      const tried = newest(slot.tasks)
      if (!tried || this.#plan.isDirty(tried) || !FAILURES.has(tried.status.state)) this.#startable.push(slot)
      else if (tried.status.state === 'complete') return this.#stop(dirty)
      return []
    }
    // A task on a node that is being drained is the supervisor's: its successor comes first.
    if (clean.some((task) => task.nodeId !== '' && isInvalidNode(this.#plan.node(task.nodeId)))) return []
    const runs = newest(clean.filter(isRunning))
    if (runs) {
      const others = slot.standing.filter((task) => task !== runs && !isUnrecorded(task, this.#runId))
      return this.#stop(others.filter((task) => !isMovingIn(this.#plan.service, task)))
    }
    return this.#settings.order === 'stop-first' ? this.#stop(dirty) : []
  }

  #stop(tasks: readonly Task[]): readonly Change[] {
    return tasks.flatMap((task) => this.#plan.stop(task, 'shutdown'))
  }

  #start(slot: StandingSlot): void {
    const plan = this.#plan
    const startFirst = this.#settings.order === 'start-first'
    // What never came to run serves nobody: a newer spec takes its place at once, or such tasks would pile up.
    const stops = this.#stop(startFirst ? slot.standing.filter((task) => !isRunning(task)) : slot.standing)
    // A successor of stop-first prepares itself (pulls its image) while its predecessor stops.
    const waits =
      !startFirst && stops.length > 0 && slot.standing.some((task) => mayRun(task) && !isDown(plan.node(task.nodeId)))
    const predecessor = newest(slot.standing)
    const created = plan.create({
      slot: slot.slot,
      nodeId: slot.nodeId,
      desiredState: waits ? 'ready' : 'running',
      origin: { kind: 'update', updateId: this.#runId, ...(predecessor ? { predecessorId: predecessor.id } : {}) },
    })
    plan.add(created, ...stops)
  }
}

/** A rebalancing made it to take over from the one that runs, which goes only then. */
function isMovingIn({ rebalance }: Service, task: Task): boolean {
  return rebalance?.state === 'running' && task.origin?.rebalanceId === rebalance.id && isStarting(task)
}

/** Its settling is recorded in this look: it can't be written twice, so it is stopped in the next one. */
function isUnrecorded(task: Task, runId: string): boolean {
  return (
    task.origin?.updateId === runId &&
    task.settledAt === undefined &&
    compareTaskStates(task.status.state, 'running') >= 0
  )
}

function finish(plan: ServicePlan, progress: UpdateProgress, slots: readonly StandingSlot[], wanted: number): void {
  const { service, nowMs } = plan
  const { delayMs, monitorMs } = currentUpdateSettings(service)
  if (progress.totalSlots > 0) {
    // A monitor shorter than the delay would end before the last delay does.
    const watchMs = delayMs >= monitorMs ? delayMs + 1_000 : monitorMs
    if (!progress.lastSlotDoneAt) {
      plan.updateService({ updateProgress: { ...progress, lastSlotDoneAt: formatTime(nowMs) } })
      plan.lookAgainAt(nowMs + watchMs)
      return
    }
    const endMs = endOfWait(parseTime(progress.lastSlotDoneAt), watchMs, nowMs)
    if (endMs > nowMs) {
      plan.lookAgainAt(endMs)
      return
    }
  }
  const rollingBack = isRollingBack(service)
  if (rollingBack && !isBack(plan, progress, slots, wanted)) return
  plan.updateService({
    updateStatus: {
      ...service.updateStatus,
      State: rollingBack ? 'rollback_completed' : 'completed',
      CompletedAt: formatTime(nowMs),
      Message: rollingBack ? 'rollback completed' : 'update completed',
    },
  })
}

/** A rollback is over when the old state is back, not when everything has been tried. */
function isBack(plan: ServicePlan, progress: UpdateProgress, slots: readonly StandingSlot[], wanted: number): boolean {
  const runs = (task: Task) => isRunning(task) && !plan.isDirty(task)
  const wasMade = (task: Task) => task.origin?.updateId !== undefined && task.origin.updateId === progress.id
  // What rests by policy is as it was, but not where the rollback has tried and failed.
  const rests = ({ standing, tasks }: StandingSlot) =>
    standing.every((task) => task.status.state === 'complete') || (standing.every(hasEnded) && !tasks.some(wasMade))
  return slots.length >= wanted && slots.every((slot) => slot.standing.some(runs) || rests(slot))
}

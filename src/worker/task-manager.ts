// Keeps each task's container where its managers want it: asks nextStep, has the executor perform the step, reports
// the status, and does it again whenever the assignment or the container changes. One step of a task at a time.

import type { Task, TaskStatus } from '../api/objects.ts'
import { compareTaskStates } from '../api/spec.ts'
import { type Clock, formatTime, type Timer } from '../lib/clock.ts'
import { AssertionError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import type { ContainerWatcher, Executor, ObservedContainer, TaskOrder } from './executor.ts'
import { failure, nextStep, type Step, type TaskView } from './next-step.ts'

export interface TaskManagerOptions {
  readonly executor: Executor
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** The order of a task; undefined while something that it names has not been assigned yet. */
  readonly order: (task: Task) => TaskOrder | undefined
  /** A status has changed. `unhealthy`: the task's container is being stopped for its health. */
  readonly onStatus: (task: Task, status: TaskStatus, unhealthy: boolean) => void
}

type Effect = Extract<Step, { kind: 'prepare' | 'start' | 'stop' | 'remove' }>

interface Entry {
  readonly taskId: string
  /** undefined: a container without an assignment, perhaps only until the managers have been heard. */
  task: Task | undefined
  status: TaskStatus
  assigned: boolean
  unhealthy: boolean
  container: TaskView['container']
  performing: { readonly kind: Effect['kind']; readonly abort: AbortController } | undefined
  failuresInRow: number
  retry: Timer | undefined
}

const RETRY_MS = { first: 200, max: 15_000 }

/** Key of those who wait for the whole, not for one task. */
const ANY = ''

const NO_STATUS: TaskStatus = {
  state: 'new',
  timestamp: '',
  message: '',
  error: '',
  container: undefined,
  ports: [],
}

export class TaskManager implements ContainerWatcher {
  readonly #options: TaskManagerOptions
  readonly #log: Log
  readonly #entries = new Map<string, Entry>()
  readonly #scope = new Scope()
  readonly #waiting = new Map<string, Set<() => void>>()
  /** The engine has listed its containers and answers since. */
  #listed = false
  #confirmed = false

  constructor(options: TaskManagerOptions) {
    this.#options = options
    this.#log = options.log
  }

  /** Until aborted or closed; rejects if an invariant broke. */
  async run(signal: AbortSignal): Promise<void> {
    this.#scope.spawn('stop', () => aborted(signal))
    await this.#scope.wait()
  }

  async close(): Promise<void> {
    for (const entry of this.#entries.values()) {
      entry.retry?.cancel()
      entry.performing?.abort.abort()
    }
    await this.#scope.close()
  }

  /** A task is assigned or its assignment has changed. `status` is what the worker knew of it before it restarted. */
  assign(task: Task, known?: { readonly status: TaskStatus; readonly unhealthy: boolean }): void {
    const entry = this.#entries.get(task.id) ?? this.#insert(task.id, this.#listed ? 'absent' : 'unknown')
    const returning = entry.task === undefined
    entry.task = task
    entry.assigned = true
    if (returning && known) {
      entry.status = known.status
      entry.unhealthy = known.unhealthy
    }
    // Managers know more than a worker that lost its disk, and they alone write ORPHANED.
    if (entry.status === NO_STATUS || compareTaskStates(task.status.state, entry.status.state) > 0)
      entry.status = task.status
    this.#changed(entry)
  }

  /** Managers name the task no more: it is stopped, and everything of it removed. */
  unassign(taskId: string): void {
    const entry = this.#entries.get(taskId)
    if (!entry) return
    entry.assigned = false
    this.#changed(entry)
  }

  /** What is assigned is now complete: containers of other tasks are left over and go. */
  confirm(): void {
    if (this.#confirmed) return
    this.#confirmed = true
    this.pokeAll()
  }

  /** Something that tasks may have waited for has come. */
  pokeAll(): void {
    for (const entry of this.#sorted()) this.#poke(entry)
  }

  status(taskId: string): TaskStatus | undefined {
    return this.#entries.get(taskId)?.status
  }

  /** Ids of all tasks of which something may be left on this node. */
  taskIds(): ReadonlySet<string> {
    return new Set(this.#entries.keys())
  }

  container(taskId: string): ObservedContainer | undefined {
    const container = this.#entries.get(taskId)?.container
    return typeof container === 'object' ? container : undefined
  }

  /** Resolves when the task has a container, undefined when it is known that it will have none. */
  async waitForContainer(taskId: string, signal: AbortSignal): Promise<ObservedContainer | undefined> {
    for (;;) {
      const entry = this.#entries.get(taskId)
      if (!entry || signal.aborted) return undefined
      if (typeof entry.container === 'object') return entry.container
      if (compareTaskStates(entry.status.state, 'running') > 0 || !entry.assigned) return undefined
      await this.#nextChange(taskId, signal)
    }
  }

  /** Resolves when the engine has listed its containers and no task is left, or when aborted. */
  async untilEmpty(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !(this.#listed && this.#entries.size === 0)) await this.#nextChange(ANY, signal)
  }

  onList(containers: readonly ObservedContainer[]): void {
    this.#listed = true
    const seen = new Map(containers.map((container) => [container.taskId, container]))
    for (const container of containers) this.#observe(container)
    for (const entry of this.#sorted()) {
      // A step under way returns what it knows of its container, which may be newer than the list.
      if (!seen.has(entry.taskId) && !entry.performing) entry.container = 'absent'
      this.#changed(entry)
    }
    this.#wake(ANY)
  }

  onChange(container: ObservedContainer): void {
    this.#changed(this.#observe(container))
  }

  onGone(gone: Pick<ObservedContainer, 'taskId' | 'containerId'>): void {
    const entry = this.#entries.get(gone.taskId)
    if (typeof entry?.container !== 'object' || entry.container.containerId !== gone.containerId) return
    entry.container = 'absent'
    this.#changed(entry)
  }

  onLost(error: unknown): void {
    this.#listed = false
    this.#log.warn({ err: errorMessage(error) }, 'the engine does not answer')
    for (const entry of this.#entries.values()) entry.container = 'unknown'
  }

  #insert(taskId: string, container: Entry['container']): Entry {
    const entry: Entry = {
      taskId,
      task: undefined,
      status: NO_STATUS,
      assigned: false,
      unhealthy: false,
      container,
      performing: undefined,
      failuresInRow: 0,
      retry: undefined,
    }
    this.#entries.set(taskId, entry)
    return entry
  }

  #sorted(): readonly Entry[] {
    return [...this.#entries.values()].sort((a, b) => (a.taskId < b.taskId ? -1 : 1))
  }

  #observe(container: ObservedContainer): Entry {
    const entry = this.#entries.get(container.taskId) ?? this.#insert(container.taskId, container)
    const before = entry.container
    const older =
      typeof before === 'object' &&
      before.containerId === container.containerId &&
      RANK[container.state] < RANK[before.state]
    if (!older) entry.container = container
    return entry
  }

  /** Something of the task is new: wake who waits for it, end a retry's pause, and look. */
  #changed(entry: Entry): void {
    entry.retry?.cancel()
    entry.retry = undefined
    const { performing } = entry
    if (performing?.kind === 'prepare' && (!entry.assigned || compareTaskStates(desiredOf(entry), 'complete') > 0))
      performing.abort.abort()
    this.#poke(entry)
    this.#wake(entry.taskId)
  }

  #poke(entry: Entry): void {
    while (!entry.performing && !entry.retry && !this.#scope.signal.aborted) {
      const step = this.#decide(entry)
      switch (step.kind) {
        case 'rest':
          return
        case 'report':
          this.#report(entry, step)
          break
        case 'forget':
          this.#entries.delete(entry.taskId)
          this.#wake(entry.taskId)
          this.#wake(ANY)
          return
        case 'prepare':
        case 'start':
        case 'stop':
        case 'remove':
          this.#perform(entry, step)
          return
      }
    }
  }

  #decide(entry: Entry): Step {
    if (!entry.task && !this.#confirmed) return { kind: 'rest' }
    const waits = entry.task !== undefined && entry.status.state === 'preparing'
    return nextStep({
      assigned: entry.assigned,
      desired: desiredOf(entry),
      status: entry.status,
      container: entry.container,
      dependencies: waits && this.#options.order(entry.task!) === undefined ? 'missing' : 'present',
      unhealthy: entry.unhealthy,
    })
  }

  #report(entry: Entry, step: Step & { kind: 'report' }): void {
    const { task, container } = entry
    if (!task) return
    const known = typeof container === 'object' ? container : undefined
    entry.status = {
      state: step.state,
      timestamp: formatTime(this.#options.clock.wallMs()),
      message: step.message,
      error: step.error,
      container: known
        ? {
            ContainerID: known.containerId,
            ...(known.pid > 0 && { PID: known.pid }),
            ...(known.exitCode !== 0 && { ExitCode: known.exitCode }),
          }
        : entry.status.container,
      ports: known?.state === 'running' ? known.ports : [],
    }
    if (step.error !== '') this.#log.info({ taskId: task.id, error: step.error }, 'task failed')
    this.#options.onStatus(task, entry.status, entry.unhealthy)
  }

  #perform(entry: Entry, step: Effect): void {
    const abort = new AbortController()
    entry.performing = { kind: step.kind, abort }
    if (step.kind === 'stop' && step.why === 'unhealthy' && entry.task && !entry.unhealthy) {
      entry.unhealthy = true
      this.#options.onStatus(entry.task, entry.status, true)
    }
    this.#scope.spawn(`task ${entry.taskId}`, async () => {
      try {
        const container = await this.#effect(entry, step, abort.signal)
        if (container === 'absent') entry.container = 'absent'
        // What an event brought meanwhile is newer than the answer.
        else if (entry.container !== 'unknown' || this.#listed) this.#observe(container)
        entry.failuresInRow = 0
      } catch (error) {
        this.#failed(entry, step, error)
      } finally {
        entry.performing = undefined
      }
      this.#poke(entry)
      this.#wake(entry.taskId)
    })
  }

  async #effect(entry: Entry, step: Effect, signal: AbortSignal): Promise<ObservedContainer | 'absent'> {
    const { executor, order } = this.#options
    switch (step.kind) {
      case 'prepare': {
        const complete = entry.task && order(entry.task)
        return complete ? executor.prepare(complete, signal) : 'absent'
      }
      case 'start':
        return executor.start(step.container, signal)
      case 'stop':
        return (await executor.stop(step.container, signal)) ?? 'absent'
      case 'remove':
        await executor.remove(step.container, signal)
        return 'absent'
    }
  }

  #failed(entry: Entry, step: Effect, error: unknown): void {
    if (error instanceof AssertionError) throw error
    const code = errorCode(error)
    if (code === 'STEP_ABORTED') return
    const final = code === 'TASK_FAILED' && (step.kind === 'prepare' || step.kind === 'start')
    if (final) {
      this.#report(entry, failure(entry.status, errorMessage(error)))
      return
    }
    // The engine does not answer, or would not stop or remove the container: try again, never give up.
    const cap = Math.min(RETRY_MS.max, RETRY_MS.first * 2 ** entry.failuresInRow)
    const delayMs = cap * (0.5 + this.#options.random.float() / 2)
    entry.failuresInRow = Math.min(entry.failuresInRow + 1, 16)
    this.#log.warn({ taskId: entry.taskId, step: step.kind, err: errorMessage(error) }, 'a step is tried again')
    entry.retry = this.#options.clock.setTimer(delayMs, () => {
      entry.retry = undefined
      this.#poke(entry)
    })
  }

  #wake(taskId: string): void {
    const waiting = this.#waiting.get(taskId)
    this.#waiting.delete(taskId)
    for (const wake of waiting ?? []) wake()
  }

  #nextChange(taskId: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(taskId) ?? new Set()
      this.#waiting.set(taskId, waiting)
      const wake = () => {
        signal.removeEventListener('abort', wake)
        waiting.delete(wake)
        resolve()
      }
      waiting.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}

const RANK = { created: 0, running: 1, exited: 2 } as const

function desiredOf(entry: Entry): Task['desiredState'] {
  return entry.task?.desiredState ?? 'remove'
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

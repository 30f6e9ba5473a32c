// Keeps each task's container where its managers want it: asks nextStep, has the executor perform the step, reports
// the status, and does it again whenever the assignment or the container changes. One step of a task at a time.

import type { OverlayEndpoint } from '../api/data-plane.ts'
import type { Task, TaskStatus } from '../api/objects.ts'
import { drainTimeMs } from '../api/service-labels.ts'
import { compareTaskStates, isTerminal } from '../api/spec.ts'
import { type Clock, formatTime, type Timer } from '../lib/clock.ts'
import { AssertionError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import type { DataPlane } from '../overlay/client.ts'
import type { ContainerWatcher, Executor, ObservedContainer, TaskOrder } from './executor.ts'
import { failure, nextStep, type Step, type TaskView, UNHEALTHY } from './next-step.ts'

export interface TaskManagerOptions {
  readonly executor: Executor
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** The order of a task; undefined while something that it names has not been assigned yet. */
  readonly order: (task: Task) => TaskOrder | undefined
  /** A status has changed. `unhealthy`: the task's container is being stopped for its health. */
  readonly onStatus: (task: Task, status: TaskStatus, unhealthy: boolean) => void
  /** undefined: this node has none, and nothing is drained */
  readonly dataPlane?: Pick<DataPlane, 'drained'> | undefined
  /** A container has ended, or a task is gone. */
  readonly onEnded?: () => void
}

type Effect = Extract<Step, { kind: 'prepare' | 'start' | 'drain' | 'stop' | 'remove' }>

interface Entry {
  readonly taskId: string
  /** undefined: a container without an assignment, perhaps only until the managers have been heard. */
  task: Task | undefined
  status: TaskStatus
  assigned: boolean
  unhealthy: boolean
  /** No node sends its end point anything new. */
  withdrawn: boolean
  drained: boolean
  container: TaskView['container']
  performing: { readonly kind: Effect['kind']; readonly abort: AbortController } | undefined
  failuresInRow: number
  retry: Timer | undefined
}

const RETRY_MS = { first: 200, max: 15_000 }
/** So long a task that is to stop waits to hear that its end point is withdrawn; who has not answered then is not waited for. */
const WITHDRAWAL_MS = 1_000
/** No packet for so long: its connections are idle. */
const QUIET_MS = 500

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

  /** No node sends anything new to the end points of these tasks. */
  withdrawn(taskIds: readonly string[]): void {
    for (const id of taskIds) {
      const entry = this.#entries.get(id)
      if (!entry) continue
      entry.withdrawn = true
      this.#wake(id)
    }
  }

  /** A container runs here under the end point's address, and is another task's that is over for the managers. */
  isOccupied({ networkId, addresses, taskId }: OverlayEndpoint): boolean {
    for (const entry of this.#entries.values()) {
      const { container, task } = entry
      const isOver = !entry.assigned || isTerminal(entry.status.state)
      if (entry.taskId === taskId || !isOver || typeof container !== 'object' || container.state !== 'running') continue
      const own = (task?.attachments ?? []).filter((attachment) => attachment.networkId === networkId)
      if (own.some((one) => one.addresses.some((cidr) => addresses.includes(cidr.split('/')[0] ?? '')))) return true
    }
    return false
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
      withdrawn: false,
      drained: false,
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
    const { performing, container } = entry
    const runs = typeof container === 'object' && container.state === 'running'
    if (performing?.kind === 'prepare' && (!entry.assigned || compareTaskStates(desiredOf(entry), 'complete') > 0))
      performing.abort.abort()
    if (performing?.kind === 'drain' && !runs && container !== 'unknown') performing.abort.abort()
    if (!runs) this.#options.onEnded?.()
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
          this.#options.onEnded?.()
          this.#wake(entry.taskId)
          this.#wake(ANY)
          return
        case 'prepare':
        case 'start':
        case 'drain':
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
      drain: this.#options.dataPlane && hasEndpoint(entry) && !entry.drained ? 'due' : 'none',
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
      // Managers take its end point away before it has ended.
      if (entry.status.state === 'running')
        entry.status = { ...entry.status, timestamp: formatTime(this.#options.clock.wallMs()), error: UNHEALTHY }
      this.#options.onStatus(entry.task, entry.status, true)
    }
    this.#scope.spawn(`task ${entry.taskId}`, async () => {
      try {
        const container = await this.#effect(entry, step, abort.signal)
        if (container === 'unchanged') entry.drained = true
        else if (container === 'absent') entry.container = 'absent'
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

  async #effect(entry: Entry, step: Effect, signal: AbortSignal): Promise<ObservedContainer | 'absent' | 'unchanged'> {
    const { executor, order } = this.#options
    switch (step.kind) {
      case 'prepare': {
        const complete = entry.task && order(entry.task)
        return complete ? executor.prepare(complete, signal) : 'absent'
      }
      case 'start':
        return executor.start(step.container, signal)
      case 'drain':
        await this.#drain(entry, signal)
        return 'unchanged'
      case 'stop':
        return (await executor.stop(step.container, signal)) ?? 'absent'
      case 'remove':
        await executor.remove(step.container, signal)
        return 'absent'
    }
  }

  /** Until nobody sends it anything new, and then as long as its connections need, or its service gives them. */
  async #drain(entry: Entry, signal: AbortSignal): Promise<void> {
    const { clock, dataPlane } = this.#options
    const over = new AbortController()
    const deadline = clock.setTimer(WITHDRAWAL_MS, () => over.abort())
    const end = (): void => over.abort()
    signal.addEventListener('abort', end, { once: true })
    // Of what is no longer named nobody hears anything: managers had withdrawn it before.
    while (entry.assigned && !entry.withdrawn && !over.signal.aborted && !signal.aborted)
      await this.#nextChange(entry.taskId, over.signal)
    deadline.cancel()
    signal.removeEventListener('abort', end)
    const maxMs = drainTimeMs(entry.task?.serviceLabels)
    if (maxMs > 0 && !signal.aborted)
      await dataPlane?.drained({ taskId: entry.taskId, quietMs: Math.min(QUIET_MS, maxMs), maxMs }, signal)
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

function hasEndpoint({ task }: Entry): boolean {
  return task?.attachments.some(({ addresses }) => addresses.length > 0) === true
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

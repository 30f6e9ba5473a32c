// What is shown of a service while it converges: each reading of its tasks → lines. Pure but for what it remembers of
// earlier readings (which slot has which line).

import type { ServiceJson, TaskJson } from '../api-types.ts'
import type { ProgressLine } from '../output/progress-display.ts'

/** Docker's ranks; a state without one (remove, orphaned) is not counted. */
const RANKS: Readonly<Record<string, number>> = {
  new: 1,
  allocated: 2,
  pending: 3,
  assigned: 4,
  accepted: 5,
  preparing: 6,
  ready: 7,
  starting: 8,
  running: 9,
  complete: 10,
  shutdown: 11,
  failed: 12,
  rejected: 13,
}
const RUNNING = 9
const COMPLETE = 10
/** Lines for single tasks only up to so many. */
const MAX_LINES = 20
const STATE_WIDTH = 9
const MAX_ERROR_BYTES = 75

export interface Reading {
  readonly service: ServiceJson
  readonly tasks: readonly TaskJson[]
  /** Nodes that are not down. */
  readonly activeNodes: ReadonlySet<string>
  readonly rollback: boolean
}

export interface Step {
  readonly lines: readonly ProgressLine[]
  readonly converged: boolean
}

export interface ProgressTracker {
  next(reading: Reading): Step
}

/** undefined for a mode that is none of Swarm's. */
export function progressTracker(service: ServiceJson): ProgressTracker | undefined {
  const mode = service.Spec.Mode ?? {}
  if (mode.Replicated?.Replicas !== undefined) return new ReplicatedProgress()
  if (mode.Global) return new GlobalProgress()
  if (mode.ReplicatedJob) return new ReplicatedJobProgress(service)
  if (mode.GlobalJob) return new GlobalJobProgress()
  return undefined
}

const rank = (state: string) => RANKS[state] ?? 0
const ended = (state: string) => rank(state) > RUNNING

function overall(done: number, total: number, rollback: boolean): ProgressLine {
  const counts = `${done} out of ${total} tasks`
  return { id: 'overall progress', action: rollback ? `rolling back update: ${counts}` : counts }
}

function shortError(text: string): string {
  const line = text.replaceAll('\n', ' ')
  return Buffer.byteLength(line) > MAX_ERROR_BYTES
    ? `${Buffer.from(line)
        .subarray(0, MAX_ERROR_BYTES - 1)
        .toString()}…`
    : line
}

/** The line of one task; undefined for one that has ended without an error, whose successor will take the line. */
function taskLine(id: string, task: TaskJson): ProgressLine | undefined {
  if (task.Status.Err) return { id, action: shortError(task.Status.Err) }
  if (ended(task.DesiredState) || ended(task.Status.State)) return undefined
  return stateLine(id, task, RUNNING)
}

function stateLine(id: string, task: TaskJson, total: number): ProgressLine {
  const state = task.Status.State
  return { id, action: state.padEnd(STATE_WIDTH), current: rank(state), total, hideCounts: true }
}

/** Of tasks with one key, the one to show: the lowest desired state, then the lowest observed one. */
function currentTasks<K>(tasks: readonly TaskJson[], key: (task: TaskJson) => K): Map<K, TaskJson> {
  const current = new Map<K, TaskJson>()
  for (const task of tasks) {
    if (rank(task.DesiredState) === 0 || rank(task.Status.State) === 0) continue
    const other = current.get(key(task))
    if (other) {
      const desired = rank(other.DesiredState) - rank(task.DesiredState)
      if (desired < 0 || (desired === 0 && rank(other.Status.State) <= rank(task.Status.State))) continue
    }
    current.set(key(task), task)
  }
  return current
}

const isRunning = (task: TaskJson) => !ended(task.DesiredState) && task.Status.State === 'running'

class ReplicatedProgress implements ProgressTracker {
  /** Slots may have gaps; lines are numbered without. */
  readonly #lineOfSlot = new Map<number, number>()
  #started = false
  #done = false

  next({ service, tasks, activeNodes, rollback }: Reading): Step {
    const replicas = service.Spec.Mode?.Replicated?.Replicas ?? 0
    const lines: ProgressLine[] = []
    if (!this.#started) {
      lines.push(overall(0, replicas, rollback))
      if (replicas <= MAX_LINES) for (let i = 1; i <= replicas; i++) lines.push({ id: `${i}/${replicas}`, action: ' ' })
      this.#started = true
    }
    const reachable = tasks.filter(({ NodeID }) => !NodeID || activeNodes.has(NodeID))
    const bySlot = currentTasks(reachable, (task) => task.Slot ?? 0)
    if ([...bySlot.values()].some((task) => task.Status.State !== 'running')) this.#done = false
    let running = 0
    for (const [slot, task] of bySlot) {
      let number = this.#lineOfSlot.get(slot)
      if (number === undefined) {
        number = this.#lineOfSlot.size + 1
        this.#lineOfSlot.set(slot, number)
      }
      if (isRunning(task)) running++
      if (this.#done || replicas > MAX_LINES || number > replicas) continue
      const line = taskLine(`${number}/${replicas}`, task)
      if (line) lines.push(line)
    }
    if (!this.#done) {
      lines.push(overall(running, replicas, rollback))
      this.#done = running === replicas
    }
    return { lines, converged: running === replicas }
  }
}

class GlobalProgress implements ProgressTracker {
  #started = false
  #done = false

  next({ tasks, activeNodes, rollback }: Reading): Step {
    const byNode = currentTasks(tasks, (task) => task.NodeID ?? '')
    const lines: ProgressLine[] = []
    if (!this.#started) {
      if (byNode.size === 0) {
        return { lines: [{ id: 'overall progress', action: 'waiting for new tasks' }], converged: false }
      }
      lines.push(overall(0, byNode.size, rollback))
      this.#started = true
    }
    if ([...byNode.values()].some((task) => task.Status.State !== 'running')) this.#done = false
    let running = 0
    for (const [node, task] of byNode) {
      if (!activeNodes.has(node)) continue
      if (isRunning(task)) running++
      if (this.#done || byNode.size > MAX_LINES) continue
      const line = taskLine(node.slice(0, 12), task)
      if (line) lines.push(line)
    }
    if (!this.#done) {
      lines.push(overall(running, byNode.size, rollback))
      this.#done = running === byNode.size
    }
    return { lines, converged: running === byNode.size }
  }
}

/** Of tasks with one key, the one that has come the least far. */
function leastAdvanced<K>(tasks: readonly TaskJson[], key: (task: TaskJson) => K): Map<K, TaskJson> {
  const found = new Map<K, TaskJson>()
  for (const task of tasks) {
    if (rank(task.DesiredState) === 0 || rank(task.Status.State) === 0) continue
    const other = found.get(key(task))
    if (!other || rank(other.Status.State) > rank(task.Status.State)) found.set(key(task), task)
  }
  return found
}

const ofIteration = (tasks: readonly TaskJson[], iteration: number) =>
  tasks.filter((task) => task.JobIteration !== undefined && (task.JobIteration.Index ?? 0) === iteration)

function jobLine(id: string, task: TaskJson): ProgressLine {
  return task.Status.Err ? { id, action: shortError(task.Status.Err) } : stateLine(id, task, COMPLETE)
}

function jobProgress(done: number, total: number): ProgressLine {
  const action = `${String(done).padStart(String(total).length)} out of ${total} complete`
  return { id: 'job progress', action, current: done, total, hideCounts: true, summary: true }
}

class ReplicatedJobProgress implements ProgressTracker {
  readonly #iteration: number
  readonly #concurrent: number
  readonly #total: number
  #started = false

  constructor(service: ServiceJson) {
    const job = service.Spec.Mode?.ReplicatedJob ?? {}
    this.#iteration = service.JobStatus?.JobIteration?.Index ?? 0
    this.#total = job.TotalCompletions ?? 1
    this.#concurrent = job.MaxConcurrent ?? 1
  }

  next({ tasks }: Reading): Step {
    const lines: ProgressLine[] = []
    if (!this.#started) {
      lines.push(...this.#overall(0, 0))
      if (this.#total <= MAX_LINES) {
        for (let i = 1; i <= this.#total; i++) lines.push({ id: `${i}/${this.#total}`, action: ' ' })
      }
      this.#started = true
    }
    const bySlot = leastAdvanced(ofIteration(tasks, this.#iteration), (task) => task.Slot ?? 0)
    const slots = [...bySlot].sort(([a], [b]) => a - b)
    if (this.#total <= MAX_LINES) {
      for (const [slot, task] of slots) lines.push(jobLine(`${slot + 1}/${this.#total}`, task))
    }
    const active = slots.filter(([, task]) => rank(task.Status.State) < COMPLETE).length
    const complete = slots.filter(([, task]) => task.Status.State === 'complete').length
    lines.push(...this.#overall(active, complete))
    return { lines, converged: complete === this.#total }
  }

  #overall(active: number, complete: number): ProgressLine[] {
    const wanted = Math.min(this.#concurrent, this.#total - complete)
    const width = String(this.#concurrent).length
    const pad = (count: number) => String(count).padStart(width)
    return [
      jobProgress(complete, this.#total),
      { id: 'active tasks', action: `${pad(active)} out of ${pad(wanted)} tasks` },
    ]
  }
}

class GlobalJobProgress implements ProgressTracker {
  /** Nodes of the first reading: those that join later run the job too, but nobody waits for them. */
  #nodes: ReadonlySet<string> | undefined

  next({ service, tasks, activeNodes }: Reading): Step {
    const own = ofIteration(tasks, service.JobStatus?.JobIteration?.Index ?? 0)
    const lines: ProgressLine[] = []
    if (!this.#nodes) {
      if (own.length === 0 && activeNodes.size > 0) {
        return { lines: [{ id: 'job progress', action: 'waiting for tasks' }], converged: false }
      }
      this.#nodes = new Set(own.map((task) => task.NodeID ?? ''))
      lines.push(jobProgress(0, this.#nodes.size))
    }
    const nodes = this.#nodes
    const byNode = leastAdvanced(
      own.filter((task) => nodes.has(task.NodeID ?? '')),
      (task) => task.NodeID ?? '',
    )
    if (nodes.size <= MAX_LINES) for (const [node, task] of byNode) lines.push(jobLine(node, task))
    const complete = [...byNode.values()].filter((task) => task.Status.State === 'complete').length
    lines.push(jobProgress(complete, nodes.size))
    return { lines, converged: complete === nodes.size }
  }
}

// Collects what one look at a service wants to change. Each task and the service itself are written once at most in a plan;
// whatever else there is to do with them waits for the next look, which follows when the plan has been applied.

import type { Cluster, Node, Service, Task } from '../../api/objects.ts'
import { compareTaskStates, type TaskState } from '../../api/spec.ts'
import type { Random } from '../../lib/random.ts'
import type { Decision, ReconcileContext } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { statusAfter } from '../loop/task-status.ts'
import type { Change, StoreView } from '../store/types.ts'
import { type NewTask, newTask } from './new-task.ts'
import { isJob } from './service-settings.ts'
import { DirtyTasks } from './task-dirty.ts'

/** More changes than this wait for the next look, so that a look stays short. */
const MAX_CHANGES = 300
/**
 * Tasks of a service that are on their way at once. Engines start some ten a second, so nobody waits for more; but a number
 * of replicas with six zeros too many would fill the managers' memory before anybody could take it back.
 */
const MAX_STARTING = 1_000
const STARTING_PAUSE_MS = 500

export class ServicePlan {
  readonly service: Service
  readonly nowMs: number
  readonly #view: StoreView
  readonly #cluster: Cluster | undefined
  readonly #random: Random
  readonly #dirty: DirtyTasks
  readonly #units: (readonly Change[])[] = []
  #changes = 0
  #requeueAtMs: number | undefined
  #serviceWritten = false

  constructor(view: StoreView, service: Service, { nowMs, random }: ReconcileContext) {
    this.service = service
    this.nowMs = nowMs
    this.#view = view
    this.#cluster = view.cluster()
    this.#random = random
    this.#dirty = new DirtyTasks(service)
  }

  node(nodeId: string): Node | undefined {
    return this.#view.get('node', nodeId)
  }

  nodes(): readonly Node[] {
    return this.#view.list('node')
  }

  /** Made from another spec than the service has now, in a way that matters. */
  isDirty(task: Task): boolean {
    return this.#dirty.has(task, this.node(task.nodeId))
  }

  /** From 0 up to 1, for what should not happen everywhere at the same time. */
  fraction(): number {
    return this.#random.float()
  }

  newId(): string {
    return this.#random.id()
  }

  /** Adds changes that are applied together. */
  add(...changes: readonly Change[]): void {
    if (changes.length === 0) return
    this.#units.push(changes)
    this.#changes += changes.length
  }

  get isFull(): boolean {
    if (this.#changes < MAX_CHANGES) return false
    this.lookAgainAt(this.nowMs)
    return true
  }

  /** Whether as many tasks are on their way as may be; then the plan looks again when some of them have arrived. */
  isCrowded(starting: number): boolean {
    if (starting < MAX_STARTING) return false
    this.lookAgainAt(this.nowMs + STARTING_PAUSE_MS)
    return true
  }

  get writesService(): boolean {
    return this.#serviceWritten
  }

  lookAgainAt(atMs: number): void {
    this.#requeueAtMs = Math.min(this.#requeueAtMs ?? Number.POSITIVE_INFINITY, atMs)
  }

  updateService(change: Partial<Service>, ...together: readonly Change[]): void {
    this.#serviceWritten = true
    const object: Service = { ...this.service, ...change }
    this.add({ kind: 'update', object, expectedVersion: this.service.meta.version }, ...together)
  }

  /** The desired state of a task that runs as it should. */
  get runningState(): TaskState {
    return isJob(this.service.spec) ? 'complete' : 'running'
  }

  create(request: Omit<NewTask, 'id'>): Change {
    const object = newTask(this.service, this.#cluster, { id: this.newId(), ...request }, this.nowMs)
    return { kind: 'create', object }
  }

  update(task: Task, change: Partial<Task>): Change {
    return { kind: 'update', object: { ...task, ...change }, expectedVersion: task.meta.version }
  }

  /** Raises the desired state. What no worker has seen yet ends here: nobody else would say that it did. */
  stop(task: Task, desiredState: 'shutdown' | 'remove', change: Partial<Task> = {}): readonly Change[] {
    if (compareTaskStates(task.desiredState, desiredState) >= 0) return []
    const update = this.update(task, { ...change, desiredState })
    if (desiredState === 'remove' || compareTaskStates(task.status.state, 'assigned') >= 0) return [update]
    const status = statusAfter(task, { state: 'shutdown', message: 'shutdown' }, this.nowMs)
    return [update, { kind: 'task-status', taskId: task.id, status }]
  }

  decision(): Decision {
    if (this.#units.length > 0) this.lookAgainAt(this.nowMs)
    return { transactions: packChanges(this.#units), requeueAtMs: this.#requeueAtMs }
  }
}

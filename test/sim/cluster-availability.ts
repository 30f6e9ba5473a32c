// While no fault is active: an update never takes more replicas away than its order, parallelism and failure action allow.
// What is counted are the containers that really run (and are healthy), whatever managers believe.

import type { Service, Task } from '../../src/api/objects.ts'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { moveOrder } from '../../src/manager/orchestrator/rebalance-rules.ts'
import { updateSettings } from '../../src/manager/orchestrator/service-settings.ts'
import type { Store } from '../../src/manager/store/store.ts'
import type { SimMachine } from './cluster-machine.ts'
import { failsEarly, isSound } from './cluster-programs.ts'
import { ClusterViolation } from './cluster-violation.ts'

export class AvailabilityWatch {
  /** Fewest replicas that may run, by service, while that is known. */
  readonly #floors = new Map<string, number>()
  /** Services that somebody is about to change. */
  readonly #changing = new Map<string, number>()

  /** Somebody changes nodes, or a fault begins: nothing is promised any more until all is settled again. */
  forget(): void {
    this.#floors.clear()
  }

  /** A service is about to be changed by anything but an update. */
  changing(name: string): void {
    this.#floors.delete(name)
    this.#changing.set(name, (this.#changing.get(name) ?? 0) + 1)
  }

  /** The change is made or refused. */
  changed(name: string): void {
    this.#changing.set(name, (this.#changing.get(name) ?? 0) - 1)
  }

  /** A service is about to be updated to `next`. */
  updating(name: string, current: Service, next: ServiceSpec): void {
    const floor = this.#floors.get(name)
    this.changing(name)
    if (floor === undefined) return
    if (!failsEarly(next.TaskTemplate) && !isSound(next.TaskTemplate)) return
    this.#floors.set(name, Math.max(0, floor - lossOf(current, next)))
  }

  look(store: Store, machines: readonly SimMachine[]): void {
    const healthy = countHealthy(store, machines)
    for (const service of store.list('service')) {
      const name = service.spec.Name ?? ''
      const count = healthy.get(service.id) ?? 0
      const floor = this.#floors.get(name)
      if (floor !== undefined && count < floor - movedAway(service))
        throw new ClusterViolation(
          'availability during an update',
          `${count} healthy replicas of ${name}, ${floor} at least (${service.updateStatus?.State ?? 'no update'})`,
        )
      if ((this.#changing.get(name) ?? 0) > 0) continue
      const replicas = settledReplicas(service, store)
      if (replicas !== undefined && count >= replicas) this.#floors.set(name, replicas)
    }
    for (const name of this.#floors.keys()) if (!store.byName('service', name)) this.#floors.delete(name)
  }
}

/** How many replicas a rebalancing may take away at one time, which was stopped in the middle perhaps. */
function movedAway(service: Service): number {
  const { rebalance: run } = service
  return run && run.state !== 'completed' && moveOrder(service) === 'stop-first' ? run.atOnce : 0
}

/** How many replicas an update to `next` may take away at one time, with the rollback that may follow. */
function lossOf(current: Service, next: ServiceSpec): number {
  const update = updateSettings(next.UpdateConfig)
  const rollback = updateSettings(current.spec.RollbackConfig)
  const replicas = current.spec.Mode?.Replicated?.Replicas ?? 1
  const tolerated = Math.floor(update.maxFailureRatio * replicas)
  const bad = !isSound(next.TaskTemplate)
  const lost = (settings: { readonly order: string; readonly parallelism: number }) =>
    settings.order === 'start-first' ? 0 : settings.parallelism
  if (!bad) return lost(update)
  // Where an update was under way already, a rollback goes to what does not run everywhere yet.
  const under = current.updateStatus?.State === 'updating' && update.failureAction === 'rollback'
  if (update.order === 'start-first') return under ? lost(rollback) : 0
  if (update.failureAction === 'continue') return Number.POSITIVE_INFINITY
  return lost(update) + tolerated + (update.failureAction === 'rollback' ? lost(rollback) : 0)
}

/** Of a service that runs as it should and of which nothing is under way. */
function settledReplicas(service: Service, store: Store): number | undefined {
  const { spec, updateStatus } = service
  const replicas = spec.Mode?.Replicated?.Replicas
  if (replicas === undefined || !isSound(spec.TaskTemplate)) return undefined
  if (updateStatus && updateStatus.State !== 'completed' && updateStatus.State !== 'rollback_completed')
    return undefined
  const live = store.tasksOfService(service.id).filter((task) => task.desiredState === 'running')
  const runs = live.every((task) => task.status.state === 'running' && isOf(task, spec))
  return runs && live.length === replicas ? replicas : undefined
}

function isOf({ spec }: Task, { TaskTemplate }: ServiceSpec): boolean {
  const version = (template: ServiceSpec['TaskTemplate']) =>
    `${template?.ContainerSpec?.Image} ${template?.ForceUpdate ?? 0}`
  return version(spec) === version(TaskTemplate)
}

function countHealthy(store: Store, machines: readonly SimMachine[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const machine of machines) {
    for (const container of machine.engine.containers()) {
      if (container.state !== 'running' || (container.health !== 'none' && container.health !== 'healthy')) continue
      const task = store.get('task', container.taskId)
      if (task) counts.set(task.serviceId, (counts.get(task.serviceId) ?? 0) + 1)
    }
  }
  return counts
}

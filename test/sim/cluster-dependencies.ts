// Watches that no task of a service is given a node before what the service depends on has held, and that no slot is started
// again and again where nobody asked for it. It reads states on its own: nothing here is the scheduler's.

import { type Dependency, dependenciesOf } from '../../src/api/depends-on.ts'
import type { Service, Task } from '../../src/api/objects.ts'
import { compareTaskStates } from '../../src/api/spec.ts'
import type { Store } from '../../src/manager/store/store.ts'
import type { StoreEvent } from '../../src/manager/store/types.ts'
import { ClusterViolation } from './cluster-violation.ts'

const CONDITIONS = ['started', 'healthy', 'completed'] as const

function hasStarted({ status: { state, container } }: Task): boolean {
  if (state === 'running' || state === 'complete') return true
  return compareTaskStates(state, 'starting') >= 0 && Boolean(container?.ContainerID)
}

function completions(tasks: readonly Task[]): number {
  return new Set(tasks.filter(({ status }) => status.state === 'complete').map(({ slot, nodeId }) => slot || nodeId))
    .size
}

function holds(store: Store, { service: name, condition }: Dependency): boolean {
  const service = store.byName('service', name)
  const tasks = service ? store.tasksOfService(service.id) : []
  if (condition === 'started') return tasks.some(hasStarted)
  if (condition === 'healthy') return tasks.some((task) => task.status.state === 'running')
  // Of a global service a part is enough here: how many nodes there are changes all the time.
  return service !== undefined && completions(tasks) >= (service.spec.Mode?.Replicated?.Replicas ?? 1)
}

/** Its tasks may wait, for as long as this stays so. */
export function mayWait(store: Store, service: Service): boolean {
  if (store.tasksOfService(service.id).some(hasStarted)) return false
  return dependenciesOf(service.spec.Labels).some((one) => !holds(store, one))
}

export class DependencyWatch {
  /** `name:condition` that was so once; names are never given twice. */
  readonly #held = new Set<string>()
  readonly #started = new Set<string>()
  /** What each service has depended on: an assignment may be on its way while that is changed. */
  readonly #wanted = new Map<string, Map<string, readonly Dependency[]>>()

  observe({ old, new: next }: StoreEvent, store: Store): void {
    if (next?.kind === 'service') {
      const label = JSON.stringify(next.spec.Labels ?? {})
      const versions = this.#wanted.get(next.id) ?? new Map<string, readonly Dependency[]>()
      this.#wanted.set(next.id, versions.set(label, dependenciesOf(next.spec.Labels)))
      this.#hold(next.spec.Name ?? '', store)
    } else if (next?.kind === 'task') {
      this.#hold(next.serviceName, store)
      if (hasStarted(next)) this.#started.add(next.serviceId)
      const wasOpen = old?.kind === 'task' && compareTaskStates(old.status.state, 'assigned') < 0
      const { state } = next.status
      const isGiven = compareTaskStates(state, 'assigned') >= 0 && compareTaskStates(state, 'running') <= 0
      if (wasOpen && isGiven) this.#check(next)
    }
  }

  #hold(name: string, store: Store): void {
    for (const condition of CONDITIONS) {
      const key = `${name}:${condition}`
      if (!this.#held.has(key) && holds(store, { service: name, condition })) this.#held.add(key)
    }
  }

  #check(task: Task): void {
    const versions = [...(this.#wanted.get(task.serviceId)?.values() ?? [])]
    if (versions.length === 0 || this.#started.has(task.serviceId)) return
    const missing = (wanted: readonly Dependency[]) =>
      wanted.filter(({ service, condition }) => !this.#held.has(`${service}:${condition}`))
    if (versions.some((wanted) => missing(wanted).length === 0)) return
    const text = missing(versions.at(-1)!).map(({ service, condition }) => `${service}:${condition}`)
    throw new ClusterViolation('depends_on', `${task.id} of ${task.serviceName} starts before ${text.join(', ')}`)
  }
}

/** Of one version of a slot's spec, one after the other without delay. */
const MOST_AFRESH = 3

/**
 * What ended by itself is followed by a restart, with its delay. A task made as if the slot were free, after one of the same spec
 * that had ended by itself, may come of a race with somebody's wish; several in a row are a storm.
 */
export function checkSlot(task: Task, store: Store): void {
  if (task.slot === 0) return
  const older = store
    .tasksOfSlot(task.serviceId, task.slot)
    .filter((one) => one.specVersion === task.specVersion && one.origin?.kind === 'replica')
    .filter((one) => ['complete', 'failed', 'rejected'].includes(one.status.state) && one.desiredState !== 'remove')
  if (older.length < MOST_AFRESH) return
  throw new ClusterViolation(
    'no flapping',
    `${task.serviceName}.${task.slot} is filled again: ${older.length} have ended`,
  )
}

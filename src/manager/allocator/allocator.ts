// Gives services their published ports and lets their tasks pass: NEW → PENDING, with everything that was allocated for a
// task written in the same transaction. One key is a service. What can't be given is said on the service and its tasks, and
// tried again when another service changes. (Networks, addresses and VIPs are allocated at this same place.)

import type { Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import type { Controller, Decision, Problem, ReconcileContext } from '../loop/controller.ts'
import { NOTHING } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { serviceProblem } from '../loop/service-problem.ts'
import { statusAfter } from '../loop/task-status.ts'
import { specsEqual } from '../orchestrator/spec-equality.ts'
import type { Change, StoreEvent, StoreView, Transaction } from '../store/types.ts'
import { allocatePorts, needsPorts, portKeyOf } from './ports.ts'

const MAX_TASKS_PER_LOOK = 200
const PENDING_MESSAGE = 'pending task scheduling'

export class Allocator implements Controller {
  readonly name = 'allocator'
  /** Ports given to a service in a proposal that is under way. */
  readonly #proposed = new Map<string, readonly string[]>()
  /** Services that wait for what others hold. */
  readonly #blocked = new Set<string>();

  *start(view: StoreView): Iterable<string | undefined> {
    this.#proposed.clear()
    this.#blocked.clear()
    for (const service of view.list('service')) {
      if (needsAllocation(service) || view.tasksOfService(service.id).some(isNew)) yield service.id
      else yield undefined
    }
  }

  *affected(event: StoreEvent): Iterable<string> {
    const { old, new: next } = event
    if (event.objectKind === 'service') {
      if (next?.kind === 'service' && needsAllocation(next)) yield event.id
      if (event.kind !== 'create') yield* this.#blocked
    } else if (next?.kind === 'task' && isNew(next) && old === undefined) yield next.serviceId
  }

  reconcile(view: StoreView, serviceId: string, { nowMs }: ReconcileContext): Decision {
    this.#blocked.delete(serviceId)
    const service = view.get('service', serviceId)
    if (!service) return NOTHING
    const tasks = view.tasksOfService(serviceId).filter(isNew)
    if (needsAllocation(service)) return this.#allocate(view, service, tasks, nowMs)
    const batch = tasks.slice(0, MAX_TASKS_PER_LOOK)
    const requeueAtMs = tasks.length > batch.length ? nowMs : undefined
    return { transactions: packChanges(batch.map((task) => passOn(service, task, nowMs))), requeueAtMs }
  }

  settled(serviceId: string): void {
    this.#proposed.delete(serviceId)
  }

  report(
    view: StoreView,
    serviceId: string,
    problem: Problem | undefined,
    context: ReconcileContext,
  ): Transaction | undefined {
    return serviceProblem(view.get('service', serviceId), this.name, problem, context.nowMs)
  }

  #allocate(view: StoreView, service: Service, tasks: readonly Task[], nowMs: number): Decision {
    const allocation = allocatePorts(view, service, new Set([...this.#proposed.values()].flat()))
    if (allocation.kind === 'refused') {
      this.#blocked.add(service.id)
      return { transactions: refuse(service, tasks, this.name, allocation, nowMs) }
    }
    this.#proposed.set(service.id, allocation.ports.map(portKeyOf))
    const { problem, ...rest } = service
    const endpoint = {
      spec: service.spec.EndpointSpec ?? {},
      ports: allocation.ports,
      virtualIps: service.endpoint?.virtualIps ?? [],
    }
    const object: Service = problem?.source === this.name ? { ...rest, endpoint } : { ...service, endpoint }
    const transaction = [{ kind: 'update', object, expectedVersion: service.meta.version } as const]
    return { transactions: [transaction], requeueAtMs: nowMs }
  }
}

/** Services that publish nothing have nothing to allocate: they cost no write. */
function needsAllocation(service: Service): boolean {
  const wanted = service.spec.EndpointSpec
  if (!service.endpoint) return needsPorts(wanted)
  return !specsEqual(wanted, service.endpoint.spec)
}

function isNew(task: Task): boolean {
  return task.status.state === 'new' && compareTaskStates(task.desiredState, 'complete') <= 0
}

function passOn(service: Service, task: Task, nowMs: number): readonly Change[] {
  const status = statusAfter(task, { state: 'pending', message: PENDING_MESSAGE }, nowMs)
  const changes: readonly Change[] = [{ kind: 'task-status', taskId: task.id, status }]
  const { endpoint } = service
  if (!endpoint || (endpoint.ports.length === 0 && endpoint.virtualIps.length === 0)) return changes
  return [{ kind: 'update', object: { ...task, endpoint }, expectedVersion: task.meta.version }, ...changes]
}

function refuse(
  service: Service,
  tasks: readonly Task[],
  source: string,
  problem: Problem,
  nowMs: number,
): readonly Transaction[] {
  const shown = serviceProblem(service, source, problem, nowMs) ?? []
  const { message: error } = problem
  const units = tasks
    .filter((task) => task.status.error !== error)
    .map((task): readonly Change[] => {
      const status = statusAfter(task, { state: 'new', message: task.status.message, error }, nowMs)
      return [{ kind: 'task-status', taskId: task.id, status }]
    })
  return packChanges([shown, ...units])
}

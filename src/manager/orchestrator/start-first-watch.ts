// Tells of start-first updates that can never go on: the new task needs a node, and on each that would do the service's own
// old tasks hold the host-mode port, or as many replicas as a node may have; they go only once the new one runs. It is a note
// on the service, which goes with its cause. One key is a service.

import { ADDRESS_NOT_HERE } from '../../api/data-plane.ts'
import type { Node, Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { groupBy } from '../../lib/group-by.ts'
import { type Controller, type Decision, NOTHING, type Problem, type ReconcileContext } from '../loop/controller.ts'
import { serviceProblem } from '../loop/service-problem.ts'
import { constraintsOf, nodeMeets } from '../scheduler/constraint.ts'
import { hostPortsOf } from '../scheduler/node-info.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'
import { currentUpdateSettings, isJob } from './service-settings.ts'
import { isLive, isRunning, slotsOf } from './slots.ts'

export class StartFirstWatch implements Controller {
  readonly name = 'start-first watch'
  /** Services that are blocked as far as is known: anything that happens to them may be the end of it. */
  readonly #blocked = new Set<string>();

  *start(view: StoreView): Iterable<string | undefined> {
    this.#blocked.clear()
    for (const service of view.list('service')) if (service.problem?.source === this.name) this.#blocked.add(service.id)
    yield* this.#blocked
    for (const [at, task] of view.list('task').entries()) {
      if (isRefused(task)) yield task.serviceId
      else if (at % 100 === 0) yield undefined
    }
  }

  *affected(event: StoreEvent): Iterable<string> {
    const { old, new: next } = event
    if (event.objectKind === 'node') yield* this.#blocked
    else if (next?.kind === 'service') {
      const gaveWay = old?.kind === 'service' && old.problem !== undefined && next.problem === undefined
      if (this.#blocked.has(event.id) || gaveWay) yield event.id
    } else if (event.objectKind === 'service') this.#blocked.delete(event.id)
    else if (next?.kind === 'task' && isRefused(next)) {
      if (old?.kind !== 'task' || old.status.error !== next.status.error) yield next.serviceId
    } else if (old?.kind === 'task' && this.#blocked.has(old.serviceId)) yield old.serviceId
  }

  reconcile(view: StoreView, serviceId: string, { nowMs }: ReconcileContext): Decision {
    const service = view.get('service', serviceId)
    if (!service) return NOTHING
    const problem = problemOf(view, service)
    if (problem) this.#blocked.add(serviceId)
    else this.#blocked.delete(serviceId)
    // One that keeps tasks from being made or given addresses is of more weight.
    const { source = this.name, code = '' } = service.problem ?? {}
    const other = source !== this.name && code !== 'PORT_IN_USE' && code !== ADDRESS_NOT_HERE
    const transaction = other ? undefined : serviceProblem(service, this.name, problem, nowMs)
    return { transactions: transaction ? [transaction] : [] }
  }
}

/** The scheduler found no node for it. */
function isRefused(task: Task): boolean {
  return task.status.state === 'pending' && task.status.error !== '' && isLive(task)
}

function problemOf(view: StoreView, service: Service): Problem | undefined {
  if (isJob(service.spec) || currentUpdateSettings(service).order !== 'start-first') return undefined
  const tasks = view.tasksOfService(service.id)
  const refused = tasks.find(isRefused)
  if (!refused || mayGoOn(tasks, refused)) return undefined
  const ports = hostPortsOf(refused)
  const limit = refused.spec.Placement?.MaxReplicas ?? 0
  const nodes = view.list('node').filter(({ id }) => refused.nodeId === '' || id === refused.nodeId)
  const candidates = nodes.filter((node) => isCandidate(node, refused))
  if (candidates.length === 0) return undefined
  const running = groupBy(tasks.filter(isRunning), (task) => task.nodeId)
  const there = candidates.map(({ id }) => running.get(id) ?? [])
  const heldPorts = there.filter((old) => old.some((task) => hostPortsOf(task).some((port) => ports.includes(port))))
  const full = there.filter((old) => limit > 0 && old.length >= limit && !heldPorts.includes(old))
  if (there.some((old) => !heldPorts.includes(old) && !full.includes(old))) return undefined
  const reasons = [
    ...(heldPorts.length > 0 ? [`${heldPorts.length} have an old task on host-mode port ${ports.join(', ')}`] : []),
    ...(full.length > 0 ? [`${full.length} have the ${limit} that a node may have`] : []),
  ]
  const what = `${refused.serviceName}.${refused.slot > 0 ? refused.slot : refused.nodeId}`
  return {
    code: 'START_FIRST_BLOCKED',
    message:
      `the update can not go on: start-first keeps the old tasks until the new one of ${what} runs, and of the ` +
      `${candidates.length} nodes that it may run on, ${reasons.join(' and ')}; use the update order stop-first, or add a node`,
  }
}

/** Some new task is about to run, or an old one about to stop: that may make room. */
function mayGoOn(tasks: readonly Task[], refused: Task): boolean {
  if (!tasks.some((task) => isRunning(task) && task.specVersion !== refused.specVersion)) return true
  const starts = (task: Task) =>
    isLive(task) &&
    compareTaskStates(task.status.state, 'pending') > 0 &&
    compareTaskStates(task.status.state, 'running') < 0
  const stops = (task: Task) => !isLive(task) && compareTaskStates(task.status.state, 'complete') < 0
  if (tasks.some((task) => task.nodeId !== '' && (starts(task) || stops(task)))) return true
  return slotsOf(tasks, refused.slot === 0).some((slot) => slot.live.filter(isRunning).length > 1)
}

function isCandidate(node: Node, task: Task): boolean {
  const isOpen = node.status.state === 'ready' && (node.spec.Availability ?? 'active') === 'active'
  return isOpen && nodeMeets(node, constraintsOf(task.spec.Placement?.Constraints))
}

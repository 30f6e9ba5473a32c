// Gives pending tasks a node: PENDING → ASSIGNED. One key is a service; all its pending tasks are placed in one pass, and
// several services' proposals are under way at once, each counting on what the others have taken. Tasks that fit nowhere
// say why, in Swarm's words, and are looked at again when a node changes or, where that could help, a task ends.

import type { Task, TaskPlacement } from '../../api/objects.ts'
import { isToRun } from '../../api/spec.ts'
import { formatTime } from '../../lib/clock.ts'
import { groupBy } from '../../lib/group-by.ts'
import type { Controller, Decision, ReconcileContext } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { statusAfter } from '../loop/task-status.ts'
import { isEncrypted, occupiesNode } from '../store/indexes.ts'
import type { Change, StoreEvent, StoreView } from '../store/types.ts'
import { ClusterMap } from './cluster-map.ts'
import { labelOf } from './constraint.ts'
import { waitsFor } from './dependencies.ts'
import { explain, filtersFor, passes, Tally } from './filters.ts'
import type { NodeInfo } from './node-info.ts'
import { placeTasks } from './placement.ts'

/** More tasks of a service than this wait for the next pass, so that a pass stays short. */
const MAX_TASKS_PER_PASS = 200
/** Of what is kept with a task of the filters' refusals. */
const MAX_REFUSED_LENGTH = 100

export class Scheduler implements Controller {
  readonly name = 'scheduler'
  readonly #map = new ClusterMap()
  /** Assignments of a service that are under way: task → node. */
  readonly #proposed = new Map<string, ReadonlyMap<string, string>>()
  /** Services with tasks that fit nowhere; true: the end of some task might help. */
  readonly #unplaced = new Map<string, boolean>()
  /** Services whose tasks wait for others, with the names of those. */
  readonly #dependent = new Map<string, readonly string[]>();

  *start(view: StoreView): Iterable<string | undefined> {
    this.#proposed.clear()
    this.#unplaced.clear()
    this.#dependent.clear()
    yield* this.#map.build(view)
    for (const service of view.list('service')) {
      if (view.tasksOfService(service.id).some(isWaiting)) yield service.id
      else yield undefined
    }
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    this.#map.observe(event, view)
    const { old, new: next } = event
    if (event.objectKind === 'node') {
      yield* this.#unplaced.keys()
    } else if (event.objectKind === 'service') {
      const service = next ?? old
      if (service?.kind === 'service') yield* this.#dependentOn(service.spec.Name, service.id)
    } else if (event.objectKind === 'task') {
      if (next?.kind === 'task' && (old?.kind !== 'task' || old.status.state !== next.status.state)) {
        yield* this.#dependentOn(next.serviceName)
      }
      if (next?.kind === 'task' && isWaiting(next)) {
        if (old?.kind !== 'task' || !isWaiting(old)) yield next.serviceId
      } else if (old?.kind === 'task' && makesRoom(old, next?.kind === 'task' ? next : undefined)) {
        for (const [serviceId, tasksMatter] of this.#unplaced) if (tasksMatter) yield serviceId
      }
    }
  }

  reconcile(view: StoreView, serviceId: string, context: ReconcileContext): Decision {
    this.#unplaced.delete(serviceId)
    this.#dependent.delete(serviceId)
    const service = view.get('service', serviceId)
    // The tasks of a service that was removed are about to go.
    const waiting = service ? view.tasksOfService(serviceId).filter(isWaiting) : []
    const dependency = waiting.length > 0 ? waitsFor(view, service) : undefined
    if (dependency) {
      this.#dependent.set(serviceId, dependency.services)
      return { transactions: packChanges(waiting.flatMap((task) => left(task, dependency.text, context.nowMs))) }
    }
    const batch = waiting.toSorted(byTurn).slice(0, MAX_TASKS_PER_PASS)
    const isEncryptedHere = (networkId: string) => isEncrypted(view.get('network', networkId))
    const pass = new Pass(this.#map, context.nowMs, isEncryptedHere)
    for (const task of batch) if (task.nodeId) pass.confirm(task)
    const free = batch.filter((task) => !task.nodeId)
    for (const [, group] of groupBy(free, (task) => task.specVersion)) pass.place(group)
    if (pass.proposed.size > 0) this.#proposed.set(serviceId, pass.proposed)
    if (pass.unplaced !== undefined) this.#unplaced.set(serviceId, pass.unplaced)
    const more = waiting.length > batch.length && (pass.unplaced === undefined || batch.some(isNew))
    return { transactions: packChanges(pass.units), requeueAtMs: more ? context.nowMs : undefined }
  }

  /** Services that wait for this one, and itself, if its label changed what it waits for. */
  *#dependentOn(name: string | undefined, id?: string): Iterable<string> {
    for (const [serviceId, names] of this.#dependent) {
      if (serviceId === id || names.includes(name ?? '')) yield serviceId
    }
  }

  settled(serviceId: string, view: StoreView): void {
    const proposed = this.#proposed.get(serviceId)
    if (!proposed) return
    this.#proposed.delete(serviceId)
    for (const [taskId, nodeId] of proposed) this.#map.confirm(taskId, nodeId, view)
  }
}

/** One look at one service's waiting tasks. */
class Pass {
  readonly units: (readonly Change[])[] = []
  readonly proposed = new Map<string, string>()
  /** undefined: all were placed; true: the end of some task might help the others. */
  unplaced: boolean | undefined
  readonly #map: ClusterMap
  readonly #nowMs: number
  readonly #isEncrypted: (networkId: string) => boolean

  constructor(map: ClusterMap, nowMs: number, isEncryptedHere: (networkId: string) => boolean) {
    this.#map = map
    this.#nowMs = nowMs
    this.#isEncrypted = isEncryptedHere
  }

  /** A task of a global service: its node was chosen, but must be able to run it. */
  confirm(task: Task): void {
    const info = this.#map.get(task.nodeId)
    if (!info) return
    const filters = filtersFor(task, this.#isEncrypted)
    if (passes(filters, info)) this.#assign(task, info, 'scheduler confirmed task can run on preassigned node')
    else {
      const { text, dependsOnTasks } = explain(filters, [info])
      this.#leave(task, text, dependsOnTasks)
    }
  }

  /** Tasks of one service and one version of its spec. */
  place(group: readonly Task[]): void {
    const first = group[0]!
    const filters = filtersFor(first, this.#isEncrypted)
    const tally = new Tally(filters)
    let kept: Omit<TaskPlacement, 'there'> | undefined
    let next = 0
    placeTasks({
      serviceId: first.serviceId,
      specVersion: first.specVersion,
      count: group.length,
      spread: spreadOf(first),
      nodes: this.#map.nodes(),
      nowMs: this.#nowMs,
      admits: (info) => tally.passes(info),
      fits: (info) => passes(filters, info),
      place: (info) => {
        kept ??= this.#kept(tally)
        const placement = { ...kept, there: info.activeOf(first.serviceId) }
        this.#assign(group[next++]!, info, 'scheduler assigned task to node', placement)
      },
    })
    if (next === group.length) return
    const { text, dependsOnTasks } = explain(filters, this.#map.nodes())
    const error = text ? `no suitable node (${text})` : 'no suitable node'
    for (const task of group.slice(next)) this.#leave(task, error, dependsOnTasks)
  }

  #kept(tally: Tally): Omit<TaskPlacement, 'there'> {
    const { nodes, fit } = tally
    const at = formatTime(this.#nowMs)
    return nodes === fit ? { at, nodes, fit } : { at, nodes, fit, refused: tally.text().slice(0, MAX_REFUSED_LENGTH) }
  }

  #assign(task: Task, info: NodeInfo, message: string, placement?: TaskPlacement): void {
    const wanted = task.spec.Resources?.Reservations?.GenericResources ?? []
    const given = wanted.length > 0 ? info.freeGenericResources().choose(wanted) : []
    const chosen = { nodeId: info.node.id, genericResources: given ?? [], ...(placement ? { placement } : {}) }
    const assigned: Task = { ...task, ...chosen }
    const status = statusAfter(task, { state: 'assigned', message }, this.#nowMs)
    const changes: Change[] = [{ kind: 'task-status', taskId: task.id, status }]
    // A preassigned task without generic resources is as its maker wrote it.
    if (task.nodeId !== assigned.nodeId || assigned.genericResources.length > 0) {
      changes.unshift({ kind: 'update', object: assigned, expectedVersion: task.meta.version })
    } else {
      changes.unshift({ kind: 'check', objectKind: 'task', id: task.id, expectedVersion: task.meta.version })
    }
    this.units.push(changes)
    this.proposed.set(task.id, info.node.id)
    info.put({ ...assigned, status })
  }

  #leave(task: Task, error: string, dependsOnTasks: boolean): void {
    this.unplaced = (this.unplaced ?? false) || dependsOnTasks
    this.units.push(...left(task, error, this.#nowMs))
  }
}

/** Why the task is given no node, where it does not say so already. */
function left(task: Task, error: string, nowMs: number): readonly (readonly Change[])[] {
  if (task.status.error === error) return []
  const status = statusAfter(task, { state: 'pending', message: task.status.message, error }, nowMs)
  return [[{ kind: 'task-status', taskId: task.id, status }]]
}

/** The node labels that a task is to be spread over, outermost first. */
export function spreadLabels(task: Task): readonly string[] {
  const descriptors = (task.spec.Placement?.Preferences ?? []).map((one) => one.Spread?.SpreadDescriptor ?? '')
  return descriptors.filter((descriptor) => /^(node|engine)\.labels\../i.test(descriptor))
}

function spreadOf(task: Task): readonly ((info: NodeInfo) => string)[] {
  return spreadLabels(task).map(
    (descriptor) =>
      ({ node }: NodeInfo) =>
        labelOf(node, descriptor) ?? '',
  )
}

function isWaiting(task: Task): boolean {
  return task.status.state === 'pending' && isToRun(task.desiredState)
}

/** Not tried before. */
function isNew(task: Task): boolean {
  return task.status.error === ''
}

function byTurn(a: Task, b: Task): number {
  return Number(isNew(b)) - Number(isNew(a)) || a.slot - b.slot || (a.id < b.id ? -1 : 1)
}

/** Resources, a host port, or a place among the replicas of a node have become free. */
function makesRoom(old: Task, next: Task | undefined): boolean {
  if (!occupiesNode(old)) return false
  if (!next || !occupiesNode(next)) return true
  return isToRun(old.desiredState) && !isToRun(next.desiredState)
}

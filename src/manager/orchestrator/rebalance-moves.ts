// Which tasks to move where, so that a service is spread as the scheduler would spread it now: evenly over the values of its
// placement preferences, then over nodes, then so that nodes have equally many tasks of all services. A move is worth it only
// where the two places differ by two tasks at least: one less would be moved back again. Pure: of what it is given.

import type { Task } from '../../api/objects.ts'
import { groupBy } from '../../lib/group-by.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import { labelOf } from '../scheduler/constraint.ts'
import { filtersFor, passes } from '../scheduler/filters.ts'
import { MAX_FAILURES, type NodeInfo } from '../scheduler/node-info.ts'
import { spreadLabels } from '../scheduler/scheduler.ts'
import { occupiesNode } from '../store/indexes.ts'
import type { MoveUnderWay } from './rebalance-run.ts'
import { isLive, newest } from './slots.ts'

export interface Move {
  readonly task: Task
  readonly toNodeId: string
  /** What differs, for people. */
  readonly reason: string
}

export interface MoveRequest {
  /** Tasks that may be moved; all of one service, and as its spec is now. */
  readonly tasks: readonly Task[]
  /** Ids of the nodes to move onto; empty: any */
  readonly onto: readonly string[]
  readonly isEncrypted: (networkId: string) => boolean
  readonly nowMs: number
}

/** Nodes that are equal in all preferences. */
interface Place {
  readonly values: readonly string[]
  /** Tasks of the service in the branch of each preference that it belongs to. */
  branches: readonly Branch[]
  /** The fullest node with a task that may be moved. */
  source: Load | undefined
  /** The emptiest one that can take a task. */
  target: Load | undefined
}

interface Branch {
  readonly key: string
  tasks: number
}

interface Load {
  readonly info: NodeInfo
  readonly ofService: number
  readonly ofAll: number
}

/** How the tasks stand, ahead of the store by the moves that are under way or planned. */
export class Balance {
  readonly #map: ClusterMap
  /** Tasks that are about to go, by node: they count no more. */
  readonly #leaving = new Map<string, Task[]>()
  readonly #arrived: { readonly taskId: string; readonly nodeId: string }[] = []
  #planned = 0

  /** @param map the caller's own: it is ahead of the store until `release` */
  constructor(map: ClusterMap, underWay: Iterable<MoveUnderWay>) {
    this.#map = map
    for (const { task, predecessor } of underWay) {
      if (predecessor && isLive(predecessor)) this.#leave(predecessor)
      if (!occupiesNode(task)) this.#arrive(task, task.nodeId)
    }
  }

  /** The move that evens out most; undefined: none would. */
  next(request: MoveRequest): Move | undefined {
    const first = request.tasks[0]
    if (!first) return undefined
    const byNode = groupBy(request.tasks, (task) => task.nodeId)
    const places = this.#places(request, first, (nodeId) => byNode.has(nodeId))
    let best: { readonly source: Load; readonly target: Load; readonly gains: readonly Gain[] } | undefined
    for (const { source, branches: from, values: fromValues } of places) {
      if (!source) continue
      for (const { target, branches: to, values: toValues } of places) {
        if (!target || target.info === source.info) continue
        const labels = spreadLabels(first)
        const levels = labels.map((label, at) =>
          gain(from[at]!.key === to[at]!.key, from[at]!.tasks, to[at]!.tasks, (x, y) => {
            const name = (value: string | undefined) => `${label}=${value}`
            return `${name(fromValues[at])} has ${tasksText(x)} of the service, ${name(toValues[at])} ${y}`
          }),
        )
        const [x, y] = [hostnameOf(source.info), hostnameOf(target.info)]
        levels.push(
          gain(
            false,
            source.ofService,
            target.ofService,
            (a, b) => `${x} has ${tasksText(a)} of the service, ${y} ${b}`,
          ),
        )
        levels.push(gain(false, source.ofAll, target.ofAll, (a, b) => `${x} has ${tasksText(a)} in all, ${y} ${b}`))
        if (!best || compareGains(levels, best.gains) < 0) best = { source, target, gains: levels }
      }
    }
    const decisive = best?.gains.find(({ change }) => change !== 0)
    if (!best || !decisive || decisive.change > 0) return undefined
    const task = newest(byNode.get(best.source.info.node.id)!)!
    return { task, toNodeId: best.target.info.node.id, reason: decisive.text() }
  }

  /** Counts with the move from now on. */
  begin({ task, toNodeId }: Move): void {
    this.#leave(task)
    this.#arrive({ ...task, id: `planned-${++this.#planned}` }, toNodeId)
  }

  /** The map is as it was, and this is of no use any more. */
  release(): void {
    for (const { taskId, nodeId } of this.#arrived) this.#map.get(nodeId)?.remove(taskId)
  }

  #arrive(task: Task, nodeId: string): void {
    this.#arrived.push({ taskId: task.id, nodeId })
    this.#map.get(nodeId)?.put({ ...task, nodeId, status: { ...task.status, state: 'assigned' } })
  }

  #leave(task: Task): void {
    const there = this.#leaving.get(task.nodeId)
    if (there) there.push(task)
    else this.#leaving.set(task.nodeId, [task])
  }

  #places(
    { onto, isEncrypted, nowMs }: MoveRequest,
    first: Task,
    hasTask: (nodeId: string) => boolean,
  ): readonly Place[] {
    const filters = filtersFor(first, isEncrypted)
    const labels = spreadLabels(first)
    const places = new Map<string, Place>()
    const branches = new Map<string, Branch>()
    const nodes = [...this.#map.nodes()].sort((a, b) => (a.node.id < b.node.id ? -1 : 1))
    for (const info of nodes) {
      const load = this.#load(info, first.serviceId)
      const values = labels.map((label) => labelOf(info.node, label) ?? '')
      const path = values.map((_, at) => {
        const key = JSON.stringify(values.slice(0, at + 1))
        const branch = branches.get(key) ?? { key, tasks: 0 }
        branches.set(key, branch)
        branch.tasks += load.ofService
        return branch
      })
      const key = JSON.stringify(values)
      const place = places.get(key) ?? { values, branches: path, source: undefined, target: undefined }
      places.set(key, place)
      if (hasTask(info.node.id) && isOpen(info) && (!place.source || isFuller(load, place.source))) place.source = load
      if (onto.length > 0 && !onto.includes(info.node.id)) continue
      if (place.target && !isFuller(place.target, load)) continue
      if (info.recentFailures(first.serviceId, first.specVersion, nowMs) >= MAX_FAILURES) continue
      if (passes(filters, info)) place.target = load
    }
    return [...places.values()]
  }

  #load(info: NodeInfo, serviceId: string): Load {
    const leaving = this.#leaving.get(info.node.id) ?? []
    const ofService = info.activeOf(serviceId) - leaving.filter((task) => task.serviceId === serviceId).length
    return { info, ofService, ofAll: info.active - leaving.length }
  }
}

/** What a move does to the evenness at one level: less than 0 is better. */
interface Gain {
  readonly change: number
  readonly text: () => string
}

/** Half of how a sum of squares changes when one task goes from `x` tasks to `y` tasks. */
function gain(same: boolean, x: number, y: number, text: (x: string | number, y: string | number) => string): Gain {
  return { change: same ? 0 : y - x + 1, text: () => text(x, y === 0 ? 'none' : y) }
}

function compareGains(a: readonly Gain[], b: readonly Gain[]): number {
  for (const [at, { change }] of a.entries()) if (change !== b[at]!.change) return change - b[at]!.change
  return 0
}

function isFuller(a: Load, b: Load): boolean {
  return a.ofService === b.ofService ? a.ofAll > b.ofAll : a.ofService > b.ofService
}

/** What is on a node that is away or drained is the orchestrator's, and a paused one is to be left alone. */
function isOpen({ node }: NodeInfo): boolean {
  return node.status.state === 'ready' && (node.spec.Availability ?? 'active') === 'active'
}

function hostnameOf({ node }: NodeInfo): string {
  return node.description.Hostname || node.id
}

function tasksText(count: string | number): string {
  return `${count} ${count === 1 ? 'task' : 'tasks'}`
}

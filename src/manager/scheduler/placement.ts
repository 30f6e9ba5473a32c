// Chooses nodes for a group of equal tasks: evenly over the values of each placement preference, then over nodes by tasks
// of the service, then by tasks at all, a node where this version keeps failing last, ties by id. A pure function of what
// it is given, so that the same state gives the same placement.

import type { NodeInfo } from './node-info.ts'
import { MAX_FAILURES } from './node-info.ts'

export interface PlacementRequest {
  readonly serviceId: string
  readonly specVersion: number
  readonly count: number
  /** The value that each preference has for a node, outermost first. */
  readonly spread: readonly ((info: NodeInfo) => string)[]
  readonly nodes: Iterable<NodeInfo>
  readonly nowMs: number
  /** The same question before anything is placed: asked once of each node. */
  readonly admits?: (info: NodeInfo) => boolean
  /** Whether the node can take one (more) of the tasks, counting those placed so far. */
  readonly fits: (info: NodeInfo) => boolean
  /** Puts the next task on the node; the node's counts have changed when it returns. */
  readonly place: (info: NodeInfo) => void
}

/** A set of nodes that are equal in the outer preferences; `children` by the value of the next one. */
class Branch {
  readonly #children = new Map<string, Branch>()
  #order: readonly Branch[] = []
  readonly #nodes: NodeInfo[] = []
  /** Tasks of the service on all nodes of the branch, on those that can't take more as well. */
  tasks = 0
  exhausted = false

  child(value: string): Branch {
    let child = this.#children.get(value)
    if (!child) {
      child = new Branch()
      this.#children.set(value, child)
      this.#order = [...this.#children].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, branch]) => branch)
    }
    return child
  }

  /** Leaves hold the nodes that fit, as a heap: the best one first. */
  push(info: NodeInfo, before: Before): void {
    const heap = this.#nodes
    let at = heap.length
    heap.push(info)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!before(info, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = info
  }

  /** Places one task in the branch; false when nothing in it can take one. */
  placeOne(request: PlacementRequest, before: Before): boolean {
    for (;;) {
      if (this.#order.length === 0) return this.#placeOnBest(request, before)
      let best: Branch | undefined
      for (const child of this.#order) if (!child.exhausted && (!best || child.tasks < best.tasks)) best = child
      if (!best) return this.#exhaust()
      if (best.placeOne(request, before)) {
        this.tasks++
        return true
      }
    }
  }

  #placeOnBest(request: PlacementRequest, before: Before): boolean {
    while (this.#nodes.length > 0) {
      const info = this.#nodes[0]!
      if (!request.fits(info)) {
        this.#pop(before)
        continue
      }
      request.place(info)
      this.tasks++
      this.#sink(info, before)
      return true
    }
    return this.#exhaust()
  }

  #exhaust(): false {
    this.exhausted = true
    return false
  }

  #pop(before: Before): void {
    const last = this.#nodes.pop()
    if (last && this.#nodes.length > 0) this.#sink(last, before)
  }

  /** Puts `info` at the root and lets it sink to where it belongs. */
  #sink(info: NodeInfo, before: Before): void {
    const heap = this.#nodes
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, info)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = info
  }
}

type Before = (a: NodeInfo, b: NodeInfo) => boolean

function ranking({ serviceId, specVersion, nowMs }: PlacementRequest): Before {
  const failures = new Map<NodeInfo, number>()
  const failuresOf = (info: NodeInfo): number => {
    let count = failures.get(info)
    if (count === undefined) {
      count = info.recentFailures(serviceId, specVersion, nowMs)
      failures.set(info, count)
    }
    return count >= MAX_FAILURES ? count : 0
  }
  return (a, b) => {
    const order = failuresOf(a) - failuresOf(b) || a.activeOf(serviceId) - b.activeOf(serviceId) || a.active - b.active
    return order < 0 || (order === 0 && a.node.id < b.node.id)
  }
}

/** Places up to `count` tasks. @returns how many it could place */
export function placeTasks(request: PlacementRequest): number {
  const before = ranking(request)
  const admits = request.admits ?? request.fits
  const root = new Branch()
  for (const info of request.nodes) {
    const tasks = info.activeOf(request.serviceId)
    let branch = root
    branch.tasks += tasks
    for (const valueFor of request.spread) {
      branch = branch.child(valueFor(info))
      branch.tasks += tasks
    }
    if (admits(info)) branch.push(info, before)
  }
  let placed = 0
  while (placed < request.count && root.placeOne(request, before)) placed++
  return placed
}

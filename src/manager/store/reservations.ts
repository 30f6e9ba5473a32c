// What the tasks of each node have reserved, kept as a sum, so that two proposals under way at once can't give the same
// memory away twice: `apply` refuses the second.

import type { Node, Task } from '../../api/objects.ts'
import { occupiesNode } from './indexes.ts'

export interface Reserved {
  readonly nanoCpus: number
  readonly memoryBytes: number
}

const NOTHING: Reserved = { nanoCpus: 0, memoryBytes: 0 }

/** What one task takes of its node; nothing before its assignment and after its end. */
export function reservationOf(task: Task): Reserved {
  const asked = task.spec.Resources?.Reservations
  if (!asked || !occupiesNode(task)) return NOTHING
  return { nanoCpus: asked.NanoCPUs ?? 0, memoryBytes: asked.MemoryBytes ?? 0 }
}

export class Reservations {
  readonly #byNode = new Map<string, Reserved>()

  of(nodeId: string): Reserved {
    return this.#byNode.get(nodeId) ?? NOTHING
  }

  add(task: Task): void {
    this.#shift(task, 1)
  }

  subtract(task: Task): void {
    this.#shift(task, -1)
  }

  /** True where `extra` still fits beside what is reserved on the node. */
  fits(node: Node, extra: Reserved): boolean {
    const total = node.description.Resources
    if (!total) return true
    const reserved = this.of(node.id)
    return (
      (extra.nanoCpus === 0 || reserved.nanoCpus + extra.nanoCpus <= (total.NanoCPUs ?? 0)) &&
      (extra.memoryBytes === 0 || reserved.memoryBytes + extra.memoryBytes <= (total.MemoryBytes ?? 0))
    )
  }

  #shift(task: Task, sign: 1 | -1): void {
    const { nanoCpus, memoryBytes } = reservationOf(task)
    if (nanoCpus === 0 && memoryBytes === 0) return
    const before = this.of(task.nodeId)
    const after = {
      nanoCpus: before.nanoCpus + sign * nanoCpus,
      memoryBytes: before.memoryBytes + sign * memoryBytes,
    }
    if (after.nanoCpus === 0 && after.memoryBytes === 0) this.#byNode.delete(task.nodeId)
    else this.#byNode.set(task.nodeId, after)
  }
}

// What the scheduler knows of a node: its object, and sums over the tasks that occupy it, kept up to date task by task, so
// that a decision never walks a node's tasks.

import type { Node, Task } from '../../api/objects.ts'
import { isToRun, type PortConfig } from '../../api/spec.ts'
import { FreeGenericResources, type GenericResources } from './generic-resources.ts'

/** Failures of a service's version on a node within this time … */
const FAILURE_MEMORY_MS = 5 * 60_000
/** … of which so many put the node behind the others for that version. */
export const MAX_FAILURES = 5

export function hostPortsOf(task: Pick<Task, 'endpoint'>): readonly string[] {
  return (task.endpoint?.ports ?? [])
    .filter(isFixedHostPort)
    .map((port) => `${port.Protocol ?? 'tcp'}/${port.PublishedPort}`)
}

function isFixedHostPort(port: PortConfig): boolean {
  return port.PublishMode === 'host' && (port.PublishedPort ?? 0) > 0
}

/** Counts for spreading: a task that is to stop no longer does, though it still holds its resources. */
function isActive(task: Task): boolean {
  return isToRun(task.desiredState)
}

function add<K>(counts: Map<K, number>, key: K, by: number): void {
  const sum = (counts.get(key) ?? 0) + by
  if (sum === 0) counts.delete(key)
  else counts.set(key, sum)
}

export class NodeInfo {
  node: Node
  #active = 0
  #nanoCpus = 0
  #memoryBytes = 0
  readonly #tasks = new Map<string, Task>()
  readonly #activeByService = new Map<string, number>()
  readonly #hostPorts = new Map<string, number>()
  readonly #withGenericResources = new Map<string, GenericResources>()
  readonly #failures = new Map<string, number[]>()

  constructor(node: Node) {
    this.node = node
  }

  /** Tasks that count for spreading. */
  get active(): number {
    return this.#active
  }

  activeOf(serviceId: string): number {
    return this.#activeByService.get(serviceId) ?? 0
  }

  get freeNanoCpus(): number {
    return (this.node.description.Resources?.NanoCPUs ?? 0) - this.#nanoCpus
  }

  get freeMemoryBytes(): number {
    return (this.node.description.Resources?.MemoryBytes ?? 0) - this.#memoryBytes
  }

  usesHostPort(port: string): boolean {
    return this.#hostPorts.has(port)
  }

  freeGenericResources(): FreeGenericResources {
    const free = new FreeGenericResources(this.node.description.Resources?.GenericResources ?? [])
    for (const given of this.#withGenericResources.values()) free.take(given)
    return free
  }

  /** Adds the task, or replaces what was known of it. */
  put(task: Task): void {
    this.remove(task.id)
    this.#tasks.set(task.id, task)
    this.#count(task, 1)
    if (task.genericResources.length > 0) this.#withGenericResources.set(task.id, task.genericResources)
  }

  remove(taskId: string): boolean {
    const task = this.#tasks.get(taskId)
    if (!task) return false
    this.#tasks.delete(taskId)
    this.#count(task, -1)
    this.#withGenericResources.delete(taskId)
    return true
  }

  failed(serviceId: string, specVersion: number, atMs: number): void {
    const key = `${serviceId}/${specVersion}`
    const times = (this.#failures.get(key) ?? []).filter((time) => atMs - time < FAILURE_MEMORY_MS)
    times.push(atMs)
    this.#failures.set(key, times)
    if (this.#failures.size > 100) this.#forgetFailures(atMs)
  }

  recentFailures(serviceId: string, specVersion: number, nowMs: number): number {
    const times = this.#failures.get(`${serviceId}/${specVersion}`)
    return times ? times.filter((time) => nowMs - time < FAILURE_MEMORY_MS).length : 0
  }

  #forgetFailures(nowMs: number): void {
    for (const [key, times] of this.#failures) {
      if (times.every((time) => nowMs - time >= FAILURE_MEMORY_MS)) this.#failures.delete(key)
    }
  }

  #count(task: Task, sign: 1 | -1): void {
    const reserved = task.spec.Resources?.Reservations
    this.#nanoCpus += sign * (reserved?.NanoCPUs ?? 0)
    this.#memoryBytes += sign * (reserved?.MemoryBytes ?? 0)
    for (const port of hostPortsOf(task)) add(this.#hostPorts, port, sign)
    if (!isActive(task)) return
    this.#active += sign
    add(this.#activeByService, task.serviceId, sign)
  }
}

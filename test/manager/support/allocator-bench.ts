// The allocator on a real store, without a loop around it: proposals are answered when the test wants, in any order, or lost.

import type { Network, Service, Task } from '../../../src/api/objects.ts'
import type { NetworkSpec, TaskState } from '../../../src/api/spec.ts'
import { formatTime } from '../../../src/lib/clock.ts'
import { SeededRandom } from '../../../src/lib/random.ts'
import { Allocator } from '../../../src/manager/allocator/allocator.ts'
import { allocateNetwork } from '../../../src/manager/allocator/subnets.ts'
import { Store } from '../../../src/manager/store/store.ts'
import type { Change, StoreEvent, Transaction } from '../../../src/manager/store/types.ts'
import { aCluster, aNetwork, aService, aTask, statusOf } from '../../support/objects.ts'

interface InFlight {
  readonly key: string
  readonly transactions: readonly Transaction[]
}

export class AllocatorBench {
  readonly store = new Store()
  readonly random: SeededRandom
  #allocator = new Allocator()
  readonly #queue = new Set<string>()
  /** Looked at again once everything is quiet. */
  readonly #later = new Set<string>()
  #flying: InFlight[] = []
  #index = 0
  #nowMs = Date.parse('2026-01-01T00:00:00Z')
  #names = 0

  constructor(seed = 1, subnetSize = 24) {
    this.random = new SeededRandom(seed)
    this.store.subscribe((events) => this.#hear(events))
    this.apply([{ kind: 'create', object: aCluster({ subnetSize }) }])
  }

  #hear(events: readonly StoreEvent[]): void {
    for (const event of events) for (const key of this.#allocator.affected(event, this.store)) this.#queue.add(key)
  }

  /** @returns why it was refused */
  apply(transaction: Transaction): string | undefined {
    this.#nowMs += 10
    const [result] = this.store.apply(++this.#index, this.#nowMs, [transaction])
    if (result?.kind !== 'refused') return undefined
    return result.code
  }

  /** A new leader: what the old one had under way may be applied still, but nobody settles it. */
  elect(): void {
    for (const { transactions } of this.#flying) {
      for (const transaction of transactions) if (this.random.below(2) === 0) this.apply(transaction)
    }
    this.#flying = []
    this.#queue.clear()
    this.#allocator = new Allocator()
    for (const key of this.#allocator.start(this.store)) if (key !== undefined) this.#queue.add(key)
  }

  /** Decides for one key that is due and not under way. */
  decide(): boolean {
    const busy = new Set(this.#flying.map(({ key }) => key))
    const key = [...this.#queue].sort().find((each) => !busy.has(each))
    if (key === undefined) return false
    this.#queue.delete(key)
    const context = { nowMs: this.#nowMs, random: this.random }
    const { transactions, requeueAtMs } = this.#allocator.reconcile(this.store, key, context)
    if (requeueAtMs !== undefined) (requeueAtMs > this.#nowMs ? this.#later : this.#queue).add(key)
    if (transactions.length > 0) this.#flying.push({ key, transactions })
    return true
  }

  /** Answers the proposals of one key. */
  answer(lose = false): boolean {
    const [one] = this.#flying.splice(this.random.below(this.#flying.length || 1), 1)
    if (!one) return false
    for (const transaction of one.transactions) {
      const code = lose ? 'PROPOSAL_DROPPED' : this.apply(transaction)
      if (code !== undefined) this.#queue.add(one.key)
    }
    this.#allocator.settled(one.key, this.store)
    return true
  }

  settle(): void {
    for (let steps = 0; this.decide() || this.answer(); steps++) {
      if (steps > 10_000) throw new Error('the allocator does not come to rest')
    }
    const again = [...this.#later]
    this.#later.clear()
    for (const key of again) this.#queue.add(key)
    if (again.length === 0) return
    for (let steps = 0; this.decide() || this.answer(); steps++) {
      if (steps > 10_000) throw new Error('the allocator does not come to rest')
    }
  }

  id(kind: string): string {
    return `${kind}${String(++this.#names).padStart(6, '0')}`
  }

  /** As the API does it; undefined where it is refused. */
  network(spec: NetworkSpec = {}): Network | undefined {
    const id = this.id('net')
    const allocation = allocateNetwork(this.store, id, spec)
    if (allocation.kind === 'refused') return undefined
    const object = aNetwork(id, { spec: { Name: id, ...spec }, allocated: allocation.allocated })
    const code = this.apply([{ kind: 'create', object }])
    if (code !== undefined) throw new Error(code)
    return this.store.get('network', id)
  }

  service(networks: readonly string[], over: Service['spec'] = {}): Service {
    const id = this.id('svc')
    const createdAt = formatTime(this.#nowMs)
    const spec = { Name: id, ...over, TaskTemplate: { Networks: networks.map((Target) => ({ Target })) } }
    const meta = { version: 0, createdAt, updatedAt: createdAt }
    this.apply([{ kind: 'create', object: aService(id, { spec, meta }) }])
    return this.store.get('service', id)!
  }

  task(service: Service, over: Partial<Task> = {}): string {
    const id = this.id('task')
    const createdAt = formatTime(this.#nowMs)
    const meta = { version: 0, createdAt, updatedAt: createdAt }
    const object = aTask(id, service.id, { spec: service.spec.TaskTemplate ?? {}, meta, ...over })
    this.apply([{ kind: 'create', object }])
    return id
  }

  report(taskId: string, state: TaskState): void {
    this.apply([{ kind: 'task-status', taskId, status: statusOf(state, { timestamp: formatTime(this.#nowMs) }) }])
  }

  assign(taskId: string, nodeId: string): string | undefined {
    const task = this.store.get('task', taskId)!
    const status = statusOf('assigned', { timestamp: formatTime(this.#nowMs) })
    const changes: readonly Change[] = [
      { kind: 'update', object: { ...task, nodeId }, expectedVersion: task.meta.version },
      { kind: 'task-status', taskId, status },
    ]
    return this.apply(changes)
  }

  remove(objectKind: 'network' | 'service' | 'task', id: string): string | undefined {
    return this.apply([{ kind: 'remove', objectKind, id }])
  }
}

// A leader's loops, the real store and workers that obey, on virtual time: entries take 2 ms to be applied, containers take
// what the image's name says. No consensus and no network, but leaders may change at any moment.

import type { Cluster, Node, Service, Task, TaskStatus } from '../../../src/api/objects.ts'
import { compareTaskStates, isTerminal, type ServiceSpec, type TaskState } from '../../../src/api/spec.ts'
import { formatTime } from '../../../src/lib/clock.ts'
import { CodedError } from '../../../src/lib/errors.ts'
import { silentLog } from '../../../src/lib/log.ts'
import { SeededRandom } from '../../../src/lib/random.ts'
import { createControlLoops } from '../../../src/manager/control-loops.ts'
import type { KeyedLoop } from '../../../src/manager/loop/keyed-loop.ts'
import { decodeEntry, encodeEntry, encodeTransaction } from '../../../src/manager/store/entry.ts'
import { Store } from '../../../src/manager/store/store.ts'
import type { Proposer, StoreEvent, Transaction } from '../../../src/manager/store/types.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'
import { aCluster, aNode, aService } from '../../support/objects.ts'

const ENTRY_MS = 2

/** Commits after ENTRY_MS, in order; what a dethroned leader has under way is lost or applied, as the seed wants. */
class Log implements Proposer {
  readonly store: Store
  readonly #clock: VirtualClock
  readonly #random: SeededRandom
  #term = 0
  #index = 0
  refused = 0

  constructor(store: Store, clock: VirtualClock, random: SeededRandom) {
    this.store = store
    this.#clock = clock
    this.#random = random
  }

  newTerm(): void {
    this.#term++
  }

  propose(transaction: Transaction): Promise<number> {
    const term = this.#term
    const bytes = encodeTransaction(transaction)
    return new Promise((resolve, reject) => {
      this.#clock.setTimer(ENTRY_MS, () => {
        const dethroned = term !== this.#term
        if (dethroned && this.#random.below(2) === 0) {
          reject(new CodedError('PROPOSAL_UNKNOWN', 'the leader changed'))
          return
        }
        const index = ++this.#index
        const entry = decodeEntry(encodeEntry(this.#clock.wallMs(), undefined, [bytes]))
        const result = this.store.apply(index, entry.wallMs, entry.transactions)[0]!
        if (dethroned) reject(new CodedError('PROPOSAL_UNKNOWN', 'the leader changed'))
        else if (result.kind === 'applied') resolve(index)
        else {
          this.refused++
          reject(new CodedError(result.code, result.message, { retryable: result.code === 'OUT_OF_SEQUENCE' }))
        }
      })
    })
  }
}

/**
 * What containers do, by image: `ok`, `ok:start=300` (ms until RUNNING), `crash=500` (fails so long after RUNNING), `exit=500`
 * (completes), `broken` (fails before RUNNING), `missing` (rejected), `stop=3000` (ms to stop).
 */
function behaviourOf(image: string): Readonly<Record<string, number>> {
  const parts = image.split(':').map((part) => part.split('='))
  return Object.fromEntries(parts.map(([name = '', value]) => [name, value === undefined ? 1 : Number(value)]))
}

export class SmallCluster {
  readonly clock = new VirtualClock()
  readonly store = new Store()
  readonly log: Log
  readonly events: StoreEvent[] = []
  /** How far the workers' clocks are ahead. */
  workersAheadMs = 0
  readonly #random: SeededRandom
  #leadership = new AbortController()
  #loops: readonly KeyedLoop[] = []
  #running: Promise<unknown> = Promise.resolve()
  readonly #failing = new Set<string>()
  readonly #stalled = new Set<string>()
  /** The step that a worker is at with a task. */
  readonly #steps = new Map<string, string>()

  constructor(seed = 1) {
    this.#random = new SeededRandom(seed)
    this.log = new Log(this.store, this.clock, this.#random.fork())
    this.store.subscribe((events) => {
      this.events.push(...events)
      for (const event of events) if (event.new?.kind === 'task') this.#work(event.new)
    })
  }

  static async start(
    options: { readonly nodes?: number; readonly seed?: number; readonly cluster?: Partial<Cluster> } = {},
  ) {
    const made = new SmallCluster(options.seed)
    await made.write([{ kind: 'create', object: aCluster(options.cluster) }])
    for (let n = 1; n <= (options.nodes ?? 3); n++) await made.addNode(`n${n}`)
    made.elect()
    return made
  }

  get loops(): readonly KeyedLoop[] {
    return this.#loops
  }

  /** A new leader takes over; the old one's proposals under way are lost or applied. */
  elect(): void {
    this.#leadership.abort()
    this.log.newTerm()
    this.#leadership = new AbortController()
    this.#loops = createControlLoops({
      view: this.store,
      subscribe: (listener) => this.store.subscribe(listener),
      proposer: this.log,
      clock: this.clock,
      random: this.#random.fork(),
      log: silentLog,
    })
    const { signal } = this.#leadership
    this.#running = Promise.all([this.#running, ...this.#loops.map((loop) => loop.run({ signal }))])
  }

  async stop(): Promise<void> {
    this.#leadership.abort()
    await this.clock.wait(this.#running, 10_000, 'the end of the loops')
  }

  /** Proposes as the API does. */
  write(transaction: Transaction): Promise<number> {
    return this.clock.wait(this.log.propose(transaction), 1_000, 'a write')
  }

  addNode(id: string, over: Partial<Node> = {}): Promise<number> {
    const Resources = { NanoCPUs: 4e9, MemoryBytes: 8e9 }
    const description = { Hostname: id, Platform: { OS: 'linux', Architecture: 'x86_64' }, Resources }
    return this.write([{ kind: 'create', object: aNode(id, { description, ...over }) }])
  }

  async changeNode(id: string, change: (node: Node) => Partial<Node>): Promise<void> {
    await this.#rewrite(() => {
      const node = this.store.get('node', id)!
      return [{ kind: 'update', object: { ...node, ...change(node) }, expectedVersion: node.meta.version }]
    })
  }

  async setAvailability(id: string, Availability: 'active' | 'pause' | 'drain'): Promise<void> {
    await this.changeNode(id, (node) => ({ spec: { ...node.spec, Availability } }))
  }

  async takeDown(id: string): Promise<void> {
    const downSince = formatTime(this.clock.wallMs())
    await this.changeNode(id, (node) => ({ status: { ...node.status, state: 'down' }, downSince }))
  }

  async bringBack(id: string): Promise<void> {
    await this.changeNode(id, (node) => ({ status: { ...node.status, state: 'ready' }, downSince: '' }))
    for (const task of this.store.tasksOfNode(id)) this.#work(task)
  }

  async create(id: string, spec: ServiceSpec, over: Partial<Service> = {}): Promise<void> {
    await this.write([{ kind: 'create', object: aService(id, { spec: { Name: id, ...spec }, ...over }) }])
  }

  /** Reads, changes and writes, again where somebody else was faster. */
  async changeService(id: string, change: (service: Service) => Partial<Service>): Promise<void> {
    await this.#rewrite(() => {
      const service = this.service(id)
      return [{ kind: 'update', object: { ...service, ...change(service) }, expectedVersion: service.meta.version }]
    })
  }

  async #rewrite(build: () => Transaction): Promise<void> {
    for (;;) {
      try {
        await this.write(build())
        return
      } catch (error) {
        if (!(error instanceof CodedError && error.code === 'OUT_OF_SEQUENCE')) throw error
      }
    }
  }

  /** As the API writes an update. */
  update(id: string, change: (spec: ServiceSpec) => ServiceSpec): Promise<void> {
    const lastExecution = formatTime(this.clock.wallMs())
    return this.changeService(id, ({ spec, specVersion, jobStatus }) => ({
      spec: change(spec),
      specVersion: 0,
      previousSpec: spec,
      previousSpecVersion: specVersion,
      updateStatus: undefined,
      jobStatus: jobStatus && { iteration: jobStatus.iteration + 1, lastExecution },
    }))
  }

  async setImage(id: string, image: string): Promise<void> {
    await this.update(id, (spec) => ({ ...spec, TaskTemplate: withImage(spec.TaskTemplate, image) }))
  }

  async scale(id: string, replicas: number): Promise<void> {
    await this.update(id, (spec) => ({ ...spec, Mode: { Replicated: { Replicas: replicas } } }))
  }

  service(id: string): Service {
    return this.store.get('service', id)!
  }

  tasks(id: string): readonly Task[] {
    return this.store.tasksOfService(id)
  }

  /** Tasks that run and are to run. */
  running(id: string): readonly Task[] {
    return this.tasks(id).filter((task) => task.status.state === 'running' && task.desiredState === 'running')
  }

  until(condition: () => boolean, what: string, limitMs = 120_000): Promise<void> {
    return this.clock.until(condition, limitMs, what)
  }

  untilRunning(id: string, count: number, image?: string): Promise<void> {
    const done = () => this.running(id).filter((task) => !image || imageOf(task) === image).length === count
    return this.until(done, `${count} tasks of ${id} running`)
  }

  untilUpdate(id: string, state: string): Promise<void> {
    return this.until(() => this.service(id).updateStatus?.State === state, `update of ${id} ${state}`)
  }

  // ---- workers ----

  /** From now on tasks that start on this node fail. */
  failOn(nodeId: string): void {
    this.#failing.add(nodeId)
  }

  /** From now on tasks that are assigned to this node come no further. */
  stallOn(nodeId: string): void {
    this.#stalled.add(nodeId)
  }

  /** Its container fails. */
  kill(task: Task): Promise<void> {
    const end = { name: '', afterMs: 0, state: 'failed', error: 'task: non-zero exit (137)' } as const
    return this.clock.wait(this.#report(task, end), 1_000, 'the report')
  }

  #work(task: Task): void {
    const node = this.store.get('node', task.nodeId)
    if (!node || node.status.state === 'down' || isTerminal(task.status.state)) return
    if (compareTaskStates(task.status.state, 'assigned') < 0) return
    if (this.#stalled.has(task.nodeId)) return
    const next = nextStep(task, this.#failing.has(task.nodeId))
    if (!next || this.#steps.get(task.id) === next.name) return
    this.#steps.set(task.id, next.name)
    this.clock.setTimer(next.afterMs, () => {
      if (this.#steps.get(task.id) !== next.name) return
      this.#steps.delete(task.id)
      const now = this.store.get('task', task.id)
      const state = this.store.get('node', task.nodeId)?.status.state
      if (now && state && state !== 'down') void this.#report(now, next)
    })
  }

  async #report(task: Task, { state, error = '' }: Step): Promise<void> {
    const status: TaskStatus = {
      ...task.status,
      state,
      error,
      message: state,
      timestamp: formatTime(this.clock.wallMs() + this.workersAheadMs),
    }
    try {
      await this.log.propose([{ kind: 'task-status', taskId: task.id, status }])
    } catch {
      // Lost with its leader: said again, as a worker does on its next session.
      if (this.store.get('task', task.id)) await this.#report(task, { name: '', afterMs: 0, state, error })
    }
  }
}

interface Step {
  readonly name: string
  readonly afterMs: number
  readonly state: TaskState
  readonly error?: string
}

function nextStep(task: Task, fails: boolean): Step | undefined {
  const does = behaviourOf(fails ? `${imageOf(task)}:broken` : imageOf(task))
  if (compareTaskStates(task.desiredState, 'complete') > 0) {
    const runs = compareTaskStates(task.status.state, 'starting') >= 0
    return { name: 'stop', afterMs: runs ? (does.stop ?? 100) : 1, state: 'shutdown' }
  }
  const error = 'task: non-zero exit (1)'
  const image = imageOf(task)
  const steps: Partial<Record<TaskState, Step | undefined>> = {
    assigned: { name: 'prepare', afterMs: 5, state: 'preparing' },
    preparing: does.missing
      ? { name: 'reject', afterMs: 50, state: 'rejected', error: `No such image: ${image}` }
      : { name: 'ready', afterMs: 50, state: 'ready' },
    ready: task.desiredState === 'ready' ? undefined : { name: 'start', afterMs: 10, state: 'starting' },
    starting: does.broken
      ? { name: 'fail', afterMs: does.start ?? 200, state: 'failed', error }
      : { name: 'run', afterMs: does.start ?? 200, state: 'running' },
    running: does.crash
      ? { name: 'crash', afterMs: does.crash, state: 'failed', error }
      : does.exit
        ? { name: 'exit', afterMs: does.exit, state: 'complete' }
        : undefined,
  }
  return steps[task.status.state]
}

export function imageOf(task: Task): string {
  return task.spec.ContainerSpec?.Image ?? ''
}

export function withImage(
  template: ServiceSpec['TaskTemplate'],
  Image: string,
): NonNullable<ServiceSpec['TaskTemplate']> {
  return { ...template, ContainerSpec: { ...template?.ContainerSpec, Image } }
}

const NANOS_PER_MS = 1e6

/** A replicated service's spec with short times. */
export function replicatedSpec(replicas: number, over: ServiceSpec & { readonly image?: string } = {}): ServiceSpec {
  const { image = 'ok', TaskTemplate, ...rest } = over
  return {
    TaskTemplate: { ContainerSpec: { Image: image }, RestartPolicy: { Delay: 100 * NANOS_PER_MS }, ...TaskTemplate },
    Mode: { Replicated: { Replicas: replicas } },
    ...rest,
  }
}

export function nanos(ms: number): number {
  return ms * NANOS_PER_MS
}

// The executor of a simulated engine: it takes the time and fails the way that the engine's program says, and passes the
// same conformance suite as DockerExecutor.

import type { LogOptions } from '../api/dispatcher.ts'
import type { NodeDescription } from '../api/spec.ts'
import type { Clock } from '../lib/clock.ts'
import { asMultiplexed } from './docker/multiplexed.ts'
import {
  type ContainerWatcher,
  type Executor,
  type ObservedContainer,
  stepAborted,
  type TaskOrder,
  taskFailed,
} from './executor.ts'
import { engineDown, type SimulatedEngine } from './simulated-engine.ts'

const DEFAULT_MS = { pull: 20, create: 15, start: 60 }
const RECONNECT_MS = 100

export class SimulatedExecutor implements Executor {
  readonly #engine: SimulatedEngine
  readonly #clock: Clock
  /** Files of tasks, as a real executor leaves them on the machine. */
  readonly #files = new Set<string>()

  constructor(options: { readonly engine: SimulatedEngine; readonly clock: Clock }) {
    this.#engine = options.engine
    this.#clock = options.clock
  }

  /** Tasks of which files are left. */
  files(): ReadonlySet<string> {
    return this.#files
  }

  async describe(): Promise<NodeDescription> {
    this.#check()
    return this.#engine.description
  }

  async watch(watcher: ContainerWatcher, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#engine.up) await this.#engine.watch(watcher, signal)
      else await this.#wait(RECONNECT_MS, signal).catch(() => {}) // aborted: the loop ends
    }
  }

  async prepare(order: TaskOrder, signal: AbortSignal): Promise<ObservedContainer> {
    this.#check()
    const { task } = order
    const behaviour = this.#engine.behaviourOf(task)
    await this.#wait(behaviour.pullMs ?? DEFAULT_MS.pull, signal)
    this.#check()
    if (behaviour.imageMissing) throw taskFailed(`No such image: ${task.spec.ContainerSpec?.Image ?? ''}`)
    if ((task.spec.ContainerSpec?.Secrets ?? []).length > 0) this.#files.add(task.id)
    await this.#wait(behaviour.createMs ?? DEFAULT_MS.create)
    this.#check()
    return this.#engine.create(task, behaviour)
  }

  async start(container: ObservedContainer): Promise<ObservedContainer> {
    this.#check()
    const behaviour = this.#engine.behaviourAt(container.containerId)
    await this.#wait(behaviour?.startMs ?? DEFAULT_MS.start)
    this.#check()
    if (behaviour?.startError) throw taskFailed(`starting container failed: ${behaviour.startError}`)
    const started = this.#engine.start(container.containerId)
    if (!started) throw taskFailed('starting container failed: the container is gone')
    return started
  }

  async stop(container: ObservedContainer, signal: AbortSignal): Promise<ObservedContainer | undefined> {
    this.#check()
    const left = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(stepAborted()), { once: true })
    })
    const stopped = await Promise.race([this.#engine.stop(container.containerId), left])
    this.#check()
    return stopped
  }

  async remove(container: ObservedContainer): Promise<void> {
    this.#check()
    this.#engine.remove(container.containerId)
    this.#files.delete(container.taskId)
  }

  async *logs(container: ObservedContainer, options: LogOptions, signal: AbortSignal): AsyncIterable<Uint8Array> {
    this.#check()
    const log = this.#engine.logOf(container.containerId)
    const shown = options.tail === undefined ? log : log.slice(log.length - Math.min(options.tail, log.length))
    if (options.stdout)
      for (const { line, time } of shown) yield asMultiplexed(new TextEncoder().encode(`${time} ${line}\n`))
    if (options.follow) await this.#engine.ended(container.containerId, signal)
  }

  async sweep(exists: (taskId: string) => boolean): Promise<void> {
    for (const taskId of this.#files) if (!exists(taskId)) this.#files.delete(taskId)
  }

  #check(): void {
    if (!this.#engine.up) throw engineDown()
  }

  #wait(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        timer.cancel()
        reject(stepAborted())
      }
      const timer = this.#clock.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      })
      if (signal?.aborted) abort()
      else signal?.addEventListener('abort', abort, { once: true })
    })
  }
}

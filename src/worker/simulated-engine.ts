// A machine's engine on virtual time, for the simulator and for tests of what stands above an executor: containers
// behave as a program says, pulls are slow, containers crash, health fails, the engine restarts.

import type { Task } from '../api/objects.ts'
import type { NodeDescription, PortConfig } from '../api/spec.ts'
import { type Clock, formatTime, type Timer } from '../lib/clock.ts'
import { CodedError } from '../lib/errors.ts'
import type { ContainerWatcher, ObservedContainer } from './executor.ts'

/** What a container does. Defaults: everything succeeds after a short while, and it runs until stopped. */
export interface Behaviour {
  readonly pullMs?: number
  /** The registry has it not, or cannot be reached, and neither has the engine. */
  readonly imageMissing?: boolean
  readonly createMs?: number
  /** The engine's text of a start that fails. */
  readonly startError?: string
  readonly startMs?: number
  readonly exit?: { readonly afterMs: number; readonly code: number }
  /** With a health check: the first verdict, then the next ones. */
  readonly health?: readonly { readonly afterMs: number; readonly verdict: 'healthy' | 'unhealthy' }[]
  /** How long it takes to end after the stop signal, and its exit code; undefined: at once, with 0. */
  readonly stop?: { readonly afterMs: number; readonly code: number }
  readonly output?: readonly string[]
}

interface SimulatedContainer {
  view: ObservedContainer
  readonly behaviour: Behaviour
  readonly graceMs: number
  readonly log: { readonly line: string; readonly time: string }[]
  /** Timers of its own life; all end with it. */
  timers: Timer[]
  whenEnded: (() => void)[]
}

const DEFAULT_GRACE_MS = 10_000
const EPHEMERAL_PORT = 32_768

/** A machine's engine: it and its containers outlive the executor (and the worker) that talks to it. */
export class SimulatedEngine {
  readonly #clock: Clock
  readonly #behaviour: (task: Task) => Behaviour
  readonly description: NodeDescription
  readonly #containers = new Map<string, SimulatedContainer>()
  readonly #watchers = new Set<{ readonly watcher: ContainerWatcher; readonly end: () => void }>()
  #up = true
  #made = 0
  /** A running container is told to stop. */
  onStopSignal: (taskId: string) => void = () => {}

  constructor(options: {
    readonly clock: Clock
    readonly description: NodeDescription
    /** Asked once, when a task's container is made. */
    readonly behaviour?: (task: Task) => Behaviour
  }) {
    this.#clock = options.clock
    this.description = options.description
    this.#behaviour = options.behaviour ?? (() => ({}))
  }

  /** What is on the engine now, in the order of making. */
  containers(): readonly ObservedContainer[] {
    return [...this.#containers.values()].map(({ view }) => view)
  }

  get up(): boolean {
    return this.#up
  }

  /** The engine ends; without live-restore its containers end with it. */
  goDown(options: { readonly liveRestore?: boolean } = {}): void {
    this.#up = false
    for (const { watcher, end } of this.#watchers) {
      watcher.onLost(engineDown())
      end()
    }
    if (!options.liveRestore)
      for (const container of this.#containers.values())
        if (container.view.state === 'running') this.#end(container, 255, 'silent')
  }

  goUp(): void {
    this.#up = true
  }

  /** The container's process ends by itself. */
  crash(taskId: string, exitCode: number): void {
    const container = this.#ofTask(taskId)
    if (container?.view.state === 'running') this.#end(container, exitCode)
  }

  setHealth(taskId: string, health: 'healthy' | 'unhealthy'): void {
    const container = this.#ofTask(taskId)
    if (container?.view.state === 'running') this.#change(container, { health })
  }

  /** Somebody removes the container behind the worker's back. */
  destroy(taskId: string): void {
    const container = this.#ofTask(taskId)
    if (container) this.#remove(container)
  }

  watch(watcher: ContainerWatcher, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const entry = {
        watcher,
        end: () => {
          this.#watchers.delete(entry)
          resolve()
        },
      }
      this.#watchers.add(entry)
      signal.addEventListener('abort', entry.end, { once: true })
      watcher.onList(this.containers())
    })
  }

  behaviourOf(task: Task): Behaviour {
    return this.#behaviour(task)
  }

  /** Of a container that is there. */
  behaviourAt(containerId: string): Behaviour | undefined {
    return this.#containers.get(containerId)?.behaviour
  }

  create(task: Task, behaviour: Behaviour): ObservedContainer {
    const there = this.#ofTask(task.id)
    if (there) return there.view
    const number = ++this.#made
    const ports = (task.endpoint?.ports ?? [])
      .filter(({ PublishMode }) => PublishMode === 'host')
      .map(
        (port, at): PortConfig => ({ ...port, PublishedPort: port.PublishedPort || EPHEMERAL_PORT + number * 8 + at }),
      )
    const container: SimulatedContainer = {
      view: {
        taskId: task.id,
        containerId: number.toString(16).padStart(64, '0'),
        state: 'created',
        pid: 0,
        exitCode: 0,
        error: '',
        health: 'none',
        ports,
      },
      behaviour,
      graceMs: (task.spec.ContainerSpec?.StopGracePeriod ?? DEFAULT_GRACE_MS * 1e6) / 1e6,
      log: [],
      timers: [],
      whenEnded: [],
    }
    this.#containers.set(container.view.containerId, container)
    return container.view
  }

  start(containerId: string): ObservedContainer | undefined {
    const container = this.#containers.get(containerId)
    if (!container) return undefined
    if (container.view.state !== 'created') return container.view
    const { health, exit, output } = container.behaviour
    this.#change(container, { state: 'running', pid: 1_000 + this.#made, health: health ? 'starting' : 'none' })
    const time = formatTime(this.#clock.wallMs())
    container.log.push(...(output ?? []).map((line) => ({ line, time })))
    for (const { afterMs, verdict } of health ?? [])
      this.#later(container, afterMs, () => this.#change(container, { health: verdict }))
    if (exit) this.#later(container, exit.afterMs, () => this.#end(container, exit.code))
    return container.view
  }

  /** Resolves when the container has ended. */
  async stop(containerId: string): Promise<ObservedContainer | undefined> {
    const container = this.#containers.get(containerId)
    if (!container) return undefined
    if (container.view.state === 'running') {
      this.onStopSignal(container.view.taskId)
      const { afterMs, code } = container.behaviour.stop ?? { afterMs: 0, code: 0 }
      if (afterMs <= container.graceMs) this.#later(container, afterMs, () => this.#end(container, code))
      else this.#later(container, container.graceMs, () => this.#end(container, 137))
      await new Promise<void>((resolve) => container.whenEnded.push(resolve))
    }
    return this.#containers.get(containerId)?.view
  }

  remove(containerId: string): void {
    const container = this.#containers.get(containerId)
    if (container) this.#remove(container)
  }

  logOf(containerId: string): readonly { readonly line: string; readonly time: string }[] {
    return this.#containers.get(containerId)?.log ?? []
  }

  /** Resolves when the container has ended or is gone. */
  ended(containerId: string, signal: AbortSignal): Promise<void> {
    const container = this.#containers.get(containerId)
    if (container?.view.state !== 'running' || signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      container.whenEnded.push(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  #ofTask(taskId: string): SimulatedContainer | undefined {
    return [...this.#containers.values()].find(({ view }) => view.taskId === taskId)
  }

  #later(container: SimulatedContainer, afterMs: number, fire: () => void): void {
    container.timers.push(
      this.#clock.setTimer(afterMs, () => {
        if (container.view.state === 'running') fire()
      }),
    )
  }

  #change(container: SimulatedContainer, change: Partial<ObservedContainer>): void {
    container.view = { ...container.view, ...change }
    if (this.#up) for (const { watcher } of this.#watchers) watcher.onChange(container.view)
  }

  #end(container: SimulatedContainer, exitCode: number, notice: 'told' | 'silent' = 'told'): void {
    for (const timer of container.timers) timer.cancel()
    container.timers = []
    const change = { state: 'exited', exitCode, pid: 0, ports: [] } as const
    if (notice === 'told') this.#change(container, change)
    else container.view = { ...container.view, ...change }
    for (const call of container.whenEnded) call()
    container.whenEnded = []
  }

  #remove(container: SimulatedContainer): void {
    if (container.view.state === 'running') this.#end(container, 137)
    this.#containers.delete(container.view.containerId)
    if (this.#up) for (const { watcher } of this.#watchers) watcher.onGone(container.view)
  }
}

export function engineDown(): CodedError {
  return new CodedError('ENGINE_UNAVAILABLE', 'the simulated engine is down', { retryable: true })
}

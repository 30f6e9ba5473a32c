// What the worker needs of a container engine. DockerExecutor (docker/) drives a real one, SimulatedExecutor one on
// virtual time; both pass test/worker/executor-conformance.ts. An executor decides nothing: it performs one step of
// one task and reports what it sees.

import type { LogOptions } from '../api/dispatcher.ts'
import type { Config, Network, Secret, Task } from '../api/objects.ts'
import type { NodeDescription, Platform, PortConfig } from '../api/spec.ts'
import { CodedError } from '../lib/errors.ts'

/** A task's container as the engine shows it. A container is started once: its state only goes forward. */
export interface ObservedContainer {
  readonly taskId: string
  readonly containerId: string
  readonly state: 'created' | 'running' | 'exited'
  readonly pid: number
  readonly exitCode: number
  /** What the engine says went wrong with the container itself; mostly empty. */
  readonly error: string
  /** Means something only while the container runs. */
  readonly health: 'none' | 'starting' | 'healthy' | 'unhealthy'
  /** Host-mode ports as the engine bound them. */
  readonly ports: readonly PortConfig[]
}

/** A task with everything that its container is made from. */
export interface TaskOrder {
  readonly task: Task
  readonly node: { readonly id: string; readonly hostname: string; readonly platform: Platform }
  readonly secrets: ReadonlyMap<string, Secret>
  readonly configs: ReadonlyMap<string, Config>
  readonly networks: ReadonlyMap<string, Network>
  /** X-Registry-Auth of its service; empty: none */
  readonly registryAuth: string
}

export interface ContainerWatcher {
  /** All containers of this node's tasks, after each (re)connection with the engine: what is not in it is not there. */
  readonly onList: (containers: readonly ObservedContainer[]) => void
  readonly onChange: (container: ObservedContainer) => void
  readonly onGone: (container: Pick<ObservedContainer, 'taskId' | 'containerId'>) => void
  /** The engine does not answer: what was seen may be out of date until the next `onList`. */
  readonly onLost: (error: unknown) => void
}

/**
 * Errors of every method: ENGINE_UNAVAILABLE (retryable: the engine does not answer), STEP_ABORTED (the signal), or
 * TASK_FAILED, whose message is what the user reads of the task and after which the same step would fail again.
 */
export interface Executor {
  /** This node as its engine describes it. */
  describe(): Promise<NodeDescription>
  /** Watches until aborted, through restarts of the engine. Only one watch at a time. */
  watch(watcher: ContainerWatcher, signal: AbortSignal): Promise<void>
  /** Makes the task's container (image, files, mounts). Doing it again finds the container that is there. */
  prepare(order: TaskOrder, signal: AbortSignal): Promise<ObservedContainer>
  /** Starts a created container; one that was ever started is left as it is. Does not wait for health. */
  start(container: ObservedContainer, signal: AbortSignal): Promise<ObservedContainer>
  /** Sends the stop signal, after the grace period SIGKILL; resolves when the container has ended (undefined: is gone). */
  stop(container: ObservedContainer, signal: AbortSignal): Promise<ObservedContainer | undefined>
  /** Removes the container, running or not, its anonymous volumes and its files. No error if it is gone. */
  remove(container: ObservedContainer, signal: AbortSignal): Promise<void>
  /** The engine's multiplexed log stream with timestamps; of a tty, raw lines wrapped as stdout frames. */
  logs(container: ObservedContainer, options: LogOptions, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Removes files left over from tasks that do not exist any more (asked at the moment of each removal). */
  sweep(exists: (taskId: string) => boolean): Promise<void>
}

export function taskFailed(message: string, cause?: unknown): CodedError {
  return new CodedError('TASK_FAILED', message, { cause })
}

export function stepAborted(): CodedError {
  return new CodedError('STEP_ABORTED', 'the step was aborted')
}

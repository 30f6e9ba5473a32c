// Tasks as containers of a real Docker Engine (API 1.41 and later). Everything that happens to them comes over one
// stream of events; nothing is polled.

import type { LogOptions } from '../../api/dispatcher.ts'
import { taskName } from '../../api/objects.ts'
import type { NodeDescription } from '../../api/spec.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import {
  type ContainerWatcher,
  type Executor,
  type ObservedContainer,
  type TaskOrder,
  taskFailed,
} from '../executor.ts'
import { bindsEngineSocket, containerBody, type SocketSource, TASK_ID_LABEL } from './container-body.ts'
import { ContainerTracker } from './container-tracker.ts'
import { type EngineInfo, nodeDescription } from './describe-engine.ts'
import { EngineClient, isEngineError } from './engine-client.ts'
import { checkFeatures } from './engine-features.ts'
import { expandContainerSpec } from './expand-spec.ts'
import { ImagePuller } from './image-puller.ts'
import { Limiter } from './limiter.ts'
import { asMultiplexed } from './multiplexed.ts'
import type { InspectedContainer } from './observed.ts'
import { TaskFiles } from './task-files.ts'

export interface DockerExecutorOptions {
  /** Containers bear it as a label; those of another node on the same engine are never touched. */
  readonly nodeId: string
  /** `unix:///var/run/docker.sock`, a path, or `tcp://host:port` */
  readonly engine: string
  /** Runtime state (secrets in memory); the engine must see it at the same path. */
  readonly execRoot: string
  readonly clock: Clock
  readonly log: Log
  /** What a service that binds /var/run/docker.sock is given, asked at each create; undefined: the engine's own. */
  readonly dockerSocket?: () => Promise<SocketSource | undefined>
  /** Creates and starts under way at once (default 16, see bench/worker.ts). */
  readonly concurrency?: number
}

const CONCURRENCY = 16

export class DockerExecutor implements Executor {
  readonly #options: DockerExecutorOptions
  readonly #engine: EngineClient
  readonly #puller: ImagePuller
  readonly #files: TaskFiles
  readonly #limiter: Limiter
  readonly #tracker: ContainerTracker

  constructor(options: DockerExecutorOptions) {
    this.#options = options
    this.#engine = new EngineClient(options.engine)
    this.#puller = new ImagePuller({ engine: this.#engine, clock: options.clock })
    this.#files = new TaskFiles(options.execRoot)
    this.#limiter = new Limiter(options.concurrency ?? CONCURRENCY)
    this.#tracker = new ContainerTracker({ engine: this.#engine, nodeId: options.nodeId, clock: options.clock })
  }

  async describe(): Promise<NodeDescription> {
    return nodeDescription(await this.#engine.json<EngineInfo>({ method: 'GET', path: '/info' }))
  }

  watch(watcher: ContainerWatcher, signal: AbortSignal): Promise<void> {
    return this.#tracker.watch(watcher, signal)
  }

  async prepare(order: TaskOrder, signal: AbortSignal): Promise<ObservedContainer> {
    const { task } = order
    const asked = task.spec.ContainerSpec
    if (!asked) throw taskFailed('this node runs containers only')
    const spec = expandContainerSpec(order, asked)
    checkFeatures(spec, await this.#engine.apiVersion())
    await this.#pull(spec.Image ?? '', order, signal)
    // From here on the step is finished, not aborted: a container that was made must be known.
    const files = await this.#files.write(order, spec)
    const dockerSocket = bindsEngineSocket(spec) ? await this.#options.dockerSocket?.() : undefined
    const body = containerBody(order, { spec, files, dockerSocket })
    try {
      const { Id } = await this.#limiter.run('begin', () =>
        this.#engine.json<{ Id: string }>({
          method: 'POST',
          path: '/containers/create',
          query: { name: taskName(task) },
          body,
        }),
      )
      return this.#tracker.created(task.id, Id)
    } catch (error) {
      if (isEngineError(error, 409)) {
        const there = await this.#find(taskName(task))
        if (there?.taskId === task.id) return there
      }
      if (errorCode(error) === 'ENGINE_ERROR') {
        await this.#files.remove(task.id)
        throw taskFailed(errorMessage(error), error)
      }
      throw error
    }
  }

  async start(container: ObservedContainer): Promise<ObservedContainer> {
    const { containerId } = container
    const started = this.#tracker.starting(containerId)
    try {
      await this.#limiter.run('finish', () =>
        this.#engine.json({ method: 'POST', path: `/containers/${containerId}/start` }),
      )
      const now = await this.#tracker.inspect(containerId)
      if (now) return now
      throw taskFailed('starting container failed: the container is gone')
    } catch (error) {
      if (errorCode(error) !== 'ENGINE_ERROR') throw error
      throw taskFailed(`starting container failed: ${errorMessage(error)}`, error)
    } finally {
      started()
    }
  }

  async stop({ containerId }: ObservedContainer, signal: AbortSignal): Promise<ObservedContainer | undefined> {
    try {
      // The grace period was given to the container when it was made.
      await this.#engine.json({ method: 'POST', path: `/containers/${containerId}/stop`, signal })
    } catch (error) {
      if (!isEngineError(error, 404)) throw error
    }
    return this.#tracker.inspect(containerId)
  }

  async remove({ containerId, taskId }: ObservedContainer, signal: AbortSignal): Promise<void> {
    try {
      await this.#engine.json({
        method: 'DELETE',
        path: `/containers/${containerId}`,
        query: { v: true, force: true },
        signal,
      })
    } catch (error) {
      if (!isEngineError(error, 404)) throw error
    }
    this.#tracker.removed(containerId)
    await this.#files.remove(taskId)
  }

  async *logs({ containerId }: ObservedContainer, options: LogOptions, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const { Config: config } = await this.#inspect(containerId)
    const body = await this.#engine.stream({
      method: 'GET',
      path: `/containers/${containerId}/logs`,
      query: {
        follow: options.follow,
        stdout: options.stdout,
        stderr: options.stderr,
        timestamps: true,
        tail: options.tail === undefined ? 'all' : String(options.tail),
        ...(options.since !== '' && { since: options.since }),
        ...(options.until !== '' && { until: options.until }),
      },
      signal,
    })
    const end = () => body.destroy()
    signal.addEventListener('abort', end, { once: true })
    try {
      for await (const chunk of body) {
        const bytes = chunk as Uint8Array
        yield config.Tty ? asMultiplexed(bytes) : bytes
      }
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      signal.removeEventListener('abort', end)
      body.destroy()
    }
  }

  sweep(exists: (taskId: string) => boolean): Promise<void> {
    return this.#files.sweep(exists)
  }

  /** After the last task is gone for good: nothing of this executor stays on the machine. */
  async dispose(): Promise<void> {
    await this.#files.unmount()
    this.#engine.close()
  }

  /** A registry that does not answer is no reason to fail as long as the image is there; create tells. */
  async #pull(image: string, order: TaskOrder, signal: AbortSignal): Promise<void> {
    try {
      await this.#puller.pull(image, order.registryAuth, signal)
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'IMAGE_PULL_FAILED') throw error
      this.#options.log.warn({ taskId: order.task.id, image, err: error.message }, 'pulling image failed')
    }
  }

  #inspect(containerId: string): Promise<InspectedContainer> {
    return this.#engine.json({ method: 'GET', path: `/containers/${containerId}/json` })
  }

  async #find(name: string): Promise<ObservedContainer | undefined> {
    try {
      const found = await this.#inspect(name)
      return found.Config.Labels?.[TASK_ID_LABEL] ? await this.#tracker.inspect(found.Id) : undefined
    } catch (error) {
      if (isEngineError(error, 404)) return undefined
      throw error
    }
  }
}

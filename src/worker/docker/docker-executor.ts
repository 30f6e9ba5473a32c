// Tasks as containers of a real Docker Engine (API 1.41 and later). Everything that happens to them comes over one
// stream of events; nothing is polled.

import type { LogOptions } from '../../api/dispatcher.ts'
import { type Task, taskName } from '../../api/objects.ts'
import { pullPolicy } from '../../api/service-labels.ts'
import type { ContainerSpec, NodeDescription } from '../../api/spec.ts'
import { type Clock, sleep, type Timer } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { DataPlane } from '../../overlay/client.ts'
import { hostAddresses } from '../../overlay/host-facts.ts'
import {
  type ContainerWatcher,
  type Executor,
  type ObservedContainer,
  type TaskOrder,
  taskFailed,
} from '../executor.ts'
import {
  bindsEngineSocket,
  type ContainerBody,
  containerBody,
  type SocketSource,
  TASK_ID_LABEL,
} from './container-body.ts'
import { ContainerTracker } from './container-tracker.ts'
import { type EngineInfo, nodeDescription } from './describe-engine.ts'
import { EngineClient, isEngineError } from './engine-client.ts'
import { apiRank, checkFeatures } from './engine-features.ts'
import { expandContainerSpec } from './expand-spec.ts'
import { numbered } from './free-port.ts'
import { ImagePuller } from './image-puller.ts'
import { Limiter } from './limiter.ts'
import { lines } from './lines.ts'
import { LocalNetworks } from './local-networks.ts'
import { asMultiplexed } from './multiplexed.ts'
import { NetworkFiles } from './network-files.ts'
import { type InspectedContainer, isIncomplete } from './observed.ts'
import { placesInUse } from './places-in-use.ts'
import { TaskFiles } from './task-files.ts'
import {
  type ContainerNetworks,
  containerNetworks,
  hostPorts,
  type NetworkWishes,
  networksFor,
  withSiblings,
} from './task-networks.ts'

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
  /** What carries the cluster's networks here; undefined: tasks that are on one are refused. */
  readonly dataPlane?: Pick<DataPlane, 'facts'>
  /** Creates and starts under way at once (default 16, see bench/worker.ts). */
  readonly concurrency?: number
}

const CONCURRENCY = 16
/** From this API version on, a container is made with all of its networks at once. */
const SEVERAL_NETWORKS_API = '1.44'
/** After a task has ended, between looks at its node's parts of networks. */
const NETWORK_SWEEP_MS = 5_000
const DEPARTURES_RETRY_MS = 1_000
/** The engine names a container without a host name after the beginning of its id. */
const HOSTNAME_LENGTH = 12

export class DockerExecutor implements Executor {
  readonly #options: DockerExecutorOptions
  readonly #engine: EngineClient
  readonly #puller: ImagePuller
  readonly #files: TaskFiles
  readonly #networkFiles: NetworkFiles
  readonly #limiter: Limiter
  readonly #tracker: ContainerTracker
  readonly #networks: LocalNetworks
  #sweepTimer: Timer | undefined
  #watching = false

  constructor(options: DockerExecutorOptions) {
    this.#options = options
    this.#engine = new EngineClient(options.engine)
    this.#puller = new ImagePuller({ engine: this.#engine, clock: options.clock })
    this.#files = new TaskFiles(options.execRoot)
    this.#networkFiles = new NetworkFiles(this.#files)
    this.#limiter = new Limiter(options.concurrency ?? CONCURRENCY)
    this.#tracker = new ContainerTracker({ engine: this.#engine, nodeId: options.nodeId, clock: options.clock })
    this.#networks = new LocalNetworks(this.#engine, options)
  }

  async describe(): Promise<NodeDescription> {
    return nodeDescription(await this.#engine.json<EngineInfo>({ method: 'GET', path: '/info' }))
  }

  async watch(watcher: ContainerWatcher, signal: AbortSignal): Promise<void> {
    const released = (taskId: string) => {
      if (this.#networks.release(taskId)) this.#sweepNetworksSoon()
    }
    const watching: ContainerWatcher = {
      onList: (containers) => {
        this.#networks.forget()
        this.#sweepNetworksSoon()
        watcher.onList(containers)
      },
      onChange: (container) => {
        if (container.state === 'exited') released(container.taskId)
        watcher.onChange(container)
      },
      onGone: (gone) => {
        released(gone.taskId)
        watcher.onGone(gone)
      },
      onLost: (error) => watcher.onLost(error),
    }
    this.#watching = true
    try {
      await this.#tracker.watch(watching, signal)
    } finally {
      this.#watching = false
      this.#sweepTimer?.cancel()
      this.#sweepTimer = undefined
    }
  }

  async prepare(order: TaskOrder, signal: AbortSignal): Promise<ObservedContainer> {
    const { task } = order
    const asked = task.spec.ContainerSpec
    if (!asked) throw taskFailed('this node runs containers only')
    const spec = expandContainerSpec(order, asked)
    checkFeatures(spec, await this.#engine.apiVersion())
    const networks = await this.#networksOf(order)
    const made = this.#tracker.making(task.id)
    try {
      await Promise.all([
        this.#pull(spec.Image ?? '', order, signal),
        networks && this.#networks.hold(task.id, networks.networks),
      ])
      // From here on the step is finished, not aborted: a container that was made must be known.
      return await this.#make(order, spec, networks)
    } catch (error) {
      if (this.#networks.release(task.id)) this.#sweepNetworksSoon()
      if (errorCode(error) !== 'ENGINE_ERROR') throw error
      await this.#files.remove(task.id)
      throw taskFailed(errorMessage(error), error)
    } finally {
      made()
    }
  }

  /** The container with its files and networks; the one that is there, if it is this task's. */
  async #make(
    order: TaskOrder,
    spec: ContainerSpec,
    networks: ContainerNetworks | undefined,
  ): Promise<ObservedContainer> {
    const { task } = order
    const files = await this.#files.write(order, spec)
    const dockerSocket = bindsEngineSocket(spec) ? await this.#options.dockerSocket?.() : undefined
    const several = apiRank(await this.#engine.apiVersion()) >= apiRank(SEVERAL_NETWORKS_API)
    const all = networks ? (several ? networks.endpoints : withSiblings(networks)) : []
    const atOnce = several ? all : all.slice(0, 1)
    const body = containerBody(order, {
      spec,
      files: [...files, ...(networks ? await this.#networkFiles.write(task.id, spec, networks) : [])],
      dockerSocket,
      hostAddresses: hostAddresses(),
      networks: networks && {
        endpoints: Object.fromEntries(atOnce),
        count: all.length,
        ports: networks.ports,
        skipResolver: !several,
      },
    })
    const containerId = await this.#create(task, body)
    if (typeof containerId !== 'string') return containerId
    if (networks) {
      await this.#connect(containerId, all.slice(atOnce.length))
      if (!spec.Hostname) await this.#networkFiles.name(task.id, spec, networks, containerId.slice(0, HOSTNAME_LENGTH))
    }
    return this.#tracker.created(task.id, containerId)
  }

  /** @returns its id, or the container that was there */
  async #create(task: Task, body: ContainerBody): Promise<string | ObservedContainer> {
    const name = taskName(task)
    for (let retry = true; ; retry = false) {
      try {
        const create = { method: 'POST', path: '/containers/create', query: { name }, body } as const
        return (await this.#limiter.run('begin', () => this.#engine.json<{ Id: string }>(create))).Id
      } catch (error) {
        const there = isEngineError(error, 409) ? await this.#find(name) : undefined
        if (there !== undefined && there.taskId === task.id) return there
        if (there !== undefined || !retry || !isEngineError(error, 409)) throw error
      }
    }
  }

  /** @throws {CodedError} ENGINE_ERROR; the container is removed then */
  async #connect(containerId: string, endpoints: ContainerNetworks['endpoints']): Promise<void> {
    try {
      for (const [name, settings] of endpoints) {
        const body = { Container: containerId, EndpointConfig: settings }
        await this.#engine.json({ method: 'POST', path: `/networks/${encodeURIComponent(name)}/connect`, body })
      }
    } catch (error) {
      await this.#delete(containerId)
      throw error
    }
  }

  async #networksOf(order: TaskOrder): Promise<ContainerNetworks | undefined> {
    const { dataPlane } = this.#options
    if (order.task.attachments.length === 0) return undefined
    if (!dataPlane) throw taskFailed('this node has no data plane for the networks of the cluster')
    try {
      const ports = await numbered(hostPorts(order.task), order.task.serviceLabels)
      return containerNetworks(order, await dataPlane.facts(), ports)
    } catch (error) {
      throw errorCode(error) === 'DATA_PLANE_UNAVAILABLE' ? taskFailed(errorMessage(error), error) : error
    }
  }

  #sweepNetworksSoon(): void {
    this.#sweepTimer ??= this.#options.clock.setTimer(NETWORK_SWEEP_MS, () => {
      this.#sweepTimer = undefined
      void this.#sweepNetworks()
    })
  }

  async #sweepNetworks(): Promise<void> {
    const waiting = await this.#networks.sweep()
    if (waiting && this.#watching) this.#sweepNetworksSoon()
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
      this.#networks.forget() // somebody may have removed one
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
    await this.#delete(containerId, signal)
    this.#tracker.removed(containerId)
    if (this.#networks.release(taskId)) this.#sweepNetworksSoon()
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

  /**
   * What the engine has to have for a container that is not a task's (`docker run --network`), and how that is to be connected.
   * The networks stay until `release`, and while such a container is there.
   * @throws {CodedError} TASK_FAILED with the reason; ENGINE_UNAVAILABLE, DATA_PLANE_UNAVAILABLE
   */
  async hold(holder: string, wishes: NetworkWishes): Promise<ContainerNetworks> {
    const { dataPlane } = this.#options
    if (!dataPlane) throw taskFailed('this node has no data plane')
    const networks = networksFor(wishes, await dataPlane.facts())
    this.#networks.forget() // nobody tries again for whoever asks
    await this.#networks.hold(holder, networks.networks)
    return networks
  }

  release(holder: string): void {
    if (this.#networks.release(holder)) this.#sweepNetworksSoon()
  }

  /** Calls `listener` whenever a container was removed, or left a network; also when some may have been missed. Until aborted. */
  async watchDepartures(listener: () => void, signal: AbortSignal): Promise<void> {
    const filters = { type: ['container', 'network'], event: ['destroy', 'disconnect'] }
    while (!signal.aborted) {
      try {
        const events = await this.#engine.stream({ method: 'GET', path: '/events', query: { filters }, signal })
        this.#departed(listener)
        for await (const _line of lines(events)) this.#departed(listener)
      } catch (error) {
        if (!signal.aborted)
          this.#options.log.debug({ reason: errorMessage(error) }, 'departures of containers are not seen')
      }
      await sleep(this.#options.clock, DEPARTURES_RETRY_MS, signal)
    }
  }

  #departed(listener: () => void): void {
    this.#sweepNetworksSoon()
    listener()
  }

  /** Of these places of plain containers, those that a container (running or not) has. */
  async placesInUse(places: readonly Task[]): Promise<ReadonlySet<string>> {
    return placesInUse(this.#engine, await this.#networks.names(), places)
  }

  sweep(exists: (taskId: string) => boolean): Promise<void> {
    return this.#files.sweep(exists)
  }

  /** After the last task is gone for good: nothing of this executor stays on the machine. */
  async dispose(): Promise<void> {
    this.#sweepTimer?.cancel()
    await this.#networks.sweep({ keepMs: 0 })
    await this.#files.unmount()
    this.#engine.close()
  }

  /** A registry that does not answer, or may not be asked, is no reason to fail as long as the image is there; create tells. */
  async #pull(image: string, order: TaskOrder, signal: AbortSignal): Promise<void> {
    try {
      await this.#puller.pull(image, order.registryAuth, signal, pullPolicy(order.task.serviceLabels))
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'IMAGE_PULL_FAILED') throw error
      this.#options.log.warn({ taskId: order.task.id, image, err: error.message }, 'pulling image failed')
    }
  }

  #inspect(containerId: string): Promise<InspectedContainer> {
    return this.#engine.json({ method: 'GET', path: `/containers/${containerId}/json` })
  }

  async #delete(containerId: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#engine.json({
        method: 'DELETE',
        path: `/containers/${containerId}`,
        query: { v: true, force: true },
        ...(signal && { signal }),
      })
    } catch (error) {
      if (!isEngineError(error, 404)) throw error
    }
  }

  /** A task's container; one that was left before it was complete is removed, and not found. */
  async #find(name: string): Promise<ObservedContainer | undefined> {
    try {
      const found = await this.#inspect(name)
      if (!found.Config.Labels?.[TASK_ID_LABEL]) return undefined
      if (!isIncomplete(found)) return await this.#tracker.inspect(found.Id)
      await this.#delete(found.Id)
      return undefined
    } catch (error) {
      if (isEngineError(error, 404)) return undefined
      throw error
    }
  }
}

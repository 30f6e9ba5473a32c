// The worker: holds a session with whichever manager leads, turns assignments into containers through the task manager,
// and reports. It needs no manager to keep containers running, and none of its own restarts touches a healthy one.

import { setMaxListeners } from 'node:events'
import type { Duplex } from 'node:stream'
import type { DataPathReport } from '../api/data-plane.ts'
import { DEFAULT_DATA_PATH_PORT } from '../api/defaults.ts'
import {
  type AttachmentRequest,
  DATA_PLANE_FEATURE_LEVEL,
  type ManagerAddress,
  type ManagerMessage,
  type StreamRequest,
} from '../api/dispatcher.ts'
import type { Task, TaskStatus } from '../api/objects.ts'
import { compareTaskStates, type NodeDescription } from '../api/spec.ts'
import { type Clock, formatTime, parseTime, sleep } from '../lib/clock.ts'
import type { Connection, Dialer } from '../lib/connection.ts'
import { CodedError, errorMessage } from '../lib/errors.ts'
import { Histogram } from '../lib/histogram.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import type { DataPlane } from '../overlay/client.ts'
import { AssignmentSet, type AssignmentsMessage } from './assignment-set.ts'
import { type Attached, Attachments, isAttachment } from './attachments.ts'
import { DataPlaneLink } from './data-plane-link.ts'
import type { ContainerWatcher, Executor } from './executor.ts'
import { serveStream, serveTunnel } from './log-stream.ts'
import { ManagerPicker } from './manager-picker.ts'
import { NodeDescriber } from './node-describer.ts'
import { type AgentMessage, Session, type SessionEnd, type Welcome } from './session.ts'
import { StatusSender } from './status-sender.ts'
import { StorageWriter } from './storage-writer.ts'
import { streamSource } from './stream-source.ts'
import { TaskManager } from './task-manager.ts'
import type { WorkerChange, WorkerState, WorkerStorage } from './worker-storage.ts'

export type ClusterMessage = Extract<ManagerMessage, { kind: 'cluster' }>

export interface AgentOptions {
  readonly nodeId: string
  readonly dialer: Dialer
  readonly executor: Executor
  /** Outlives the worker; undefined: this node has none. */
  readonly dataPlane?: DataPlane
  /** Opened and closed by `run`. */
  readonly storage: WorkerStorage
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Managers to begin with; those that the worker remembers come on top. */
  readonly managers: readonly ManagerAddress[]
  /** This node's address as others should dial it; empty: managers take what they see. */
  readonly address: string
  readonly dataPathAddress: string
  readonly featureLevel: number
  /** Adds to what the engine says of itself: labels, generic resources, certificates. */
  readonly describe: (engine: NodeDescription) => NodeDescription
  /** Ids of the places that plain containers (running or not) have by now; others are given back. Absent: nothing is. */
  readonly attachmentsInUse?: () => Promise<ReadonlySet<string>>
  /** A connection to this node's own Docker API, for managers. Absent: there is none. */
  readonly localApi?: () => Promise<Duplex>
  /** Managers, role, availability or labels changed. Managers are remembered already. */
  readonly onClusterChange: (message: ClusterMessage) => void
}

const DIAL_TIMEOUT_MS = 2_000
const REPLACED_PAUSE_MS = 2_000
/** A heartbeat goes each second; 0.2 s is what traffic of our own may cost it. */
const HEARTBEAT_BUCKETS_MS = [1, 2.5, 5, 10, 25, 50, 100, 200, 500, 1000, 2500, 5000]
const STREAMS_MAX = 128
/** What managers grant at most for a planned stop. */
const GOODBYE_GRACE_MS = 60_000

export class Agent {
  readonly #options: AgentOptions
  readonly #log: Log
  readonly #assignments = new AssignmentSet()
  readonly #statuses: StatusSender
  readonly #describer: NodeDescriber
  readonly #picker: ManagerPicker
  readonly #writer: StorageWriter
  #session: Session | undefined
  #connectedTo: ManagerAddress | undefined
  #previousSessionId = ''
  #streams = 0
  #leaving = false
  readonly #attachments: Attachments
  #link: DataPlaneLink | undefined
  #report: DataPathReport | undefined
  #toldReport: DataPathReport | undefined
  /** What the session's manager knows of messages. */
  #managerLevel = 0
  /** From sending a heartbeat to its answer: how long manager, network and this node let each other wait. */
  readonly heartbeats = new Histogram(HEARTBEAT_BUCKETS_MS)

  constructor(options: AgentOptions) {
    this.#options = options
    this.#log = options.log
    this.#picker = new ManagerPicker({ random: options.random, managers: options.managers })
    this.#writer = new StorageWriter(options.storage)
    this.#attachments = new Attachments(options)
    this.#statuses = new StatusSender(options.clock)
    this.#describer = new NodeDescriber({
      ...options,
      describe: async () => options.describe(await options.executor.describe()),
      onChange: (description) => this.#session?.send({ kind: 'describe', description }),
    })
  }

  /** The manager with which a session stands. */
  get connectedTo(): ManagerAddress | undefined {
    return this.#connectedTo
  }

  get managers(): readonly ManagerAddress[] {
    return this.#picker.managers
  }

  /** Looks at the engine again and reports if anything (or what `describe` adds) has changed. */
  refreshDescription(): void {
    this.#describer.refresh()
  }

  /**
   * A place for a container that swarmd does not run on an attachable network. It stays over restarts of everything until
   * `detach`, or until `attachmentsInUse` names it no more.
   * @throws {CodedError} NO_MANAGER (retryable); NO_SUCH_OBJECT, PERMISSION_DENIED, INVALID_PARAMETER, NO_ADDRESS with
   *   Docker's texts
   */
  attach(request: AttachmentRequest): Promise<Attached> {
    return this.#attachments.attach(request)
  }

  /** What is gone already is no error. @throws {CodedError} NO_MANAGER (retryable) */
  detach(attachmentId: string): Promise<void> {
    return this.#attachments.detach(attachmentId)
  }

  /** Images that tasks of this node name, ended ones too. */
  taskImages(): readonly string[] {
    return this.#assignments.tasks().flatMap((task) => task.spec.ContainerSpec?.Image ?? [])
  }

  /** The places that this node's plain containers have. */
  attachments(): readonly Task[] {
    return this.#assignments.tasks().filter(isAttachment)
  }

  /** The stop that follows is for good: managers need not wait for this node to return. */
  announceLeave(): void {
    this.#leaving = true
  }

  /**
   * Until aborted: then statuses and a goodbye are sent, and containers run on.
   * @throws {CodedError} NODE_REMOVED when the cluster has removed this node; WORKER_STORAGE_LOCKED,
   *   WORKER_STORAGE_FAILED, WORKER_STORAGE_UNKNOWN_FORMAT.
   */
  async run(options: { readonly signal: AbortSignal }): Promise<void> {
    const { storage, executor, clock, random, log } = this.#options
    const known = await storage.open()
    const scope = new Scope(options.signal)
    setMaxListeners(0, scope.signal) // every stream and waiting step listens to it
    const { nodeId, dataPlane } = this.#options
    const tasks: TaskManager = new TaskManager({
      executor,
      clock,
      random,
      log,
      dataPlane,
      order: (task) => this.#order(task),
      onStatus: (task, status, unhealthy) => this.#onStatus(task, status, unhealthy),
      onEnded: () => this.#link?.released(),
    })
    this.#link = new DataPlaneLink({
      nodeId,
      dataPlane: dataPlane ?? { apply: async () => {} },
      clock,
      log,
      onProgrammed: (sequence) => this.#session?.send({ kind: 'programmed', sequence }),
      isOccupied: (endpoint) => tasks.isOccupied(endpoint),
    })
    const writing = new AbortController()
    const written = this.#writer.run(writing.signal)
    try {
      this.#restore(known, tasks)
      scope.spawn('storage', () => written)
      scope.spawn('tasks', (signal) => tasks.run(signal))
      scope.spawn('engine', (signal) => executor.watch(this.#watcher(tasks), signal))
      scope.spawn('session', (signal) => this.#runSessions(tasks, scope, signal))
      const { attachmentsInUse } = this.#options
      if (attachmentsInUse)
        scope.spawn('attachments', (signal) =>
          this.#attachments.sweep({ held: () => this.attachments(), inUse: attachmentsInUse, signal }),
        )
      scope.spawn('data plane', (signal) => this.#link!.run(signal))
      if (dataPlane) scope.spawn('data path', (signal) => dataPlane.watch((report) => this.#onReport(report), signal))
      await Promise.race([scope.wait(), ended(options.signal)])
    } finally {
      this.#statuses.close()
      await tasks.close()
      storage.giveUp?.()
      writing.abort()
      await scope.close('the agent stops')
      await written.catch(() => {}) // scope.wait() has thrown it
      await storage.close()
    }
  }

  /**
   * Stops and removes every container of this node's tasks: for leaving the cluster, after `run` has ended.
   * Resolves when none is left, or when aborted.
   */
  async removeContainers(options: { readonly signal: AbortSignal }): Promise<void> {
    const { executor, clock, random, log } = this.#options
    const scope = new Scope(options.signal)
    const tasks = new TaskManager({ executor, clock, random, log, order: () => undefined, onStatus: () => {} })
    try {
      tasks.confirm()
      scope.spawn('engine', (signal) => executor.watch(tasks, signal))
      await tasks.untilEmpty(scope.signal)
      await this.#leaveDataPlane(scope.signal)
      await executor.sweep(() => false)
    } finally {
      await tasks.close()
      await scope.close()
    }
  }

  /** In no cluster any more: swarmd-net takes down what it has made. */
  async #leaveDataPlane(signal: AbortSignal): Promise<void> {
    const { dataPlane, clock, log } = this.#options
    try {
      const nothing = { self: undefined, revision: clock.wallMs(), complete: true, set: [], removed: [] }
      await Promise.race([dataPlane?.apply(nothing), ended(signal)])
    } catch (error) {
      log.warn({ err: errorMessage(error) }, 'the data plane was not emptied')
    }
  }

  #restore(known: WorkerState, tasks: TaskManager): void {
    this.#assignments.restore(known.assigned)
    this.#previousSessionId = known.sessionId
    const given = this.#options.managers
    const remembered = known.managers.filter(({ address }) => !given.some((manager) => manager.address === address))
    this.#picker.update([...given, ...remembered])
    for (const task of this.#assignments.tasks())
      if (!isAttachment(task)) tasks.assign(task, known.statuses.get(task.id))
  }

  #order(task: Task) {
    const { description } = this.#describer
    return description && this.#assignments.order(task, { id: this.#options.nodeId, description })
  }

  #watcher(tasks: TaskManager): ContainerWatcher {
    return {
      onList: (containers) => {
        tasks.onList(containers)
        // The engine may have come back as another version, with other plugins.
        this.#describer.refresh()
      },
      onChange: (container) => tasks.onChange(container),
      onGone: (container) => tasks.onGone(container),
      onLost: (error) => tasks.onLost(error),
    }
  }

  // ---- sessions ----

  async #runSessions(tasks: TaskManager, scope: Scope, signal: AbortSignal): Promise<void> {
    await this.#describer.first(signal)
    tasks.pokeAll()
    scope.spawn('describe', (inner) => this.#describer.follow(inner))
    while (!signal.aborted) {
      const attempt = this.#picker.next()
      await sleep(this.#options.clock, attempt?.delayMs ?? DIAL_TIMEOUT_MS, signal)
      if (!attempt || signal.aborted) continue
      const end = await this.#runSession(attempt.manager, tasks, scope, signal)
      switch (end.kind) {
        case 'redirected':
          this.#picker.update(end.managers)
          this.#picker.redirected(end.leader)
          break
        case 'lost':
          this.#log.info({ manager: attempt.manager.address, reason: end.reason }, 'no session with this manager')
          break
        case 'replaced':
          this.#log.warn({ manager: attempt.manager.address }, 'another session of this node replaced this one')
          await sleep(this.#options.clock, REPLACED_PAUSE_MS * (0.5 + this.#options.random.float()), signal)
          break
        case 'removed':
          throw new CodedError('NODE_REMOVED', end.reason || 'this node was removed from the cluster')
        case 'stopped':
          return
      }
    }
  }

  async #runSession(
    manager: ManagerAddress,
    tasks: TaskManager,
    scope: Scope,
    signal: AbortSignal,
  ): Promise<SessionEnd> {
    const connection = await this.#dial(manager, '/session', signal)
    if (connection instanceof CodedError)
      return connection.code === 'NODE_REMOVED'
        ? { kind: 'removed', reason: connection.message }
        : { kind: 'lost', reason: connection.message }
    this.#assignments.beginSession()
    this.#link?.beginSession()
    this.#toldReport = this.#report
    const session = new Session({
      connection,
      clock: this.#options.clock,
      hello: {
        kind: 'hello',
        description: this.#describer.description ?? {},
        address: this.#options.address,
        dataPathAddress: this.#options.dataPathAddress,
        previousSessionId: this.#previousSessionId,
        featureLevel: this.#options.featureLevel,
        ...(this.#report && { dataPath: this.#report }),
      },
      goodbyeGraceMs: () => (this.#leaving ? 0 : GOODBYE_GRACE_MS),
      onWelcome: (welcome) => this.#onWelcome(welcome, manager, session),
      onMessage: (message) => this.#onMessage(message, manager, tasks, scope, session),
      onHeartbeat: (latencyMs) => this.heartbeats.observe(latencyMs),
    })
    const stopping = () => this.#statuses.flushAll()
    signal.addEventListener('abort', stopping, { once: true })
    const end = await session.run(signal)
    signal.removeEventListener('abort', stopping)
    if (this.#session === session) {
      this.#session = undefined
      this.#attachments.sessionEnded()
      this.#connectedTo = undefined
      this.#statuses.sessionEnded()
      this.#picker.lost(manager.address)
    }
    return end
  }

  async #dial(manager: ManagerAddress, path: string, signal: AbortSignal): Promise<Connection | CodedError> {
    try {
      return await this.#options.dialer.dial({
        address: manager.address,
        path,
        ...(manager.nodeId !== '' && { nodeId: manager.nodeId }),
        timeoutMs: DIAL_TIMEOUT_MS,
        signal,
      })
    } catch (error) {
      if (!(error instanceof CodedError)) throw error
      if (error.code === 'CONNECTION_FORBIDDEN' && error.details.reason === 'removed')
        return new CodedError('NODE_REMOVED', error.message, { cause: error })
      return error
    }
  }

  #onWelcome(welcome: Welcome, manager: ManagerAddress, session: Session): void {
    this.#session = session
    this.#connectedTo = manager
    this.#managerLevel = welcome.featureLevel ?? 1
    if (this.#managerLevel >= DATA_PLANE_FEATURE_LEVEL)
      this.#attachments.sessionBegan((message) => session.send(message))
    this.#previousSessionId = welcome.sessionId
    this.#picker.connected()
    this.#picker.update(welcome.managers)
    this.#writer.add([
      { kind: 'session', sessionId: welcome.sessionId },
      { kind: 'managers', managers: this.#picker.managers },
    ])
    this.#log.info({ manager: manager.address, sessionId: welcome.sessionId }, 'session established')
    this.#sendReport()
    this.#statuses.sessionBegan((message) => session.send(message))
  }

  #onMessage(message: AgentMessage, manager: ManagerAddress, tasks: TaskManager, scope: Scope, session: Session): void {
    switch (message.kind) {
      case 'assignments':
        this.#onAssignments(message, tasks, scope, session)
        return
      case 'status-ack':
        this.#statuses.acknowledged(message.sequence)
        return
      case 'attachment':
        this.#attachments.answered(message.requestId, message.answer)
        return
      case 'withdrawn':
        tasks.withdrawn(message.taskIds)
        return
      case 'cluster':
        this.#link?.setDataPathPort(message.dataPathPort ?? DEFAULT_DATA_PATH_PORT)
        this.#picker.update(message.managers)
        this.#writer.add([{ kind: 'managers', managers: this.#picker.managers }])
        this.#options.onClusterChange(message)
        return
      case 'open-stream':
        scope.spawn('stream', (signal) =>
          this.#serve(message.streamId, message.request, message.manager ?? manager, tasks, signal),
        )
        return
    }
  }

  // ---- assignments in, statuses out ----

  /** There is no container to wait for. */
  #attached({ id, status, desiredState }: Task): void {
    if (compareTaskStates(status.state, 'running') >= 0 || compareTaskStates(desiredState, 'running') > 0) return
    const timestamp = formatTime(this.#options.clock.wallMs())
    this.#statuses.add(id, { ...status, state: 'running', message: 'attached', timestamp })
  }

  #onReport(report: DataPathReport): void {
    this.#report = report
    this.#sendReport()
  }

  #sendReport(): void {
    const report = this.#report
    if (!report || report === this.#toldReport || !this.#session || this.#managerLevel < DATA_PLANE_FEATURE_LEVEL)
      return
    this.#toldReport = report
    this.#session.send({ kind: 'data-path', report })
  }

  #onAssignments(message: AssignmentsMessage, tasks: TaskManager, scope: Scope, session: Session): void {
    const change = this.#assignments.apply(message)
    if (change === 'more') return
    if (change === 'gap') {
      this.#log.warn({ sequence: message.sequence }, 'an assignment message is missing: asking for all')
      session.send({ kind: 'resync' })
      return
    }
    const changes: WorkerChange[] = [
      ...change.removed.map((key) => ({ kind: 'removed' as const, key })),
      ...change.set.map((assigned) => ({ kind: 'assigned' as const, assigned })),
    ]
    this.#writer.addDurable(changes, () => session.send({ kind: 'applied', sequence: message.sequence }))
    for (const key of change.removed)
      if (key.kind === 'task') {
        this.#statuses.drop(key.id)
        tasks.unassign(key.id)
      }
    // Tasks stand last in the order of kinds, behind what they refer to.
    for (const assigned of change.set) {
      if (assigned.kind !== 'task') continue
      if (isAttachment(assigned.task)) this.#attached(assigned.task)
      else tasks.assign(assigned.task)
    }
    if (change.set.some(({ kind }) => kind !== 'task')) tasks.pokeAll()
    // Behind the tasks: what they are to give up is known by now. An older manager says nothing of the data plane, which stays.
    if (this.#managerLevel >= DATA_PLANE_FEATURE_LEVEL)
      this.#link?.accept({ complete: change.complete, ...change.records }, message.sequence)
    if (!change.complete) return
    this.#reportAll(tasks)
    tasks.confirm()
    scope.spawn('sweep', () => this.#sweep(tasks))
  }

  /** The leader may know less than was once acknowledged to this worker: tell it whatever it does not have. */
  #reportAll(tasks: TaskManager): void {
    for (const task of this.#assignments.tasks()) {
      const status = tasks.status(task.id)
      if (status && isNews(status, task.status)) this.#statuses.add(task.id, status)
    }
  }

  async #sweep(tasks: TaskManager): Promise<void> {
    try {
      await this.#options.executor.sweep((taskId) => tasks.taskIds().has(taskId))
    } catch (error) {
      this.#log.warn({ err: errorMessage(error) }, 'left-over files were not removed')
    }
  }

  #onStatus(task: Task, status: TaskStatus, unhealthy: boolean): void {
    this.#writer.add([{ kind: 'status', taskId: task.id, known: { status, unhealthy } }])
    this.#statuses.add(task.id, status)
  }

  // ---- streams ----

  async #serve(
    streamId: string,
    request: StreamRequest,
    manager: ManagerAddress,
    tasks: TaskManager,
    signal: AbortSignal,
  ): Promise<void> {
    const connection = await this.#dial(manager, '/bulk', signal)
    if (connection instanceof CodedError) {
      this.#log.warn({ streamId, err: connection.message }, 'a stream was not opened')
      return
    }
    const full = this.#streams >= STREAMS_MAX
    const { executor, dataPlane, localApi } = this.#options
    const source = (inner: AbortSignal) =>
      full ? exhausted() : streamSource({ executor, dataPlane, tasks }, request, inner)
    this.#streams++
    try {
      if (request.kind === 'tunnel' && localApi && !full) await serveTunnel(connection, streamId, localApi, signal)
      else await serveStream(connection, streamId, source, signal)
    } finally {
      this.#streams--
    }
  }
}

/** As a source that fails: the manager is told why. */
async function* exhausted(): AsyncIterable<Uint8Array> {
  yield* []
  throw new CodedError('STREAMS_EXHAUSTED', `this node serves ${STREAMS_MAX} streams already`)
}

/** Whether a status of ours says more than the one that managers have. */
function isNews(ours: TaskStatus, theirs: TaskStatus): boolean {
  const rank = compareTaskStates(ours.state, theirs.state)
  return rank > 0 || (rank === 0 && parseTime(ours.timestamp) > parseTime(theirs.timestamp))
}

function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

// The leader's side of all workers: takes their sessions, keeps them informed, writes down what they report, and says who
// is gone. Other managers only tell a worker where the leader is.

import { cleanUpOf, taskSocketOf } from '../../api/cluster-settings.ts'
import { DEFAULT_DATA_PATH_PORT } from '../../api/defaults.ts'
import {
  DISPATCHER_PROTOCOL_VERSION,
  type ManagerAddress,
  SESSION_CLOSE,
  type StreamRequest,
  type WorkerMessage,
} from '../../api/dispatcher.ts'
import type { Node } from '../../api/objects.ts'
import type { SwarmSpec } from '../../api/spec.ts'
import type { Tunnel } from '../../api/tunnel.ts'
import { type Clock, formatTime, type Timer } from '../../lib/clock.ts'
import { encode } from '../../lib/codec.ts'
import type { Connection } from '../../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { Random } from '../../lib/random.ts'
import { Scope } from '../../lib/scope.ts'
import { trustDigests } from '../ca/root-rotation.ts'
import { OWN_FEATURE_LEVEL } from '../membership/feature-level.ts'
import type { Change, Proposer, StoreEvent, StoreView } from '../store/types.ts'
import { Attachments } from './attachments.ts'
import { DataPlaneDispatch, withDataPath } from './data-plane-dispatch.ts'
import { DriverSecrets } from './driver-secrets.ts'
import { Liveness } from './liveness.ts'
import { updateNode } from './node-writer.ts'
import type { SecretDrivers } from './secret-request.ts'
import { Session } from './session.ts'
import { StreamBroker } from './stream-broker.ts'
import { parseWorkerMessage } from './worker-message.ts'

const DEFAULT_HEARTBEAT_MS = 5000
const SWEEP_INTERVAL_MS = 250
const HELLO_TIMEOUT_MS = 5000
const CHANGES_PER_TRANSACTION = 100

export interface DispatcherOptions {
  readonly view: StoreView
  readonly subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
  readonly proposer: Proposer
  /** undefined: there are none, and tasks that need one are rejected */
  readonly secretDrivers?: SecretDrivers | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Managers in the order of their ids, as workers are told. */
export function managerAddresses(view: StoreView): readonly ManagerAddress[] {
  return view.list('node').flatMap((node) => (node.manager ? [{ nodeId: node.id, address: node.manager.address }] : []))
}

export class Dispatcher {
  readonly #view: StoreView
  readonly #options: DispatcherOptions
  readonly #clock: Clock
  readonly #log: Log
  readonly #liveness: Liveness
  readonly #sessions = new Map<string, Session>()
  readonly #dataPlane: DataPlaneDispatch
  readonly #attachments: Attachments
  readonly #secrets: DriverSecrets
  readonly #streams: StreamBroker
  /** the last write under way of each node's record */
  readonly #writes = new Map<string, Promise<void>>()
  /** Connections that have not said hello yet. */
  readonly #nameless = new Set<Connection>()
  #scope: Scope | undefined

  constructor(options: DispatcherOptions) {
    this.#options = options
    this.#view = options.view
    this.#clock = options.clock
    this.#log = options.log
    this.#liveness = new Liveness(() => this.heartbeatMs)
    this.#dataPlane = new DataPlaneDispatch({ view: options.view, sessions: this.#sessions, log: options.log })
    this.#attachments = new Attachments(options)
    this.#secrets = new DriverSecrets({
      ...options,
      drivers: options.secretDrivers,
      came: (taskId) => this.#tellOf(taskId),
    })
    this.#streams = new StreamBroker(options)
  }

  /** The period that `docker info` shows; a node silent for so long is down. */
  get heartbeatMs(): number {
    const period = this.#view.cluster()?.spec.Dispatcher?.HeartbeatPeriod
    return period ? period / 1e6 : DEFAULT_HEARTBEAT_MS
  }

  /** True while the node holds a session with this manager. */
  hasSession(nodeId: string): boolean {
    return this.#sessions.has(nodeId)
  }

  /** Leads until `signal` aborts; then every worker is sent to look for the new leader. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const scope = new Scope(signal)
    this.#scope = scope
    const unsubscribe = this.#options.subscribe((events) => this.#changed(events))
    let sweep: Timer | undefined
    const schedule = (): void => {
      sweep = this.#clock.setTimer(SWEEP_INTERVAL_MS, () => {
        this.#sweep(scope)
        schedule()
      })
    }
    this.#secrets.begin(scope.signal)
    try {
      this.#liveness.clear()
      this.#doubtEverybody(scope)
      schedule()
      await new Promise<void>((resolve) => {
        if (scope.signal.aborted) resolve()
        else scope.signal.addEventListener('abort', () => resolve(), { once: true })
      })
      await scope.wait()
    } finally {
      sweep?.cancel()
      unsubscribe()
      this.#scope = undefined
      const reason = 'this manager is no longer the leader'
      for (const session of this.#sessions.values()) session.close(SESSION_CLOSE.leadershipLost, reason)
      for (const connection of this.#nameless) connection.close(SESSION_CLOSE.leadershipLost, reason)
      this.#sessions.clear()
      this.#nameless.clear()
      this.#dataPlane.clear()
      await this.#secrets.end()
      await scope.close()
    }
  }

  /** Takes a worker's `/session` connection whose certificate and node record were checked. */
  accept(connection: Connection): void {
    const nodeId = connection.peer?.nodeId
    const scope = this.#scope
    if (!nodeId || !scope) {
      connection.close(SESSION_CLOSE.leadershipLost, 'this manager is not the leader')
      return
    }
    let session: Session | undefined
    let goodbyeMs: number | undefined
    let ended = false
    const helloTimer = this.#clock.setTimer(HELLO_TIMEOUT_MS, () =>
      connection.close(SESSION_CLOSE.malformed, 'no hello came'),
    )
    this.#nameless.add(connection)
    connection.listen({
      onMessage: (bytes) => {
        // What was closed here may still have messages on their way.
        if (ended || scope !== this.#scope || (session && this.#sessions.get(nodeId) !== session)) return
        try {
          const message = parseWorkerMessage(bytes)
          if (message.kind === 'hello') {
            helloTimer.cancel()
            this.#nameless.delete(connection)
            session ??= this.#register(scope, nodeId, connection, message)
          } else if (!session) throw new CodedError('MALFORMED', 'a session begins with hello')
          else if (message.kind === 'goodbye') goodbyeMs = message.graceMs
          else this.#receive(scope, session, message)
        } catch (error) {
          this.#log.warn({ nodeId, error: errorMessage(error) }, 'session refused')
          connection.close(SESSION_CLOSE.malformed, errorMessage(error).slice(0, 100))
        }
      },
      onClose: () => {
        ended = true
        helloTimer.cancel()
        this.#nameless.delete(connection)
        if (!session) return
        session.ended()
        this.#dataPlane.ended(session)
        if (this.#sessions.get(nodeId) !== session) return
        this.#sessions.delete(nodeId)
        if (this.#view.get('node', nodeId)) this.#liveness.closed(nodeId, this.#clock.nowMs(), goodbyeMs)
      },
    })
  }

  /** Takes a worker's `/bulk` connection. */
  acceptStream(connection: Connection): void {
    this.#streams.accept(connection)
  }

  /**
   * Data of a stream that the node serves.
   * @throws {CodedError} NODE_UNREACHABLE when it holds no session; else as StreamBroker.open
   */
  openStream(nodeId: string, request: StreamRequest, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const session = this.#reachable(nodeId)
    return this.#streams.open(nodeId, (streamId) => session.openStream(streamId, request), signal)
  }

  /**
   * On the leader: has the node open a stream to a manager that waits for it.
   * @throws {CodedError} NODE_UNREACHABLE
   */
  requestStream(nodeId: string, streamId: string, request: StreamRequest, manager: ManagerAddress): void {
    this.#reachable(nodeId).openStream(streamId, request, manager)
  }

  /**
   * A connection to the node's own Docker API.
   * @param ask has the node asked by the leader; undefined: this manager leads
   * @throws {CodedError} NODE_UNREACHABLE; STREAM_TIMEOUT; what `ask` rejects with
   */
  tunnel(nodeId: string, ask: ((streamId: string) => Promise<void>) | undefined): Promise<Tunnel> {
    const askHere = async (streamId: string) => this.#reachable(nodeId).openStream(streamId, { kind: 'tunnel' })
    return this.#streams.tunnel(nodeId, ask ?? askHere)
  }

  #reachable(nodeId: string): Session {
    const session = this.#sessions.get(nodeId)
    if (session) return session
    throw new CodedError('NODE_UNREACHABLE', `node ${nodeId} is not available`, { retryable: true })
  }

  #register(
    scope: Scope,
    nodeId: string,
    connection: Connection,
    hello: Extract<WorkerMessage, { kind: 'hello' }>,
  ): Session {
    const { clock, random } = this.#options
    const node = this.#view.get('node', nodeId)
    if (!node) {
      connection.close(SESSION_CLOSE.removed, 'the node is not part of the cluster')
      throw new CodedError('NODE_REMOVED', 'the node is not part of the cluster')
    }
    this.#sessions.get(nodeId)?.close(SESSION_CLOSE.replaced, 'the node opened another session')
    const session = new Session({
      id: random.id(),
      nodeId,
      featureLevel: hello.featureLevel,
      connection,
      view: this.#view,
      index: this.#dataPlane.index,
      secrets: this.#secrets,
      clock,
    })
    this.#sessions.set(nodeId, session)
    this.#liveness.heard(nodeId, clock.nowMs())
    session.send({
      kind: 'welcome',
      sessionId: session.id,
      heartbeatMs: this.heartbeatMs,
      silenceMs: this.heartbeatMs,
      managers: managerAddresses(this.#view),
      featureLevel: OWN_FEATURE_LEVEL,
    })
    this.#sendCluster(session, node)
    session.sendComplete()
    this.#dataPlane.began(session)
    const address = hello.address || hostOf(connection.remoteAddress)
    this.#write(scope, nodeId, (current) => ({
      ...withDataPath(this.#view, current, hello.dataPath),
      description: hello.description,
      status: { state: 'ready', message: '', address },
      dataPathAddress: hello.dataPathAddress,
      downSince: '',
    }))
    this.#log.info({ nodeId, sessionId: session.id, address }, 'node registered')
    return session
  }

  #receive(scope: Scope, session: Session, message: Exclude<WorkerMessage, { kind: 'hello' | 'goodbye' }>): void {
    const { nodeId } = session
    this.#liveness.heard(nodeId, this.#clock.nowMs())
    switch (message.kind) {
      case 'heartbeat':
        session.send({ kind: 'heartbeat-ack', sequence: message.sequence })
        break
      case 'applied':
        session.noteApplied(message.sequence)
        break
      case 'resync':
        session.sendComplete()
        break
      case 'programmed':
        this.#dataPlane.programmed(session, message.sequence)
        break
      case 'attach':
        scope.spawn('attach', async () => {
          const answer = await this.#attachments.attach(nodeId, message.request)
          session.send({ kind: 'attachment', requestId: message.requestId, answer })
        })
        break
      case 'detach':
        scope.spawn('detach', async () => {
          const answer = await this.#attachments.detach(nodeId, message.attachmentId)
          session.send({ kind: 'attachment', requestId: message.requestId, answer })
        })
        break
      case 'data-path':
        this.#write(scope, nodeId, (node) => withDataPath(this.#view, node, message.report))
        break
      case 'describe':
        this.#write(scope, nodeId, (node) => ({ ...node, description: message.description }))
        break
      case 'status':
        scope.spawn('status', async () => this.#report(session, message))
        break
    }
  }

  /** Commits what a worker says of its own tasks, then acknowledges it; without an answer the worker says it again. */
  async #report(session: Session, message: Extract<WorkerMessage, { kind: 'status' }>): Promise<void> {
    const changes = message.updates.flatMap(({ taskId, status }): readonly Change[] =>
      this.#view.get('task', taskId)?.nodeId === session.nodeId ? [{ kind: 'task-status', taskId, status }] : [],
    )
    const parts: Change[][] = []
    for (let at = 0; at < changes.length; at += CHANGES_PER_TRANSACTION) {
      parts.push(changes.slice(at, at + CHANGES_PER_TRANSACTION))
    }
    try {
      await Promise.all(parts.map((part) => this.#options.proposer.propose(part)))
      session.send({ kind: 'status-ack', sequence: message.sequence })
    } catch (error) {
      this.#log.warn({ nodeId: session.nodeId, code: errorCode(error) }, 'statuses not written')
    }
  }

  /** A new leader has heard of nobody: nodes that were up are UNKNOWN until they register or their time is over. */
  #doubtEverybody(scope: Scope): void {
    const nowMs = this.#clock.nowMs()
    const message = 'Node moved to "unknown" state due to leadership change in cluster'
    for (const node of this.#view.list('node')) {
      if (node.status.state === 'down') continue
      this.#liveness.expected(node.id, nowMs)
      this.#write(scope, node.id, (current) =>
        current.status.state === 'ready' && !this.#sessions.has(current.id)
          ? { ...current, status: { ...current.status, state: 'unknown', message } }
          : undefined,
      )
    }
  }

  #sweep(scope: Scope): void {
    for (const nodeId of this.#liveness.expire(this.#clock.nowMs())) {
      this.#sessions.get(nodeId)?.close(SESSION_CLOSE.expired, 'heartbeat missed')
      this.#sessions.delete(nodeId)
      this.#log.warn({ nodeId }, 'node is down')
      const since = formatTime(this.#clock.wallMs())
      const down = (node: Node): Node | undefined =>
        this.#sessions.has(nodeId) || node.status.state === 'down'
          ? undefined
          : { ...node, status: { ...node.status, state: 'down', message: 'heartbeat failure' }, downSince: since }
      // Whatever kept it from being written: it is still so in the next sweep.
      this.#write(scope, nodeId, down, () => {
        if (!this.#sessions.has(nodeId)) this.#liveness.again(nodeId, this.#clock.nowMs())
      })
    }
  }

  /**
   * Writes the node's record in the background; one that stays the same is not written. One write of a node after the
   * other: a change is decided on what the one before it has left, not on what it is about to replace.
   */
  #write(
    scope: Scope,
    nodeId: string,
    change: (node: Node) => Node | undefined,
    failed = (): void =>
      this.#sessions.get(nodeId)?.close(SESSION_CLOSE.expired, 'the node record could not be written'),
  ): void {
    const before = this.#writes.get(nodeId) ?? Promise.resolve()
    const mine = before.then(async () => {
      try {
        // What an earlier leadership saw of a node is no sign of anything.
        if (!scope.signal.aborted)
          await updateNode(this.#view, this.#options.proposer, nodeId, (node) => {
            const next = change(node)
            return next && !sameRecord(node, next) ? next : undefined
          })
      } catch (error) {
        this.#log.warn({ nodeId, code: errorCode(error) }, 'node record not written')
        if (!scope.signal.aborted) failed()
      }
      if (this.#writes.get(nodeId) === mine) this.#writes.delete(nodeId)
    })
    this.#writes.set(nodeId, mine)
    scope.spawn('node update', () => mine)
  }

  #changed(events: readonly StoreEvent[]): void {
    let clusterChanged = false
    this.#dataPlane.observe(events)
    for (const event of events) {
      for (const object of [event.old, event.new]) {
        if (object?.kind === 'task' && object.nodeId) this.#sessions.get(object.nodeId)?.taskChanged(object.id)
      }
      if (event.objectKind === 'task') this.#secrets.taskChanged(event.id)
      if (event.objectKind === 'node') clusterChanged = this.#nodeChanged(event) || clusterChanged
      if (event.objectKind === 'cluster') clusterChanged = concernsWorkers(event) || clusterChanged
      if (event.objectKind === 'service') this.#serviceChanged(event)
    }
    if (!clusterChanged) return
    for (const session of this.#sessions.values()) {
      const node = this.#view.get('node', session.nodeId)
      if (node) this.#sendCluster(session, node)
    }
  }

  #tellOf(taskId: string): void {
    const nodeId = this.#view.get('task', taskId)?.nodeId ?? ''
    this.#sessions.get(nodeId)?.taskChanged(taskId)
  }

  /** @returns true where the list of managers is another now */
  #nodeChanged(event: StoreEvent): boolean {
    const before = event.old?.kind === 'node' ? event.old : undefined
    const after = event.new?.kind === 'node' ? event.new : undefined
    const session = this.#sessions.get(event.id)
    if (!after) {
      this.#liveness.forget(event.id)
      this.#sessions.delete(event.id)
      session?.close(SESSION_CLOSE.removed, 'the node was removed from the cluster')
    } else if (session && (before?.role !== after.role || before.spec !== after.spec)) this.#sendCluster(session, after)
    return before?.manager?.address !== after?.manager?.address
  }

  /** New registry credentials concern the nodes on which the service's tasks are. */
  #serviceChanged(event: StoreEvent): void {
    const before = event.old?.kind === 'service' ? event.old.registryAuth : ''
    const after = event.new?.kind === 'service' ? event.new.registryAuth : ''
    if (before === after) return
    for (const task of this.#view.tasksOfService(event.id)) this.#sessions.get(task.nodeId)?.taskChanged(task.id)
  }

  #sendCluster(session: Session, node: Node): void {
    const cluster = this.#view.cluster()
    session.send({
      kind: 'cluster',
      managers: managerAddresses(this.#view),
      role: node.role,
      availability: node.spec.Availability ?? 'active',
      nodeLabels: node.spec.Labels ?? {},
      rootDigest: cluster?.rootCa.digest ?? '',
      ...(cluster && { trust: trustDigests(cluster) }),
      taskSocket: taskSocketOf(cluster?.spec),
      cleanUp: cleanUpOf(cluster?.spec),
      dataPathPort: cluster?.dataPathPort || DEFAULT_DATA_PATH_PORT,
    })
  }
}

/** The IP address of `address:port`. */
function hostOf(remoteAddress: string): string {
  return remoteAddress.slice(0, remoteAddress.lastIndexOf(':'))
}

/** Another root, or another setting that workers keep to. */
function concernsWorkers({ old, new: next }: StoreEvent): boolean {
  const before = old?.kind === 'cluster' ? old : undefined
  const after = next?.kind === 'cluster' ? next : undefined
  const roots = (cluster: typeof before) => JSON.stringify(cluster && trustDigests(cluster))
  if (before?.rootCa !== after?.rootCa && roots(before) !== roots(after)) return true
  const settings = (spec: SwarmSpec | undefined) => JSON.stringify([taskSocketOf(spec), cleanUpOf(spec)])
  return settings(before?.spec) !== settings(after?.spec)
}

function sameRecord(a: Node, b: Node): boolean {
  return Buffer.from(encode(a)).equals(encode(b))
}

/** What a manager that does not lead answers to a worker. */
export function redirect(connection: Connection, leader: ManagerAddress | undefined, view: StoreView): void {
  connection.listen({ onMessage: () => {}, onClose: () => {} })
  const message = { kind: 'redirect', leader, managers: managerAddresses(view) } as const
  connection.send(encode([DISPATCHER_PROTOCOL_VERSION, message]))
  connection.close(SESSION_CLOSE.leadershipLost, 'this manager is not the leader')
}

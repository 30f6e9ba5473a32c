// A manager as a worker meets it, on the simulated network: it answers as told and remembers what it heard.

import {
  type Assigned,
  type AssignedKey,
  DISPATCHER_PROTOCOL_VERSION,
  type ManagerAddress,
  type ManagerMessage,
  type StreamFrame,
  type WorkerMessage,
} from '../../src/api/dispatcher.ts'
import type { TaskStatus } from '../../src/api/objects.ts'
import { decode, encode } from '../../src/lib/codec.ts'
import type { CloseInfo, Connection } from '../../src/lib/connection.ts'
import type { SimulatedNetwork } from '../sim/network.ts'

type Mode = { readonly kind: 'leads' } | { readonly kind: 'redirects'; readonly leader: ManagerAddress | undefined }

export class FakeManager {
  readonly address: ManagerAddress
  readonly heard: WorkerMessage[] = []
  readonly statuses = new Map<string, TaskStatus>()
  readonly closes: CloseInfo[] = []
  sessions = 0
  mode: Mode = { kind: 'leads' }
  acknowledges = true
  answersHeartbeats = true
  parts = 1
  featureLevel = 2
  managers: readonly ManagerAddress[]
  /** What a COMPLETE set contains. */
  assigned: readonly Assigned[] = []
  /** Frames of the streams that workers have opened. */
  readonly frames: StreamFrame[] = []
  bulk: Connection | undefined
  #session: Connection | undefined
  #sequence = 0

  constructor(network: SimulatedNetwork, name: string) {
    this.address = { nodeId: name, address: `${name}:2377` }
    this.managers = [this.address]
    const identity = { nodeId: name, clusterId: 'cluster1', role: 'manager' } as const
    network.listen(
      this.address.address,
      (connection, path) => {
        if (path === '/session') this.#accept(connection)
        else this.#acceptBulk(connection)
      },
      identity,
    )
  }

  heardOf<K extends WorkerMessage['kind']>(kind: K): readonly Extract<WorkerMessage, { kind: K }>[] {
    return this.heard.filter((message): message is Extract<WorkerMessage, { kind: K }> => message.kind === kind)
  }

  state(taskId: string): string | undefined {
    return this.statuses.get(taskId)?.state
  }

  assign(set: readonly Assigned[], removed: readonly AssignedKey[] = [], skip = 0): void {
    const kept = this.assigned.filter((one) => !removed.some(({ id }) => one.kind === 'task' && one.task.id === id))
    const ids = new Set(set.flatMap((one) => (one.kind === 'task' ? [one.task.id] : [])))
    this.assigned = [...kept.filter((one) => one.kind !== 'task' || !ids.has(one.task.id)), ...set]
    this.#sequence += 1 + skip
    this.send({ kind: 'assignments', complete: false, more: false, sequence: this.#sequence, set, removed })
  }

  send(message: ManagerMessage): void {
    this.#session?.send(encode([DISPATCHER_PROTOCOL_VERSION, message]))
  }

  sendRaw(value: unknown): void {
    this.#session?.send(encode(value))
  }

  close(code: number, reason = ''): void {
    this.#session?.close(code, reason)
  }

  frame(frame: StreamFrame): void {
    this.bulk?.send(encode([DISPATCHER_PROTOCOL_VERSION, frame]))
  }

  /** In as many parts as told. */
  complete(): void {
    this.#sequence = 0
    const size = Math.max(1, Math.ceil(this.assigned.length / this.parts))
    for (let at = 0; at === 0 || at < this.assigned.length; at += size) {
      const more = at + size < this.assigned.length
      const set = this.assigned.slice(at, at + size)
      this.#sequence++
      this.send({ kind: 'assignments', complete: at === 0, more, sequence: this.#sequence, set, removed: [] })
    }
  }

  #accept(connection: Connection): void {
    this.#session = connection
    connection.listen({
      onMessage: (bytes) => this.#hear((decode(bytes) as [number, WorkerMessage])[1]),
      onClose: (info) => this.closes.push(info),
    })
  }

  #acceptBulk(connection: Connection): void {
    this.bulk = connection
    connection.listen({
      onMessage: (bytes) => this.frames.push((decode(bytes) as [number, StreamFrame])[1]),
      onClose: () => {},
    })
  }

  #hear(message: WorkerMessage): void {
    this.heard.push(message)
    switch (message.kind) {
      case 'hello': {
        const { mode, managers } = this
        if (mode.kind === 'redirects') {
          this.send({ kind: 'redirect', leader: mode.leader, managers })
          return
        }
        this.sessions++
        const sessionId = `${this.address.nodeId}-session-${this.sessions}`
        this.send({
          kind: 'welcome',
          sessionId,
          heartbeatMs: 5_000,
          silenceMs: 5_000,
          managers,
          featureLevel: this.featureLevel,
        })
        this.complete()
        return
      }
      case 'heartbeat':
        if (this.answersHeartbeats) this.send({ kind: 'heartbeat-ack', sequence: message.sequence })
        return
      case 'status':
        if (!this.acknowledges) return
        for (const { taskId, status } of message.updates) this.statuses.set(taskId, status)
        this.send({ kind: 'status-ack', sequence: message.sequence })
        return
      case 'resync':
        this.complete()
        return
      case 'attach':
      case 'detach':
      case 'data-path':
      case 'programmed':
      case 'describe':
      case 'goodbye':
      case 'applied':
        return
    }
  }
}

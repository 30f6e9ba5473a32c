// What must hold of the data planes of a simulated cluster: at rest each node's kernel has what the store implies, no more and
// no less, and no connection is sent to what does not run; and no task that serves is told to stop before nobody sends it
// anything new, or a second has passed.

import { isDeepStrictEqual } from 'node:util'
import { type DataPlaneKey, type DataPlaneRecord, dataPlaneKey } from '../../src/api/data-plane.ts'
import { isTerminal } from '../../src/api/spec.ts'
import {
  deriveRecord,
  hasEndpoints,
  isDraining,
  networksOfService,
} from '../../src/manager/dispatcher/data-plane-records.ts'
import type { Store } from '../../src/manager/store/store.ts'
import type { StoreEvent } from '../../src/manager/store/types.ts'
import type { DesiredState } from '../../src/overlay/desired-state.ts'
import type { SimMachine } from './cluster-machine.ts'
import { ClusterViolation } from './cluster-violation.ts'

/** What a worker waits for who does not answer, by its own clock, which may be a little fast. */
const WITHDRAWAL_MS = 970

function textOf(key: DataPlaneKey): string {
  return `${key.kind} ${key.id}`
}

function recordsOf({ peers, networks, endpoints, services }: DesiredState): readonly DataPlaneRecord[] {
  return [
    ...[...peers.values()].map((peer): DataPlaneRecord => ({ kind: 'peer', peer })),
    ...[...networks.values()].map((network): DataPlaneRecord => ({ kind: 'overlay-network', network })),
    ...[...endpoints.values()].map((endpoint): DataPlaneRecord => ({ kind: 'end-point', endpoint })),
    ...[...services.values()].map((service): DataPlaneRecord => ({ kind: 'overlay-service', service })),
  ]
}

/** From the store as a whole, without what the dispatcher remembers. */
function expectedRecords(store: Store, nodeId: string): readonly DataPlaneRecord[] {
  const ingress = store.ingressNetwork()
  const own = store.tasksOfNode(nodeId).filter(hasEndpoints)
  const networks = new Set([
    ...(ingress ? [ingress.id] : []),
    ...own.flatMap(({ attachments }) => attachments.map(({ networkId }) => networkId)),
  ])
  const keys: DataPlaneKey[] = store.list('node').map(({ id }) => ({ kind: 'peer', id }))
  for (const id of networks) keys.push({ kind: 'overlay-network', id })
  for (const service of store.list('service')) {
    for (const networkId of networksOfService(service))
      if (networks.has(networkId)) keys.push({ kind: 'overlay-service', id: `${service.id}/${networkId}` })
  }
  for (const task of store.list('task')) {
    for (const { networkId } of task.attachments)
      if (networks.has(networkId)) keys.push({ kind: 'end-point', id: `${task.id}/${networkId}` })
  }
  return keys.flatMap((key) => deriveRecord(store, key) ?? [])
}

/** @returns for people; empty where all is as it should be */
export function dataPlaneComplaints(store: Store, machines: readonly SimMachine[]): readonly string[] {
  const running = new Set(
    machines.flatMap(({ engine }) =>
      engine.containers().flatMap(({ taskId, state }) => (state === 'running' ? [taskId] : [])),
    ),
  )
  return machines.flatMap(({ host, files, dataPlane }): readonly string[] => {
    if (!files) return []
    const found = new Map(recordsOf(dataPlane.state).map((record) => [textOf(dataPlaneKey(record)), record]))
    const wrong: string[] = []
    for (const record of expectedRecords(store, files.nodeId)) {
      const text = textOf(dataPlaneKey(record))
      if (!isDeepStrictEqual(found.get(text), record)) wrong.push(`${text} is ${found.has(text) ? 'old' : 'missing'}`)
      found.delete(text)
    }
    wrong.push(...[...found.keys()].map((text) => `${text} is left`))
    for (const { taskId, serving } of dataPlane.state.endpoints.values())
      if (serving && !running.has(taskId)) wrong.push(`${taskId} is served and does not run`)
    return wrong.map((what) => `data plane of ${host}: ${what}`)
  })
}

/** Watches what is committed, and stop signals while nothing is broken. */
export class DataPlaneWatch {
  /** When the first manager knew that a task is to stop. */
  readonly #sinceMs = new Map<string, number>()

  /** @throws {ClusterViolation} */
  observe({ id, new: next }: StoreEvent, machines: readonly SimMachine[], nowMs: number): void {
    const isOver = next?.kind === 'task' && isTerminal(next.status.state) && next.status.state !== 'orphaned'
    if (isOver && next.attachments.length > 0) {
      const running = machines.find(
        ({ engine, files }) =>
          files?.nodeId === next.nodeId &&
          engine.containers().some(({ taskId, state }) => taskId === id && state === 'running'),
      )
      if (running)
        throw new ClusterViolation(
          'an address is free when nobody has it',
          `${id} is over, and runs on ${running.host}`,
        )
    }
    if (next?.kind !== 'task' || !isDraining(next)) this.#sinceMs.delete(id)
    else if (!this.#sinceMs.has(id)) this.#sinceMs.set(id, nowMs)
  }

  /** @throws {ClusterViolation} */
  stopSignal(taskId: string, store: Store, machines: readonly SimMachine[], nowMs: number): void {
    const task = store.get('task', taskId)
    if (!task || !isDraining(task) || task.status.error !== '') return
    if (nowMs - (this.#sinceMs.get(taskId) ?? nowMs) >= WITHDRAWAL_MS) return
    for (const { host, dataPlane } of machines) {
      const endpoints = [...dataPlane.state.endpoints.values()].filter((one) => one.taskId === taskId)
      if (endpoints.some(({ serving }) => serving))
        throw new ClusterViolation(
          'nothing stops that is served',
          `${taskId} is told to stop, and ${host} still sends it connections`,
        )
    }
  }
}

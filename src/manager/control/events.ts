// What changed in the store, as `docker events` tells it: scope swarm; service, node, secret, config, network; create,
// update, remove; with the old and new values that Docker names.

import type { Node, Service, StoreObject } from '../../api/objects.ts'
import { parseTime } from '../../lib/clock.ts'
import type { StoreEvent } from '../store/types.ts'
import type { Filters } from './filters.ts'

export interface ClusterEvent {
  readonly type: 'service' | 'node' | 'secret' | 'config' | 'network'
  readonly action: 'create' | 'update' | 'remove'
  readonly id: string
  readonly attributes: Readonly<Record<string, string>>
  readonly wallMs: number
}

/** @param nowMs wall time: for removals, which leave no object with a time behind */
export function clusterEvent(event: StoreEvent, nowMs: number): ClusterEvent | undefined {
  const object = event.new ?? event.old
  if (object === undefined || object.kind === 'task' || object.kind === 'cluster') return undefined
  const time = event.kind === 'create' ? object.meta.createdAt : object.meta.updatedAt
  const stored = event.kind === 'remove' ? nowMs : parseTime(time)
  return {
    type: object.kind,
    action: event.kind,
    id: event.id,
    attributes: { ...changes(event.old, event.new), name: nameOf(object) },
    wallMs: Number.isNaN(stored) ? nowMs : stored,
  }
}

/** The leader changed: no stored object says so, but Docker tells it of the nodes concerned. */
export function leadershipEvent(node: Node, isLeader: boolean, nowMs: number): ClusterEvent {
  return {
    type: 'node',
    action: 'update',
    id: node.id,
    attributes: { 'leader.new': String(isLeader), 'leader.old': String(!isLeader), name: nameOf(node) },
    wallMs: nowMs,
  }
}

function nameOf(object: Exclude<StoreObject, { kind: 'task' | 'cluster' }>): string {
  if (object.kind === 'node') return object.spec.Name || (object.description.Hostname ?? '')
  return object.spec.Name ?? ''
}

function changes(old: StoreObject | undefined, next: StoreObject | undefined): Readonly<Record<string, string>> {
  if (old?.kind === 'service' && next?.kind === 'service') return serviceChanges(old, next)
  if (old?.kind === 'node' && next?.kind === 'node') return nodeChanges(old, next)
  return {}
}

function pair(name: string, old: string | undefined, next: string | undefined): Readonly<Record<string, string>> {
  if (old === next) return {}
  return {
    ...(next === undefined ? {} : { [`${name}.new`]: next }),
    ...(old === undefined ? {} : { [`${name}.old`]: old }),
  }
}

function serviceChanges(old: Service, next: Service): Readonly<Record<string, string>> {
  const image = (service: Service) => service.spec.TaskTemplate?.ContainerSpec?.Image ?? ''
  const replicas = (service: Service) => service.spec.Mode?.Replicated?.Replicas?.toString()
  return {
    ...pair('image', image(old), image(next)),
    ...pair('replicas', replicas(old), replicas(next)),
    ...(next.updateStatus === undefined ? {} : pair('updatestate', old.updateStatus?.State, next.updateStatus.State)),
  }
}

function nodeChanges(old: Node, next: Node): Readonly<Record<string, string>> {
  return {
    ...pair('availability', old.spec.Availability ?? 'active', next.spec.Availability ?? 'active'),
    ...pair('role', old.role, next.role),
    ...pair('state', old.status.state, next.status.state),
  }
}

/** One line of the events stream. Nanoseconds don't fit into a number, so the text is put together here. */
export function encodeEvent(event: ClusterEvent): string {
  const actor = JSON.stringify({ ID: event.id, Attributes: event.attributes })
  const timeNano = `${Math.floor(event.wallMs)}000000`
  return `{"Type":"${event.type}","Action":"${event.action}","Actor":${actor},"scope":"swarm","time":${Math.floor(event.wallMs / 1000)},"timeNano":${timeNano}}\n`
}

const NAMED = ['daemon', 'container', 'plugin', 'volume', 'network', 'node', 'service', 'secret', 'config'] as const

/** Docker's own matching: any of a name's values, by the beginning of id or name, whatever the event's type. */
export function matchesEvent(filters: Filters, event: ClusterEvent): boolean {
  const exact = (name: string, text: string) => filters.get(name)?.includes(text) ?? true
  const name = event.attributes.name ?? ''
  return (
    exact('event', event.action) &&
    exact('type', event.type) &&
    exact('scope', 'swarm') &&
    exact('image', event.id) &&
    NAMED.every(
      (field) => filters.get(field)?.some((value) => event.id.startsWith(value) || name.startsWith(value)) ?? true,
    ) &&
    (filters.get('label') ?? []).every((wanted) => {
      const equals = wanted.indexOf('=')
      if (equals < 0) return Object.hasOwn(event.attributes, wanted)
      return event.attributes[wanted.slice(0, equals)] === wanted.slice(equals + 1)
    })
  )
}

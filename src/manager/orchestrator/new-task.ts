// Makes tasks from a service's current spec.

import type { Cluster, Service, Task, TaskOrigin } from '../../api/objects.ts'
import type { TaskState } from '../../api/spec.ts'
import { formatTime } from '../../lib/clock.ts'
import { awaitsAllocator, PENDING_MESSAGE } from '../allocator/awaits-allocator.ts'
import { isJob } from './service-settings.ts'

const MAX_DETAIL = 200

export interface NewTask {
  readonly id: string
  readonly slot: number
  /** Of global services; the scheduler chooses for others. */
  readonly nodeId: string
  readonly desiredState: TaskState
  readonly origin: TaskOrigin
  /** RFC 3339; empty: at once */
  readonly startAfter?: string
  /** Of the tasks before it, in a row. */
  readonly failures?: number
}

export function newTask(service: Service, cluster: Cluster | undefined, request: NewTask, nowMs: number): Task {
  const { spec } = service
  const { id, slot, nodeId, desiredState, origin, startAfter = '', failures = 0 } = request
  const time = formatTime(nowMs)
  const template = spec.TaskTemplate ?? {}
  const logDriver = template.LogDriver ?? cluster?.spec.TaskDefaults?.LogDriver
  const detail = origin.detail?.slice(0, MAX_DETAIL)
  const [state, message] = awaitsAllocator(service)
    ? (['new', 'created'] as const)
    : (['pending', PENDING_MESSAGE] as const)
  return {
    kind: 'task',
    id,
    meta: { version: 0, createdAt: time, updatedAt: time },
    spec: template,
    specVersion: service.specVersion,
    serviceId: service.id,
    serviceName: spec.Name ?? '',
    serviceLabels: spec.Labels ?? {},
    slot,
    nodeId,
    desiredState,
    status: { state, timestamp: time, message, error: '', container: undefined, ports: [] },
    statusVersion: 0,
    endpoint: { spec: spec.EndpointSpec ?? {}, ports: [], virtualIps: [] },
    attachments: [],
    genericResources: [],
    jobIteration: isJob(spec) ? (service.jobStatus?.iteration ?? 0) : undefined,
    startAfter,
    origin: detail === undefined ? origin : { ...origin, detail },
    ...(failures > 0 ? { failures } : {}),
    ...(logDriver ? { logDriver } : {}),
  }
}

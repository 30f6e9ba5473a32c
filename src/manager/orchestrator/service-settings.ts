// What a service's spec means once Swarm's defaults are filled in. Specs are stored as the user sent them, so every reader of
// an optional field comes here.

import type { Service } from '../../api/objects.ts'
import type { ServiceSpec, TaskSpec, UpdateConfig } from '../../api/spec.ts'

const NANOS_PER_MS = 1_000_000

export const DEFAULT_RESTART_DELAY_MS = 5_000
export const DEFAULT_MONITOR_MS = 5_000
export const DEFAULT_TASK_HISTORY = 5

export type ServiceKind = 'replicated' | 'global' | 'replicated-job' | 'global-job'

export function serviceKind({ Mode }: ServiceSpec): ServiceKind {
  if (Mode?.ReplicatedJob) return 'replicated-job'
  if (Mode?.GlobalJob) return 'global-job'
  return Mode?.Global ? 'global' : 'replicated'
}

export function isGlobal(spec: ServiceSpec): boolean {
  const kind = serviceKind(spec)
  return kind === 'global' || kind === 'global-job'
}

export function isJob(spec: ServiceSpec): boolean {
  const kind = serviceKind(spec)
  return kind === 'replicated-job' || kind === 'global-job'
}

export function replicas({ Mode }: ServiceSpec): number {
  return Mode?.Replicated?.Replicas ?? 1
}

export interface JobSize {
  readonly maxConcurrent: number
  readonly totalCompletions: number
}

export function jobSize({ Mode }: ServiceSpec): JobSize {
  const { MaxConcurrent = 1, TotalCompletions } = Mode?.ReplicatedJob ?? {}
  return { maxConcurrent: MaxConcurrent, totalCompletions: TotalCompletions ?? MaxConcurrent }
}

export interface RestartSettings {
  readonly condition: 'none' | 'on-failure' | 'any'
  readonly delayMs: number
  /** 0: no limit */
  readonly maxAttempts: number
  /** 0: for as long as the spec stays the same */
  readonly windowMs: number
}

export function restartSettings(spec: TaskSpec): RestartSettings {
  const policy = spec.RestartPolicy
  return {
    condition: policy?.Condition || 'any',
    delayMs: milliseconds(policy?.Delay, DEFAULT_RESTART_DELAY_MS),
    maxAttempts: policy?.MaxAttempts ?? 0,
    windowMs: milliseconds(policy?.Window, 0),
  }
}

export interface UpdateSettings {
  /** Infinity: all slots at once */
  readonly parallelism: number
  readonly delayMs: number
  readonly failureAction: 'pause' | 'continue' | 'rollback'
  readonly monitorMs: number
  readonly maxFailureRatio: number
  readonly order: 'stop-first' | 'start-first'
}

/** Of a config that was given, an absent parallelism is 0, which means all; without a config it is 1. */
export function updateSettings(config: UpdateConfig | undefined | null): UpdateSettings {
  const { Parallelism = 0, Delay, FailureAction, Monitor, MaxFailureRatio = 0, Order } = config ?? { Parallelism: 1 }
  return {
    parallelism: Parallelism > 0 ? Parallelism : Number.POSITIVE_INFINITY,
    delayMs: milliseconds(Delay, 0),
    failureAction: FailureAction || 'pause',
    monitorMs: milliseconds(Monitor, DEFAULT_MONITOR_MS),
    maxFailureRatio: MaxFailureRatio,
    order: Order || 'stop-first',
  }
}

export function isRollingBack(service: Service): boolean {
  return service.updateStatus?.State === 'rollback_started'
}

/** The settings that replacing the service's tasks follows now. */
export function currentUpdateSettings(service: Service): UpdateSettings {
  return updateSettings(isRollingBack(service) ? service.spec.RollbackConfig : service.spec.UpdateConfig)
}

function milliseconds(nanos: number | undefined | null, absentMs: number): number {
  return nanos === undefined || nanos === null ? absentMs : nanos / NANOS_PER_MS
}

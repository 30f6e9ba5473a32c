// Which run of the updater a service is in. A run belongs to one version of the spec: an update, or the rollback of one.

import type { Service, UpdateProgress } from '../../api/objects.ts'
import type { UpdateState } from '../../api/spec.ts'
import { isJob } from './service-settings.ts'

export function isUnderWay(state: UpdateState | undefined): boolean {
  return state === 'updating' || state === 'rollback_started'
}

export function isPaused(state: UpdateState | undefined): boolean {
  return state === 'paused' || state === 'rollback_paused'
}

/** The progress of the run that is under way; undefined before its first look. */
export function progressOf(service: Service): UpdateProgress | undefined {
  const progress = service.updateProgress
  return progress?.specVersion === service.specVersion ? progress : undefined
}

/**
 * What a task that is out of date means to the updater: with `beginning` the look that sees it begins the run, with `running` the
 * run is to hear of its successor, else the updater has ended, is paused, or there is none.
 */
export function runOf(
  service: Service,
): { readonly kind: 'none' | 'beginning' } | { readonly kind: 'running'; readonly id: string | undefined } {
  const state = service.updateStatus?.State
  if (isJob(service.spec)) return { kind: 'none' }
  if (state !== undefined && !isUnderWay(state)) return { kind: 'none' }
  const progress = progressOf(service)
  return state === undefined || !progress ? { kind: 'beginning' } : { kind: 'running', id: progress.id }
}

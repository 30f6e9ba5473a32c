// How long a slot whose tasks keep failing waits for its next start. Docker's fixed delay is the floor, and the first two
// failures wait no longer: an application that comes up before its database does is ready as soon as with Swarm. From the
// third in a row on the wait doubles up to a limit, less up to a quarter by chance, so that slots that failed together do not
// start together. The count goes from task to task in the store, and the wait is a time in it: an election changes nothing.

import type { Service, Task } from '../../api/objects.ts'
import { restartMaxDelayMs } from '../../api/service-labels.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { restartSettings } from './service-settings.ts'

/** A task that has run for so long is not part of a row of failures any more. */
export const RECOVERED_AFTER_MS = 60_000
/** Failures in a row that wait for Docker's delay only. */
const PATIENCE = 2
/** What doubles where the delay is shorter, or zero. */
const LEAST_STEP_MS = 1_000
const JITTER = 0.25

/**
 * Failures in a row with this one, of which the successor of a task that ended is told. A task that completed is no failure: who
 * has it started again and again by the restart condition `any` wants just that.
 */
export function failuresWith(task: Task): number {
  const { state } = task.status
  if (state === 'complete') return 0
  const before = task.failures ?? 0
  return state === 'failed' || state === 'rejected' ? before + 1 : before
}

/** @param fraction random, from 0 up to 1 */
export function restartDelayMs(service: Service, task: Task, failures: number, fraction: number): number {
  const { delayMs, maxAttempts } = restartSettings(task.spec)
  // Attempts that are counted, and in a window, are so many within a known time: that is the policy's own end of a storm.
  if (failures <= PATIENCE || maxAttempts > 0) return delayMs
  const limitMs = restartMaxDelayMs(service.spec.Labels)
  const stepMs = Math.max(delayMs, LEAST_STEP_MS)
  const backoffMs = Math.min(stepMs * 2 ** Math.min(failures - PATIENCE, 30), limitMs)
  return Math.max(delayMs, Math.round(backoffMs * (1 - JITTER * fraction)))
}

/** When the task may start, by the clock; 0: at once. A limit that was lowered meanwhile holds for who waits already. */
export function startsAtMs(service: Service | undefined, task: Task): number {
  if (task.startAfter === '') return 0
  const afterMs = parseTime(task.startAfter)
  if (!isBackingOff(task)) return afterMs
  const { delayMs } = restartSettings(task.spec)
  const limitMs = Math.max(delayMs, restartMaxDelayMs(service ? service.spec.Labels : task.serviceLabels))
  return Math.min(afterMs, parseTime(task.meta.createdAt) + limitMs)
}

/** It waits longer than Docker's delay, or may do so. */
export function isBackingOff(task: Task): boolean {
  return (task.failures ?? 0) > PATIENCE && task.startAfter !== ''
}

/** What is told to people of a task that waits for its start; empty: nothing that Docker's delay does not explain. */
export function backoffText(service: Service | undefined, task: Task): string {
  if (!isBackingOff(task)) return ''
  return `next start at ${formatTime(startsAtMs(service, task)).replace(/\.\d+Z$/, 'Z')} (${ordinal(task.failures ?? 0)} failure in a row)`
}

export function ordinal(number: number): string {
  const teens = number % 100 >= 11 && number % 100 <= 13
  return `${number}${(teens ? undefined : ['th', 'st', 'nd', 'rd'][number % 10]) ?? 'th'}`
}

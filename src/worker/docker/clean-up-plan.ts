// What a clean-up may remove from an engine: pure. An image counts as used while a container is made from it, running or not, and
// while a task of the cluster on this node names it; a stopped container is left alone while it is a task's.

import type { CleanUpSettings } from '../../api/cluster-settings.ts'

export interface EngineImage {
  readonly id: string
  /** `name:tag`, and `name@digest` where there is no tag */
  readonly references: readonly string[]
}

export interface EngineContainer {
  readonly id: string
  readonly imageId: string
  readonly isTask: boolean
  /** wall time; undefined: it is not stopped */
  readonly stoppedAtMs: number | undefined
}

/** Since when (wall time) images are seen unused: what no engine tells. */
export type UnusedSince = ReadonlyMap<string, number>

export interface CleanUpState {
  readonly images: readonly EngineImage[]
  readonly containers: readonly EngineContainer[]
  /** ids of the images of this node's tasks */
  readonly taskImages: ReadonlySet<string>
  readonly unusedSince: UnusedSince
  readonly settings: CleanUpSettings
  readonly underPressure: boolean
  readonly nowMs: number
}

export interface CleanUpPlan {
  /** ids */
  readonly containers: readonly string[]
  /** the longest unused first */
  readonly images: readonly EngineImage[]
  readonly unusedSince: UnusedSince
}

/** Under pressure: long enough for a service that is being replaced, or a user between two commands. */
export const PRESSURE_AGE_MS = 600_000

/** How long something must not have been used; undefined: nothing is removed. */
export function minimumAgeMs({ afterMs, onPressure }: CleanUpSettings, underPressure: boolean): number | undefined {
  if (!underPressure || !onPressure) return afterMs
  return Math.min(afterMs ?? PRESSURE_AGE_MS, PRESSURE_AGE_MS)
}

export function planCleanUp(state: CleanUpState): CleanUpPlan {
  const { containers, taskImages, settings, underPressure, nowMs } = state
  const used = new Set([...taskImages, ...containers.map(({ imageId }) => imageId)])
  const unused = state.images.filter(({ id }) => !used.has(id))
  // A clock that was set back must not make things look older than they are.
  const since = (id: string) => Math.min(state.unusedSince.get(id) ?? nowMs, nowMs)
  const unusedSince = new Map(unused.map(({ id }) => [id, since(id)]))
  const ageMs = minimumAgeMs(settings, underPressure)
  if (ageMs === undefined) return { containers: [], images: [], unusedSince }
  const isOld = (sinceMs: number) => nowMs - sinceMs >= ageMs
  return {
    containers: containers
      .filter(({ isTask, stoppedAtMs }) => !isTask && stoppedAtMs !== undefined && isOld(stoppedAtMs))
      .map(({ id }) => id),
    images: unused
      .filter(({ id }) => isOld(unusedSince.get(id)!))
      .sort((a, b) => unusedSince.get(a.id)! - unusedSince.get(b.id)! || (a.id < b.id ? -1 : 1)),
    unusedSince,
  }
}

// What the worker needs of its node's data plane. The client of swarmd-net is one, SimulatedDataPlane another. Structural on
// purpose: neither side imports the other's classes.

import type { DataPathReport } from '../api/data-plane.ts'
import type { DesiredChange } from '../overlay/desired-state.ts'

export interface DataPlaneWatcher {
  /**
   * swarmd-net answers: for the first time, or again after its connection was lost or its process replaced. What it has is
   * not known: the worker sends everything once more, as soon as a manager has told it everything.
   */
  readonly onUp: () => void
  /** After each `onUp`, and whenever something in it has changed. */
  readonly onReport: (report: DataPathReport) => void
  /** It does not answer; the kernel goes on with what it has. */
  readonly onDown: (error: unknown) => void
}

export interface DrainOptions {
  /** The task whose end points are to be idle. */
  readonly taskId: string
  /** So long without a packet is idle. */
  readonly quietMs: number
  readonly maxMs: number
}

export interface DataPlane {
  /** Watches until aborted, through restarts of swarmd-net. Only one watch at a time. */
  watch(watcher: DataPlaneWatcher, signal: AbortSignal): Promise<void>
  /**
   * Resolves once the kernel has it (and swarmd-net's disk). The worker has one call under way at a time. An increment whose
   * predecessor swarmd-net does not have is refused with DATA_PLANE_RESYNC: the worker then sends everything.
   * @throws {CodedError} DATA_PLANE_DOWN (retryable), DATA_PLANE_RESYNC; whatever else is tried again, complete
   */
  apply(change: DesiredChange, signal: AbortSignal): Promise<void>
  /**
   * Resolves when none of the task's end points has a connection, or no packet has moved for `quietMs`, or after `maxMs`.
   * Aborted: resolves or rejects at once.
   * @throws {CodedError} DATA_PLANE_DOWN: nothing can be said; the worker goes on at once
   */
  drained(options: DrainOptions, signal: AbortSignal): Promise<void>
}

// The calls of swarmd to swarmd-net, each POST /Swarmctl.NAME with JSON both ways, on the control socket in the run directory. A
// swarmd speaks to a swarmd-net of another version just long enough to have it replaced.

import type { DataPathReport } from '../api/data-plane.ts'
import type { ProbeAnswer, ProbeRequest } from '../api/network-check.ts'
import type { DataPlaneFacts, DataPlaneStatistics, DrainOptions } from './client.ts'
import type { DesiredChange } from './desired-state.ts'

export const CONTROL_FILE = 'control.sock'

export interface VersionAnswer {
  readonly version: string
  /** of the program's file: builds of one version differ by it */
  readonly build: string
  readonly pid: number
  readonly holderPid: number
  readonly instance: number
  readonly facts: DataPlaneFacts
}

export interface ReportAnswer {
  readonly serial: number
  readonly report: DataPathReport
}

/** Name, request and answer of each call. */
export interface ControlCalls {
  readonly Version: { readonly request: object; readonly answer: VersionAnswer }
  readonly Apply: { readonly request: DesiredChange; readonly answer: object }
  /** Answers when there is another report than the one of that serial number, or after WATCH_MS. */
  readonly Watch: { readonly request: { readonly serial: number }; readonly answer: ReportAnswer }
  readonly Report: { readonly request: object; readonly answer: ReportAnswer }
  /** `kernel`: with what the kernel counts, which costs it some time. */
  readonly Statistics: { readonly request: { readonly kernel: boolean }; readonly answer: DataPlaneStatistics }
  readonly Drained: { readonly request: DrainOptions; readonly answer: object }
  /** The server is replaced by that program's; the answer comes before. */
  readonly Upgrade: { readonly request: { readonly program: string }; readonly answer: object }
  readonly Probe: { readonly request: ProbeRequest; readonly answer: ProbeAnswer }
  readonly RotateKeys: { readonly request: object; readonly answer: object }
  /** Everything ends; the kernel stays as it is. */
  readonly Stop: { readonly request: object; readonly answer: object }
}

export const WATCH_MS = 20_000

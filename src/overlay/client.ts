// The data plane as swarmd sees it: what it is told, what it tells. Behind it stands a process of its own (swarmd-net) that
// outlives swarmd; NetClient in net-client.ts speaks to it.

import type { DataPathProblem, DataPathReport } from '../api/data-plane.ts'
import type { ProbeAnswer, ProbeRequest } from '../api/network-check.ts'
import type { DesiredChange } from './desired-state.ts'
import type { KernelCounters } from './statistics.ts'

/** What the node's data plane has counted; each number may begin anew. */
export interface DataPlaneStatistics {
  /** What the kernel had otherwise than planned and was put right without being asked, since swarmd-net's server began. */
  readonly repairs: number
  /** undefined where they were not asked for */
  readonly kernel: KernelCounters | undefined
  /** Of the last report. */
  readonly problems: readonly DataPathProblem[]
}

/** What containers' bodies and engine networks need to know of the data plane. */
export interface DataPlaneFacts {
  /** Name of the engine's network driver and IPAM driver: `swarmctl`, or another where several nodes share an engine's machine. */
  readonly driver: string
  /** Where containers with a way out ask for names; those on internal networks only ask their network's gateway. */
  readonly dnsAddress: string
  /** CIDR of the node's own addresses for containers that only go out (EGRESS_NETWORK_ID), its first one the gateway. */
  readonly egressSubnet: string
  readonly egressGateway: string
}

export interface DrainOptions {
  readonly taskId: string
  /** So long no packet may have moved for any of the task's end points. */
  readonly quietMs: number
  readonly maxMs: number
}

export interface DataPlane {
  /**
   * Hands a change on. Resolves when the kernel has it, whatever has to be started or tried again for that. Calls may overlap:
   * they take effect in their order. After each start of swarmd the first one must be complete.
   * @throws {CodedError} DATA_PLANE_UNAVAILABLE where this machine can't have a data plane; DATA_PLANE_CLOSED after `close`
   */
  apply(change: DesiredChange): Promise<void>

  /** @throws {CodedError} DATA_PLANE_UNAVAILABLE with the reason, for the task that needs it; waits for a data plane that starts */
  facts(): Promise<DataPlaneFacts>

  /** What the node tells of its data plane; where there is none, a report that says so in `problems`. */
  report(): Promise<DataPathReport>

  /** Calls `listener` with the first report and each other one after it, until the signal aborts. Never throws. */
  watch(listener: (report: DataPathReport) => void, signal: AbortSignal): Promise<void>

  /** Resolves at once when the task has no connection, else when nothing has moved for `quietMs`, at the latest after `maxMs`. Never throws. */
  drained(options: DrainOptions, signal: AbortSignal): Promise<void>

  /** Tries what can be reached from here. Takes seconds. @throws {CodedError} DATA_PLANE_UNAVAILABLE, DATA_PLANE_DOWN */
  probe(request: ProbeRequest, signal: AbortSignal): Promise<ProbeAnswer>

  /** Keys of encrypted networks are changed, here and by this node's example everywhere. @throws {CodedError} as `probe` */
  rotateKeys(): Promise<void>
}

/** The data plane of a machine that can have none: everything else goes on, tasks on overlay networks are refused with the reason. */
export function reportOf(problem: DataPathProblem): DataPathReport {
  return { port: 0, mtu: 0, encryptionKeys: [], encryptionProblem: problem.message, routes: [], problems: [problem] }
}

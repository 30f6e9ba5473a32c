// What `/swarmd/rebalance` takes and answers. Names as Docker writes its JSON.

import { count, type Decoder, flag, object, texts } from './validation/decode.ts'

export interface RebalanceRequestJson {
  /** Names or ids; none: all */
  readonly Services?: readonly string[]
  /** Names or ids of nodes to move onto; none: any */
  readonly Nodes?: readonly string[]
  /** Also services whose tasks have data on their nodes */
  readonly Volumes?: boolean
  /** Moves at one time in the cluster; absent: as the cluster's setting says */
  readonly AtOnce?: number
  /** Only answer what would be done */
  readonly DryRun?: boolean
}

export const rebalanceRequestDecoder: Decoder<RebalanceRequestJson> = object<RebalanceRequestJson>({
  Services: texts,
  Nodes: texts,
  Volumes: flag,
  AtOnce: count,
  DryRun: flag,
})

export interface RebalancePlanJson {
  readonly Moves: readonly RebalanceMoveJson[]
  /** Services that are left as they are, and why; those that are even already are not among them. */
  readonly Excluded: readonly { readonly ServiceID: string; readonly Service: string; readonly Reason: string }[]
  /** Services that were looked at. */
  readonly Services: number
  readonly AtOnce: number
  /** Ids of the services of which the moves were begun: none for a dry run. */
  readonly Begun: readonly string[]
}

export interface RebalanceMoveJson {
  readonly ServiceID: string
  readonly Service: string
  /** `web.3` */
  readonly Task: string
  readonly TaskID: string
  readonly From: RebalanceNodeJson
  readonly To: RebalanceNodeJson
  readonly Order: 'start-first' | 'stop-first'
  readonly Reason: string
}

export interface RebalanceNodeJson {
  readonly ID: string
  readonly Hostname: string
}

/** Of one service: the run that is under way, or its last one. */
export interface RebalanceStatusJson {
  readonly ServiceID: string
  readonly Service: string
  readonly State: 'running' | 'completed' | 'stopped'
  readonly Cause: string
  /** RFC 3339; EndedAt is empty while it runs. */
  readonly StartedAt: string
  readonly EndedAt: string
  /** Moves that there were to do at the start, those done so far, and those that are under way. */
  readonly Planned: number
  readonly Done: number
  readonly UnderWay: readonly {
    readonly Task: string
    readonly TaskID: string
    readonly From: RebalanceNodeJson
    readonly To: RebalanceNodeJson
    /** What it waits for. */
    readonly Stage: 'starting' | 'stopping' | 'watching'
  }[]
  /** Why it was stopped, or what it waits for. */
  readonly Message: string
}

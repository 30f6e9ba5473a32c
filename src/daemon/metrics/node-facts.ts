// What metrics, the readiness check and support bundles are made of: where this node stands, asked anew each time. None of it
// costs anything while nobody asks.

import type { Histogram } from '../../lib/histogram.ts'
import type { ManagerMetrics } from '../../manager/manager.ts'
import type { DataPlaneStatistics } from '../../overlay/client.ts'
import type { RaftNodeStatus } from '../../raft/raft-node-types.ts'
import type { CleanUpCounts } from '../../worker/docker/clean-up.ts'
import type { ClusterState } from '../api/cluster-access.ts'
import type { DiskState } from '../disk/disk-watch.ts'

/** What a member of a cluster knows of itself. */
export interface MembershipFacts {
  readonly nodeId: string
  readonly clusterId: string
  /** Wall time. */
  readonly certificateExpiresMs: number
  /** A leader has this node's session. */
  readonly hasSession: boolean
  /** From sending a heartbeat to its answer. */
  readonly heartbeats: Histogram
  /** What the clean-up has removed from the engine. */
  readonly cleanedUp: CleanUpCounts
  readonly manager:
    | {
        readonly metrics: ManagerMetrics
        /** undefined while it recovers */
        readonly raft: RaftNodeStatus | undefined
      }
    | undefined
}

export interface NodeFacts {
  readonly state: ClusterState
  /** undefined: in no cluster */
  readonly membership: MembershipFacts | undefined
  /** API reads that made sure of seeing every acknowledged write. */
  readonly reads: Histogram
}

/** Why something does not answer, or that it does. */
export type Answering<T> =
  | { readonly kind: 'up'; readonly value: T }
  | { readonly kind: 'down'; readonly reason: string }

/** All that one look at this node shows. */
export interface Sample extends NodeFacts {
  readonly wallMs: number
  readonly engine: Answering<{ readonly version: string }>
  readonly dataPlane: Answering<DataPlaneStatistics>
  /** As it was looked at last, a few seconds ago. */
  readonly disk: DiskState
  readonly diskBytes: { readonly free: number; readonly size: number }
}

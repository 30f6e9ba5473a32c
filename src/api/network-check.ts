// `swarmctl network check`: what managers ask nodes to try, and what those say. A node tries from where packets start: its own
// host, the fabric (node to node), and a container of each network.

import type { ManagerAddress } from './dispatcher.ts'

export interface ProbeRequest {
  /** Ids; empty: all networks that the node has containers on. */
  readonly networkIds: readonly string[]
  readonly managers: readonly ManagerAddress[]
}

/** What came of it, from best to worst. */
export type ProbeState =
  /** something listens there */
  | 'open'
  /** it answers that nothing does, as the probes of networks are answered */
  | 'refused'
  /** a node on the way says that it can't be reached */
  | 'unreachable'
  | 'silent'

export interface ProbeResult {
  /**
   * host: the other machine by its data path address; control: a manager's control port; network: from a container to one on
   * the other node, and on the gateway network from node to node
   */
  readonly kind: 'host' | 'control' | 'network'
  /** empty but for `network` */
  readonly networkId: string
  /** node id */
  readonly to: string
  /** What was tried: an IP address, for `control` with its port. */
  readonly address: string
  readonly state: ProbeState
  readonly sent: number
  readonly answered: number
  /** Median in milliseconds; 0 without an answer. */
  readonly roundTripMs: number
  /** Packets of this size were tried; 0: none were. */
  readonly mtu: number
  readonly mtuPasses: boolean
}

export interface ProbeAnswer {
  readonly results: readonly ProbeResult[]
}

// What the API answers, with names as Docker writes them.

export interface NetworkCheckJson {
  readonly Nodes: readonly {
    readonly ID: string
    readonly Hostname: string
    /** Why nothing was tried from there; empty: it was */
    readonly Error: string
  }[]
  readonly Probes: readonly NetworkProbeJson[]
  /** What does not work and what to do about it, for people; empty: all is well. */
  readonly Problems: readonly string[]
}

export interface NetworkProbeJson {
  readonly NetworkID: string
  readonly Network: string
  /** Hostnames */
  readonly From: string
  readonly To: string
  readonly Address: string
  /** ok, loss, mtu or unreachable */
  readonly State: string
  readonly Sent: number
  readonly Answered: number
  readonly RoundTripMs: number
  readonly MTU: number
  readonly MTUPasses: boolean
}

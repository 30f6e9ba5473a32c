// What a worker and its manager say to each other on a `/session` connection. Every frame is encode([PROTOCOL_VERSION,
// message]). The worker opens the connection, sends `hello` and then `status` and `heartbeat`; the manager answers
// `welcome` or `redirect`, then one `assignments` COMPLETE and increments.

import type { CleanUpSettings, TaskSocketKind } from './cluster-settings.ts'
import type { DataPathReport, DataPlaneRecord } from './data-plane.ts'
import type { ProbeRequest } from './network-check.ts'
import type { Config, Network, Secret, Task, TaskStatus } from './objects.ts'
import type { NodeDescription } from './spec.ts'

export const DISPATCHER_PROTOCOL_VERSION = 1

/** Workers from this level on have a data plane: they know its records, and say `data-path` and `programmed`. */
export const DATA_PLANE_FEATURE_LEVEL = 2

/** What a worker is given. Secrets' payloads are kept in memory only. */
export type Assigned =
  | { readonly kind: 'task'; readonly task: Task }
  | { readonly kind: 'secret'; readonly secret: Secret }
  | { readonly kind: 'config'; readonly config: Config }
  | { readonly kind: 'network'; readonly network: Network }
  /** registry credentials of the service, in memory only */
  | { readonly kind: 'registry-auth'; readonly serviceId: string; readonly auth: string }
  /** for the data plane, sent to workers of feature level DATA_PLANE_FEATURE_LEVEL and above */
  | DataPlaneRecord

export type AssignedKind = Assigned['kind']

export interface AssignedKey {
  readonly kind: AssignedKind
  /**
   * id of the object (of the service for registry-auth); of a DataPlaneRecord as dataPlaneKey says. A secret that a driver gave a task:
   * `secret.task`, with its value and without the driver.
   */
  readonly id: string
}

/** What a plain container (`docker run --network`) asks of an attachable network. */
export interface AttachmentRequest {
  /** id or name */
  readonly network: string
  /** as it resolves on the network */
  readonly containerName: string
  readonly aliases: readonly string[]
  /** asked for by the user, one of a family at most; empty: any */
  readonly addresses: readonly string[]
}

export type AttachmentAnswer =
  | {
      readonly kind: 'attached'
      readonly attachmentId: string
      readonly network: Network
      /** CIDRs, one of each family of the network */
      readonly addresses: readonly string[]
    }
  | { readonly kind: 'detached' }
  /** The message is for the user, in Docker's words where it has some. */
  | { readonly kind: 'refused'; readonly code: string; readonly message: string }

export interface ManagerAddress {
  readonly nodeId: string
  /** host:port of the control port */
  readonly address: string
}

export type WorkerMessage =
  | {
      readonly kind: 'hello'
      readonly description: NodeDescription
      /** the worker's own idea of its reachable address; empty: the manager takes what it sees */
      readonly address: string
      readonly dataPathAddress: string
      /** the session the worker held before, if any: lets a returning agent keep its lease */
      readonly previousSessionId: string
      readonly featureLevel: number
      /** absent in what older workers send, and until the data plane is up (then `data-path` follows) */
      readonly dataPath?: DataPathReport
    }
  /** The node's data plane has something new to tell. */
  | { readonly kind: 'data-path'; readonly report: DataPathReport }
  | { readonly kind: 'heartbeat'; readonly sequence: number }
  /** Observed states, newest per task; at most 500 a message. The manager acknowledges after its entry is committed. */
  | {
      readonly kind: 'status'
      readonly sequence: number
      readonly updates: readonly { readonly taskId: string; readonly status: TaskStatus }[]
    }
  /** The node's description changed (labels, resources, engine version). */
  | { readonly kind: 'describe'; readonly description: NodeDescription }
  /** A planned stop: the lease is kept for `graceMs` (60 s at most) without moving anything. */
  | { readonly kind: 'goodbye'; readonly graceMs: number }
  /** Assignments with this sequence were applied (written to the worker's disk). */
  | { readonly kind: 'applied'; readonly sequence: number }
  /** The kernel's tables say what the assignments up to this sequence say. */
  | { readonly kind: 'programmed'; readonly sequence: number }
  /** Answered by `attachment`. The container's place is a task of this node, assigned to it, until `detach`. */
  | { readonly kind: 'attach'; readonly requestId: string; readonly request: AttachmentRequest }
  | { readonly kind: 'detach'; readonly requestId: string; readonly attachmentId: string }
  /** A gap or a malformed increment was seen: send a COMPLETE set again. */
  | { readonly kind: 'resync' }

export type ManagerMessage =
  | {
      readonly kind: 'welcome'
      readonly sessionId: string
      readonly heartbeatMs: number
      /** silence of the manager after which the worker looks for another */
      readonly silenceMs: number
      readonly managers: readonly ManagerAddress[]
      /** what this manager knows of messages; absent in what older managers send: 1 */
      readonly featureLevel?: number
    }
  /** I am not the leader: go there (empty address: unknown, try another after a moment). */
  | {
      readonly kind: 'redirect'
      readonly leader: ManagerAddress | undefined
      readonly managers: readonly ManagerAddress[]
    }
  | { readonly kind: 'heartbeat-ack'; readonly sequence: number }
  | { readonly kind: 'status-ack'; readonly sequence: number }
  | {
      readonly kind: 'assignments'
      /** COMPLETE replaces everything, INCREMENTAL changes it */
      readonly complete: boolean
      /** the set goes on in the next message: nothing is acted on before the last part (more = false) is there */
      readonly more: boolean
      /** increments of 1 from the last message; the first COMPLETE of a session is 1 */
      readonly sequence: number
      readonly set: readonly Assigned[]
      readonly removed: readonly AssignedKey[]
    }
  /** Every live node that knew the end points of these tasks, which are to stop, has `programmed` that nothing new goes there. */
  | { readonly kind: 'withdrawn'; readonly taskIds: readonly string[] }
  | { readonly kind: 'attachment'; readonly requestId: string; readonly answer: AttachmentAnswer }
  /**
   * Dial this manager's `/bulk`, or that of the `manager` that is named, and serve the stream (see StreamFrame). Unknown requests are
   * answered with an error frame.
   */
  | {
      readonly kind: 'open-stream'
      readonly streamId: string
      readonly request: StreamRequest
      readonly manager?: ManagerAddress
    }
  /** The managers, the cluster's settings or this node's role, availability or labels changed. */
  | {
      readonly kind: 'cluster'
      readonly managers: readonly ManagerAddress[]
      readonly role: 'worker' | 'manager'
      readonly availability: 'active' | 'pause' | 'drain'
      readonly nodeLabels: Readonly<Record<string, string>>
      readonly rootDigest: string
      /** Digests of the root that signs now and of those to trust; absent in what older managers send. */
      readonly trust?: { readonly issuer: string; readonly roots: readonly string[] }
      /** absent in what older managers send: `swarmd` */
      readonly taskSocket?: TaskSocketKind
      /** absent in what older managers send: nothing is removed */
      readonly cleanUp?: CleanUpSettings
      /** UDP port of plain VXLANs by default; absent in what older managers send */
      readonly dataPathPort?: number
    }

/** Close codes of a session (WebSocket's private range). */
export const SESSION_CLOSE = {
  /** this manager lost the leadership: ask again */
  leadershipLost: 4001,
  /** another session of the same node replaced this one */
  replaced: 4002,
  /** the node was removed from the cluster, or its role changed */
  removed: 4003,
  /** protocol error: details in the reason */
  malformed: 4004,
  /** heartbeat missed */
  expired: 4005,
} as const

export interface LogOptions {
  readonly follow: boolean
  /** last lines; undefined: all */
  readonly tail: number | undefined
  /** seconds since 1970, as the engine takes them ('' none) */
  readonly since: string
  readonly until: string
  readonly stdout: boolean
  readonly stderr: boolean
}

export type StreamRequest =
  | { readonly kind: 'task-logs'; readonly taskId: string; readonly options: LogOptions }
  /** answered by a ProbeAnswer in JSON */
  | { readonly kind: 'probe'; readonly request: ProbeRequest }
  /** The node's own Docker API, as a connection to its socket: bytes go both ways, each against the other's credit (see Tunnel). */
  | { readonly kind: 'tunnel' }

/**
 * Frames on a `/bulk` connection, each encode([DISPATCHER_PROTOCOL_VERSION, frame]). The worker's first is `open`. It sends
 * data only against credit, so that a slow reader never fills a manager's memory; either side may end it.
 */
export type StreamFrame =
  | { readonly kind: 'open'; readonly streamId: string }
  /** manager → worker: so many more bytes may be sent (the first grant is part of the manager's answer to `open`) */
  | { readonly kind: 'credit'; readonly bytes: number }
  /** for logs: the engine's multiplexed stream with timestamps, or, of a tty, raw lines wrapped as stdout frames */
  | { readonly kind: 'data'; readonly data: Uint8Array }
  | { readonly kind: 'end' }
  | { readonly kind: 'error'; readonly code: string; readonly message: string }

export const STREAM_CREDIT_BYTES = 256 * 1024

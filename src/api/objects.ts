// The objects of the replicated store. Objects are immutable: a change replaces the whole object. `spec` is what the
// user asked and only the API writes it; everything else is written by managers (and, where said, on a worker's report).

import type { DataPathReport } from './data-plane.ts'
import type {
  ConfigSpec,
  Driver,
  EndpointSpec,
  GenericResource,
  Labels,
  NetworkSpec,
  NodeDescription,
  NodeSpec,
  NodeState,
  PortConfig,
  SecretSpec,
  ServiceSpec,
  SwarmSpec,
  TaskSpec,
  TaskState,
  UpdateStatus,
} from './spec.ts'

export interface Meta {
  /** Raft index of the entry that last wrote the object: Docker's `Version.Index`; 0 in a proposal not yet applied. */
  readonly version: number
  /** RFC 3339, chosen by the proposer. */
  readonly createdAt: string
  readonly updatedAt: string
}

interface Base {
  readonly id: string
  readonly meta: Meta
}

export interface RootCa {
  readonly certPem: string
  /** PKCS#8; empty where an external CA signs. The store's log and snapshots are encrypted at rest. */
  readonly keyPem: string
  /** sha256 of `certPem` (the text, as Swarm has it), in base 36 padded to 50, as join tokens carry it. */
  readonly digest: string
  readonly joinTokens: { readonly worker: string; readonly manager: string }
  /** The root that is taking this one's place: it signs already, and nodes trust both. Absent: none is. */
  readonly rotation?: RootRotation | undefined
  /** `CAConfig.ForceRotate` of the last rotation that was asked for; absent: 0. */
  readonly lastForcedRotation?: number | undefined
}

export interface RootRotation {
  readonly certPem: string
  /** As `RootCa.keyPem`. */
  readonly keyPem: string
  /** The new root signed by the old one: an intermediate that goes with each certificate meanwhile. */
  readonly crossSignedPem: string
}

export interface Cluster extends Base {
  readonly kind: 'cluster'
  readonly spec: SwarmSpec
  readonly rootCa: RootCa
  readonly defaultAddressPools: readonly string[]
  readonly subnetSize: number
  readonly dataPathPort: number
  /** What `apply` may do: the lowest level that all managers support (architecture, principle 6). */
  readonly featureLevel: number
  /** base64; the key-encryption key that `unlock` asks for, when autolock is on. */
  readonly unlockKey: string
}

export interface Node extends Base {
  readonly kind: 'node'
  readonly spec: NodeSpec
  /** The role that its certificate gives it now; `spec.Role` is the wished one. */
  readonly role: 'worker' | 'manager'
  /** Reported by the worker at registration and when it changes. */
  readonly description: NodeDescription
  readonly status: {
    readonly state: NodeState
    readonly message: string
    /** IP address as other nodes see it. */
    readonly address: string
  }
  /** Present while the node takes part in consensus. */
  readonly manager:
    | {
        readonly raftId: string
        /** host:port of the control port */
        readonly address: string
        readonly featureLevel: number
      }
    | undefined
  /** 1–4094, unique: the number of the node's block of gateway addresses. */
  readonly number: number
  /** VTEP address; empty: same as status.address. */
  readonly dataPathAddress: string
  /** What the node's data plane reports; absent until it has. */
  readonly dataPath?: DataPathReport
  /** When the node was last seen going down (RFC 3339), for orphaning; empty while it is up. */
  readonly downSince: string
  /** `absent` while it takes no tasks; then when tasks are to be moved onto it (RFC 3339). Where the cluster wants that. */
  readonly rebalanceDue?: string
}

export interface VirtualIp {
  readonly networkId: string
  /** CIDR, as Docker shows it. */
  readonly address: string
}

export interface Endpoint {
  readonly spec: EndpointSpec
  /** Ports with published ones filled in by the allocator. */
  readonly ports: readonly PortConfig[]
  readonly virtualIps: readonly VirtualIp[]
}

export interface Service extends Base {
  readonly kind: 'service'
  readonly spec: ServiceSpec
  /** Index of the last change of the spec: what `Task.specVersion` is compared with. A proposal that changes the spec writes 0, and `apply` fills in its index. */
  readonly specVersion: number
  readonly previousSpec: ServiceSpec | undefined
  readonly previousSpecVersion: number | undefined
  /** undefined until the allocator has seen the service. */
  readonly endpoint: Endpoint | undefined
  readonly updateStatus: UpdateStatus | undefined
  readonly jobStatus: { readonly iteration: number; readonly lastExecution: string } | undefined
  /** Progress of the update that must survive an election; written by the updater only. */
  readonly updateProgress: UpdateProgress | undefined
  /** base64 X-Registry-Auth for pulls; never shown, never in a worker's durable state. */
  readonly registryAuth: string
  readonly previousRegistryAuth: string
  /** What the managers could not do for the service, for people; absent while all is well. */
  readonly problem?: ServiceProblem
  /** The rebalancing of its tasks that is under way, or the last one. */
  readonly rebalance?: Rebalance
}

/** Tasks of a service are moved to other nodes until they are spread evenly, a few at a time. */
export interface Rebalance {
  /** Names the run: the tasks that it makes carry it in `origin.rebalanceId`. */
  readonly id: string
  readonly state: 'running' | 'completed' | 'stopped'
  /** Who wanted it, for people */
  readonly cause: string
  /** RFC 3339; `endedAt` is empty while it runs, `steppedAt` is when its last move was begun. */
  readonly startedAt: string
  readonly steppedAt: string
  readonly endedAt: string
  /** Since when something of the service keeps it from its next move (RFC 3339); empty: nothing does */
  readonly waitsSince: string
  /** It begins no move while so many are under way in the whole cluster. */
  readonly atOnce: number
  /** Ids of the nodes that tasks are moved onto; empty: any */
  readonly onto: readonly string[]
  /** Also tasks that have data on their nodes, which stay behind */
  readonly volumes: boolean
  /** Moves that there were to do at the start, and those begun since */
  readonly planned: number
  readonly begun: number
  /** Why it was stopped, for people */
  readonly message: string
}

export interface ServiceProblem {
  /** the loop that found it, and takes it away once it is solved */
  readonly source: string
  readonly code: string
  readonly message: string
  /** RFC 3339 */
  readonly since: string
}

export interface UpdateProgress {
  /** Names this run of the updater; the tasks that it makes carry it in `origin.updateId`. */
  readonly id?: string
  readonly specVersion: number
  /** Ids of tasks made by this update that have failed, each counted once. */
  readonly failedTaskIds: readonly string[]
  readonly totalSlots: number
  /** When the last slot was done (RFC 3339): start of the last monitor period; empty before. */
  readonly lastSlotDoneAt: string
}

export interface ContainerStatus {
  readonly ContainerID?: string
  readonly PID?: number
  readonly ExitCode?: number
}

export interface PortStatus {
  readonly Ports?: readonly PortConfig[]
}

export interface TaskStatus {
  readonly state: TaskState
  /** RFC 3339 */
  readonly timestamp: string
  readonly message: string
  readonly error: string
  readonly container: ContainerStatus | undefined
  /** Host-mode ports as the engine bound them. */
  readonly ports: readonly PortConfig[]
}

export interface Attachment {
  readonly networkId: string
  /** CIDR addresses (IPv4, then IPv6 if any). */
  readonly addresses: readonly string[]
  readonly aliases: readonly string[]
}

/**
 * One attempt to run a container. Two halves with two writers: managers write everything but `status`; `status` is
 * merged by rule: it only rises (in rank; equal rank with a later timestamp refreshes message and container).
 */
export interface Task extends Base {
  readonly kind: 'task'
  readonly spec: TaskSpec
  /** The service's `specVersion` this task was made from. */
  readonly specVersion: number
  readonly serviceId: string
  /** Copies, so that a worker and an orphaned task know them. */
  readonly serviceName: string
  readonly serviceLabels: Labels
  /** 1… for replicated services, 0 for global ones. */
  readonly slot: number
  readonly nodeId: string
  readonly desiredState: TaskState
  readonly status: TaskStatus
  /** Index of the last write of `status`; `meta.version` is that of the managers' half. Docker shows the higher one. */
  readonly statusVersion: number
  readonly endpoint: Endpoint | undefined
  readonly attachments: readonly Attachment[]
  readonly genericResources: readonly GenericResource[]
  readonly jobIteration: number | undefined
  /** The restart supervisor lets the task go on to RUNNING at this time (RFC 3339); empty: at once. */
  readonly startAfter: string
  /**
   * So many tasks before it in its slot failed in a row, each within a minute of running: the restart delay grows with it. Absent
   * is 0, which it becomes again when the task has run for a minute.
   */
  readonly failures?: number
  /** Why the task was made. */
  readonly origin?: TaskOrigin
  /** When the leader saw a task of an update RUNNING or ended (RFC 3339): its delay and its monitor count from here. */
  readonly settledAt?: string
  /** The cluster's default log driver at the task's making, where its spec names none. */
  readonly logDriver?: Driver
  /** What the scheduler chose from, for people; absent where the node was given. Written with the assignment. */
  readonly placement?: TaskPlacement
}

/** How the scheduler came to a task's node: what can't be found out later, when the nodes have changed. */
export interface TaskPlacement {
  /** RFC 3339 */
  readonly at: string
  /** Nodes that were considered, and those of them that would have done. */
  readonly nodes: number
  readonly fit: number
  /** Which filters refused the others, in Swarm's words; at most 100 characters. */
  readonly refused?: string
  /** Tasks of the service that the chosen node had. */
  readonly there: number
}

/** Why managers made a task. `restart` counts as an attempt of the restart policy. */
export interface TaskOrigin {
  readonly kind: 'replica' | 'node' | 'job' | 'restart' | 'update' | 'move'
  /** The task that it takes over from. */
  readonly predecessorId?: string
  /** The run of the updater that made it, or made the task that it took over from before that had settled. */
  readonly updateId?: string
  /** The rebalancing that made it, to take its predecessor's place on another node. */
  readonly rebalanceId?: string
  /** For people; at most 200 characters. */
  readonly detail?: string
}

export interface Network extends Base {
  readonly kind: 'network'
  readonly spec: NetworkSpec
  /** Driver state as allocated: VNI, subnets; undefined until allocated. */
  readonly allocated:
    | {
        readonly vni: number
        readonly subnets: readonly AllocatedSubnet[]
      }
    | undefined
}

export interface AllocatedSubnet {
  /** CIDR with its host bits zero, of either family. */
  readonly subnet: string
  readonly gateway: string
  /** CIDR that addresses are given from; empty: the whole subnet. */
  readonly ipRange: string
  /** Addresses that are given to nobody, by the user's names for them. */
  readonly auxiliary?: Labels
}

export interface Secret extends Base {
  readonly kind: 'secret'
  readonly spec: SecretSpec
}

export interface Config extends Base {
  readonly kind: 'config'
  readonly spec: ConfigSpec
}

export interface ObjectsByKind {
  readonly cluster: Cluster
  readonly node: Node
  readonly service: Service
  readonly task: Task
  readonly network: Network
  readonly secret: Secret
  readonly config: Config
}

export type ObjectKind = keyof ObjectsByKind
export type StoreObject = ObjectsByKind[ObjectKind]

/** `service.slot.taskid` or, for global services, `service.nodeid.taskid`: the container's name and the task's. */
export function taskName(task: Pick<Task, 'id' | 'serviceName' | 'slot' | 'nodeId'>): string {
  return `${task.serviceName}.${task.slot > 0 ? task.slot : task.nodeId}.${task.id}`
}

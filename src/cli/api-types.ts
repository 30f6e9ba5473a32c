// The Engine API's answers, as far as swarmctl reads them.

import type {
  EndpointSpec,
  Labels,
  NodeDescription,
  NodeSpec,
  NodeState,
  PortConfig,
  SecretSpec,
  ServiceSpec,
  SwarmSpec,
  TaskSpec,
  TaskState,
  TlsInfo,
  UpdateStatus,
} from '../api/spec.ts'

interface ObjectJson {
  readonly ID: string
  readonly Version?: { readonly Index?: number }
  readonly CreatedAt?: string
  readonly UpdatedAt?: string
}

export interface ServiceJson extends ObjectJson {
  readonly Spec: ServiceSpec
  readonly PreviousSpec?: ServiceSpec
  readonly Endpoint?: {
    readonly Spec?: EndpointSpec
    readonly Ports?: readonly PortConfig[] | null
    readonly VirtualIPs?: readonly { readonly NetworkID?: string; readonly Addr?: string }[]
  }
  readonly UpdateStatus?: UpdateStatus
  readonly ServiceStatus?: {
    readonly RunningTasks?: number
    readonly DesiredTasks?: number
    readonly CompletedTasks?: number
  }
  /** swarmd's own: see ServiceProblem in the API. */
  readonly Problem?: { readonly Code: string; readonly Message: string; readonly Since?: string }
  readonly JobStatus?: { readonly JobIteration?: { readonly Index?: number }; readonly LastExecution?: string }
}

export interface TaskJson extends ObjectJson {
  readonly Spec?: TaskSpec
  readonly ServiceID?: string
  readonly Slot?: number
  readonly NodeID?: string
  readonly DesiredState: TaskState
  readonly Status: {
    readonly Timestamp?: string
    readonly State: TaskState
    readonly Message?: string
    readonly Err?: string
    readonly PortStatus?: { readonly Ports?: readonly PortConfig[] | null }
  }
  readonly JobIteration?: { readonly Index?: number }
}

export interface NodeJson extends ObjectJson {
  readonly Spec: NodeSpec
  readonly Description?: NodeDescription
  readonly Status?: { readonly State?: NodeState; readonly Message?: string; readonly Addr?: string }
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability?: string; readonly Addr?: string }
}

/** A secret or a config; only a config's answer carries `Spec.Data`. */
export interface SecretJson extends ObjectJson {
  readonly Spec: SecretSpec
}

export interface SwarmJson extends ObjectJson {
  readonly Spec: SwarmSpec
  readonly TLSInfo?: TlsInfo
  readonly JoinTokens: { readonly Worker: string; readonly Manager: string }
}

export interface NetworkJson {
  readonly Id: string
  readonly Name: string
  readonly Driver: string
  readonly Scope: string
  readonly Created?: string
  readonly EnableIPv4?: boolean
  readonly EnableIPv6?: boolean
  readonly Internal?: boolean
  readonly Ingress?: boolean
  readonly Labels?: Labels | null
}

export interface InfoJson {
  readonly Swarm?: {
    readonly NodeID?: string
    readonly NodeAddr?: string
    readonly LocalNodeState?: string
    readonly ControlAvailable?: boolean
    readonly Error?: string
    readonly RemoteManagers?: readonly { readonly NodeID: string; readonly Addr: string }[] | null
    readonly Nodes?: number
    readonly Managers?: number
    readonly Cluster?: {
      readonly ID: string
      readonly Spec: SwarmSpec
      readonly TLSInfo?: TlsInfo
      readonly RootRotationInProgress?: boolean
      readonly DefaultAddrPool?: readonly string[] | null
      readonly SubnetSize?: number
      readonly DataPathPort?: number
    } | null
  }
}

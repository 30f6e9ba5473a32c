// Docker's own JSON shapes, as the Engine API names them (Swarm paths, v1.51). Specs are stored exactly as the user
// sent them: these types are the contract with every Docker client, so names are Docker's, durations are nanoseconds,
// memory is bytes and CPU is nano-CPUs. Go omits empty fields and sends null for nil: readers treat both as absent.

import type { DiskPressure } from './disk-pressure.ts'

export type Labels = Readonly<Record<string, string>>

export interface Annotations {
  readonly Name?: string
  readonly Labels?: Labels
}

export interface Driver {
  readonly Name?: string
  readonly Options?: Labels
}

// ---- containers ----

export interface MountSpec {
  readonly Type?: 'bind' | 'volume' | 'tmpfs' | 'npipe' | 'cluster' | 'image'
  readonly Source?: string
  readonly Target?: string
  readonly ReadOnly?: boolean
  readonly Consistency?: string
  readonly BindOptions?: {
    readonly Propagation?: string
    readonly NonRecursive?: boolean
    readonly CreateMountpoint?: boolean
    readonly ReadOnlyNonRecursive?: boolean
    readonly ReadOnlyForceRecursive?: boolean
  }
  readonly VolumeOptions?: {
    readonly NoCopy?: boolean
    readonly Labels?: Labels
    readonly DriverConfig?: Driver
    readonly Subpath?: string
  }
  readonly ImageOptions?: { readonly Subpath?: string }
  readonly TmpfsOptions?: {
    readonly SizeBytes?: number
    readonly Mode?: number
    readonly Options?: readonly (readonly string[])[]
  }
  readonly ClusterOptions?: Readonly<Record<string, never>>
}

export interface HealthConfig {
  /** [] inherit, ['NONE'] disable, ['CMD', …] exec, ['CMD-SHELL', command] */
  readonly Test?: readonly string[]
  readonly Interval?: number
  readonly Timeout?: number
  readonly Retries?: number
  readonly StartPeriod?: number
  readonly StartInterval?: number
}

export interface FileTarget {
  readonly Name?: string
  readonly UID?: string
  readonly GID?: string
  readonly Mode?: number
}

export interface SecretReference {
  readonly File?: FileTarget
  readonly SecretID?: string
  readonly SecretName?: string
}

export interface ConfigReference {
  readonly File?: FileTarget
  readonly Runtime?: Readonly<Record<string, never>>
  readonly ConfigID?: string
  readonly ConfigName?: string
}

export interface Privileges {
  readonly CredentialSpec?: { readonly Config?: string; readonly File?: string; readonly Registry?: string }
  readonly SELinuxContext?: {
    readonly Disable?: boolean
    readonly User?: string
    readonly Role?: string
    readonly Type?: string
    readonly Level?: string
  }
  readonly Seccomp?: { readonly Mode?: 'default' | 'unconfined' | 'custom'; readonly Profile?: string }
  readonly AppArmor?: { readonly Mode?: 'default' | 'disabled' }
  readonly NoNewPrivileges?: boolean
}

export interface ContainerSpec {
  readonly Image?: string
  readonly Labels?: Labels
  readonly Command?: readonly string[]
  readonly Args?: readonly string[]
  readonly Hostname?: string
  readonly Env?: readonly string[]
  readonly Dir?: string
  readonly User?: string
  readonly Groups?: readonly string[]
  readonly Privileges?: Privileges
  readonly TTY?: boolean
  readonly OpenStdin?: boolean
  readonly ReadOnly?: boolean
  readonly Mounts?: readonly MountSpec[]
  readonly StopSignal?: string
  readonly StopGracePeriod?: number
  readonly Healthcheck?: HealthConfig
  /** `IP-address hostname…` as in /etc/hosts */
  readonly Hosts?: readonly string[]
  readonly DNSConfig?: {
    readonly Nameservers?: readonly string[]
    readonly Search?: readonly string[]
    readonly Options?: readonly string[]
  }
  readonly Secrets?: readonly SecretReference[]
  readonly Configs?: readonly ConfigReference[]
  readonly Isolation?: string
  readonly Init?: boolean
  readonly Sysctls?: Labels
  readonly CapabilityAdd?: readonly string[]
  readonly CapabilityDrop?: readonly string[]
  readonly Ulimits?: readonly { readonly Name?: string; readonly Soft?: number; readonly Hard?: number }[]
  readonly OomScoreAdj?: number
}

// ---- tasks ----

export interface GenericResource {
  readonly NamedResourceSpec?: { readonly Kind?: string; readonly Value?: string }
  readonly DiscreteResourceSpec?: { readonly Kind?: string; readonly Value?: number }
}

export interface Resources {
  readonly NanoCPUs?: number
  readonly MemoryBytes?: number
  readonly GenericResources?: readonly GenericResource[]
}

export interface ResourceRequirements {
  readonly Limits?: Resources & { readonly Pids?: number }
  readonly Reservations?: Resources
  readonly SwapBytes?: number
  readonly MemorySwappiness?: number
}

export interface RestartPolicy {
  readonly Condition?: 'none' | 'on-failure' | 'any'
  readonly Delay?: number
  readonly MaxAttempts?: number
  readonly Window?: number
}

export interface Platform {
  readonly Architecture?: string
  readonly OS?: string
}

export interface Placement {
  readonly Constraints?: readonly string[]
  readonly Preferences?: readonly { readonly Spread?: { readonly SpreadDescriptor?: string } }[]
  readonly MaxReplicas?: number
  readonly Platforms?: readonly Platform[]
}

export interface NetworkAttachmentConfig {
  /** id or name of a network */
  readonly Target?: string
  readonly Aliases?: readonly string[]
  /** Of a plain container: asked for by its user. */
  readonly Addresses?: readonly string[]
  readonly DriverOpts?: Labels
}

export interface TaskSpec {
  readonly ContainerSpec?: ContainerSpec
  readonly PluginSpec?: Readonly<Record<string, unknown>>
  /** A place of a plain container on a network: there is no service, and no container that swarmd runs. Its name or id. */
  readonly NetworkAttachmentSpec?: { readonly ContainerID?: string }
  readonly Resources?: ResourceRequirements
  readonly RestartPolicy?: RestartPolicy
  readonly Placement?: Placement
  readonly Networks?: readonly NetworkAttachmentConfig[]
  readonly LogDriver?: Driver
  readonly ForceUpdate?: number
  readonly Runtime?: string
}

export const TASK_STATES = {
  new: 0,
  pending: 64,
  assigned: 192,
  accepted: 256,
  preparing: 320,
  ready: 384,
  starting: 448,
  running: 512,
  complete: 576,
  shutdown: 640,
  failed: 704,
  rejected: 768,
  remove: 800,
  orphaned: 832,
} as const

/** A task's state under Docker's name; TASK_STATES gives its rank. */
export type TaskState = keyof typeof TASK_STATES

/** Rank of `a` minus rank of `b`. */
export function compareTaskStates(a: TaskState, b: TaskState): number {
  return TASK_STATES[a] - TASK_STATES[b]
}

/**
 * A task that is to be in this state may start and go on: RUNNING and what comes before, and COMPLETE, which the tasks of jobs are to
 * become.
 */
export function isToRun(desired: TaskState): boolean {
  return TASK_STATES[desired] <= TASK_STATES.complete
}

/** The task has ended for good: complete, shutdown, failed, rejected, remove or orphaned. */
export function isTerminal(state: TaskState): boolean {
  return TASK_STATES[state] > TASK_STATES.running
}

// ---- services ----

export interface UpdateConfig {
  readonly Parallelism?: number
  readonly Delay?: number
  readonly FailureAction?: 'pause' | 'continue' | 'rollback'
  readonly Monitor?: number
  readonly MaxFailureRatio?: number
  readonly Order?: 'stop-first' | 'start-first'
}

export interface ServiceMode {
  readonly Replicated?: { readonly Replicas?: number }
  readonly Global?: Readonly<Record<string, never>>
  readonly ReplicatedJob?: { readonly MaxConcurrent?: number; readonly TotalCompletions?: number }
  readonly GlobalJob?: Readonly<Record<string, never>>
}

export interface PortConfig {
  readonly Name?: string
  readonly Protocol?: 'tcp' | 'udp' | 'sctp'
  readonly TargetPort?: number
  readonly PublishedPort?: number
  readonly PublishMode?: 'ingress' | 'host'
}

export interface EndpointSpec {
  readonly Mode?: 'vip' | 'dnsrr'
  readonly Ports?: readonly PortConfig[]
}

export interface ServiceSpec extends Annotations {
  readonly TaskTemplate?: TaskSpec
  readonly Mode?: ServiceMode
  readonly UpdateConfig?: UpdateConfig
  readonly RollbackConfig?: UpdateConfig
  /** deprecated place of TaskTemplate.Networks */
  readonly Networks?: readonly NetworkAttachmentConfig[]
  readonly EndpointSpec?: EndpointSpec
}

export type UpdateState =
  | 'updating'
  | 'paused'
  | 'completed'
  | 'rollback_started'
  | 'rollback_paused'
  | 'rollback_completed'

export interface UpdateStatus {
  readonly State?: UpdateState
  readonly StartedAt?: string
  readonly CompletedAt?: string
  readonly Message?: string
}

// ---- nodes, cluster ----

export interface NodeSpec extends Annotations {
  readonly Role?: 'worker' | 'manager'
  readonly Availability?: 'active' | 'pause' | 'drain'
}

export interface NodeDescription {
  readonly Hostname?: string
  readonly Platform?: Platform
  readonly Resources?: Resources
  readonly Engine?: {
    readonly EngineVersion?: string
    readonly Labels?: Labels
    readonly Plugins?: readonly { readonly Type?: string; readonly Name?: string }[]
  }
  readonly TLSInfo?: TlsInfo
  /** Disks of the node on which little is left; absent while there are none. */
  readonly DiskPressure?: readonly DiskPressure[]
}

export interface TlsInfo {
  readonly TrustRoot?: string
  /** base64 of DER */
  readonly CertIssuerSubject?: string
  readonly CertIssuerPublicKey?: string
}

export type NodeState = 'unknown' | 'down' | 'ready' | 'disconnected'

export interface ExternalCa {
  readonly Protocol?: 'cfssl'
  readonly URL?: string
  readonly Options?: Labels
  readonly CACert?: string
}

export interface SwarmSpec extends Annotations {
  readonly Orchestration?: { readonly TaskHistoryRetentionLimit?: number }
  readonly Raft?: {
    readonly SnapshotInterval?: number
    readonly KeepOldSnapshots?: number
    readonly LogEntriesForSlowFollowers?: number
    readonly ElectionTick?: number
    readonly HeartbeatTick?: number
  }
  readonly Dispatcher?: { readonly HeartbeatPeriod?: number }
  readonly CAConfig?: {
    readonly NodeCertExpiry?: number
    readonly ExternalCAs?: readonly ExternalCa[]
    readonly SigningCACert?: string
    readonly SigningCAKey?: string
    readonly ForceRotate?: number
  }
  readonly EncryptionConfig?: { readonly AutoLockManagers?: boolean }
  readonly TaskDefaults?: { readonly LogDriver?: Driver }
}

// ---- secrets, configs, networks ----

export interface SecretSpec extends Annotations {
  /** base64 (standard alphabet) */
  readonly Data?: string
  readonly Driver?: Driver
  readonly Templating?: Driver
}

export interface ConfigSpec extends Annotations {
  /** base64 (standard alphabet) */
  readonly Data?: string
  readonly Templating?: Driver
}

export interface IpamConfig {
  readonly Subnet?: string
  readonly IPRange?: string
  readonly Gateway?: string
  readonly AuxiliaryAddresses?: Labels
}

export interface NetworkSpec extends Annotations {
  readonly DriverConfiguration?: Driver
  readonly EnableIPv4?: boolean
  readonly EnableIPv6?: boolean
  readonly Internal?: boolean
  readonly Attachable?: boolean
  readonly Ingress?: boolean
  readonly IPAMOptions?: { readonly Driver?: Driver; readonly Configs?: readonly IpamConfig[] }
  readonly ConfigFrom?: { readonly Network?: string }
  readonly Scope?: string
}

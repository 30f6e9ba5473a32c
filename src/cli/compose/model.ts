// A compose file as it is understood: short forms made long, units read, environment filled in. Names are the file's
// keys, so that merging and printing need no second vocabulary. Durations are nanoseconds, sizes bytes.

import type { Position } from './node.ts'

export type Texts = readonly string[]
export type Dictionary = ReadonlyMap<string, string>
/** A variable that is named without a value and not set here is null: the container's image may set it. */
export type Environment = ReadonlyMap<string, string | null>

export interface PortModel {
  readonly mode?: string
  /** Addresses, subnets and interfaces, separated by commas. */
  readonly host_ip?: string
  readonly target?: number
  readonly published?: number
  readonly protocol?: string
  readonly at: Position
}

export interface VolumeMountModel {
  readonly type?: string
  readonly source?: string
  readonly target?: string
  readonly read_only?: boolean
  readonly consistency?: string
  readonly bind?: { readonly propagation?: string; readonly create_host_path?: boolean; readonly recursive?: string }
  readonly volume?: { readonly nocopy?: boolean; readonly subpath?: string; readonly labels?: Dictionary }
  readonly image?: { readonly subpath?: string }
  readonly tmpfs?: { readonly size?: number; readonly mode?: number }
  readonly cluster?: Readonly<Record<string, never>>
  readonly at: Position
}

export interface FileReferenceModel {
  readonly source?: string
  readonly target?: string
  readonly uid?: string
  readonly gid?: string
  readonly mode?: number
  readonly at: Position
}

export interface ServiceNetworkModel {
  readonly aliases?: Texts
  readonly driver_opts?: Dictionary
  readonly ipv4_address?: string
  readonly ipv6_address?: string
  readonly at: Position
}

export interface UpdateModel {
  readonly parallelism?: number
  readonly delay?: number
  readonly failure_action?: string
  readonly monitor?: number
  readonly max_failure_ratio?: number
  readonly order?: string
}

export interface ResourceModel {
  /** As written: decimals are read when the spec is made. */
  readonly cpus?: string
  readonly memory?: number
  readonly pids?: number
  readonly generic_resources?: readonly {
    readonly discrete_resource_spec?: { readonly kind?: string; readonly value?: number }
  }[]
  readonly devices?: readonly DeviceRequestModel[]
}

export interface DeviceRequestModel {
  readonly capabilities?: Texts
  /** A number, or `all`. */
  readonly count?: string
  readonly device_ids?: Texts
  readonly driver?: string
  readonly options?: Dictionary
  readonly at: Position
}

export interface DependencyModel {
  readonly condition: 'service_started' | 'service_healthy' | 'service_completed_successfully'
  readonly required: boolean
  readonly at: Position
}

export interface EnvFileModel {
  readonly path: string
  /** The folder that a relative path starts from. */
  readonly from: string
  readonly format?: string
  readonly required?: boolean
  /** Of the short form: lines are taken as they are. */
  readonly isPlain: boolean
  readonly at: Position
}

export interface BlkioModel {
  readonly weight?: number
  readonly weight_device?: readonly { readonly path: string; readonly weight: number }[]
  readonly device_read_bps?: readonly BlkioRate[]
  readonly device_read_iops?: readonly BlkioRate[]
  readonly device_write_bps?: readonly BlkioRate[]
  readonly device_write_iops?: readonly BlkioRate[]
}

export interface BlkioRate {
  readonly path: string
  readonly rate: number
}

export interface DeployModel {
  readonly mode?: string
  readonly replicas?: number
  readonly labels?: Dictionary
  readonly update_config?: UpdateModel
  readonly rollback_config?: UpdateModel
  readonly resources?: { readonly limits?: ResourceModel; readonly reservations?: ResourceModel }
  readonly restart_policy?: {
    readonly condition?: string
    readonly delay?: number
    readonly max_attempts?: number
    readonly window?: number
  }
  readonly placement?: {
    readonly constraints?: Texts
    readonly preferences?: readonly { readonly spread?: string }[]
    readonly max_replicas_per_node?: number
  }
  readonly endpoint_mode?: string
}

export interface HealthcheckModel {
  readonly test?: Texts
  readonly timeout?: number
  readonly interval?: number
  readonly retries?: number
  readonly start_period?: number
  readonly start_interval?: number
  readonly disable?: boolean
}

export interface LoggingModel {
  readonly driver?: string
  readonly options?: Dictionary
}

export interface UlimitModel {
  readonly single?: number
  readonly soft?: number
  readonly hard?: number
}

export interface ServiceModel {
  readonly annotations?: Dictionary
  readonly blkio_config?: BlkioModel
  readonly build?: BuildModel
  readonly cap_add?: Texts
  readonly cap_drop?: Texts
  readonly cgroup?: string
  readonly cgroupns_mode?: string
  readonly cgroup_parent?: string
  readonly command?: Texts
  readonly configs?: readonly FileReferenceModel[]
  readonly container_name?: string
  readonly cpu_count?: number
  readonly cpu_percent?: number
  /** Microseconds or durations, as written; so are cpu_quota, cpu_rt_period and cpu_rt_runtime. */
  readonly cpu_period?: string
  readonly cpu_quota?: string
  readonly cpu_rt_period?: string
  readonly cpu_rt_runtime?: string
  readonly cpu_shares?: number
  readonly cpus?: string
  readonly cpuset?: string
  readonly credential_spec?: { readonly config?: string; readonly file?: string; readonly registry?: string }
  readonly depends_on?: ReadonlyMap<string, DependencyModel>
  readonly deploy?: DeployModel
  readonly device_cgroup_rules?: Texts
  /** `host[:container[:permissions]]`, or a CDI name. */
  readonly devices?: Texts
  readonly dns?: Texts
  readonly dns_opt?: Texts
  readonly dns_search?: Texts
  readonly domainname?: string
  readonly entrypoint?: Texts
  readonly environment?: Environment
  readonly env_file?: readonly EnvFileModel[]
  readonly expose?: Texts
  readonly external_links?: Texts
  /** `host:address` */
  readonly extra_hosts?: Texts
  readonly gpus?: readonly DeviceRequestModel[]
  readonly group_add?: Texts
  readonly hostname?: string
  readonly healthcheck?: HealthcheckModel
  readonly image?: string
  readonly init?: boolean
  readonly ipc?: string
  readonly isolation?: string
  readonly labels?: Dictionary
  readonly links?: Texts
  readonly logging?: LoggingModel
  readonly mac_address?: string
  readonly mem_limit?: number
  readonly mem_reservation?: number
  readonly mem_swappiness?: number
  /** As written: bytes, or -1. */
  readonly memswap_limit?: string
  readonly network_mode?: string
  /** null where a network is named and nothing said of it. */
  readonly networks?: ReadonlyMap<string, ServiceNetworkModel | null>
  readonly oom_kill_disable?: boolean
  readonly pid?: string
  readonly pids_limit?: number
  readonly platform?: string
  readonly ports?: readonly PortModel[]
  readonly privileged?: boolean
  readonly profiles?: Texts
  readonly pull_policy?: string
  readonly read_only?: boolean
  readonly restart?: string
  readonly runtime?: string
  readonly scale?: number
  readonly secrets?: readonly FileReferenceModel[]
  readonly security_opt?: Texts
  readonly shm_size?: string
  readonly stdin_open?: boolean
  readonly stop_grace_period?: number
  readonly stop_signal?: string
  readonly storage_opt?: Dictionary
  readonly sysctls?: Dictionary
  readonly tmpfs?: Texts
  readonly tty?: boolean
  readonly ulimits?: ReadonlyMap<string, UlimitModel>
  readonly user?: string
  readonly oom_score_adj?: number
  readonly userns_mode?: string
  readonly uts?: string
  readonly volumes?: readonly VolumeMountModel[]
  readonly working_dir?: string
  readonly extensions?: ReadonlyMap<string, unknown>
  readonly at: Position
  /** Where its keys stand. */
  readonly keyAt: ReadonlyMap<string, Position>
}

export interface BuildModel {
  readonly context?: string
  readonly dockerfile?: string
  readonly args?: Environment
  readonly labels?: Dictionary
  readonly cache_from?: Texts
  readonly extra_hosts?: Texts
  readonly network?: string
  readonly target?: string
}

export interface AddressPoolModel {
  readonly subnet?: string
  readonly ip_range?: string
  readonly gateway?: string
  readonly aux_addresses?: Dictionary
}

export interface NetworkModel {
  readonly name?: string
  readonly driver?: string
  readonly driver_opts?: Dictionary
  readonly ipam?: {
    readonly driver?: string
    readonly config?: readonly AddressPoolModel[]
    readonly options?: Dictionary
  }
  readonly external: boolean
  readonly internal?: boolean
  readonly attachable?: boolean
  readonly enable_ipv4?: boolean
  readonly enable_ipv6?: boolean
  readonly labels?: Dictionary
  readonly extensions?: ReadonlyMap<string, unknown>
  readonly at: Position
}

export interface VolumeModel {
  readonly name?: string
  readonly driver?: string
  readonly driver_opts?: Dictionary
  readonly external: boolean
  readonly labels?: Dictionary
  readonly 'x-cluster-spec'?: unknown
  readonly extensions?: ReadonlyMap<string, unknown>
  readonly at: Position
}

/** A secret or a config. */
export interface FileObjectModel {
  readonly name?: string
  /** Absolute. */
  readonly file?: string
  /** The variable whose value it is. */
  readonly environment?: string
  readonly content?: string
  /** What `environment` or `content` come to. */
  readonly value?: string
  readonly external: boolean
  readonly labels?: Dictionary
  readonly driver?: string
  readonly driver_opts?: Dictionary
  readonly template_driver?: string
  readonly extensions?: ReadonlyMap<string, unknown>
  readonly at: Position
}

export interface ComposeModel {
  readonly version: string
  readonly services: ReadonlyMap<string, ServiceModel>
  readonly networks: ReadonlyMap<string, NetworkModel>
  readonly volumes: ReadonlyMap<string, VolumeModel>
  readonly secrets: ReadonlyMap<string, FileObjectModel>
  readonly configs: ReadonlyMap<string, FileObjectModel>
  readonly extensions?: ReadonlyMap<string, unknown>
}

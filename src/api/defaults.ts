// Swarm's defaults. Two kinds: those that Swarm stores with a spec (a mode, one replica, where networks stand), applied
// once at the API's edge; and those that it only assumes, which `service inspect` shows on request and the control
// loops take where a field is absent.

import type { ServiceMode, ServiceSpec, SwarmSpec, UpdateConfig } from './spec.ts'
import { serviceSpecDecoder } from './validation/service-decoder.ts'

const SECOND_NS = 1_000_000_000

export const DEFAULT_STOP_GRACE_NS = 10 * SECOND_NS
export const DEFAULT_RESTART_DELAY_NS = 5 * SECOND_NS
export const DEFAULT_MONITOR_NS = 5 * SECOND_NS
export const DEFAULT_CONTROL_PORT = 2377
export const DEFAULT_DATA_PATH_PORT = 4789
export const DEFAULT_ADDRESS_POOL = '10.0.0.0/8'
export const DEFAULT_SUBNET_SIZE = 24
/**
 * Of the ingress network, which each node has a block of: 4,096 blocks of 512 addresses, outside of the pools, of the usual
 * LANs, and of what clouds and VPNs keep for themselves at 100.100.0.0/16.
 */
export const DEFAULT_INGRESS_SUBNET = '100.64.0.0/11'
/** What the ingress network gets instead, in this order, where a node has a route into the one before. */
export const OTHER_INGRESS_SUBNETS: readonly string[] = [
  '100.112.0.0/12',
  '100.104.0.0/13',
  '198.18.0.0/15',
  '10.240.0.0/12',
]
/** The data plane's own on every node: of containers that only go out (100.96.0.0/16), and inside WireGuard (100.97.0.0/16). */
export const NODE_SUBNETS = '100.96.0.0/15'
/** A node's block must hold a few addresses, and there must be a few blocks. */
export const INGRESS_PREFIX_MAX = 24
export const MINIMUM_CERTIFICATE_EXPIRY_NS = 3600 * SECOND_NS

function storedMode(mode: ServiceMode): ServiceMode {
  if (mode.Global) return { Global: {} }
  if (mode.GlobalJob) return { GlobalJob: {} }
  if (mode.ReplicatedJob) {
    const MaxConcurrent = mode.ReplicatedJob.MaxConcurrent ?? 1
    return { ReplicatedJob: { MaxConcurrent, TotalCompletions: mode.ReplicatedJob.TotalCompletions ?? MaxConcurrent } }
  }
  return { Replicated: { Replicas: mode.Replicated?.Replicas ?? 1 } }
}

/** The spec as Swarm keeps it: `name` where none was given, a mode with its counts, networks in the task's template. */
export function storedServiceSpec(spec: ServiceSpec, name: string): ServiceSpec {
  const { Name: _name, Networks: legacyNetworks, TaskTemplate, Mode, ...rest } = spec
  // Only a container's spec is kept: an attachment is what a container of its own asks for, not a service.
  const {
    ForceUpdate,
    Runtime,
    Networks,
    PluginSpec: _plugin,
    NetworkAttachmentSpec: _attachment,
    ...task
  } = TaskTemplate ?? {}
  const networks = Networks ?? legacyNetworks
  return {
    Name: name,
    Labels: rest.Labels ?? {},
    TaskTemplate: {
      ...task,
      ...(networks === undefined ? {} : { Networks: networks }),
      ForceUpdate: ForceUpdate ?? 0,
      Runtime: Runtime ?? 'container',
    },
    Mode: storedMode(Mode ?? {}),
    ...(rest.UpdateConfig === undefined ? {} : { UpdateConfig: rest.UpdateConfig }),
    ...(rest.RollbackConfig === undefined ? {} : { RollbackConfig: rest.RollbackConfig }),
    ...(rest.EndpointSpec === undefined ? {} : { EndpointSpec: rest.EndpointSpec }),
  }
}

const DEFAULT_UPDATE: UpdateConfig = {
  Parallelism: 1,
  FailureAction: 'pause',
  Monitor: DEFAULT_MONITOR_NS,
  MaxFailureRatio: 0,
  Order: 'stop-first',
}

function shownUpdate(config: UpdateConfig | undefined): UpdateConfig {
  if (config === undefined) return DEFAULT_UPDATE
  const { MaxFailureRatio, Order, Monitor, ...rest } = config
  return {
    ...rest,
    Monitor: Monitor ?? DEFAULT_MONITOR_NS,
    MaxFailureRatio: MaxFailureRatio ?? 0,
    Order: Order ?? 'stop-first',
  }
}

/** What `service inspect` shows with `insertDefaults=true`: every assumed value filled in, in Docker's order. */
export function serviceSpecWithDefaults(spec: ServiceSpec): ServiceSpec {
  const { Name, Labels, TaskTemplate = {}, Mode, UpdateConfig: update, RollbackConfig: rollback, ...rest } = spec
  const { ContainerSpec: container, Resources, RestartPolicy: restart, Placement, ...task } = TaskTemplate
  const shown: ServiceSpec = {
    ...(Name === undefined ? {} : { Name }),
    Labels: Labels ?? {},
    TaskTemplate: {
      ...(container === undefined
        ? {}
        : {
            ContainerSpec: {
              ...container,
              StopGracePeriod: container.StopGracePeriod ?? DEFAULT_STOP_GRACE_NS,
              DNSConfig: container.DNSConfig ?? {},
            },
          }),
      Resources: Resources ?? {},
      RestartPolicy: {
        Condition: restart?.Condition ?? 'any',
        Delay: restart?.Delay ?? DEFAULT_RESTART_DELAY_NS,
        MaxAttempts: restart?.MaxAttempts ?? 0,
        ...(restart?.Window === undefined ? {} : { Window: restart.Window }),
      },
      Placement: Placement ?? {},
      ...task,
    },
    ...(Mode === undefined ? {} : { Mode }),
    UpdateConfig: shownUpdate(update),
    RollbackConfig: shownUpdate(rollback),
    ...rest,
  }
  // The decoder puts every field where Docker has it.
  return serviceSpecDecoder(shown, '') ?? shown
}

/** A cluster's settings with Swarm's values where the request has none (0 counts as none, as in Docker). */
export function swarmSpecWithDefaults(spec: SwarmSpec): SwarmSpec {
  const { Orchestration, Raft, Dispatcher, CAConfig, TaskDefaults, EncryptionConfig } = spec
  return {
    Name: spec.Name || 'default',
    Labels: spec.Labels ?? {},
    Orchestration: { TaskHistoryRetentionLimit: Orchestration?.TaskHistoryRetentionLimit ?? 5 },
    Raft: {
      SnapshotInterval: Raft?.SnapshotInterval || 10_000,
      KeepOldSnapshots: Raft?.KeepOldSnapshots ?? 0,
      LogEntriesForSlowFollowers: Raft?.LogEntriesForSlowFollowers || 500,
      ElectionTick: Raft?.ElectionTick || 10,
      HeartbeatTick: Raft?.HeartbeatTick || 1,
    },
    Dispatcher: { HeartbeatPeriod: Dispatcher?.HeartbeatPeriod || 5 * SECOND_NS },
    CAConfig: { ...CAConfig, NodeCertExpiry: CAConfig?.NodeCertExpiry || 90 * 86_400 * SECOND_NS },
    TaskDefaults: TaskDefaults ?? {},
    EncryptionConfig: { AutoLockManagers: EncryptionConfig?.AutoLockManagers ?? false },
  }
}

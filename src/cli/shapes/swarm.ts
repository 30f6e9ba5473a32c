// Docker's swarm objects in the order and with the optional fields of the Go client (API 1.51).

import {
  any,
  bool,
  bytes,
  duration,
  float,
  int,
  list,
  map,
  pointer,
  string,
  stringMap,
  strings,
  struct,
  time,
} from './shape.ts'

const version = struct('swarm.Version', { 'Index?': int }, 'Index')
const meta = struct('swarm.Meta', { Version: version, CreatedAt: time, UpdatedAt: time })
const annotations = struct('swarm.Annotations', { 'Name?': string, Labels: stringMap })
const driver = struct('swarm.Driver', { 'Name?': string, 'Options?': stringMap })
const platform = struct('swarm.Platform', { 'Architecture?': string, 'OS?': string })

const genericResource = struct('swarm.GenericResource', {
  'NamedResourceSpec?': pointer(struct('swarm.NamedGenericResource', { 'Kind?': string, 'Value?': string })),
  'DiscreteResourceSpec?': pointer(struct('swarm.DiscreteGenericResource', { 'Kind?': string, 'Value?': int })),
})
const resources = struct('swarm.Resources', {
  'NanoCPUs?': int,
  'MemoryBytes?': int,
  'GenericResources?': list(genericResource),
})

const mount = struct('mount.Mount', {
  'Type?': string,
  'Source?': string,
  'Target?': string,
  'ReadOnly?': bool,
  'Consistency?': string,
  'BindOptions?': pointer(
    struct('mount.BindOptions', {
      'Propagation?': string,
      'NonRecursive?': bool,
      'CreateMountpoint?': bool,
      'ReadOnlyNonRecursive?': bool,
      'ReadOnlyForceRecursive?': bool,
    }),
  ),
  'VolumeOptions?': pointer(
    struct('mount.VolumeOptions', {
      'NoCopy?': bool,
      'Labels?': stringMap,
      'Subpath?': string,
      'DriverConfig?': pointer(struct('mount.Driver', { 'Name?': string, 'Options?': stringMap })),
    }),
  ),
  'ImageOptions?': pointer(struct('mount.ImageOptions', { 'Subpath?': string })),
  'TmpfsOptions?': pointer(
    struct('mount.TmpfsOptions', { 'SizeBytes?': int, 'Mode?': int, 'Options?': list(strings) }),
  ),
  'ClusterOptions?': pointer(struct('mount.ClusterOptions', {})),
})

const privileges = struct('swarm.Privileges', {
  CredentialSpec: pointer(struct('swarm.CredentialSpec', { Config: string, File: string, Registry: string })),
  SELinuxContext: pointer(
    struct('swarm.SELinuxContext', { Disable: bool, User: string, Role: string, Type: string, Level: string }),
  ),
  'Seccomp?': pointer(struct('swarm.SeccompOpts', { 'Mode?': string, 'Profile?': bytes })),
  'AppArmor?': pointer(struct('swarm.AppArmorOpts', { 'Mode?': string })),
  NoNewPrivileges: bool,
})

const fileTarget = (name: string) => struct(name, { Name: string, UID: string, GID: string, Mode: int })

const healthcheck = struct('v1.HealthcheckConfig', {
  'Test?': strings,
  'Interval?': duration,
  'Timeout?': duration,
  'StartPeriod?': duration,
  'StartInterval?': duration,
  'Retries?': int,
})

const containerSpec = struct('swarm.ContainerSpec', {
  'Image?': string,
  'Labels?': stringMap,
  'Command?': strings,
  'Args?': strings,
  'Hostname?': string,
  'Env?': strings,
  'Dir?': string,
  'User?': string,
  'Groups?': strings,
  'Privileges?': pointer(privileges),
  'Init?': pointer(bool),
  'StopSignal?': string,
  'TTY?': bool,
  'OpenStdin?': bool,
  'ReadOnly?': bool,
  'Mounts?': list(mount),
  'StopGracePeriod?': pointer(duration),
  'Healthcheck?': pointer(healthcheck),
  'Hosts?': strings,
  'DNSConfig?': pointer(
    struct('swarm.DNSConfig', { 'Nameservers?': strings, 'Search?': strings, 'Options?': strings }),
  ),
  'Secrets?': list(
    pointer(
      struct('swarm.SecretReference', {
        File: pointer(fileTarget('swarm.SecretReferenceFileTarget')),
        SecretID: string,
        SecretName: string,
      }),
    ),
  ),
  'Configs?': list(
    pointer(
      struct('swarm.ConfigReference', {
        'File?': pointer(fileTarget('swarm.ConfigReferenceFileTarget')),
        'Runtime?': pointer(struct('swarm.ConfigReferenceRuntimeTarget', {})),
        ConfigID: string,
        ConfigName: string,
      }),
    ),
  ),
  'Isolation?': string,
  'Sysctls?': stringMap,
  'CapabilityAdd?': strings,
  'CapabilityDrop?': strings,
  'Ulimits?': list(pointer(struct('units.Ulimit', { Name: string, Hard: int, Soft: int }))),
  'OomScoreAdj?': int,
})

const networkAttachment = struct('swarm.NetworkAttachmentConfig', {
  'Target?': string,
  'Aliases?': strings,
  'DriverOpts?': stringMap,
})

const taskSpec = struct('swarm.TaskSpec', {
  'ContainerSpec?': pointer(containerSpec),
  'PluginSpec?': any,
  'NetworkAttachmentSpec?': pointer(struct('swarm.NetworkAttachmentSpec', { ContainerID: string })),
  'Resources?': pointer(
    struct('swarm.ResourceRequirements', {
      'Limits?': pointer(struct('swarm.Limit', { 'NanoCPUs?': int, 'MemoryBytes?': int, 'Pids?': int })),
      'Reservations?': pointer(resources),
      'SwapBytes?': pointer(int),
      'MemorySwappiness?': pointer(int),
    }),
  ),
  'RestartPolicy?': pointer(
    struct('swarm.RestartPolicy', {
      'Condition?': string,
      'Delay?': pointer(duration),
      'MaxAttempts?': pointer(int),
      'Window?': pointer(duration),
    }),
  ),
  'Placement?': pointer(
    struct('swarm.Placement', {
      'Constraints?': strings,
      'Preferences?': list(
        struct('swarm.PlacementPreference', {
          Spread: pointer(struct('swarm.SpreadOver', { SpreadDescriptor: string })),
        }),
      ),
      'MaxReplicas?': int,
      'Platforms?': list(platform),
    }),
  ),
  'Networks?': list(networkAttachment),
  'LogDriver?': pointer(driver),
  ForceUpdate: int,
  'Runtime?': string,
})

const updateConfig = struct('swarm.UpdateConfig', {
  Parallelism: int,
  'Delay?': duration,
  'FailureAction?': string,
  'Monitor?': duration,
  MaxFailureRatio: float,
  Order: string,
})

const portConfig = struct('swarm.PortConfig', {
  'Name?': string,
  'Protocol?': string,
  'TargetPort?': int,
  'PublishedPort?': int,
  'PublishMode?': string,
})
const endpointSpec = struct('swarm.EndpointSpec', { 'Mode?': string, 'Ports?': list(portConfig) })

export const serviceSpecShape = struct('swarm.ServiceSpec', {
  '...Annotations': annotations,
  TaskTemplate: taskSpec,
  Mode: struct('swarm.ServiceMode', {
    'Replicated?': pointer(struct('swarm.ReplicatedService', { 'Replicas?': pointer(int) })),
    'Global?': pointer(struct('swarm.GlobalService', {})),
    'ReplicatedJob?': pointer(
      struct('swarm.ReplicatedJob', { 'MaxConcurrent?': pointer(int), 'TotalCompletions?': pointer(int) }),
    ),
    'GlobalJob?': pointer(struct('swarm.GlobalJob', {})),
  }),
  'UpdateConfig?': pointer(updateConfig),
  'RollbackConfig?': pointer(updateConfig),
  'Networks?': list(networkAttachment),
  'EndpointSpec?': pointer(endpointSpec),
})

export const serviceShape = struct('swarm.Service', {
  ID: string,
  '...Meta': meta,
  Spec: serviceSpecShape,
  'PreviousSpec?': pointer(serviceSpecShape),
  Endpoint: struct('swarm.Endpoint', {
    Spec: endpointSpec,
    'Ports?': list(portConfig),
    'VirtualIPs?': list(struct('swarm.EndpointVirtualIP', { 'NetworkID?': string, 'Addr?': string })),
  }),
  'UpdateStatus?': pointer(
    struct('swarm.UpdateStatus', {
      'State?': string,
      'StartedAt?': pointer(time),
      'CompletedAt?': pointer(time),
      'Message?': string,
    }),
  ),
  'ServiceStatus?': pointer(
    struct('swarm.ServiceStatus', { RunningTasks: int, DesiredTasks: int, CompletedTasks: int }),
  ),
  'JobStatus?': pointer(struct('swarm.JobStatus', { JobIteration: version, LastExecution: time })),
})

const tlsInfo = struct('swarm.TLSInfo', {
  'TrustRoot?': string,
  'CertIssuerSubject?': bytes,
  'CertIssuerPublicKey?': bytes,
})

export const nodeShape = struct('swarm.Node', {
  ID: string,
  '...Meta': meta,
  Spec: struct('swarm.NodeSpec', { '...Annotations': annotations, 'Role?': string, 'Availability?': string }),
  Description: struct('swarm.NodeDescription', {
    'Hostname?': string,
    Platform: platform,
    Resources: resources,
    Engine: struct('swarm.EngineDescription', {
      'EngineVersion?': string,
      'Labels?': stringMap,
      'Plugins?': list(struct('swarm.PluginDescription', { 'Type?': string, 'Name?': string })),
    }),
    TLSInfo: tlsInfo,
    'CSIInfo?': list(any),
  }),
  Status: struct('swarm.NodeStatus', { 'State?': string, 'Message?': string, 'Addr?': string }),
  'ManagerStatus?': pointer(
    struct('swarm.ManagerStatus', { 'Leader?': bool, 'Reachability?': string, 'Addr?': string }),
  ),
})

export const secretShape = struct('swarm.Secret', {
  ID: string,
  '...Meta': meta,
  Spec: struct('swarm.SecretSpec', {
    '...Annotations': annotations,
    'Data?': bytes,
    'Driver?': pointer(driver),
    'Templating?': pointer(driver),
  }),
})

export const configShape = struct('swarm.Config', {
  ID: string,
  '...Meta': meta,
  Spec: struct('swarm.ConfigSpec', { '...Annotations': annotations, 'Data?': bytes, 'Templating?': pointer(driver) }),
})

const ipamConfig = struct('network.IPAMConfig', {
  'Subnet?': string,
  'IPRange?': string,
  'Gateway?': string,
  'AuxAddress?=AuxiliaryAddresses': stringMap,
})

export const networkShape = struct('network.Inspect', {
  Name: string,
  'ID=Id': string,
  Created: time,
  Scope: string,
  Driver: string,
  EnableIPv4: bool,
  EnableIPv6: bool,
  IPAM: struct('network.IPAM', { Driver: string, Options: stringMap, Config: list(ipamConfig) }),
  Internal: bool,
  Attachable: bool,
  Ingress: bool,
  ConfigFrom: struct('network.ConfigReference', { Network: string }),
  ConfigOnly: bool,
  Containers: map(
    struct('network.EndpointResource', {
      Name: string,
      EndpointID: string,
      MacAddress: string,
      IPv4Address: string,
      IPv6Address: string,
    }),
  ),
  Options: stringMap,
  Labels: stringMap,
  'Peers?': list(struct('network.PeerInfo', { Name: string, IP: string })),
  'Services?': map(
    struct('network.ServiceInfo', {
      VIP: string,
      Ports: strings,
      LocalLBIndex: int,
      Tasks: list(struct('network.Task', { Name: string, EndpointID: string, EndpointIP: string, Info: stringMap })),
    }),
  ),
})

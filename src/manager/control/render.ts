// Stored objects as Docker's JSON, field by field in Docker's order. Specs are stored in that shape already (decode.ts
// and defaults.ts), so they are shown as they stand.

import {
  DEFAULT_ADDRESS_POOL,
  DEFAULT_DATA_PATH_PORT,
  DEFAULT_SUBNET_SIZE,
  serviceSpecWithDefaults,
  swarmSpecWithDefaults,
} from '../../api/defaults.ts'
import { pressureText } from '../../api/disk-pressure.ts'
import type { Cluster, Config, Endpoint, Meta, Network, Node, Secret, Service, Task } from '../../api/objects.ts'
import type { Driver, ServiceSpec, TlsInfo } from '../../api/spec.ts'
import { errorCode } from '../../lib/errors.ts'
import { tlsInfo } from '../../lib/x509-node.ts'
import { trustOf } from '../ca/root-rotation.ts'
import { backoffText } from '../orchestrator/restart-backoff.ts'
import type { StoreView } from '../store/types.ts'
import { encodedOnce, withField } from './encoding.ts'

function version(index: number): { readonly Index?: number } {
  return index === 0 ? {} : { Index: index }
}

function head(object: { readonly id: string; readonly meta: Meta }, index = object.meta.version) {
  return {
    ID: object.id,
    Version: version(index),
    CreatedAt: object.meta.createdAt,
    UpdatedAt: object.meta.updatedAt,
  }
}

// ---- services ----

function endpoint(stored: Endpoint | undefined) {
  if (stored === undefined) return { Spec: {} }
  return {
    Spec: stored.spec,
    ...(stored.ports.length === 0 ? {} : { Ports: stored.ports }),
    ...(stored.virtualIps.length === 0
      ? {}
      : { VirtualIPs: stored.virtualIps.map((ip) => ({ NetworkID: ip.networkId, Addr: ip.address })) }),
  }
}

/** Go prints these two, and what is in them, even where they are empty. */
function withPrivileges(spec: ServiceSpec): object {
  const container = spec.TaskTemplate?.ContainerSpec
  if (container?.Privileges === undefined) return spec
  const { CredentialSpec: credentials, SELinuxContext: selinux, ...rest } = container.Privileges
  const Privileges = {
    CredentialSpec: credentials === undefined ? null : { Config: '', File: '', Registry: '', ...credentials },
    SELinuxContext:
      selinux === undefined ? null : { Disable: false, User: '', Role: '', Type: '', Level: '', ...selinux },
    ...rest,
  }
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: { ...container, Privileges } } }
}

function service(stored: Service, show: (spec: ServiceSpec) => ServiceSpec) {
  return {
    ...head(stored),
    Spec: withPrivileges(show(stored.spec)),
    ...(stored.previousSpec === undefined ? {} : { PreviousSpec: withPrivileges(stored.previousSpec) }),
    Endpoint: endpoint(stored.endpoint),
    ...(stored.updateStatus === undefined ? {} : { UpdateStatus: stored.updateStatus }),
    ...(stored.problem === undefined
      ? {}
      : { Problem: { Code: stored.problem.code, Message: stored.problem.message, Since: stored.problem.since } }),
    ...(stored.jobStatus === undefined
      ? {}
      : {
          JobStatus: {
            JobIteration: version(stored.jobStatus.iteration),
            LastExecution: stored.jobStatus.lastExecution,
          },
        }),
  }
}

export const encodeService = encodedOnce((stored: Service) => service(stored, (spec) => spec))
export const encodeServiceWithDefaults = encodedOnce((stored: Service) => service(stored, serviceSpecWithDefaults))

/** For clients below 1.25, which look for the networks in the spec itself. */
export const encodeLegacyService = encodedOnce((stored: Service) =>
  service(stored, (spec) => {
    const Networks = spec.TaskTemplate?.Networks
    return Networks === undefined ? spec : { ...spec, Networks }
  }),
)

// ---- tasks ----

/** While a task waits longer than Docker's delay, it says until when: nothing else on its line would. */
function withError(task: Task): { readonly Err?: string } {
  const waits = task.status.error === '' && task.desiredState === 'ready'
  const error = waits ? backoffText(undefined, task) : task.status.error
  return error === '' ? {} : { Err: error }
}

const encodeBareTask = encodedOnce((stored: Task) => {
  const { status } = stored
  return {
    ...head(stored, Math.max(stored.meta.version, stored.statusVersion)),
    Labels: {},
    Spec: stored.spec,
    ...(stored.serviceId === '' ? {} : { ServiceID: stored.serviceId }),
    ...(stored.slot === 0 ? {} : { Slot: stored.slot }),
    ...(stored.nodeId === '' ? {} : { NodeID: stored.nodeId }),
    Status: {
      Timestamp: status.timestamp,
      State: status.state,
      ...(status.message === '' ? {} : { Message: status.message }),
      ...withError(stored),
      ...(status.container === undefined
        ? {}
        : {
            ContainerStatus: {
              ContainerID: status.container.ContainerID ?? '',
              PID: status.container.PID ?? 0,
              ExitCode: status.container.ExitCode ?? 0,
            },
          }),
      PortStatus: status.ports.length === 0 ? {} : { Ports: status.ports },
    },
    DesiredState: stored.desiredState,
    ...(stored.genericResources.length === 0 ? {} : { GenericResources: stored.genericResources }),
    ...(stored.jobIteration === undefined ? {} : { JobIteration: version(stored.jobIteration) }),
  }
})

/** As Swarm's objects show it, which call the range otherwise than /networks does and know no auxiliary addresses. */
function swarmIpam(options: NonNullable<Network['spec']['IPAMOptions']>) {
  const { Driver = {}, Configs = [] } = options
  const shown = Configs.map(({ Subnet, IPRange, Gateway }) => ({
    ...(Subnet ? { Subnet } : {}),
    ...(IPRange ? { Range: IPRange } : {}),
    ...(Gateway ? { Gateway } : {}),
  }))
  return { Driver: swarmDriver(Driver), ...(shown.length === 0 ? {} : { Configs: shown }) }
}

function swarmDriver({ Name, Options = {} }: Driver): Driver {
  return { ...(Name ? { Name } : {}), ...(Object.keys(Options).length === 0 ? {} : { Options }) }
}

/** A network inside of a task or of its own under its swarm shape (not that of /networks). */
const encodeAttachedNetwork = encodedOnce((stored: Network) => ({
  ...head(stored),
  Spec: {
    Name: stored.spec.Name,
    Labels: stored.spec.Labels ?? {},
    ...(stored.spec.DriverConfiguration === undefined
      ? {}
      : { DriverConfiguration: swarmDriver(stored.spec.DriverConfiguration) }),
    ...(stored.spec.EnableIPv6 ? { IPv6Enabled: true } : {}),
    ...(stored.spec.Internal ? { Internal: true } : {}),
    ...(stored.spec.Attachable ? { Attachable: true } : {}),
    ...(stored.spec.Ingress ? { Ingress: true } : {}),
    ...(stored.spec.IPAMOptions === undefined ? {} : { IPAMOptions: swarmIpam(stored.spec.IPAMOptions) }),
    Scope: 'swarm',
  },
  DriverState: { Name: driverOf(stored), Options: networkOptions(stored) },
  IPAMOptions: swarmIpam({
    Driver: { Name: 'default' },
    Configs: (stored.allocated?.subnets ?? []).map(({ subnet, gateway, ipRange }) => ({
      Subnet: subnet,
      IPRange: ipRange,
      Gateway: gateway,
    })),
  }),
}))

export function encodeTask(view: StoreView, stored: Task): string {
  const bare = encodeBareTask(stored)
  if (stored.attachments.length === 0) return bare
  const attachments = stored.attachments.map(({ networkId, addresses }) => {
    const network = view.get('network', networkId)
    const shown = network === undefined ? '{}' : encodeAttachedNetwork(network)
    return `{"Network":${shown},"Addresses":${JSON.stringify(addresses)}}`
  })
  return withField(bare, 'NetworksAttachments', `[${attachments.join(',')}]`)
}

// ---- nodes ----

/** Of a node that is ready there is nothing else to say than what it is short of, and what its data plane can't do. */
function withMessage({ status, dataPath, description }: Node): { readonly Message?: string } {
  const problems = [
    ...(description.DiskPressure ?? []).map(pressureText),
    ...(dataPath?.problems ?? []).map(({ message }) => message),
  ]
  const message = status.message || (status.state === 'ready' ? problems.join('; ') : '')
  return message === '' ? {} : { Message: message }
}

const encodeBareNode = encodedOnce((stored: Node) => {
  const { description, status, spec } = stored
  return {
    ...head(stored),
    Spec: {
      ...(spec.Name ? { Name: spec.Name } : {}),
      Labels: spec.Labels ?? {},
      Role: spec.Role ?? 'worker',
      Availability: spec.Availability ?? 'active',
    },
    Description: {
      Hostname: description.Hostname ?? '',
      Platform: description.Platform ?? {},
      Resources: description.Resources ?? {},
      Engine: description.Engine ?? {},
      TLSInfo: description.TLSInfo ?? {},
      ...(description.DiskPressure && { DiskPressure: description.DiskPressure }),
    },
    Status: {
      State: status.state,
      ...withMessage(stored),
      Addr: status.address,
    },
  }
})

export interface ManagerSight {
  readonly leaderId: string | undefined
  readonly reachability: (nodeId: string) => 'reachable' | 'unreachable' | 'unknown'
}

export function encodeNode(stored: Node, sight: ManagerSight): string {
  const bare = encodeBareNode(stored)
  if (stored.manager === undefined) return bare
  const status = {
    ...(sight.leaderId === stored.id ? { Leader: true } : {}),
    Reachability: sight.leaderId === stored.id ? 'reachable' : sight.reachability(stored.id),
    Addr: stored.manager.address,
  }
  return withField(bare, 'ManagerStatus', JSON.stringify(status))
}

// ---- secrets and configs ----

/** Without its payload, which no API shows. */
export const encodeSecret = encodedOnce((stored: Secret) => {
  const { Data: _never, ...spec } = stored.spec
  return { ...head(stored), Spec: { ...spec, Labels: spec.Labels ?? {} } }
})

export const encodeConfig = encodedOnce((stored: Config) => ({ ...head(stored), Spec: stored.spec }))

// ---- the cluster ----

/** The root that is trusted, and the one that signs: another one while the root is rotated. */
function trustShown(stored: Cluster): TlsInfo {
  const { certPem } = stored.rootCa
  try {
    return tlsInfo(certPem, trustOf(stored).issuerPem)
  } catch (error) {
    // A root that can't be read is shown as far as it goes: its text.
    if (errorCode(error) === undefined) throw error
    return { TrustRoot: certPem }
  }
}

function clusterInfo(stored: Cluster) {
  const { CAConfig = {}, ...spec } = swarmSpecWithDefaults(stored.spec)
  const { SigningCACert: _cert, SigningCAKey: _key, ...shownCa } = CAConfig
  const { TaskDefaults, EncryptionConfig, ...rest } = spec
  return {
    ...head(stored),
    Spec: { ...rest, CAConfig: shownCa, TaskDefaults, EncryptionConfig },
    TLSInfo: trustShown(stored),
    RootRotationInProgress: stored.rootCa.rotation !== undefined,
    DefaultAddrPool: stored.defaultAddressPools.length === 0 ? [DEFAULT_ADDRESS_POOL] : stored.defaultAddressPools,
    SubnetSize: stored.subnetSize || DEFAULT_SUBNET_SIZE,
    DataPathPort: stored.dataPathPort || DEFAULT_DATA_PATH_PORT,
  }
}

/** As in /info: without the join tokens. */
export const encodeClusterInfo = encodedOnce(clusterInfo)

export const encodeSwarm = encodedOnce((stored: Cluster) => ({
  ...clusterInfo(stored),
  JoinTokens: { Worker: stored.rootCa.joinTokens.worker, Manager: stored.rootCa.joinTokens.manager },
}))

// ---- networks ----

function driverOf(stored: Network): string {
  return stored.spec.DriverConfiguration?.Name || 'overlay'
}

function networkOptions(stored: Network): Readonly<Record<string, string>> {
  const vni = stored.allocated?.vni
  return {
    ...stored.spec.DriverConfiguration?.Options,
    ...(vni ? { 'com.docker.network.driver.overlay.vxlanid_list': String(vni) } : {}),
  }
}

/** As /networks shows it. `Containers` are those of one engine, which adds its own. */
export const encodeNetwork = encodedOnce((stored: Network) => {
  const given = stored.spec.IPAMOptions
  const configs =
    stored.allocated?.subnets.map(({ subnet, gateway, ipRange, auxiliary }) => ({
      Subnet: subnet,
      ...(ipRange === '' ? {} : { IPRange: ipRange }),
      Gateway: gateway,
      ...(auxiliary === undefined ? {} : { AuxiliaryAddresses: auxiliary }),
    })) ??
    given?.Configs ??
    []
  return {
    Name: stored.spec.Name ?? '',
    Id: stored.id,
    Created: stored.meta.createdAt,
    Scope: 'swarm',
    Driver: driverOf(stored),
    EnableIPv4: stored.spec.EnableIPv4 ?? true,
    EnableIPv6: stored.spec.EnableIPv6 ?? false,
    IPAM: { Driver: given?.Driver?.Name ?? 'default', Options: given?.Driver?.Options ?? null, Config: configs },
    Internal: stored.spec.Internal ?? false,
    Attachable: stored.spec.Attachable ?? false,
    Ingress: stored.spec.Ingress ?? false,
    ConfigFrom: { Network: stored.spec.ConfigFrom?.Network ?? '' },
    ConfigOnly: false,
    Containers: null,
    Options: networkOptions(stored),
    Labels: stored.spec.Labels ?? {},
  }
})

// Which keys an object stands under: the groups that readers ask for, and the unique claims that no two objects may
// share. Pure functions of the object, so that an index can never disagree with what it indexes.

import type { Cluster, Network, Node, Service, StoreObject, Task } from '../../api/objects.ts'
import { isTerminal, isToRun, type PortConfig, TASK_STATES } from '../../api/spec.ts'
import { ENCRYPTED_OPTION } from '../../api/validation/payload.ts'
import { type Cidr, overlaps, parseCidr } from '../../lib/cidr.ts'
import type { RefusalCode } from './types.ts'

/** Something that only one object at a time can have, and how a second one is refused. */
export interface Claim {
  readonly key: string
  readonly code: RefusalCode
  /** for the message: "network name 'web'" */
  readonly what: string
}

/** Names are unique within their kind whatever their case, as in Swarm. */
export function nameKey(kind: string, name: string): string {
  return `${kind}/${name.toLowerCase()}`
}

export function portKey(protocol: string, port: number): string {
  return `${protocol}/${port}`
}

function isIngress(port: PortConfig): boolean {
  return (port.PublishMode ?? 'ingress') === 'ingress' && (port.PublishedPort ?? 0) > 0
}

/** Ingress ports that a service holds: those it asks for by number, and those that were allocated. */
export function ingressPorts(service: Service): readonly { readonly protocol: string; readonly port: number }[] {
  const ports = [...(service.spec.EndpointSpec?.Ports ?? []), ...(service.endpoint?.ports ?? [])].filter(isIngress)
  const byKey = new Map(
    ports.map((port) => {
      const held = { protocol: port.Protocol ?? 'tcp', port: port.PublishedPort ?? 0 }
      return [portKey(held.protocol, held.port), held] as const
    }),
  )
  return [...byKey.values()]
}

/** A task uses its node's resources from its assignment until it ended. */
export function occupiesNode(task: Task): boolean {
  return task.nodeId !== '' && TASK_STATES[task.status.state] >= TASK_STATES.assigned && !isTerminal(task.status.state)
}

/**
 * A task's addresses are its own until nothing of it can be on the wire any more: until its worker has reported its end, which
 * it does when the container has ended and the engine has taken its end points down, or its node was removed or given up
 * (ORPHANED). Managers give no other state that ends a task to one that may have a container with end points.
 */
export function holdsAddresses(task: Task): boolean {
  return !isTerminal(task.status.state)
}

/** A plain container's place on a network, not a task of a service. */
export function isAttachment(task: Task): boolean {
  return task.spec.NetworkAttachmentSpec !== undefined
}

/** Its node is known and will run it, but one of its addresses, which depends on the node, is not allocated yet. */
export function awaitsAddresses(task: Task): boolean {
  return (
    task.nodeId !== '' &&
    task.status.state === 'assigned' &&
    isToRun(task.desiredState) &&
    task.attachments.some((attachment) => attachment.addresses.length === 0)
  )
}

/** It leaves no node in clear. */
export function isEncrypted(network: Network | undefined): boolean {
  return network?.spec.DriverConfiguration?.Options?.[ENCRYPTED_OPTION] !== undefined
}

export function subnetsOf(network: Network): readonly Cidr[] {
  return (network.allocated?.subnets ?? []).flatMap(({ subnet }) => parseCidr(subnet) ?? [])
}

export function overlappingNetwork(networks: readonly Network[], subnets: readonly Cidr[]): Network | undefined {
  return networks.find((network) => subnetsOf(network).some((one) => subnets.some((other) => overlaps(one, other))))
}

/** Host-mode ports with a fixed number: one task at a time on a node. */
function hostPorts(task: Task): readonly PortConfig[] {
  return (task.endpoint?.ports ?? []).filter((port) => port.PublishMode === 'host' && (port.PublishedPort ?? 0) > 0)
}

function nameClaim(kind: string, name: string | undefined): readonly Claim[] {
  return name ? [{ key: nameKey(kind, name), code: 'NAME_CONFLICT', what: `${kind} name '${name}'` }] : []
}

function addressOnly(cidr: string): string {
  const slash = cidr.indexOf('/')
  return slash < 0 ? cidr : cidr.slice(0, slash)
}

function addressClaim(networkId: string, cidr: string): Claim {
  const address = addressOnly(cidr)
  return { key: `address/${networkId}/${address}`, code: 'ADDRESS_CONFLICT', what: `address ${address}` }
}

function serviceClaims(service: Service): readonly Claim[] {
  return [
    ...nameClaim('service', service.spec.Name),
    ...ingressPorts(service).map(
      ({ protocol, port }): Claim => ({
        key: `port/${portKey(protocol, port)}`,
        code: 'PORT_CONFLICT',
        what: `port '${port}'`,
      }),
    ),
    ...(service.endpoint?.virtualIps ?? []).map((ip) => addressClaim(ip.networkId, ip.address)),
  ]
}

function taskClaims(task: Task): readonly Claim[] {
  const held = holdsAddresses(task) ? task.attachments : []
  const addresses = held.flatMap((attachment) =>
    attachment.addresses.map((address) => addressClaim(attachment.networkId, address)),
  )
  if (!occupiesNode(task)) return addresses
  const ports = hostPorts(task).map(
    (port): Claim => ({
      key: `host-port/${task.nodeId}/${portKey(port.Protocol ?? 'tcp', port.PublishedPort ?? 0)}`,
      code: 'PORT_CONFLICT',
      what: `host-mode port ${port.PublishedPort} on node ${task.nodeId}`,
    }),
  )
  return [...addresses, ...ports]
}

/** The claim of the one ingress network. */
export const INGRESS_NETWORK_KEY = 'ingress-network'

function networkClaims(network: Network): readonly Claim[] {
  const vni = network.allocated?.vni
  return [
    ...nameClaim('network', network.spec.Name),
    ...(vni ? [{ key: `vni/${vni}`, code: 'VNI_CONFLICT', what: `VXLAN network id ${vni}` } as const] : []),
    ...(network.spec.Ingress
      ? [{ key: INGRESS_NETWORK_KEY, code: 'NAME_CONFLICT', what: 'the ingress network' } as const]
      : []),
  ]
}

function nodeClaims(node: Node): readonly Claim[] {
  return node.number > 0
    ? [{ key: `node-number/${node.number}`, code: 'NODE_NUMBER_CONFLICT', what: `node number ${node.number}` }]
    : []
}

function clusterClaims(_cluster: Cluster): readonly Claim[] {
  return [{ key: 'cluster', code: 'EXISTS', what: 'the cluster' }]
}

export function claims(object: StoreObject): readonly Claim[] {
  switch (object.kind) {
    case 'service':
      return serviceClaims(object)
    case 'task':
      return taskClaims(object)
    case 'network':
      return networkClaims(object)
    case 'node':
      return nodeClaims(object)
    case 'cluster':
      return clusterClaims(object)
    case 'secret':
    case 'config':
      return nameClaim(object.kind, object.spec.Name)
  }
}

/** Groups of services by what they use. */
export function serviceGroups(service: Service): readonly string[] {
  const container = service.spec.TaskTemplate?.ContainerSpec
  const networks = [...(service.spec.TaskTemplate?.Networks ?? []), ...(service.spec.Networks ?? [])]
  const keys = [
    ...(container?.Secrets ?? []).map((reference) => `secret/${reference.SecretID ?? ''}`),
    ...(container?.Configs ?? []).map((reference) => `config/${reference.ConfigID ?? ''}`),
    ...networks.map((network) => `network/${network.Target ?? ''}`),
    ...(service.endpoint?.virtualIps ?? []).map((ip) => `network/${ip.networkId}`),
  ]
  return [...new Set(keys)]
}

/** Groups of tasks that readers ask for. */
export function taskGroups(task: Task): readonly string[] {
  return [
    ...(task.serviceId ? [`service/${task.serviceId}`, `slot/${task.serviceId}/${task.slot}`] : []),
    ...(task.nodeId ? [`node/${task.nodeId}`] : []),
    ...task.attachments.map((attachment) => `network/${attachment.networkId}`),
  ]
}

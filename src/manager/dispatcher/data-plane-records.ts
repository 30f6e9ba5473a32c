// What the store's objects mean for the data plane of nodes, one record at a time. Pure. A record belongs to one scope: a
// network, whose nodes get it, or, of peers, to all.

import type {
  AddressedPort,
  DataPlaneKey,
  DataPlaneRecord,
  OverlayEndpoint,
  OverlayService,
  PublishedPort,
} from '../../api/data-plane.ts'
import { DEFAULT_DATA_PATH_PORT } from '../../api/defaults.ts'
import { type Network, type Node, type Service, type Task, taskName } from '../../api/objects.ts'
import { publishAddresses } from '../../api/publish-addresses.ts'
import { hasClientAffinity, prefersLocal } from '../../api/service-labels.ts'
import { compareTaskStates, isTerminal, isToRun } from '../../api/spec.ts'
import { templateContext } from '../../api/task-template.ts'
import { MTU_OPTION } from '../../api/validation/payload.ts'
import { expandTemplate } from '../../lib/go-template.ts'
import { isAttachment, isEncrypted } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'

type RecordView = Pick<StoreView, 'get' | 'cluster'>

/** Every node gets its records. Others' names are ids of networks. */
export const EVERYWHERE = ''

/** It is on the wire, or about to be: from its assignment with an address until its worker has reported its end. */
export function hasEndpoints(task: Task): boolean {
  return task.nodeId !== '' && compareTaskStates(task.status.state, 'assigned') >= 0 && !isTerminal(task.status.state)
}

/** What runs with an error is unhealthy and about to be stopped by its worker. */
export function isServing(task: Task): boolean {
  return task.status.state === 'running' && task.status.error === '' && !isToStop(task)
}

/** It runs, and managers have decided that it is to end: DRAINING. */
export function isDraining(task: Task): boolean {
  return task.status.state === 'running' && isToStop(task)
}

function isToStop(task: Task): boolean {
  return !isToRun(task.desiredState)
}

/** Networks of which the service has a record. */
export function networksOfService(service: Service): readonly string[] {
  const ids = [
    ...(service.spec.TaskTemplate?.Networks ?? []).map(({ Target = '' }) => Target),
    ...(service.endpoint?.virtualIps ?? []).map(({ networkId }) => networkId),
  ]
  return [...new Set(ids)]
}

/** The record as it is to be now; undefined: there is none. */
export function deriveRecord(view: RecordView, { kind, id }: DataPlaneKey): DataPlaneRecord | undefined {
  const [objectId = '', networkId = ''] = id.split('/')
  switch (kind) {
    case 'peer':
      return peerRecord(view, id)
    case 'overlay-network':
      return networkRecord(view.get('network', id))
    case 'end-point':
      return endpointRecord(view, objectId, networkId)
    case 'overlay-service':
      return serviceRecord(view, objectId, networkId)
  }
}

function peerRecord(view: RecordView, nodeId: string): DataPlaneRecord | undefined {
  const node = view.get('node', nodeId)
  const address = node && (node.dataPathAddress || node.status.address)
  if (!node || !address || node.number === 0) return undefined
  const { port = 0, mtu = 0, encryptionKeys = [], encryptionProblem = '' } = node.dataPath ?? {}
  const peer = {
    nodeId,
    hostname: node.description.Hostname ?? '',
    number: node.number,
    address,
    port: port || view.cluster()?.dataPathPort || DEFAULT_DATA_PATH_PORT,
    mtu,
    encryptionKeys,
    encryptionProblem,
  }
  const controlPort = Number(/:(\d+)$/.exec(node.manager?.address ?? '')?.[1] ?? 0)
  return { kind: 'peer', peer: controlPort === 0 ? peer : { ...peer, controlPort } }
}

function networkRecord(network: Network | undefined): DataPlaneRecord | undefined {
  if (!network?.allocated) return undefined
  const { spec, allocated } = network
  const overlay = {
    id: network.id,
    name: spec.Name ?? '',
    vni: allocated.vni,
    subnets: allocated.subnets.map(({ subnet, gateway }) => ({ subnet, gateway })),
    internal: spec.Internal === true,
    encrypted: isEncrypted(network),
    attachable: spec.Attachable === true,
    ingress: spec.Ingress === true,
    mtu: Number(spec.DriverConfiguration?.Options?.[MTU_OPTION] ?? 0),
  }
  return { kind: 'overlay-network', network: overlay }
}

function endpointRecord(view: RecordView, taskId: string, networkId: string): DataPlaneRecord | undefined {
  const task = view.get('task', taskId)
  if (!task || !hasEndpoints(task)) return undefined
  const attachment = task.attachments.find((one) => one.networkId === networkId)
  const node = view.get('node', task.nodeId)
  const network = view.get('network', networkId)
  if (!attachment || attachment.addresses.length === 0 || !node || node.number === 0 || !network) return undefined
  const onEncrypted = task.attachments.some((one) => isEncrypted(view.get('network', one.networkId)))
  const lost = node.status.state === 'down'
  const endpoint: OverlayEndpoint = {
    taskId,
    networkId,
    nodeNumber: node.number,
    addresses: attachment.addresses.map(addressOnly),
    serviceId: task.serviceId,
    serviceName: task.serviceName,
    slot: task.slot,
    name: task.spec.NetworkAttachmentSpec?.ContainerID ?? taskName(task),
    hostname: hostnameOf(task, node),
    aliases: isAttachment(task) ? attachment.aliases : [],
    serving: isServing(task) && !lost,
    encrypted: network.spec.Ingress === true && onEncrypted,
  }
  return { kind: 'end-point', endpoint: lost ? { ...endpoint, lost } : endpoint }
}

/** As the container has it: by default the first twelve digits of its id, which are known once it runs. */
function hostnameOf(task: Task, node: Node): string {
  const given = task.spec.ContainerSpec?.Hostname ?? ''
  if (given !== '') return expandedHostname(given, task, node)
  const containerId = task.status.container?.ContainerID ?? ''
  return task.status.state === 'running' ? containerId.slice(0, 12) : ''
}

/** Empty for a template that the worker will refuse as well. */
function expandedHostname(text: string, task: Task, node: Node): string {
  const { Hostname: hostname = '', Platform: platform = {} } = node.description
  try {
    return expandTemplate(text, templateContext(task, { id: node.id, hostname, platform }))
  } catch {
    return ''
  }
}

function serviceRecord(view: RecordView, serviceId: string, networkId: string): DataPlaneRecord | undefined {
  const service = view.get('service', serviceId)
  const network = view.get('network', networkId)
  if (!service || !network || !networksOfService(service).includes(networkId)) return undefined
  const { spec, endpoint } = service
  const attachment = (spec.TaskTemplate?.Networks ?? []).find(({ Target }) => Target === networkId)
  const overlay: OverlayService = {
    serviceId,
    networkId,
    name: spec.Name ?? '',
    aliases: attachment?.Aliases ?? [],
    virtualIps: (endpoint?.virtualIps ?? []).flatMap((ip) =>
      ip.networkId === networkId ? [addressOnly(ip.address)] : [],
    ),
    ports: [],
    affinity: hasClientAffinity(spec.Labels),
  }
  return { kind: 'overlay-service', service: network.spec.Ingress ? withPorts(overlay, service) : overlay }
}

function withPorts(overlay: OverlayService, service: Service): OverlayService {
  const ports: PublishedPort[] = []
  const portsAt: AddressedPort[] = []
  for (const port of publishedPorts(service)) {
    const addresses = publishAddresses(service.spec.Labels, port)
    if (addresses.length === 0) ports.push(port)
    else portsAt.push({ ...port, addresses })
  }
  return { ...overlay, ports, ...(portsAt.length > 0 && { portsAt }) }
}

function publishedPorts({ spec, endpoint }: Service): readonly PublishedPort[] {
  return (endpoint?.ports ?? []).flatMap((port): readonly PublishedPort[] => {
    const { Protocol: protocol = 'tcp', PublishedPort: published = 0, TargetPort: target = 0 } = port
    if ((port.PublishMode ?? 'ingress') !== 'ingress' || published === 0) return []
    return [{ protocol, published, target, preferLocal: prefersLocal(spec.Labels, { protocol, published }) }]
  })
}

function addressOnly(cidr: string): string {
  return cidr.split('/')[0] ?? ''
}

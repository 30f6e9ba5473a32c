// What `network inspect` shows beyond the network itself: the nodes that take part in it and, with --verbose, its services
// with their virtual addresses and their tasks with theirs, for the whole cluster.

import { type Network, type Service, type Task, taskName } from '../../api/objects.ts'
import { compareTaskStates, type PortConfig } from '../../api/spec.ts'
import { groupBy } from '../../lib/group-by.ts'
import { holdsAddresses, isAttachment } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'

interface TaskInfo {
  readonly Name: string
  readonly EndpointID: string
  readonly EndpointIP: string
  readonly Info: Readonly<Record<string, string>>
}

interface ServiceInfo {
  readonly VIP: string
  readonly Ports: readonly string[]
  readonly LocalLBIndex: number
  readonly Tasks: readonly TaskInfo[]
}

export interface NetworkDetails {
  readonly Peers?: readonly { readonly Name: string; readonly IP: string }[]
  readonly Services?: Readonly<Record<string, ServiceInfo>>
}

/** In Docker's shapes; what is empty is left out, as Docker does. */
export function networkDetails(view: StoreView, network: Network, verbose: boolean): NetworkDetails {
  const tasks = view.tasksUsingNetwork(network.id).filter(isJoined)
  const peers = [...new Set(tasks.map((task) => task.nodeId))].sort().flatMap((nodeId) => {
    const address = tunnelAddress(view, nodeId)
    return address === '' ? [] : [{ Name: nodeId.slice(0, 12), IP: address }]
  })
  const services = verbose ? servicesOf(view, network, tasks) : {}
  return {
    ...(peers.length === 0 ? {} : { Peers: peers }),
    ...(Object.keys(services).length === 0 ? {} : { Services: services }),
  }
}

function isJoined(task: Task): boolean {
  return holdsAddresses(task) && compareTaskStates(task.status.state, 'starting') >= 0
}

function tunnelAddress(view: StoreView, nodeId: string): string {
  const node = view.get('node', nodeId)
  return node === undefined ? '' : node.dataPathAddress || node.status.address
}

function servicesOf(view: StoreView, network: Network, tasks: readonly Task[]): Record<string, ServiceInfo> {
  const byService = groupBy(tasks, (task) => task.serviceId)
  const services = view.servicesUsingNetwork(network.id)
  const entries = services.map((service): readonly [string, ServiceInfo] => [
    service.spec.Name ?? '',
    serviceInfo(network, service, byService.get(service.id) ?? [], view),
  ])
  const plain = tasks.filter(isAttachment)
  // So Docker shows them.
  if (plain.length > 0) entries.push(['', serviceInfo(network, undefined, plain, view)])
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
}

function serviceInfo(
  network: Network,
  service: Service | undefined,
  tasks: readonly Task[],
  view: StoreView,
): ServiceInfo {
  const vip = service?.endpoint?.virtualIps.find(({ networkId }) => networkId === network.id)
  return {
    // So Go prints an address that is not there.
    VIP: addressOnly(vip?.address) || '<nil>',
    Ports: (service?.endpoint?.ports ?? []).filter(isIngress).map(portText),
    LocalLBIndex: 0,
    Tasks: tasks
      .toSorted((a, b) => a.slot - b.slot || (a.id < b.id ? -1 : 1))
      .map((task) => ({
        Name: task.spec.NetworkAttachmentSpec?.ContainerID ?? taskName(task),
        EndpointID: '',
        EndpointIP: addressOnly(task.attachments.find(({ networkId }) => networkId === network.id)?.addresses[0]),
        Info: { 'Host IP': tunnelAddress(view, task.nodeId) },
      })),
  }
}

function isIngress(port: PortConfig): boolean {
  return (port.PublishMode ?? 'ingress') === 'ingress'
}

function portText({ TargetPort = 0, PublishedPort = 0 }: PortConfig): string {
  return `Target: ${TargetPort}, Publish: ${PublishedPort}`
}

function addressOnly(cidr = ''): string {
  return cidr.split('/')[0] ?? ''
}

// Why a node is as it is: why nothing (more) is placed on it, what it is short of, which waiting tasks it will not take, and
// what came to it and went last.

import { pressureText } from '../../api/disk-pressure.ts'
import type { Node, Task } from '../../api/objects.ts'
import type { WhyEventJson, WhyJson } from '../../api/why.ts'
import { groupBy } from '../../lib/group-by.ts'
import { hasEnded, isRunning } from '../orchestrator/slots.ts'
import { nodeInfoOf } from '../scheduler/cluster-map.ts'
import { refusalOf } from '../scheduler/filters.ts'
import { MAX_FAILURES, type NodeInfo } from '../scheduler/node-info.ts'
import { isAttachment } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { newestEvents, newestTasks, taskEvents, type WhyOptions } from './why-history.ts'
import { awaitsNode, filtersOf } from './why-placement.ts'

const MAX_SERVICES = 8

export function whyNode(view: StoreView, node: Node, { nowMs, limit }: WhyOptions): WhyJson {
  const tasks = view.tasksOfNode(node.id).filter((task) => !isAttachment(task))
  const info = nodeInfoOf(node, view)
  const events = newestTasks(tasks, limit).flatMap((task) => taskEvents(view, task))
  return {
    Kind: 'node',
    ID: node.id,
    Name: node.description.Hostname || node.id,
    Now: nowText(node, tasks),
    Because: [
      ...availability(node, tasks),
      ...diskPressure(node),
      ...(node.dataPath?.problems ?? []).map(({ message }) => message),
      ...waitingFor(view, info),
      ...putBack(view, info, tasks, nowMs),
      ...resources(info),
    ],
    Waits: [],
    History: newestEvents([...nodeEvents(node), ...events], limit),
  }
}

function nowText(node: Node, tasks: readonly Task[]): string {
  const { state, message } = node.status
  const running = tasks.filter(isRunning).length
  const Availability = node.spec.Availability ?? 'active'
  return `${state}${message ? ` (${message})` : ''}, availability ${Availability}, ${running} ${running === 1 ? 'task' : 'tasks'} running`
}

function availability(node: Node, tasks: readonly Task[]): readonly string[] {
  const { state } = node.status
  const lines: string[] = []
  if (state === 'down') {
    const since = node.downSince ? ` since ${node.downSince}` : ''
    lines.push(`no heartbeat came from it${since}: its tasks are replaced elsewhere, and it gets none`)
  } else if (state !== 'ready') {
    lines.push(
      `its state is ${state}: the managers have not heard from it since the last election, and it gets no tasks until they do`,
    )
  }
  if (node.spec.Availability === 'pause') lines.push('it was paused: it keeps its tasks and gets no new ones')
  if (node.spec.Availability === 'drain') {
    const left = tasks.filter((task) => !hasEnded(task) && task.status.state !== 'new').length
    lines.push(
      `it was drained: its tasks move elsewhere${left > 0 ? ` (${left} have not ended yet)` : ''}, and it gets none`,
    )
  }
  return lines
}

function diskPressure({ description: { DiskPressure = [] } }: Node): readonly string[] {
  return DiskPressure.flatMap((disk) => [
    `${pressureText(disk)}: it keeps its tasks and gets no new ones`,
    ...(disk.RefusesWrites
      ? ['as a manager it takes nothing that makes the managers’ log grow, and leads only if nobody else can']
      : []),
  ])
}

/** Services with tasks that wait for a node: why this one will not do. */
function waitingFor(view: StoreView, info: NodeInfo): readonly string[] {
  const waiting = view.list('task').filter((task) => awaitsNode(task) && (!task.nodeId || task.nodeId === info.node.id))
  const lines = [...groupBy(waiting, (task) => task.serviceId)].slice(0, MAX_SERVICES + 1).map(([, group]) => {
    const [first] = group
    const what = `${group.length} waiting ${group.length === 1 ? 'task' : 'tasks'} of service ${first!.serviceName}`
    const refusal = refusalOf(filtersOf(view, first!), info)
    if (!refusal) return `it would do for ${what}`
    return `not chosen for ${what}: ${refusal.reason}${refusal.detail ? ` (${refusal.detail})` : ''}`
  })
  return lines.length > MAX_SERVICES ? [...lines.slice(0, MAX_SERVICES), 'and for more services'] : lines
}

function putBack(view: StoreView, info: NodeInfo, tasks: readonly Task[], nowMs: number): readonly string[] {
  const services = new Set(tasks.filter((task) => task.slot > 0).map((task) => task.serviceId))
  return [...services].flatMap((serviceId) => {
    const service = view.get('service', serviceId)
    const failures = service ? info.recentFailures(serviceId, service.specVersion, nowMs) : 0
    if (failures < MAX_FAILURES) return []
    return [
      `chosen last for service ${service?.spec.Name}: its tasks failed here ${failures} times in the last 5 minutes`,
    ]
  })
}

function resources(info: NodeInfo): readonly string[] {
  const { NanoCPUs = 0, MemoryBytes = 0 } = info.node.description.Resources ?? {}
  const reserved = NanoCPUs !== info.freeNanoCpus || MemoryBytes !== info.freeMemoryBytes
  if (!reserved) return []
  const cpus = `${(info.freeNanoCpus / 1e9).toFixed(2)} of ${(NanoCPUs / 1e9).toFixed(2)} CPUs`
  const memory = `${Math.round(info.freeMemoryBytes / 2 ** 20)} of ${Math.round(MemoryBytes / 2 ** 20)} MiB`
  return [`not reserved: ${cpus}, ${memory}`]
}

function nodeEvents(node: Node): readonly WhyEventJson[] {
  const event = (Time: string, What: string): WhyEventJson => ({ Time, By: 'manager', Task: '', TaskID: '', What })
  return [
    event(node.meta.createdAt, 'joined the cluster'),
    ...(node.downSince
      ? [event(node.downSince, `went down${node.status.message ? `: ${node.status.message}` : ''}`)]
      : []),
  ]
}

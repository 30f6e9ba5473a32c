// The filters that a node has to pass for a task, in Swarm's order and with Swarm's words for why it did not.

import type { Task } from '../../api/objects.ts'
import type { MountSpec, NodeDescription, Platform } from '../../api/spec.ts'
import { constraintsOf, nodeMeets, unmetConstraint } from './constraint.ts'
import { diskPressureFilter } from './disk-pressure-filter.ts'
import { hostPortsOf, type NodeInfo } from './node-info.ts'

export interface Filter {
  check(info: NodeInfo): boolean
  explain(nodes: number): string
  /** What it refuses for, without counting. */
  readonly what: string
  /** Of a node that it refuses: what that node says of it. */
  reason?(info: NodeInfo): string
  /** Of a node that it refuses: what exactly is in the way, for a person who asks. */
  detail?(info: NodeInfo): string
  /** What it refuses may pass once tasks end; else only once a node changes. */
  readonly dependsOnTasks: boolean
}

function onNodes(what: string): Pick<Filter, 'what' | 'explain'> {
  return { what, explain: (nodes) => (nodes === 1 ? `${what} on 1 node` : `${what} on ${nodes} nodes`) }
}

const ready: Filter = {
  check: ({ node }) => node.status.state === 'ready' && (node.spec.Availability ?? 'active') === 'active',
  explain: (nodes) =>
    nodes === 1 ? '1 node not available for new tasks' : `${nodes} nodes not available for new tasks`,
  what: 'not available for new tasks',
  detail: ({ node: { status, spec } }) =>
    status.state === 'ready'
      ? `its availability is ${spec.Availability}`
      : `it is ${status.state}${status.message ? `: ${status.message}` : ''}`,
  dependsOnTasks: false,
}

function cpus(nanoCpus: number): number {
  return Math.round(nanoCpus / 1e6) / 1e3
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20)
}

function resources(task: Task): Filter | undefined {
  const { NanoCPUs = 0, MemoryBytes = 0, GenericResources } = task.spec.Resources?.Reservations ?? {}
  const generic = GenericResources ?? []
  if (NanoCPUs === 0 && MemoryBytes === 0 && generic.length === 0) return undefined
  return {
    check: (info) =>
      (NanoCPUs === 0 || NanoCPUs <= info.freeNanoCpus) &&
      (MemoryBytes === 0 || MemoryBytes <= info.freeMemoryBytes) &&
      (generic.length === 0 || info.freeGenericResources().choose(generic) !== undefined),
    ...onNodes('insufficient resources'),
    detail: (info) =>
      [
        ...(NanoCPUs > info.freeNanoCpus
          ? [`${cpus(NanoCPUs)} CPUs wanted, ${cpus(info.freeNanoCpus)} not reserved`]
          : []),
        ...(MemoryBytes > info.freeMemoryBytes
          ? [`${mebibytes(MemoryBytes)} MiB wanted, ${mebibytes(info.freeMemoryBytes)} not reserved`]
          : []),
        ...(generic.length > 0 && info.freeGenericResources().choose(generic) === undefined
          ? ['not enough generic resources']
          : []),
      ].join('; '),
    dependsOnTasks: true,
  }
}

function volumeDriver(mount: MountSpec): string | undefined {
  const name = mount.Type === 'volume' ? mount.VolumeOptions?.DriverConfig?.Name : undefined
  return name && name !== 'local' ? name : undefined
}

/** A node that reports no plugins of a type at all is not asked. */
function hasPlugin(description: NodeDescription, type: string, name: string): boolean {
  const plugins = (description.Engine?.Plugins ?? []).filter((plugin) => plugin.Type === type)
  return plugins.length === 0 || plugins.some((plugin) => plugin.Name === name || plugin.Name === `${name}:latest`)
}

function plugins(task: Task): Filter | undefined {
  const volumes = (task.spec.ContainerSpec?.Mounts ?? []).flatMap((mount) => volumeDriver(mount) ?? [])
  const logDriver = task.spec.LogDriver?.Name
  const log = logDriver && logDriver !== 'none' ? logDriver : undefined
  if (volumes.length === 0 && !log) return undefined
  return {
    check: ({ node }) =>
      volumes.every((name) => hasPlugin(node.description, 'Volume', name)) &&
      (!log || hasPlugin(node.description, 'Log', log)),
    ...onNodes('missing plugin'),
    detail: ({ node }) =>
      [
        ...volumes
          .filter((name) => !hasPlugin(node.description, 'Volume', name))
          .map((name) => `volume driver ${name}`),
        ...(log && !hasPlugin(node.description, 'Log', log) ? [`log driver ${log}`] : []),
      ].join(', '),
    dependsOnTasks: false,
  }
}

function constraints(task: Task): Filter | undefined {
  const wanted = constraintsOf(task.spec.Placement?.Constraints)
  if (wanted.length === 0) return undefined
  return {
    check: ({ node }) => nodeMeets(node, wanted),
    ...onNodes('scheduling constraints not satisfied'),
    detail: ({ node }) => unmetConstraint(node, wanted) ?? '',
    dependsOnTasks: false,
  }
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' }

function architecture(platform: Platform): string {
  const name = platform.Architecture ?? ''
  return ARCHITECTURES[name] ?? name
}

function platform(task: Task): Filter | undefined {
  const wanted = task.spec.Placement?.Platforms ?? []
  if (wanted.length === 0) return undefined
  return {
    check: ({ node }) => {
      const actual = node.description.Platform
      return (
        actual !== undefined &&
        wanted.some(
          (one) =>
            (!one.Architecture || architecture(one) === architecture(actual)) && (!one.OS || one.OS === actual.OS),
        )
      )
    },
    ...onNodes('unsupported platform'),
    detail: ({ node }) => {
      const { OS = '?', Architecture = '?' } = node.description.Platform ?? {}
      const names = wanted.map((one) => `${one.OS || 'any'}/${one.Architecture || 'any'}`)
      return `the node is ${OS}/${Architecture}, the image is for ${names.join(', ')}`
    },
    dependsOnTasks: false,
  }
}

function hostPorts(task: Task): Filter | undefined {
  const ports = hostPortsOf(task)
  if (ports.length === 0) return undefined
  return {
    check: (info) => !ports.some((port) => info.usesHostPort(port)),
    ...onNodes('host-mode port already in use'),
    detail: (info) => ports.filter((port) => info.usesHostPort(port)).join(', '),
    dependsOnTasks: true,
  }
}

function maxReplicas(task: Task): Filter | undefined {
  const limit = task.spec.Placement?.MaxReplicas ?? 0
  if (limit === 0) return undefined
  return {
    check: (info) => info.activeOf(task.serviceId) < limit,
    explain: () => 'max replicas per node limit exceed',
    what: 'max replicas per node limit exceed',
    detail: (info) => `it has ${info.activeOf(task.serviceId)} of at most ${limit}`,
    dependsOnTasks: true,
  }
}

/** Its host lacks what a data plane is made of. */
function networks(task: Task): Filter | undefined {
  if (task.attachments.length === 0) return undefined
  const reason = ({ node }: NodeInfo): string =>
    node.dataPath?.problems.find(({ code }) => code === 'DATA_PLANE_UNAVAILABLE')?.message ?? ''
  return {
    check: (info) => reason(info) === '',
    ...onNodes('overlay networks not available'),
    reason,
    dependsOnTasks: false,
  }
}

function encryption(task: Task, isEncrypted: (networkId: string) => boolean): Filter | undefined {
  if (!task.attachments.some(({ networkId }) => isEncrypted(networkId))) return undefined
  // With keys the problem is one of the moment.
  const reason = ({ node }: NodeInfo): string =>
    node.dataPath?.encryptionKeys.length === 0 ? node.dataPath.encryptionProblem : ''
  return {
    check: (info) => reason(info) === '',
    ...onNodes('encrypted networks not available'),
    reason,
    dependsOnTasks: false,
  }
}

/** The filters that the task needs. */
export function filtersFor(task: Task, isEncrypted: (networkId: string) => boolean = () => false): readonly Filter[] {
  const optional = [
    resources(task),
    plugins(task),
    constraints(task),
    platform(task),
    hostPorts(task),
    maxReplicas(task),
    networks(task),
    encryption(task, isEncrypted),
  ]
  return [ready, diskPressureFilter, ...optional.filter((filter) => filter !== undefined)]
}

export function passes(filters: readonly Filter[], info: NodeInfo): boolean {
  return filters.every((filter) => filter.check(info))
}

/** Counts nodes by the filter that refuses them: what is kept of a placement. */
export class Tally {
  readonly #filters: readonly Filter[]
  readonly #refused = new Map<Filter, number>()
  nodes = 0
  fit = 0

  constructor(filters: readonly Filter[]) {
    this.#filters = filters
  }

  /** As `passes`; to be asked once of each node. */
  passes(info: NodeInfo): boolean {
    this.nodes++
    for (const filter of this.#filters) {
      if (filter.check(info)) continue
      this.#refused.set(filter, (this.#refused.get(filter) ?? 0) + 1)
      return false
    }
    this.fit++
    return true
  }

  text(): string {
    const sorted = [...this.#refused].sort(([, a], [, b]) => b - a)
    return sorted.map(([filter, count]) => filter.explain(count)).join('; ')
  }
}

/** The first filter that refuses the node; undefined: it would do. */
export function refusalOf(
  filters: readonly Filter[],
  info: NodeInfo,
): { readonly reason: string; readonly detail: string } | undefined {
  const refusing = filters.find((filter) => !filter.check(info))
  return refusing && { reason: refusing.what, detail: (refusing.detail ?? refusing.reason)?.(info) ?? '' }
}

export interface Explanation {
  /** Swarm's text, the most frequent reason first; empty without nodes. */
  readonly text: string
  readonly dependsOnTasks: boolean
}

/** Why none of the nodes will do: for each the first filter that refuses it. */
export function explain(filters: readonly Filter[], nodes: Iterable<NodeInfo>): Explanation {
  const counts = new Map<Filter, number>(filters.map((filter) => [filter, 0]))
  const said = new Map<Filter, string>()
  for (const info of nodes) {
    const refusing = filters.find((filter) => !filter.check(info))
    if (!refusing) continue
    counts.set(refusing, (counts.get(refusing) ?? 0) + 1)
    if (refusing.reason && !said.has(refusing)) said.set(refusing, `: ${refusing.reason(info)}`)
  }
  const reasons = [...counts].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a)
  return {
    text: reasons.map(([filter, count]) => `${filter.explain(count)}${said.get(filter) ?? ''}`).join('; '),
    dependsOnTasks: reasons.some(([filter]) => filter.dependsOnTasks),
  }
}

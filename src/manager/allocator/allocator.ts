// Gives services their published ports and virtual addresses, and tasks theirs, and lets the tasks pass: NEW → PENDING, with
// everything that was allocated for a task written in the same transaction. One key is a service. What can't be given is said
// on the service and its tasks, and tried again when what they wait for is given back. On the ingress network each node has
// its own block, so a task's address there follows its node: it is written once the scheduler has chosen one, before the node
// is told of the task.

import type { Attachment, Network, Service, Task, VirtualIp } from '../../api/objects.ts'
import { isToRun } from '../../api/spec.ts'
import { specsEqual } from '../../api/spec-equality.ts'
import type { Controller, Decision, Problem, ReconcileContext } from '../loop/controller.ts'
import { NOTHING } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { serviceProblem } from '../loop/service-problem.ts'
import { statusAfter } from '../loop/task-status.ts'
import { awaitsAddresses, isAttachment } from '../store/indexes.ts'
import type { Change, StoreEvent, StoreView, Transaction } from '../store/types.ts'
import { AddressBook } from './address-book.ts'
import { ANYWHERE, type Region, SERVICE_BLOCK } from './address-pool.ts'
import { ALLOCATOR, PENDING_MESSAGE } from './awaits-allocator.ts'
import { allocatePorts, needsPorts, portKeyOf } from './ports.ts'
import { reportedRoutes } from './reported-routes.ts'
import { addressesThatStay, addressHolder, hasWished, unsuitableAddress, wishedAddresses } from './static-addresses.ts'
import { allocateNetwork } from './subnets.ts'
import { networkName, networksOfTask, networksWithVip } from './wanted-networks.ts'

const MAX_TASKS_PER_LOOK = 200
/** What is given back is heard of; an address that was reserved for a proposal that failed is not. */
const STARVED_RETRY_MS = 5_000
/** Keys of plain containers' places begin with it; all others are ids of services. */
const ATTACHMENT = 'attachment/'

type Attached = { readonly attachments: readonly Attachment[] } | { readonly problem: Problem }

export class Allocator implements Controller {
  readonly name = ALLOCATOR
  readonly #addresses = new AddressBook()
  /** Ports given to a service in a proposal that is under way. */
  readonly #proposed = new Map<string, readonly string[]>()
  /** Services that wait for what other services hold. */
  readonly #blocked = new Set<string>()
  /** Services that wait for an address, by the network. */
  readonly #starved = new Map<string, Set<string>>();

  *start(view: StoreView): Iterable<string | undefined> {
    this.#proposed.clear()
    this.#blocked.clear()
    this.#starved.clear()
    yield* this.#addresses.build(view)
    for (const service of view.list('service')) {
      if (needsAllocation(view, service) || view.tasksOfService(service.id).some(isWaiting)) yield service.id
      else yield undefined
    }
    for (const [at, task] of view.list('task').entries()) {
      if (isAttachment(task) && isNew(task)) yield attachmentKey(task.id)
      else if (at % 100 === 0) yield undefined
    }
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    for (const networkId of this.#addresses.observe(event, view)) yield* this.#starved.get(networkId) ?? []
    const { old, new: next } = event
    if (event.objectKind === 'service') {
      if (next?.kind === 'service' && needsAllocation(view, next)) yield event.id
      if (event.kind !== 'create') yield* this.#blocked
    } else if (next?.kind === 'task') {
      if (isNew(next) && old === undefined) yield isAttachment(next) ? attachmentKey(next.id) : next.serviceId
      else if (awaitsAddresses(next) && old?.kind === 'task' && !awaitsAddresses(old)) yield next.serviceId
    } else if (next?.kind === 'network' && next.spec.Ingress) {
      // Services that published ports while there was none, or another one.
      for (const service of view.list('service')) if (needsAllocation(view, service)) yield service.id
    }
  }

  reconcile(view: StoreView, key: string, { nowMs }: ReconcileContext): Decision {
    if (key.startsWith(ATTACHMENT)) return this.#attachPlain(view, key, nowMs)
    const serviceId = key
    this.#blocked.delete(serviceId)
    for (const services of this.#starved.values()) services.delete(serviceId)
    const service = view.get('service', serviceId)
    if (!service) return NOTHING
    const tasks = view.tasksOfService(serviceId)
    const fresh = tasks.filter(isNew)
    const bare = unallocatedNetworks(view, service, fresh)
    if (bare.length > 0) return this.#allocateNetworks(view, service, fresh, bare, nowMs)
    if (needsAllocation(view, service)) return this.#allocate(view, service, fresh, nowMs)
    return this.#pass(view, service, [...tasks.filter(awaitsAddresses), ...fresh], nowMs)
  }

  /** For metrics: how full each network is. */
  addressUse(): ReturnType<AddressBook['use']> {
    return this.#addresses.use()
  }

  settled(serviceId: string, view: StoreView): void {
    this.#proposed.delete(serviceId)
    this.#addresses.settle(serviceId, view)
  }

  report(
    view: StoreView,
    serviceId: string,
    problem: Problem | undefined,
    context: ReconcileContext,
  ): Transaction | undefined {
    return serviceProblem(view.get('service', serviceId), this.name, problem, context.nowMs)
  }

  /** A plain container's place: its node is known, and whoever asked for it waits for the answer. */
  #attachPlain(view: StoreView, key: string, nowMs: number): Decision {
    const task = view.get('task', key.slice(ATTACHMENT.length))
    if (!task || !isNew(task)) return NOTHING
    const [wanted] = task.spec.Networks ?? []
    const { Target: networkId = '', Aliases: aliases = [], Addresses: wished = [] } = wanted ?? {}
    const addresses = this.#addresses.take(view, networkId, ANYWHERE, key, task, wished)
    const status = (state: 'assigned' | 'rejected', error = ''): Change => {
      const message = state === 'assigned' ? 'attached' : 'not attached'
      return { kind: 'task-status', taskId: task.id, status: statusAfter(task, { state, message, error }, nowMs) }
    }
    if (!addresses) {
      const name = networkName(view.get('network', networkId), networkId)
      const why =
        wished.length > 0
          ? `Address already in use on network ${name}: ${wished.join(', ')}`
          : `no available IPv4 or IPv6 addresses on network ${name}: ${this.#addresses.describe(view, networkId, ANYWHERE)}`
      return { transactions: [[status('rejected', why)]] }
    }
    const object = { ...task, attachments: [{ networkId, addresses, aliases }] }
    return { transactions: [[{ kind: 'update', object, expectedVersion: task.meta.version }, status('assigned')]] }
  }

  /** Networks are allocated when they are created; those of an older version's store are when they are first used. */
  #allocateNetworks(
    view: StoreView,
    service: Service,
    tasks: readonly Task[],
    networks: readonly Network[],
    nowMs: number,
  ): Decision {
    const [network] = networks
    if (!network) return NOTHING
    const avoid = reportedRoutes(view).map(({ cidr }) => cidr)
    const allocation = allocateNetwork(view, network.id, network.spec, { avoid })
    if (allocation.kind === 'refused') {
      this.#blocked.add(service.id)
      const message = `network ${networkName(network, network.id)}: ${allocation.message}`
      return { transactions: refuse(service, tasks, this.name, { code: allocation.code, message }, nowMs) }
    }
    const object = { ...network, allocated: allocation.allocated }
    const change = { kind: 'update', object, expectedVersion: network.meta.version } as const
    return { transactions: [[change]], requeueAtMs: nowMs }
  }

  #allocate(view: StoreView, service: Service, tasks: readonly Task[], nowMs: number): Decision {
    const ports = allocatePorts(view, service, new Set([...this.#proposed.values()].flat()))
    const vips = ports.kind === 'refused' ? ports : this.#virtualIps(view, service)
    if (ports.kind === 'refused' || 'code' in vips) {
      this.#blocked.add(service.id)
      const { code, message } = ports.kind === 'refused' ? ports : (vips as Problem)
      const requeueAtMs = code === 'ADDRESS_CONFLICT' ? nowMs + STARVED_RETRY_MS : undefined
      return { transactions: refuse(service, tasks, this.name, { code, message }, nowMs), requeueAtMs }
    }
    this.#proposed.set(service.id, ports.ports.map(portKeyOf))
    const { problem, ...rest } = service
    const endpoint = { spec: service.spec.EndpointSpec ?? {}, ports: ports.ports, virtualIps: vips }
    const object: Service = problem?.source === this.name ? { ...rest, endpoint } : { ...service, endpoint }
    const transaction = [{ kind: 'update', object, expectedVersion: service.meta.version } as const]
    return { transactions: [transaction], requeueAtMs: nowMs }
  }

  /** Those that it has on networks that it still is on stay, unless it asks for others; in the order of its networks. */
  #virtualIps(view: StoreView, service: Service): readonly VirtualIp[] | Problem {
    const before = service.endpoint?.virtualIps ?? []
    const given: VirtualIp[] = []
    for (const networkId of networksWithVip(view, service)) {
      const kept = before.filter((vip) => vip.networkId === networkId)
      const network = view.get('network', networkId)
      if (kept.length > 0 && hasWished(service, network)) {
        given.push(...kept)
        continue
      }
      const wished = wishedAddresses(service.spec.Labels, network)
      const inTheWay =
        network && (unsuitableAddress(network, wished) ?? addressHolder(view, network, wished, service.id))
      const stay = addressesThatStay(
        kept.map(({ address }) => address),
        wished,
      )
      const taken = inTheWay
        ? undefined
        : this.#addresses.take(view, networkId, SERVICE_BLOCK, service.id, service, wished, stay)
      if (!taken) {
        this.#addresses.giveBack(service.id, service.id)
        const exhausted = this.#exhausted(view, service.id, networkId, SERVICE_BLOCK)
        return inTheWay ? { code: 'ADDRESS_CONFLICT', message: inTheWay } : exhausted
      }
      given.push(...taken.map((address) => ({ networkId, address })))
    }
    return given
  }

  #pass(view: StoreView, service: Service, tasks: readonly Task[], nowMs: number): Decision {
    const batch = tasks.slice(0, MAX_TASKS_PER_LOOK)
    const units: (readonly Change[])[] = []
    let problem: Problem | undefined
    for (const task of batch) {
      const attached = this.#attach(view, service, task)
      if ('problem' in attached) {
        problem = attached.problem
        units.push(refusal(task, problem.message, nowMs))
      } else if (isNew(task)) units.push(passOn(service, task, attached.attachments, nowMs))
      else units.push([{ kind: 'update', object: { ...task, ...attached }, expectedVersion: task.meta.version }])
    }
    const shown = batch.length > 0 ? serviceProblem(service, this.name, problem, nowMs) : undefined
    const transactions = packChanges(units.filter((unit) => unit.length > 0))
    const requeueAtMs = problem ? nowMs + STARVED_RETRY_MS : tasks.length > batch.length ? nowMs : undefined
    return { transactions: shown ? [...transactions, shown] : transactions, requeueAtMs }
  }

  /** All of a task's addresses that can be given now, or none. */
  #attach(view: StoreView, service: Service, task: Task): Attached {
    const attachments: Attachment[] = []
    const wanted: readonly Attachment[] = isNew(task)
      ? networksOfTask(view, service, task).map((network) => ({ ...network, addresses: [] }))
      : task.attachments
    for (const attachment of wanted) {
      const { networkId } = attachment
      const region = regionOf(view, networkId, task)
      if (attachment.addresses.length > 0 || !region) {
        attachments.push(attachment)
        continue
      }
      const addresses = this.#addresses.take(view, networkId, region, service.id, task)
      if (!addresses) {
        this.#addresses.giveBack(service.id, task.id)
        return { problem: this.#exhausted(view, service.id, networkId, region) }
      }
      attachments.push({ ...attachment, addresses })
    }
    return { attachments }
  }

  #exhausted(view: StoreView, serviceId: string, networkId: string, region: Region): Problem {
    const services = this.#starved.get(networkId)
    if (services) services.add(serviceId)
    else this.#starved.set(networkId, new Set([serviceId]))
    const network = view.get('network', networkId)
    if (!network) return { code: 'NETWORK_NOT_FOUND', message: `network ${networkId} not found` }
    const name = networkName(network, networkId)
    const message = `no available IPv4 or IPv6 addresses on network ${name}: ${this.#addresses.describe(view, networkId, region)}`
    return { code: 'ADDRESSES_EXHAUSTED', message }
  }
}

function attachmentKey(taskId: string): string {
  return `${ATTACHMENT}${taskId}`
}

/** Where the task's address on the network is to be; undefined while that is not known. */
function regionOf(view: StoreView, networkId: string, task: Task): Region | undefined {
  if (!view.get('network', networkId)?.spec.Ingress) return ANYWHERE
  const node = task.nodeId ? view.get('node', task.nodeId) : undefined
  return node && { kind: 'block', number: node.number }
}

function unallocatedNetworks(view: StoreView, service: Service, tasks: readonly Task[]): readonly Network[] {
  const ids = new Set(networksWithVip(view, service))
  for (const task of tasks.slice(0, 1))
    for (const { networkId } of networksOfTask(view, service, task)) ids.add(networkId)
  return [...ids].flatMap((id) => {
    const network = view.get('network', id)
    return network && !network.allocated ? [network] : []
  })
}

/** Services that publish nothing and are on no network have nothing to allocate: they cost no write. */
function needsAllocation(view: StoreView, service: Service): boolean {
  const wanted = service.spec.EndpointSpec
  const networks = networksWithVip(view, service)
  if (!service.endpoint) return needsPorts(wanted) || networks.length > 0
  if (!specsEqual(wanted, service.endpoint.spec)) return true
  const held = new Set(service.endpoint.virtualIps.map(({ networkId }) => networkId))
  if (held.size !== networks.length || networks.some((id) => !held.has(id))) return true
  return networks.some((id) => !hasWished(service, view.get('network', id)))
}

function isNew(task: Task): boolean {
  return task.status.state === 'new' && isToRun(task.desiredState)
}

function isWaiting(task: Task): boolean {
  return isNew(task) || awaitsAddresses(task)
}

function passOn(service: Service, task: Task, attachments: readonly Attachment[], nowMs: number): readonly Change[] {
  const status = statusAfter(task, { state: 'pending', message: PENDING_MESSAGE }, nowMs)
  const changes: readonly Change[] = [{ kind: 'task-status', taskId: task.id, status }]
  const endpoint = service.endpoint ?? task.endpoint
  const hasEndpoint = endpoint && (endpoint.ports.length > 0 || endpoint.virtualIps.length > 0)
  if (!hasEndpoint && attachments.length === 0) return changes
  return [
    { kind: 'update', object: { ...task, endpoint, attachments }, expectedVersion: task.meta.version },
    ...changes,
  ]
}

/**
 * A new task waits; one that has a node already is rejected there, so that it is tried elsewhere: no node has been told of
 * it yet.
 */
function refusal(task: Task, error: string, nowMs: number): readonly Change[] {
  if (task.status.error === error) return []
  const state = isNew(task) ? 'new' : 'rejected'
  const status = statusAfter(task, { state, message: isNew(task) ? task.status.message : 'rejected', error }, nowMs)
  return [{ kind: 'task-status', taskId: task.id, status }]
}

function refuse(
  service: Service,
  tasks: readonly Task[],
  source: string,
  problem: Problem,
  nowMs: number,
): readonly Transaction[] {
  const shown = serviceProblem(service, source, problem, nowMs) ?? []
  const units = tasks.map((task) => refusal(task, problem.message, nowMs))
  return packChanges([shown, ...units].filter((unit) => unit.length > 0))
}

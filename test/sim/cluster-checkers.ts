// Watches every manager's store, entry by entry, for what must hold in each state and in each step from one to the next.

import type { Node, Service, Task } from '../../src/api/objects.ts'
import { compareTaskStates, isTerminal } from '../../src/api/spec.ts'
import type { Store } from '../../src/manager/store/store.ts'
import type { StoreEvent } from '../../src/manager/store/types.ts'
import { checkSlot, DependencyWatch } from './cluster-dependencies.ts'
import { ClusterViolation } from './cluster-violation.ts'

export class ClusterCheckers {
  /** Hash of the state after an entry, as the first manager computed it that applied it. */
  readonly #hashes = new Map<number, string>()
  /** Where a task was seen to stand, and how far: also over snapshots and restarts of managers. */
  readonly #tasks = new Map<string, { readonly nodeId: string; readonly state: Task['status']['state'] }>()
  readonly #dependencies = new DependencyWatch()
  #highest = 0
  #highestAcknowledged = 0

  get highestIndex(): number {
    return this.#highest
  }

  get highestAcknowledged(): number {
    return this.#highestAcknowledged
  }

  hashAt(index: number): string | undefined {
    return this.#hashes.get(index)
  }

  /** A new cluster goes on with the state of one manager: what others knew beyond that has never been. */
  beginAnew(): void {
    this.#hashes.clear()
    this.#tasks.clear()
    this.#highest = 0
    this.#highestAcknowledged = 0
  }

  /** A manager has applied an entry; `onNew` is called if it is the first one to. */
  observe(manager: string, store: Store, events: readonly StoreEvent[], onNew: () => void): void {
    this.#compare(manager, store)
    for (const event of events) this.#step(event)
    if (store.index <= this.#highest) return
    this.#highest = store.index
    onNew()
    for (const event of events) this.#newest(event, store)
  }

  /** A client was told that its write is in the entry `index`. */
  acknowledged(index: number, store: Store): void {
    this.#highestAcknowledged = Math.max(this.#highestAcknowledged, index)
    if (store.index < index)
      throw new ClusterViolation('acknowledged writes are kept', `${index} is acknowledged and not applied`)
  }

  /** At the end: a manager that has caught up has every acknowledged write. */
  finish(store: Store): void {
    if (store.index >= this.#highestAcknowledged && store.index >= this.#highest) return
    throw new ClusterViolation(
      'acknowledged writes are kept',
      `the state is at ${store.index}, ${this.#highestAcknowledged} was acknowledged and ${this.#highest} applied`,
    )
  }

  #compare(manager: string, store: Store): void {
    const hash = store.stateHash()
    const known = this.#hashes.get(store.index)
    if (known === undefined) this.#hashes.set(store.index, hash)
    else if (known !== hash)
      throw new ClusterViolation('managers are equal at an equal index', `${manager} differs at ${store.index}`)
  }

  #step({ old, new: next }: StoreEvent): void {
    if (next?.kind !== 'task') return
    const known = this.#tasks.get(next.id)
    if (old?.kind === 'task') {
      if (compareTaskStates(next.status.state, old.status.state) < 0)
        throw new ClusterViolation('task states only rise', `${next.id}: ${old.status.state} → ${next.status.state}`)
      if (compareTaskStates(next.desiredState, old.desiredState) < 0)
        throw new ClusterViolation(
          'task states only rise',
          `${next.id} wants ${old.desiredState} → ${next.desiredState}`,
        )
    }
    if (known && known.nodeId !== '' && next.nodeId !== '' && next.nodeId !== known.nodeId)
      throw new ClusterViolation('no task moves', `${next.id}: ${known.nodeId} → ${next.nodeId}`)
    if (next.nodeId !== '') this.#tasks.set(next.id, { nodeId: next.nodeId, state: next.status.state })
  }

  #newest(event: StoreEvent, store: Store): void {
    const { old, new: next } = event
    this.#dependencies.observe(event, store)
    if (next?.kind === 'task' && old === undefined && next.origin?.kind === 'replica') checkSlot(next, store)
    if (next?.kind === 'service') checkService(next, store)
    if (next?.kind === 'service' || next?.kind === 'task') checkAddresses(next, store)
    if (next?.kind === 'task' && old === undefined && next.origin?.kind === 'move') checkMove(next, store)
    if (next?.kind === 'node') checkNode(next, store)
    if (next?.kind === 'task' && next.nodeId !== '' && old?.kind === 'task' && old.nodeId === '')
      checkAssignment(next, store)
  }
}

function ingressPorts(service: Service): readonly string[] {
  return (service.endpoint?.ports ?? service.spec.EndpointSpec?.Ports ?? [])
    .filter((port) => port.PublishMode !== 'host' && port.PublishedPort)
    .map((port) => `${port.Protocol ?? 'tcp'}/${port.PublishedPort}`)
}

function checkService(service: Service, store: Store): void {
  const own = new Set(ingressPorts(service))
  for (const other of store.list('service')) {
    if (other.id === service.id) continue
    const port = ingressPorts(other).find((one) => own.has(one))
    if (other.spec.Name === service.spec.Name || port)
      throw new ClusterViolation('unique names, ports and numbers', `services ${service.id} and ${other.id}: ${port}`)
  }
}

/** A task that has not ended holds its addresses, a service its virtual ones. */
function addressesOf(object: Service | Task): readonly string[] {
  const bare = (networkId: string, cidr: string) => `${networkId} ${cidr.split('/')[0]}`
  if (object.kind === 'service') return (object.endpoint?.virtualIps ?? []).map((ip) => bare(ip.networkId, ip.address))
  if (isTerminal(object.status.state)) return []
  return object.attachments.flatMap(({ networkId, addresses }) => addresses.map((address) => bare(networkId, address)))
}

function checkAddresses(object: Service | Task, store: Store): void {
  const own = new Set(addressesOf(object))
  if (own.size === 0) return
  for (const other of [...store.list('service'), ...store.list('task')]) {
    if (other.id === object.id) continue
    const address = addressesOf(other).find((one) => own.has(one))
    if (address) throw new ClusterViolation('unique addresses', `${object.id} and ${other.id} have ${address}`)
  }
}

/** A move goes to another node, and not more of them are under way than may be. */
function checkMove(task: Task, store: Store): void {
  const run = store.get('service', task.serviceId)?.rebalance
  const predecessor = store.get('task', task.origin?.predecessorId ?? '')
  if (task.nodeId === '' || predecessor?.nodeId === task.nodeId || predecessor?.slot !== task.slot)
    throw new ClusterViolation('rebalancing', `${task.id} is to take over from ${predecessor?.id} on ${task.nodeId}`)
  if (run?.id !== task.origin?.rebalanceId || run?.state !== 'running') return
  const active = new Set(
    store.list('service').flatMap(({ rebalance }) => (rebalance?.state === 'running' ? rebalance.id : [])),
  )
  const starting = store.list('task').filter((one) => {
    const isMove = one.origin?.kind === 'move' && active.has(one.origin.rebalanceId ?? '')
    return isMove && occupies(one) && one.status.state !== 'running'
  })
  if (starting.length > run.atOnce)
    throw new ClusterViolation('rebalancing', `${starting.length} moves are under way, ${run.atOnce} may be`)
}

function checkNode(node: Node, store: Store): void {
  if (node.number === 0) return
  const other = store.list('node').find((one) => one.id !== node.id && one.number === node.number)
  if (other) throw new ClusterViolation('unique names, ports and numbers', `nodes ${node.id} and ${other.id}`)
}

function occupies(task: Task): boolean {
  return compareTaskStates(task.status.state, 'running') <= 0 && compareTaskStates(task.desiredState, 'complete') <= 0
}

function hostPorts(task: Task): readonly string[] {
  return (task.endpoint?.ports ?? [])
    .filter((port) => port.PublishMode === 'host' && port.PublishedPort)
    .map((port) => `${port.Protocol ?? 'tcp'}/${port.PublishedPort}`)
}

/** The node has room for the task beside those that stand there and are to stay. */
function checkAssignment(task: Task, store: Store): void {
  const node = store.get('node', task.nodeId)
  const others = store.tasksOfNode(task.nodeId).filter((one) => one.id !== task.id && occupies(one))
  const reserved = (one: Task) => one.spec.Resources?.Reservations?.NanoCPUs ?? 0
  const total = [task, ...others].reduce((sum, one) => sum + reserved(one), 0)
  const has = node?.description.Resources?.NanoCPUs ?? 0
  if (node && reserved(task) > 0 && total > has)
    throw new ClusterViolation('placement', `${task.id}: ${total} of ${has} nano CPUs are reserved on ${node.id}`)
  const ports = new Set(hostPorts(task))
  const holder = others.find((one) => hostPorts(one).some((port) => ports.has(port)))
  if (holder)
    throw new ClusterViolation('placement', `${task.id} and ${holder.id} have one host port on ${task.nodeId}`)
  const most = task.spec.Placement?.MaxReplicas ?? 0
  const same = others.filter((one) => one.serviceId === task.serviceId).length + 1
  if (most > 0 && same > most)
    throw new ClusterViolation('placement', `${same} of ${task.serviceName} on ${task.nodeId}, ${most} at most`)
}

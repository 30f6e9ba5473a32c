// What is still amiss in a cluster whose faults are healed and whose users rest. Nothing, within bounded time: that is
// convergence.

import type { Node, Service, Task } from '../../src/api/objects.ts'
import { compareTaskStates } from '../../src/api/spec.ts'
import { addressHolder, hasWished, wishedAddresses } from '../../src/manager/allocator/static-addresses.ts'
import type { Manager } from '../../src/manager/manager.ts'
import { nodeMeetsExpressions } from '../../src/manager/scheduler/constraint.ts'
import { issueCertificate } from './cluster-certificate.ts'
import { dataPlaneComplaints } from './cluster-data-plane.ts'
import { mayWait } from './cluster-dependencies.ts'
import type { SimMachine } from './cluster-machine.ts'
import { isSound } from './cluster-programs.ts'

/** @returns for people; empty where all is as it should be */
export function complaints(machines: readonly SimMachine[], seenOrphans: Set<string>): readonly string[] {
  const managers = machines.flatMap((machine) => (machine.manager ? [machine.manager] : []))
  const leaders = managers.filter((manager) => manager.isLeader)
  const leader = leaders[0]
  if (!leader || leaders.length > 1) return [`${leaders.length} leaders`]
  return [
    ...ofManagers(leader, managers),
    ...ofNodes(leader, machines),
    ...ofTrust(leader, machines),
    ...leader.store.list('service').flatMap((service) => ofService(service, leader)),
    ...ofTasks(leader),
    ...ofContainers(leader, machines, seenOrphans),
    ...dataPlaneComplaints(leader.store, machines),
  ]
}

function ofManagers(leader: Manager, managers: readonly Manager[]): readonly string[] {
  const { conf } = leader.raft.status()
  const nodes = realNodes(leader.store)
  const wanted = nodes.filter((node) => node.spec.Role === 'manager')
  return [
    ...wanted.flatMap((node) =>
      node.manager && conf.voters.includes(node.manager.raftId) ? [] : [`manager ${node.id} is no voter`],
    ),
    ...conf.members.flatMap(({ id }) =>
      wanted.some((node) => node.manager?.raftId === id) ? [] : [`member ${id} is no manager’s`],
    ),
    ...(conf.outgoing.length > 0 ? ['a membership change is under way'] : []),
    ...managers.flatMap((manager) => {
      const applied = manager.status()?.applied ?? 0
      const behind = applied !== leader.status()?.applied || manager.store.stateHash() !== leader.store.stateHash()
      return behind ? [`manager ${manager.nodeId} is at ${applied}`] : []
    }),
    ...(managers.length === wanted.length ? [] : [`${managers.length} managers run, ${wanted.length} are wanted`]),
  ]
}

/** A node whose machine never learned that its request to join was granted has a record and nothing else. */
function realNodes(store: Manager['store']): readonly Node[] {
  return store.list('node').filter((node) => node.description.Hostname !== undefined)
}

function ofNodes(leader: Manager, machines: readonly SimMachine[]): readonly string[] {
  const nodes = realNodes(leader.store)
  return [
    ...nodes.flatMap((node) => [
      ...(node.status.state === 'ready'
        ? []
        : [`node ${node.description.Hostname ?? node.id} is ${node.status.state}`]),
      ...(node.role === (node.spec.Role ?? 'worker') ? [] : [`node ${node.id} is still ${node.role}`]),
    ]),
    ...machines.flatMap(({ host, files }) =>
      !files || nodes.some((node) => node.id === files.nodeId && node.role === files.role)
        ? []
        : [`${host} is ${files.role} ${files.nodeId}`],
    ),
  ]
}

/** A rotation ends once every node has changed; a record that nobody ever came for holds it up, until somebody removes it. */
function ofTrust({ store }: Manager, machines: readonly SimMachine[]): readonly string[] {
  const cluster = store.cluster()
  if (!cluster) return ['there is no cluster']
  const { issuerPem, rootsPem } = issueCertificate(cluster)
  const isHeldUp = realNodes(store).length < store.list('node').length
  return [
    ...(cluster.rootCa.rotation && !isHeldUp ? ['the root is still being rotated'] : []),
    ...machines.flatMap(({ host, files }) =>
      !files || (files.certificate.issuerPem === issuerPem && files.certificate.rootsPem.join() === rootsPem.join())
        ? []
        : [`${host} has a certificate of another root, or trusts others, than is wanted`],
    ),
  ]
}

function runs(task: Task): boolean {
  return task.desiredState === 'running' && task.status.state === 'running'
}

function ofService(service: Service, { store }: Manager): readonly string[] {
  const { spec } = service
  const live = store
    .tasksOfService(service.id)
    .filter(
      (task) =>
        compareTaskStates(task.desiredState, 'running') <= 0 && compareTaskStates(task.status.state, 'running') <= 0,
    )
  const found: string[] = []
  const lacks = (spec.TaskTemplate?.Networks ?? []).some(
    ({ Target = '' }) => !hasWished(service, store.get('network', Target)),
  )
  if (lacks && !service.problem) found.push(`service ${spec.Name} has not the address that it asks for`)
  if (service.rebalance?.state === 'running') found.push(`service ${spec.Name} is still being rebalanced`)
  const placement = spec.TaskTemplate?.Placement
  const meets = (node: Node) => nodeMeetsExpressions(node, placement?.Constraints)
  const open = realNodes(store).filter((node) => (node.spec.Availability ?? 'active') === 'active' && meets(node))
  const wanted = spec.Mode?.Replicated?.Replicas
  // Nobody starts again what a fault has ended where the policy says so.
  const rests = spec.TaskTemplate?.RestartPolicy?.Condition === 'none'
  const waits = waitsForAddress(service, store)
  const lasts = !rests && !waits && !mayWait(store, service)
  const sound = isSound(spec.TaskTemplate) && live.every((task) => isSound(task.spec))
  const hostPort = (spec.EndpointSpec?.Ports ?? []).some((port) => port.PublishMode === 'host')
  const perNode = Math.min(placement?.MaxReplicas || Infinity, hostPort ? 1 : Infinity)
  // A known trap: the new task of start-first may need the place that the old one has, or there may be no place at all.
  const startFirst = [spec.UpdateConfig, spec.RollbackConfig].some((config) => config?.Order === 'start-first')
  const trapped = (perNode < Infinity || open.length === 0) && startFirst
  const isKnown = waits
    ? service.problem?.code === 'ADDRESS_CONFLICT'
    : trapped && service.problem?.code === 'START_FIRST_BLOCKED'
  if (service.problem && !isKnown) {
    found.push(`service ${spec.Name}: ${service.problem.message}`)
  }
  if (wanted === undefined) {
    for (const node of realNodes(store)) {
      const there = live.filter((task) => task.nodeId === node.id)
      const least = sound && lasts && open.includes(node) ? 1 : 0
      const most = node.spec.Availability === 'drain' || !meets(node) ? 0 : 1
      if (there.filter(runs).length < least || (sound && there.length > most * (trapped ? 2 : 1)))
        found.push(`service ${spec.Name} has ${there.length} tasks on ${node.description.Hostname}`)
    }
  } else {
    const least = open.length === 0 ? 0 : Math.min(wanted, perNode * open.length)
    const running = live.filter(runs).length
    if (sound && lasts && running < least) found.push(`${running} of ${least} replicas of ${spec.Name} run`)
    if (sound && live.length > wanted * (trapped ? 2 : 1))
      found.push(`${live.length} tasks of ${spec.Name}, ${wanted} replicas are wanted`)
    if (sound && running >= wanted && !trapped && isUnderWay(service))
      found.push(`${spec.Name}: ${service.updateStatus?.State}`)
  }
  return found
}

/** Another has the address that it asks for. Whoever asks for one that is free has it. */
function waitsForAddress(service: Service, store: Manager['store']): boolean {
  return (service.spec.TaskTemplate?.Networks ?? []).some(({ Target = '' }) => {
    const network = store.get('network', Target)
    if (!network || hasWished(service, network)) return false
    return addressHolder(store, network, wishedAddresses(service.spec.Labels, network), service.id) !== undefined
  })
}

function isUnderWay(service: Service): boolean {
  return ['updating', 'rollback_started'].includes(service.updateStatus?.State ?? '')
}

function ofTasks({ store }: Manager): readonly string[] {
  return store.list('task').flatMap((task) => {
    const text = `task ${task.id} of ${task.serviceName}`
    if (!store.get('service', task.serviceId)) return [`${text}, whose service is gone`]
    const ended = compareTaskStates(task.status.state, 'running') > 0
    if (!ended && compareTaskStates(task.desiredState, 'running') > 0) return [`${text} has not stopped`]
    if (task.nodeId !== '' && !ended && !store.get('node', task.nodeId)) return [`${text}, whose node is gone`]
    return []
  })
}

function ofContainers(leader: Manager, machines: readonly SimMachine[], seenOrphans: Set<string>): readonly string[] {
  const orphans = new Set<string>()
  const found: string[] = []
  const running = new Set<string>()
  for (const { host, engine, files } of machines) {
    for (const { taskId, state } of engine.containers()) {
      const task = leader.store.get('task', taskId)
      if (state === 'running') running.add(taskId)
      const wrong = !task || task.nodeId !== files?.nodeId
      const late = task && state === 'running' && compareTaskStates(task.status.state, 'running') > 0
      if (!wrong && !late) continue
      orphans.add(taskId)
      // Between two looks a container may be on its way out.
      if (seenOrphans.has(taskId)) found.push(`a ${state} container of ${taskId} is left on ${host}`)
    }
  }
  for (const task of leader.store.list('task'))
    if (runs(task) && !running.has(task.id) && isSound(task.spec))
      found.push(`task ${task.id} runs without a container`)
  seenOrphans.clear()
  for (const taskId of orphans) seenOrphans.add(taskId)
  return found
}

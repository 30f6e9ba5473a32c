// What is told of tasks' pasts. Nothing is kept for it but what the tasks themselves say: why each was made, what the
// scheduler chose from, how it ended, and who followed.

import type { Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { specsEqual } from '../../api/spec-equality.ts'
import type { WhyEventJson } from '../../api/why.ts'
import { hasEnded, isOlder } from '../orchestrator/slots.ts'
import type { StoreView } from '../store/types.ts'

export interface WhyOptions {
  /** Wall time. */
  readonly nowMs: number
  /** Most events of the history. */
  readonly limit: number
}

export function hostname(view: StoreView, nodeId: string): string {
  return view.get('node', nodeId)?.description.Hostname || nodeId
}

/** `web.2`, or `web.host` of a global service. */
export function slotName(view: StoreView, task: Task): string {
  return `${task.serviceName}.${task.slot > 0 ? task.slot : hostname(view, task.nodeId)}`
}

/** The newest `limit` events, oldest first. */
export function newestEvents(events: readonly WhyEventJson[], limit: number): readonly WhyEventJson[] {
  const known = events.filter(({ Time }) => Time !== '')
  return known.toSorted((a, b) => (a.Time === b.Time ? 0 : a.Time < b.Time ? -1 : 1)).slice(-limit)
}

/** Tasks that can have any of the newest `limit` events: those that were made or changed last. */
export function newestTasks(tasks: readonly Task[], limit: number): readonly Task[] {
  // A service may have tens of thousands: they are not sorted for a few.
  const newest: Task[] = []
  for (const task of tasks) {
    if (newest.length >= limit && lastChange(task) <= lastChange(newest.at(-1)!)) continue
    const at = newest.findIndex((one) => lastChange(one) < lastChange(task))
    newest.splice(at < 0 ? newest.length : at, 0, task)
    if (newest.length > limit) newest.pop()
  }
  return newest
}

/** Statuses count as changes. */
function lastChange({ meta }: Task): string {
  return meta.updatedAt
}

export function taskEvents(view: StoreView, task: Task): readonly WhyEventJson[] {
  const event = (Time: string, By: string, What: string): WhyEventJson => ({
    Time,
    By,
    Task: slotName(view, task),
    TaskID: task.id,
    What,
  })
  const events = [event(task.meta.createdAt, makerOf(task), whyMade(view, task))]
  if (task.placement) events.push(event(task.placement.at, 'scheduler', placementText(view, task)))
  const { state, timestamp } = task.status
  const toldToStop = compareTaskStates(task.desiredState, 'complete') > 0
  // When it was told is not kept once it has ended; what ended by itself is told to stop for the record only.
  if (toldToStop && !hasEnded(task)) {
    events.push(event(task.meta.updatedAt, 'orchestrator', `told to stop: ${whyStopped(view, task)}`))
  }
  if (toldToStop && state === 'shutdown') {
    events.push(event(timestamp, 'orchestrator', `stopped: ${whyStopped(view, task)}`))
  } else if (compareTaskStates(state, 'assigned') > 0) {
    events.push(event(timestamp, reporterOf(view, task), stateText(task)))
  }
  return events
}

function reporterOf(view: StoreView, { status, nodeId }: Task): string {
  if (status.state === 'orphaned' || status.message.endsWith('by constraint enforcer')) return 'manager'
  return `node ${hostname(view, nodeId)}`
}

function stateText({ status: { state, message, error } }: Task): string {
  // A task that runs says "started": no more than its state says.
  const says = compareTaskStates(state, 'running') > 0 || state === 'preparing' ? message : ''
  const text = error || says
  return text && text !== state ? `${state}: ${text}` : state
}

function makerOf({ origin }: Task): string {
  if (origin?.kind === 'restart') return 'restart supervisor'
  if (origin?.kind === 'move') return 'rebalancer'
  return origin?.kind === 'update' ? 'updater' : 'orchestrator'
}

export function whyMade(view: StoreView, task: Task): string {
  const { origin, startAfter } = task
  const predecessor = origin?.predecessorId ? view.get('task', origin.predecessorId) : undefined
  switch (origin?.kind) {
    case undefined:
      return 'made'
    case 'replica':
      return `made because slot ${task.slot} was empty`
    case 'node':
      return `made because node ${hostname(view, task.nodeId)} had no task of the service`
    case 'job':
      return `made for run ${(task.jobIteration ?? 0) + 1} of the job`
    case 'restart': {
      const cause = origin.detail ?? 'the task before it ended'
      return `made because ${cause}${startAfter ? `; to start after ${startAfter}` : ''}`
    }
    case 'move':
      return `made to take over from task ${origin.predecessorId}: ${origin.detail ?? 'the service was rebalanced'}`
    case 'update': {
      if (!origin.predecessorId) return 'made by the update'
      const changes = predecessor ? specChanges(predecessor, task) : []
      return `made by the update for task ${origin.predecessorId}${changes.length > 0 ? `: ${changes.join(', ')}` : ''}`
    }
  }
}

const MAX_CHANGES = 4

/** What of the spec differs, by field; an image with both its names. */
function specChanges(before: Task, after: Task): readonly string[] {
  const { ContainerSpec: oldContainer = {}, ...oldRest } = before.spec
  const { ContainerSpec: newContainer = {}, ...newRest } = after.spec
  const image = (text: string | undefined) => (text ?? '').replace(/@sha256:([0-9a-f]{8})[0-9a-f]+$/, '@sha256:$1…')
  const changes = [...differing(oldContainer, newContainer), ...differing(oldRest, newRest)].map((name) =>
    name === 'Image' ? `Image ${image(oldContainer.Image)} → ${image(newContainer.Image)}` : name,
  )
  if (!specsEqual(before.endpoint?.spec, after.endpoint?.spec)) changes.push('EndpointSpec')
  const more = changes.length - MAX_CHANGES
  return more > 0 ? [...changes.slice(0, MAX_CHANGES), `${more} more`] : changes
}

function differing(before: object, after: object): readonly string[] {
  const [old, next] = [new Map(Object.entries(before)), new Map(Object.entries(after))]
  const names = new Set([...old.keys(), ...next.keys()])
  return [...names].filter((name) => !specsEqual(old.get(name), next.get(name)))
}

export function placementText(view: StoreView, task: Task): string {
  const { placement } = task
  if (!placement) return ''
  const { nodes, fit, refused, there } = placement
  const others = nodes - fit
  const considered = `${nodes} ${nodes === 1 ? 'node' : 'nodes'} considered`
  const left = others === 0 ? 'all would do' : `${others} refused (${refused ?? ''})`
  const chosen = `it had ${there === 0 ? 'no task' : there === 1 ? '1 task' : `${there} tasks`} of the service`
  return `placed on ${hostname(view, task.nodeId)}: ${considered}, ${left}; ${fit > 1 ? chosen : 'no other would do'}`
}

/** The task that took over from it. */
export function successorOf(view: StoreView, task: Task): Task | undefined {
  const slot = task.slot > 0 ? view.tasksOfSlot(task.serviceId, task.slot) : view.tasksOfNode(task.nodeId)
  const after = slot.filter((one) => one.origin?.predecessorId === task.id)
  return after.toSorted((a, b) => (isOlder(a, b) ? -1 : 1))[0]
}

export function whyStopped(view: StoreView, task: Task): string {
  const successor = successorOf(view, task)
  if (successor) {
    const kind = successor.origin?.kind
    return `task ${successor.id} takes over${kind === 'update' ? ' (update)' : kind === 'move' ? ' (rebalancing)' : ''}`
  }
  const service = view.get('service', task.serviceId)
  if (!service) return 'its service was removed'
  if (task.desiredState === 'remove') return whyRemoved(service, task)
  const node = view.get('node', task.nodeId)
  if (task.nodeId !== '' && !node) return `node ${task.nodeId} was removed`
  if (node?.status.state === 'down') return `node ${hostname(view, task.nodeId)} is down`
  if (node?.spec.Availability === 'drain') return `node ${hostname(view, task.nodeId)} is drained`
  return 'its slot has another task or rests'
}

function whyRemoved(service: Service, task: Task): string {
  const iteration = service.jobStatus?.iteration ?? 0
  if (task.jobIteration !== undefined && task.jobIteration !== iteration) return 'the job runs anew'
  return task.slot > 0 ? 'the service was scaled down' : 'the service does not belong on that node'
}

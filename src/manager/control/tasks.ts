// Tasks: list. Nobody writes them through the API.

import type { Service, Task } from '../../api/objects.ts'
import { taskName } from '../../api/objects.ts'
import { TASK_STATES } from '../../api/spec.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { isAttachment } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'
import { beginsWithOne, equalsOne, type Filters, hasLabels } from './filters.ts'
import { find } from './lookup.ts'

export const TASK_FILTERS = ['name', 'id', 'label', 'service', 'node', 'desired-state', '_up-to-date', 'runtime']

/** @throws {CodedError} NO_SUCH_OBJECT where a filter names a service or node that is not there */
export function listTasks(view: StoreView, filters: Filters): readonly Task[] {
  if (filters.size === 0) return view.list('task').filter((task) => !isAttachment(task))
  const states = filters.get('desired-state')?.map((state) => {
    if (state !== '' && !Object.hasOwn(TASK_STATES, state.toLowerCase())) {
      throw refusal(`Invalid desired-state filter: '${state}'`)
    }
    return state.toLowerCase()
  })
  const services = filters.get('service')?.map((input) => find(view, 'service', input).id)
  const nodes = filters.get('node')?.map((input) => find(view, 'node', input).id)
  const upToDate = filters.has('_up-to-date')
  return candidates(view, services, nodes).filter(
    (task) =>
      !isAttachment(task) &&
      (services === undefined || services.includes(task.serviceId)) &&
      (nodes === undefined || nodes.includes(task.nodeId)) &&
      (states === undefined || states.includes(task.desiredState)) &&
      beginsWithOne(filters, 'id', task.id) &&
      (!filters.has('name') || beginsWithOne(filters, 'name', taskName(task))) &&
      hasLabels(filters, 'label', task.serviceLabels) &&
      equalsOne(filters, 'runtime', task.spec.Runtime ?? 'container') &&
      (!upToDate || isUpToDate(view.get('service', task.serviceId), task)),
  )
}

/** The smallest set that holds every match. */
function candidates(
  view: StoreView,
  services: readonly string[] | undefined,
  nodes: readonly string[] | undefined,
): readonly Task[] {
  const [service, ...otherServices] = services ?? []
  if (service !== undefined && otherServices.length === 0) return view.tasksOfService(service)
  const [node, ...otherNodes] = nodes ?? []
  if (node !== undefined && otherNodes.length === 0) return view.tasksOfNode(node)
  return view.list('task')
}

/** Made from the service's present spec, or from one that means the same for a task. */
function isUpToDate(service: Service | undefined, task: Task): boolean {
  if (service === undefined) return false
  if (service.specVersion === task.specVersion) return true
  return (
    JSON.stringify(service.spec.TaskTemplate) === JSON.stringify(task.spec) &&
    JSON.stringify(service.spec.EndpointSpec) === JSON.stringify(task.endpoint?.spec)
  )
}

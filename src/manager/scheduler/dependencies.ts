// What a service's first tasks wait for: other services that are to be started, healthy or completed (api/depends-on.ts). A
// service of which a container has once started waits for nothing any more: the order is that of a deployment.

import { type Dependency, dependenciesOf } from '../../api/depends-on.ts'
import type { Service, Task } from '../../api/objects.ts'
import { compareTaskStates } from '../../api/spec.ts'
import { jobSize } from '../orchestrator/service-settings.ts'
import { isRunning } from '../orchestrator/slots.ts'
import type { StoreView } from '../store/types.ts'

export interface Waiting {
  /** For people: "waiting for service st_db to be healthy". */
  readonly text: string
  /** Names of the services that it is about. */
  readonly services: readonly string[]
}

/** undefined: its tasks may start. */
export function waitsFor(view: StoreView, service: Service | undefined): Waiting | undefined {
  const needed = dependenciesOf(service?.spec.Labels)
  if (!service || needed.length === 0 || view.tasksOfService(service.id).some(hasStarted)) return undefined
  const missing = needed.flatMap((one) => {
    const what = missingOf(view, one)
    return what === undefined ? [] : [{ service: one.service, what }]
  })
  if (missing.length === 0) return undefined
  const parts = missing.map((one) => `service ${one.service} ${one.what}`)
  return { text: `waiting for ${parts.join(', ')}`, services: missing.map((one) => one.service) }
}

function missingOf(view: StoreView, { service: name, condition }: Dependency): string | undefined {
  const service = view.byName('service', name)
  if (!service) return 'to be created'
  const tasks = view.tasksOfService(service.id)
  switch (condition) {
    case 'started':
      return tasks.some(hasStarted) ? undefined : 'to start'
    // a task with a health check is RUNNING once that says so
    case 'healthy':
      return tasks.some(isRunning) ? undefined : 'to be healthy'
    case 'completed':
      return hasCompleted(service, tasks) ? undefined : 'to complete'
  }
}

/** Its container runs, or has run. */
function hasStarted(task: Task): boolean {
  const { state, container } = task.status
  if (state === 'running' || state === 'complete') return true
  return compareTaskStates(state, 'starting') >= 0 && Boolean(container?.ContainerID)
}

/** A job: all of its present iteration's completions; another service: a task of each of its replicas or nodes has ended well. */
function hasCompleted(service: Service, tasks: readonly Task[]): boolean {
  const { Mode: mode = {} } = service.spec
  const iteration = service.jobStatus?.iteration
  const current = tasks.filter((task) => iteration === undefined || (task.jobIteration ?? 0) === iteration)
  const place = (task: Task) => (task.slot > 0 ? String(task.slot) : task.nodeId)
  const done = new Set(current.filter(({ status }) => status.state === 'complete').map(place))
  if (mode.ReplicatedJob) return done.size >= jobSize(service.spec).totalCompletions
  if (mode.GlobalJob || mode.Global) return done.size > 0 && current.every((task) => done.has(place(task)))
  return done.size >= (mode.Replicated?.Replicas ?? 1)
}

// Services: create, update, roll back, remove, list.

import { storedServiceSpec } from '../../api/defaults.ts'
import type { Service } from '../../api/objects.ts'
import type { ServiceMode, ServiceSpec } from '../../api/spec.ts'
import { invalidArgument, managerRefusal, refusal } from '../../api/validation/refusal.ts'
import { validateServiceRequest, validateServiceSpec } from '../../api/validation/service-spec.ts'
import { formatTime } from '../../lib/clock.ts'
import type { StoreView } from '../store/types.ts'
import { checkAddressLabels } from './address-labels.ts'
import { checkContainerOptions } from './container-options.ts'
import { type ControlContext, outOfSequence, proposeCurrent, proposeRemoval } from './context.ts'
import { checkDependencies } from './dependency-check.ts'
import { beginsWithOne, equalsOne, type Filters, hasLabels } from './filters.ts'
import { find } from './lookup.ts'
import { randomName } from './random-name.ts'
import { checkIngress, checkPorts, checkSize, referenceChecks, withNetworkIds } from './service-checks.ts'
import { serviceWarnings } from './service-warnings.ts'

function isJob(mode: ServiceMode | undefined): boolean {
  return mode?.ReplicatedJob !== undefined || mode?.GlobalJob !== undefined
}

/** The spec as it is stored, once it has passed every check that needs the spec alone. */
function accepted(view: StoreView, spec: ServiceSpec, name: string, current?: Service): ServiceSpec {
  validateServiceRequest(spec)
  const stored = withNetworkIds(view, storedServiceSpec(spec, name))
  validateServiceSpec(stored)
  checkContainerOptions(view, stored)
  checkDependencies(view, stored)
  checkAddressLabels(view, stored, current)
  checkSize(stored)
  return stored
}

/**
 * @param registryAuth the X-Registry-Auth header, or ''
 * @returns the new service's id, and what its user may not have meant
 */
export async function createService(
  context: ControlContext,
  spec: ServiceSpec,
  registryAuth: string,
): Promise<{ readonly id: string; readonly warnings: readonly string[] }> {
  const { random, clock, objectId: id } = context
  await proposeCurrent(context, (view) => {
    if (view.get('service', id) !== undefined) return undefined
    const isTaken = (name: string) => view.byName('service', name) !== undefined
    const name = spec.Name ?? randomName(random, isTaken)
    const stored = accepted(view, spec, name)
    const checks = referenceChecks(view, stored)
    checkPorts(view, stored)
    checkIngress(view, stored)
    if (isTaken(name)) {
      throw managerRefusal('ALREADY_EXISTS', `name conflicts with an existing object: service ${name} already exists`)
    }
    const now = formatTime(clock.wallMs())
    const service: Service = {
      kind: 'service',
      id,
      meta: { version: 0, createdAt: now, updatedAt: now },
      spec: stored,
      specVersion: 0,
      previousSpec: undefined,
      previousSpecVersion: undefined,
      endpoint: undefined,
      updateStatus: undefined,
      jobStatus: isJob(stored.Mode) ? { iteration: 0, lastExecution: now } : undefined,
      updateProgress: undefined,
      registryAuth,
      previousRegistryAuth: '',
    }
    return [...checks, { kind: 'create', object: service }]
  })
  return { id, warnings: serviceWarnings(spec) }
}

export interface ServiceUpdate {
  /** id, name or beginning of the id */
  readonly service: string
  readonly version: number
  readonly spec: ServiceSpec
  readonly registryAuth: string
  readonly registryAuthFrom: string
  readonly rollback: string
}

/** @returns what the user may not have meant */
export async function updateService(context: ControlContext, request: ServiceUpdate): Promise<readonly string[]> {
  if (!['', 'spec', 'previous-spec'].includes(request.registryAuthFrom)) {
    throw refusal(`invalid registryAuthFrom '${request.registryAuthFrom}'`)
  }
  if (!['', 'none', 'previous'].includes(request.rollback)) {
    throw refusal(`unrecognized rollback option ${request.rollback}`)
  }
  let warnings: readonly string[] = []
  await proposeCurrent(context, (view) => {
    const current = find(view, 'service', request.service)
    if (request.spec.Name === undefined) throw managerRefusal('UNIMPLEMENTED', 'renaming services is not supported')
    const spec = accepted(view, request.spec, request.spec.Name, current)
    if (modeName(spec.Mode) !== modeName(current.spec.Mode)) {
      throw managerRefusal('UNIMPLEMENTED', 'service mode change is not allowed')
    }
    if (spec.Name !== current.spec.Name) {
      throw managerRefusal('UNIMPLEMENTED', 'renaming services is not supported')
    }
    // Managers write to the service as well (status of an update, ports): only a change of the spec makes a version stale.
    if (request.version < current.specVersion || request.version > current.meta.version) throw outOfSequence()
    const rollback = request.rollback === 'previous'
    const next = rollback ? rolledBack(context, current) : updated(context, current, spec, request)
    if (rollback) checkContainerOptions(view, next.spec)
    checkPorts(view, next.spec, current.id)
    warnings = serviceWarnings(next.spec)
    return [
      ...referenceChecks(view, next.spec),
      { kind: 'update', object: next, expectedVersion: current.meta.version },
    ]
  })
  return warnings
}

function modeName(mode: ServiceMode | undefined): string {
  return Object.keys(mode ?? {})[0] ?? 'Replicated'
}

function nextJob(context: ControlContext, current: Service): Service['jobStatus'] {
  if (current.jobStatus === undefined) return undefined
  return { iteration: current.jobStatus.iteration + 1, lastExecution: formatTime(context.clock.wallMs()) }
}

function updated(context: ControlContext, current: Service, spec: ServiceSpec, request: ServiceUpdate): Service {
  if (request.registryAuthFrom === 'previous-spec' && current.previousSpec === undefined) {
    throw refusal('service does not have a previous spec')
  }
  const kept = request.registryAuthFrom === 'previous-spec' ? current.previousRegistryAuth : current.registryAuth
  return {
    ...current,
    spec,
    specVersion: 0,
    previousSpec: current.spec,
    previousSpecVersion: current.specVersion,
    updateStatus: undefined,
    updateProgress: undefined,
    jobStatus: nextJob(context, current),
    registryAuth: request.registryAuth || kept,
    previousRegistryAuth: current.registryAuth,
  }
}

function rolledBack(context: ControlContext, current: Service): Service {
  if (current.previousSpec === undefined) {
    throw managerRefusal('FAILED_PRECONDITION', `service ${current.id} does not have a previous spec`)
  }
  return {
    ...current,
    spec: current.previousSpec,
    specVersion: 0,
    previousSpec: current.spec,
    previousSpecVersion: current.specVersion,
    updateStatus: {
      State: 'rollback_started',
      StartedAt: formatTime(context.clock.wallMs()),
      Message: 'manually requested rollback',
    },
    updateProgress: undefined,
    jobStatus: nextJob(context, current),
    registryAuth: current.previousRegistryAuth,
    previousRegistryAuth: current.registryAuth,
  }
}

export async function removeService(context: ControlContext, input: string): Promise<void> {
  await proposeRemoval(context, 'service', input, ({ id }) => [{ kind: 'remove', objectKind: 'service', id }])
}

const MODE_FILTER: Readonly<Record<string, string>> = {
  Replicated: 'replicated',
  Global: 'global',
  ReplicatedJob: 'replicated-job',
  GlobalJob: 'global-job',
}

export const SERVICE_FILTERS = ['name', 'id', 'label', 'mode', 'runtime']

export function listServices(view: StoreView, filters: Filters): readonly Service[] {
  const all = view.list('service')
  if (filters.size === 0) return all
  return all.filter(
    (service) =>
      beginsWithOne(filters, 'name', service.spec.Name ?? '') &&
      beginsWithOne(filters, 'id', service.id) &&
      hasLabels(filters, 'label', service.spec.Labels) &&
      equalsOne(filters, 'mode', MODE_FILTER[modeName(service.spec.Mode)] ?? '') &&
      equalsOne(filters, 'runtime', service.spec.TaskTemplate?.Runtime ?? 'container'),
  )
}

export interface ServiceStatus {
  readonly RunningTasks: number
  readonly DesiredTasks: number
  readonly CompletedTasks: number
}

/** What `service ls` shows of a service's tasks (Swarm's ListServiceStatuses). */
export function serviceStatus(view: StoreView, service: Service): ServiceStatus {
  const mode = service.spec.Mode ?? {}
  const everywhere = mode.Global !== undefined || mode.GlobalJob !== undefined
  const job = service.jobStatus
  let running = 0
  let completed = 0
  let desired = everywhere ? 0 : (mode.ReplicatedJob?.MaxConcurrent ?? mode.Replicated?.Replicas ?? 0)
  for (const task of view.tasksOfService(service.id)) {
    if (job !== undefined && task.jobIteration !== job.iteration) continue
    if (task.status.state === 'running') running++
    if (job !== undefined && task.status.state === 'complete') completed++
    if (!everywhere) continue
    if (task.desiredState === 'running') desired++
    if (task.desiredState === 'complete' && task.status.state !== 'complete') desired++
  }
  return { RunningTasks: running, DesiredTasks: desired, CompletedTasks: completed }
}

/** For `service logs`. */
export function requireContainerService(service: Service): void {
  if (service.spec.TaskTemplate?.ContainerSpec === undefined) {
    throw invalidArgument('logs only supported on container tasks')
  }
}

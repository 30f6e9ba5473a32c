// A deployment of a stack planned over the store: what is there of the stack, and what an update would restart.

import { createHash } from 'node:crypto'
import { sameContainerOptions } from '../../api/container-labels.ts'
import type { Config, Network, Secret, Service } from '../../api/objects.ts'
import { serviceLabelProblem } from '../../api/service-labels.ts'
import type { Labels, ServiceSpec } from '../../api/spec.ts'
import {
  type CurrentNetwork,
  type CurrentPayload,
  type CurrentService,
  planStack,
  STACK_LABEL,
  type StackPlan,
  type WantedStack,
} from '../../api/stack-plan.ts'
import { invalidArgument, refusal } from '../../api/validation/refusal.ts'
import { DirtyTasks } from '../orchestrator/task-dirty.ts'
import type { StoreView } from '../store/types.ts'
import { addressLabelsProblem } from './address-labels.ts'
import { containerOptionsProblem } from './container-options.ts'
import { findOptional } from './lookup.ts'

/** @throws {CodedError} naming the first thing that has no name, or service that this cluster would refuse */
export function planStackDeployment(view: StoreView, stack: string, wanted: WantedStack): StackPlan {
  requireNames(stack, wanted)
  for (const { Spec } of wanted.Services) requireAllowed(view, Spec)
  const isOwn = ({ spec }: { readonly spec: { readonly Labels?: Labels } }) => spec.Labels?.[STACK_LABEL] === stack
  const services = view.list('service').filter(isOwn)
  const ownIds = new Set(services.map(({ id }) => id))
  const others = (users: readonly Service[]) => users.some(({ id }) => !ownIds.has(id))
  const secrets = named(view, 'secret', isOwn, [
    ...wanted.Secrets.map(({ Name }) => Name),
    ...wanted.Services.flatMap(({ Secrets }) => Secrets.map(({ SecretName = '' }) => SecretName)),
  ])
  const configs = named(view, 'config', isOwn, [
    ...wanted.Configs.map(({ Name }) => Name),
    ...wanted.Services.flatMap(({ Configs }) => Configs.map(({ ConfigName = '' }) => ConfigName)),
  ])
  const wantedNetworks = new Set(wanted.Networks.map(({ Name }) => Name))
  const plan = planStack(stack, wanted, {
    networks: view
      .list('network')
      .filter((network) => isOwn(network) || wantedNetworks.has(network.spec.Name ?? ''))
      .map(currentNetwork),
    secrets: secrets.map(currentPayload),
    configs: configs.map(currentPayload),
    services: services.map(currentService),
    usedByOthers: new Set([
      ...secrets.filter(({ id }) => others(view.servicesUsingSecret(id))).map(({ id }) => id),
      ...configs.filter(({ id }) => others(view.servicesUsingConfig(id))).map(({ id }) => id),
    ]),
    networkName: (target) => view.get('network', target)?.spec.Name ?? target,
    tasksReplaced: ({ ID }, spec) => tasksReplaced(view, view.get('service', ID), spec),
    tasksOf: ({ ID }) => running(view, ID).length,
  })
  return { ...plan, StoreVersion: view.index }
}

function requireNames(stack: string, { Networks, Secrets, Configs, Services }: WantedStack): void {
  if (stack === '') throw refusal('invalid stack name: ""')
  const names = { Networks, Secrets, Configs, Services: Services.map(({ Spec }) => ({ Name: Spec.Name })) }
  for (const [kind, list] of Object.entries(names)) {
    const at = list.findIndex(({ Name }) => !Name)
    if (at !== -1) throw refusal(`${kind}[${at}]: a name is required`)
  }
}

/** Found here, before anything of the stack is made. What a service has already is not asked again. */
function requireAllowed(view: StoreView, spec: ServiceSpec): void {
  const current = view.byName('service', spec.Name ?? '')
  const isKnown = current && sameContainerOptions(current.spec.Labels, spec.Labels)
  const found = isKnown ? undefined : (serviceLabelProblem(spec.Labels) ?? containerOptionsProblem(view, spec))
  const problem = found ?? addressLabelsProblem(view, spec, current)
  if (problem) throw invalidArgument(`service ${spec.Name}: ${problem}`)
}

/** The stack's own, and whatever has one of these names. */
function named<K extends 'secret' | 'config'>(
  view: StoreView,
  kind: K,
  isOwn: (object: Secret | Config) => boolean,
  names: readonly string[],
): readonly (Secret | Config)[] {
  const list: readonly (Secret | Config)[] = view.list(kind)
  const wanted = new Set(names)
  return list.filter((object) => isOwn(object) || wanted.has(object.spec.Name ?? ''))
}

function currentNetwork({ id, meta, spec }: Network): CurrentNetwork {
  return {
    Id: id,
    Version: meta.version,
    Name: spec.Name ?? '',
    Driver: spec.DriverConfiguration?.Name ?? 'overlay',
    Options: spec.DriverConfiguration?.Options ?? {},
    IPAM: { Config: spec.IPAMOptions?.Configs ?? [] },
    Internal: spec.Internal ?? false,
    Attachable: spec.Attachable ?? false,
    EnableIPv6: spec.EnableIPv6 ?? false,
    Labels: spec.Labels ?? {},
  }
}

function currentPayload(object: Secret | Config): CurrentPayload {
  const { id, meta, spec } = object
  const driver = object.kind === 'secret' ? object.spec.Driver : undefined
  return {
    ID: id,
    Version: meta.version,
    Name: spec.Name ?? '',
    Labels: spec.Labels ?? {},
    Digest: driver ? '' : digestOf(spec.Data ?? ''),
    ...(driver ? { Driver: driver } : {}),
    ...(spec.Templating ? { Templating: spec.Templating } : {}),
  }
}

function digestOf(base64: string): string {
  return createHash('sha256').update(Buffer.from(base64, 'base64')).digest('hex')
}

function currentService({ id, specVersion, spec, previousSpec }: Service): CurrentService {
  return { ID: id, Version: specVersion, Spec: spec, PreviousSpec: previousSpec }
}

function running(view: StoreView, serviceId: string) {
  return view.tasksOfService(serviceId).filter(({ desiredState }) => desiredState === 'running')
}

function tasksReplaced(view: StoreView, service: Service | undefined, spec: ServiceSpec): number {
  if (!service) return 0
  const Networks = spec.TaskTemplate?.Networks?.map((each) => ({
    ...each,
    Target: findOptional(view, 'network', each.Target ?? '')?.id ?? each.Target ?? '',
  }))
  const TaskTemplate = { ...spec.TaskTemplate, ...(Networks ? { Networks } : {}) }
  const dirty = new DirtyTasks({ ...service, spec: { ...spec, TaskTemplate }, specVersion: service.specVersion + 1 })
  return running(view, service.id).filter((task) => dirty.has(task, view.get('node', task.nodeId ?? ''))).length
}

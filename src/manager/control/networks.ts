// Networks of the whole cluster: create, remove when nobody uses them, list. Subnets and VNIs are the allocator's.

import type { Network } from '../../api/objects.ts'
import { compareTaskStates, isToRun, type NetworkSpec } from '../../api/spec.ts'
import type { NetworkCreateBody } from '../../api/validation/object-decoders.ts'
import { validateNetworkSpec } from '../../api/validation/payload.ts'
import { invalidArgument, managerRefusal } from '../../api/validation/refusal.ts'
import { formatCidr, overlaps, parseCidr } from '../../lib/cidr.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import { reportedRoutes } from '../allocator/reported-routes.ts'
import { allocateNetwork, type NetworkAllocation } from '../allocator/subnets.ts'
import type { StoreView } from '../store/types.ts'
import { type ControlContext, proposeCurrent, proposeRemoval } from './context.ts'
import { equalsOne, type Filters, hasLabels } from './filters.ts'

export function networkSpecOf(body: NetworkCreateBody): NetworkSpec {
  return {
    Name: body.Name,
    Labels: body.Labels,
    DriverConfiguration: { Name: body.Driver || 'overlay', Options: body.Options },
    EnableIPv4: body.EnableIPv4 ?? true,
    ...(body.EnableIPv6 ? { EnableIPv6: true } : {}),
    ...(body.Internal ? { Internal: true } : {}),
    ...(body.Attachable ? { Attachable: true } : {}),
    ...(body.Ingress ? { Ingress: true } : {}),
    ...(body.IPAM === undefined
      ? {}
      : {
          IPAMOptions: {
            Driver: {
              Name: body.IPAM.Driver ?? 'default',
              ...(body.IPAM.Options === undefined ? {} : { Options: body.IPAM.Options }),
            },
            ...(body.IPAM.Config === undefined ? {} : { Configs: body.IPAM.Config }),
          },
        }),
    ...(body.ConfigFrom?.Network ? { ConfigFrom: { Network: body.ConfigFrom.Network } } : {}),
    Scope: 'swarm',
  }
}

/** @returns the new network's id */
export async function createNetwork(context: ControlContext, spec: NetworkSpec): Promise<string> {
  validateNetworkSpec(spec)
  const now = formatTime(context.clock.wallMs())
  const network: Network = {
    kind: 'network',
    id: context.objectId,
    meta: { version: 0, createdAt: now, updatedAt: now },
    spec,
    allocated: undefined,
  }
  await proposeCurrent(context, (view) => {
    if (view.get('network', network.id) !== undefined) return undefined
    if (view.byName('network', spec.Name ?? '') !== undefined) throw nameTaken(spec.Name ?? '')
    const ingress = spec.Ingress ? view.ingressNetwork() : undefined
    if (ingress !== undefined) {
      throw managerRefusal('ALREADY_EXISTS', `ingress network (${ingress.id}) is already present`)
    }
    const allocation = allocateNetwork(view, network.id, spec, { avoid: reportedRoutes(view).map(({ cidr }) => cidr) })
    if (allocation.kind === 'refused') throw notAllocated(allocation)
    return [{ kind: 'create', object: { ...network, allocated: allocation.allocated } }]
  })
  return network.id
}

/** What a user is to know of a network that was made: subnets that lie over what nodes reach by other ways. */
export function networkWarnings(view: StoreView, id: string): readonly string[] {
  const network = view.get('network', id)
  if (!network) return []
  return (network.allocated?.subnets ?? []).flatMap(({ subnet }) => {
    const cidr = parseCidr(subnet)
    const hidden = cidr && reportedRoutes(view).find((route) => overlaps(route.cidr, cidr))
    if (!hidden) return []
    const hostname = hidden.node.description.Hostname ?? hidden.node.id
    const text = `subnet ${subnet} overlaps with the route ${formatCidr(hidden.cidr)} of node ${hostname}: containers of the network do not reach what is behind it`
    return [text]
  })
}

/** Swarm takes any network and leaves its tasks waiting where it can't be allocated; the local drivers' texts are Docker's. */
function notAllocated({ code, message }: Extract<NetworkAllocation, { kind: 'refused' }>): CodedError {
  const forbidden = code === 'SUBNET_OVERLAP' || code === 'VNI_TAKEN'
  return forbidden ? new CodedError('FORBIDDEN', message) : invalidArgument(message)
}

export function nameTaken(name: string): CodedError {
  return new CodedError('CONFLICT', `network with name ${name} already exists`)
}

/** @param id in full: which network is meant was settled together with the engine's own */
export async function removeNetwork(context: ControlContext, id: string): Promise<void> {
  const isKnown = context.view.get('network', id) !== undefined || context.removal?.id === id
  if (!isKnown) throw managerRefusal('NOT_FOUND', `network ${id} not found`)
  await proposeRemoval(context, 'network', id, (network, view) => {
    checkUnused(view, network)
    return [{ kind: 'remove', objectKind: 'network', id }]
  })
}

function checkUnused(view: StoreView, network: Network): void {
  const [user] = network.spec.Ingress
    ? view
        .list('service')
        .filter((service) => service.spec.EndpointSpec?.Ports?.some((port) => port.PublishMode !== 'host'))
    : view.servicesUsingNetwork(network.id)
  if (user !== undefined) {
    throw managerRefusal(
      'FAILED_PRECONDITION',
      network.spec.Ingress
        ? `ingress network cannot be removed because service ${user.id} depends on it`
        : `network ${network.id} is in use by service ${user.id}`,
    )
  }
  const task = view
    .tasksUsingNetwork(network.id)
    .find((each) => isToRun(each.desiredState) && compareTaskStates(each.status.state, 'running') <= 0)
  if (task !== undefined) {
    throw managerRefusal('FAILED_PRECONDITION', `network ${network.id} is in use by task ${task.id}`)
  }
}

export interface PruneOptions {
  readonly filters: Filters
  /** Only networks made before this time; undefined: all. */
  readonly untilMs: number | undefined
}

export const PRUNE_FILTERS = ['until', 'label', 'label!']

/**
 * Removes the networks that nobody uses. The ingress network goes only when somebody asks for it by name.
 * @returns their names
 */
export async function pruneNetworks(
  context: ControlContext,
  { filters, untilMs }: PruneOptions,
): Promise<readonly string[]> {
  const removed: string[] = []
  for (const network of context.view.list('network')) {
    const { Name: name = '', Labels: labels, Ingress: ingress } = network.spec
    const isYoung = untilMs !== undefined && parseTime(network.meta.createdAt) > untilMs
    const excluded = filters.has('label!') && hasLabels(filters, 'label!', labels)
    if (ingress || isYoung || excluded || !hasLabels(filters, 'label', labels)) continue
    try {
      await removeNetwork(context, network.id)
      removed.push(name)
    } catch (error) {
      if (!['FAILED_PRECONDITION', 'NOT_FOUND', 'NO_SUCH_OBJECT'].includes(errorCode(error) ?? '')) throw error
    }
  }
  return removed
}

export const NETWORK_FILTERS = ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']

/** /networks matches any part of a name or id, unlike the other listings. */
export function listNetworks(view: StoreView, filters: Filters): readonly Network[] {
  const containsOne = (name: string, text: string) => filters.get(name)?.some((value) => text.includes(value)) ?? true
  const dangling = filters.get('dangling')?.[0]
  return view
    .list('network')
    .filter(
      (network) =>
        containsOne('name', network.spec.Name ?? '') &&
        containsOne('id', network.id) &&
        equalsOne(filters, 'driver', network.spec.DriverConfiguration?.Name ?? 'overlay') &&
        equalsOne(filters, 'scope', 'swarm') &&
        equalsOne(filters, 'type', 'custom') &&
        hasLabels(filters, 'label', network.spec.Labels) &&
        (dangling === undefined || isTrue(dangling) === (view.servicesUsingNetwork(network.id).length === 0)),
    )
}

function isTrue(value: string): boolean {
  return value === '1' || value.toLowerCase() === 'true'
}

// Published ports in ingress mode: each number and protocol belongs to one service. Pure decisions; `apply` guards them.

import type { Service } from '../../api/objects.ts'
import type { EndpointSpec, PortConfig } from '../../api/spec.ts'
import type { StoreView } from '../store/types.ts'

/** Ports for those who asked for none in particular. */
const DYNAMIC_FIRST = 30_000
const DYNAMIC_LAST = 32_767

export type PortAllocation =
  | { readonly kind: 'allocated'; readonly ports: readonly PortConfig[] }
  | { readonly kind: 'refused'; readonly code: 'PORT_CONFLICT' | 'PORTS_EXHAUSTED'; readonly message: string }

function isIngress(port: PortConfig): boolean {
  return (port.PublishMode ?? 'ingress') === 'ingress'
}

function protocolOf(port: PortConfig): NonNullable<PortConfig['Protocol']> {
  return port.Protocol ?? 'tcp'
}

export function portKeyOf(port: PortConfig): string {
  return `${protocolOf(port)}/${port.PublishedPort ?? 0}`
}

export function needsPorts(spec: EndpointSpec | undefined): boolean {
  return (spec?.Ports ?? []).length > 0
}

/**
 * The service's ports with numbers for all that are published through the ingress. Numbers that it was given before stay.
 * @param taken ports (`tcp/30000`) that other services have been given in proposals under way
 */
export function allocatePorts(view: StoreView, service: Service, taken: ReadonlySet<string>): PortAllocation {
  const ports: PortConfig[] = []
  const own = new Set<string>()
  const before = (service.endpoint?.ports ?? []).filter(isIngress)
  const isFree = (port: PortConfig): boolean => {
    const holder = view.servicePublishing(protocolOf(port), port.PublishedPort ?? 0)
    const key = portKeyOf(port)
    return (!holder || holder.id === service.id) && !taken.has(key) && !own.has(key)
  }
  const wanted = service.spec.EndpointSpec?.Ports ?? []
  // Numbers that were asked for go first, so that none of them is given away to a port without one.
  for (const port of wanted.filter((one) => isIngress(one) && one.PublishedPort)) {
    if (!isFree(port)) return conflict(view, port)
    own.add(portKeyOf(port))
  }
  for (const port of wanted) {
    if (!isIngress(port) || port.PublishedPort) {
      ports.push(port)
      continue
    }
    const number = previousNumber(before, port, own) ?? nextFree(port, isFree)
    if (number === undefined) return exhausted(protocolOf(port))
    const given = { ...port, PublishedPort: number }
    own.add(portKeyOf(given))
    ports.push(given)
  }
  return { kind: 'allocated', ports }
}

function previousNumber(before: readonly PortConfig[], port: PortConfig, own: ReadonlySet<string>): number | undefined {
  const match = before.find(
    (one) =>
      (one.Name ?? '') === (port.Name ?? '') &&
      protocolOf(one) === protocolOf(port) &&
      one.TargetPort === port.TargetPort &&
      (one.PublishedPort ?? 0) >= DYNAMIC_FIRST &&
      (one.PublishedPort ?? 0) <= DYNAMIC_LAST &&
      !own.has(portKeyOf(one)),
  )
  return match?.PublishedPort
}

function nextFree(port: PortConfig, isFree: (port: PortConfig) => boolean): number | undefined {
  for (let number = DYNAMIC_FIRST; number <= DYNAMIC_LAST; number++) {
    if (isFree({ ...port, PublishedPort: number })) return number
  }
  return undefined
}

function conflict(view: StoreView, port: PortConfig): PortAllocation {
  const holder = view.servicePublishing(protocolOf(port), port.PublishedPort ?? 0)
  const message = holder
    ? portInUse(port, holder, 'an ingress port')
    : `port '${port.PublishedPort}' is already in use by another service as an ingress port`
  return { kind: 'refused', code: 'PORT_CONFLICT', message }
}

function exhausted(protocol: string): PortAllocation {
  const message = `no free ${protocol} port left between ${DYNAMIC_FIRST} and ${DYNAMIC_LAST}`
  return { kind: 'refused', code: 'PORTS_EXHAUSTED', message }
}

function portInUse(port: PortConfig, holder: Service, as: string): string {
  return `port '${port.PublishedPort}' is already in use by service '${holder.spec.Name ?? ''}' (${holder.id}) as ${as}`
}

/**
 * Swarm's refusal of an endpoint spec whose ports another service has; undefined where there is none. For the API, before
 * it proposes: host-mode ports of several services may be equal (the scheduler keeps them apart), but not a host-mode and an
 * ingress one.
 */
export function findPortConflict(
  view: StoreView,
  serviceId: string,
  spec: EndpointSpec | undefined,
): string | undefined {
  const published = (spec?.Ports ?? []).filter((port) => (port.PublishedPort ?? 0) > 0)
  for (const port of published) {
    const holder = view.servicePublishing(protocolOf(port), port.PublishedPort ?? 0)
    if (holder && holder.id !== serviceId) {
      return portInUse(port, holder, isIngress(port) ? 'an ingress port' : 'a host-published port')
    }
  }
  const ingress = new Set(published.filter(isIngress).map(portKeyOf))
  if (ingress.size === 0) return undefined
  for (const other of view.list('service')) {
    if (other.id === serviceId) continue
    const clash = (other.spec.EndpointSpec?.Ports ?? []).find(
      (port) => !isIngress(port) && ingress.has(portKeyOf(port)),
    )
    if (clash) return portInUse(clash, other, 'an ingress port')
  }
  return undefined
}

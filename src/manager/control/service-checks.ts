// What a service's spec must find in the store: its networks, secrets and configs, and ports that nobody else holds.

import type { Service } from '../../api/objects.ts'
import type { NetworkAttachmentConfig, PortConfig, ServiceSpec } from '../../api/spec.ts'
import { invalidArgument, managerRefusal } from '../../api/validation/refusal.ts'
import { encode } from '../../lib/codec.ts'
import type { Change, StoreView } from '../store/types.ts'
import { find, findOptional } from './lookup.ts'

/** Networks of each engine that a task may use as they are; they are no objects of the cluster. */
const PREDEFINED = new Set(['host', 'none', 'bridge'])

/** Half of a transaction, with room: an update holds two specs, a restart two tasks. */
const MAX_SPEC_BYTES = 480 * 1024

/**
 * The spec with networks named by id, however the client named them.
 * @throws {CodedError} NO_SUCH_OBJECT, INVALID_ARGUMENT
 */
export function withNetworkIds(view: StoreView, spec: ServiceSpec): ServiceSpec {
  const networks = spec.TaskTemplate?.Networks
  if (networks === undefined) return spec
  const Networks = networks.map((attachment): NetworkAttachmentConfig => {
    const target = attachment.Target ?? ''
    if (PREDEFINED.has(target) && findOptional(view, 'network', target) === undefined) return attachment
    const network = find(view, 'network', target)
    if (network.spec.Ingress) {
      throw invalidArgument(
        `Service cannot be explicitly attached to the ingress network ${JSON.stringify(network.spec.Name)}`,
      )
    }
    return { ...attachment, Target: network.id }
  })
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, Networks } }
}

/**
 * Changes that hold the transaction to what was found: every secret, config and network that the spec names.
 * @throws {CodedError} INVALID_ARGUMENT (`secret not found: x`)
 */
export function referenceChecks(view: StoreView, spec: ServiceSpec): readonly Change[] {
  const container = spec.TaskTemplate?.ContainerSpec
  const networks = spec.TaskTemplate?.Networks ?? []
  return [
    ...networks.flatMap(({ Target: id = '' }): readonly Change[] => {
      const network = view.get('network', id)
      return network ? [{ kind: 'check', objectKind: 'network', id, expectedVersion: network.meta.version }] : []
    }),
    ...checksOf(
      view,
      'secret',
      container?.Secrets?.map((each) => [each.SecretID ?? '', each.SecretName ?? '']),
    ),
    ...checksOf(
      view,
      'config',
      container?.Configs?.map((each) => [each.ConfigID ?? '', each.ConfigName ?? '']),
    ),
  ]
}

function checksOf(
  view: StoreView,
  kind: 'secret' | 'config',
  references: readonly (readonly [string, string])[] | undefined,
): readonly Change[] {
  const missing: string[] = []
  const checks = new Map<string, Change>()
  for (const [id, name] of references ?? []) {
    const object = view.get(kind, id)
    if (object === undefined || object.spec.Name !== name) missing.push(name)
    else checks.set(id, { kind: 'check', objectKind: kind, id, expectedVersion: object.meta.version })
  }
  if (missing.length > 0) {
    throw invalidArgument(`${missing.length === 1 ? kind : `${kind}s`} not found: ${missing.join(', ')}`)
  }
  return [...checks.values()]
}

function portKey(port: PortConfig): string {
  return `${port.Protocol ?? 'tcp'}/${port.PublishedPort}`
}

/** @throws {CodedError} INVALID_ARGUMENT for what would be stored, but never updated or restarted */
export function checkSize(spec: ServiceSpec): void {
  const sizeBytes = encode(spec).byteLength
  if (sizeBytes <= MAX_SPEC_BYTES) return
  throw invalidArgument(`service spec is too large: ${sizeBytes} bytes, ${MAX_SPEC_BYTES} at most`)
}

/** @throws {CodedError} FAILED_PRECONDITION where it publishes ports and the ingress network was removed */
export function checkIngress(view: StoreView, spec: ServiceSpec): void {
  const publishes = (spec.EndpointSpec?.Ports ?? []).some((port) => port.PublishMode !== 'host')
  if (!publishes || view.ingressNetwork() !== undefined) return
  throw managerRefusal('FAILED_PRECONDITION', 'service needs ingress network, but no ingress network is present')
}

/**
 * @param serviceId of the service that is being updated, which may keep its ports
 * @throws {CodedError} INVALID_ARGUMENT (`port '80' is already in use by service …`)
 */
export function checkPorts(view: StoreView, spec: ServiceSpec, serviceId?: string): void {
  const wanted = (spec.EndpointSpec?.Ports ?? []).filter((port) => port.PublishedPort)
  if (wanted.length === 0) return
  const ingress = new Set(wanted.filter((port) => port.PublishMode !== 'host').map(portKey))
  for (const port of wanted) {
    const holder = view.servicePublishing(port.Protocol ?? 'tcp', port.PublishedPort ?? 0)
    if (holder !== undefined && holder.id !== serviceId) throw portInUse(port, holder, 'an ingress port')
  }
  if (ingress.size === 0) return
  // Host-mode ports are no unique index (the scheduler keeps them apart), so they are looked for.
  for (const service of view.list('service')) {
    if (service.id === serviceId) continue
    for (const port of service.spec.EndpointSpec?.Ports ?? []) {
      if (port.PublishMode === 'host' && port.PublishedPort && ingress.has(portKey(port))) {
        throw portInUse(port, service, 'a host-published port')
      }
    }
  }
}

function portInUse(port: PortConfig, service: Service, as: string): Error {
  return invalidArgument(
    `port '${port.PublishedPort}' is already in use by service '${service.spec.Name}' (${service.id}) as ${as}`,
  )
}

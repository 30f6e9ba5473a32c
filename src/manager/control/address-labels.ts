// Labels of a service that name addresses: ports that are published on some, and its own addresses on networks. They are looked at where
// they are given: other clients leave them behind when they take a port or a network away, and then they say nothing.

import type { Service } from '../../api/objects.ts'
import {
  addressesOfPort,
  PUBLISH_ADDRESS_FEATURE_LEVEL,
  PUBLISH_LABEL_PREFIX,
  portOfPublishLabel,
} from '../../api/publish-addresses.ts'
import type { Labels, ServiceSpec } from '../../api/spec.ts'
import { staticAddresses } from '../../api/static-addresses.ts'
import { invalidArgument, managerRefusal } from '../../api/validation/refusal.ts'
import { addressHolder, rival, unsuitableAddress } from '../allocator/static-addresses.ts'
import type { StoreView } from '../store/types.ts'
import { findOptional } from './lookup.ts'

/**
 * @param current the service that is updated
 * @throws {CodedError} INVALID_ARGUMENT; FAILED_PRECONDITION while a manager is older than these labels
 */
export function checkAddressLabels(view: StoreView, spec: ServiceSpec, current?: Service): void {
  const given = newLabels(spec, current)
  const isOurs = (label: string) => label.startsWith(PUBLISH_LABEL_PREFIX)
  const some = Object.keys(given).find(isOurs) ?? staticAddresses(given)[0]?.label
  const level = view.cluster()?.featureLevel ?? PUBLISH_ADDRESS_FEATURE_LEVEL
  if (some !== undefined && level < PUBLISH_ADDRESS_FEATURE_LEVEL) {
    throw managerRefusal(
      'FAILED_PRECONDITION',
      `label ${some} needs feature level ${PUBLISH_ADDRESS_FEATURE_LEVEL} and the cluster is at ${level}: upgrade swarmd on every manager first`,
    )
  }
  const problem = addressLabelsProblem(view, spec, current)
  if (problem !== undefined) throw invalidArgument(problem)
}

/** Networks may be named by id or by name, and need not be there yet. */
export function addressLabelsProblem(view: StoreView, spec: ServiceSpec, current?: Service): string | undefined {
  const given = newLabels(spec, current)
  return publishProblem(spec, given) ?? staticProblem(view, spec, given, current)
}

/** Those that the service does not have already. */
function newLabels(spec: ServiceSpec, current: Service | undefined): Labels {
  const known = current?.spec.Labels ?? {}
  return Object.fromEntries(Object.entries(spec.Labels ?? {}).filter(([label, value]) => known[label] !== value))
}

function publishProblem({ EndpointSpec }: ServiceSpec, given: Labels): string | undefined {
  const ports = EndpointSpec?.Ports ?? []
  const unused = Object.keys(given).find((label) => {
    if (!label.startsWith(PUBLISH_LABEL_PREFIX) || !portOfPublishLabel(label)) return false
    return !ports.some((port) => addressesOfPort({ [label]: 'x' }, port).length > 0)
  })
  if (unused === undefined) return undefined
  return `label ${unused}: the service publishes no such port: ${portsText(ports)}`
}

function portsText(ports: NonNullable<NonNullable<ServiceSpec['EndpointSpec']>['Ports']>): string {
  const numbers = ports.flatMap(({ PublishedPort, Protocol = 'tcp' }) =>
    PublishedPort ? [`${PublishedPort}/${Protocol}`] : [],
  )
  return numbers.length > 0 ? `${numbers.join(', ')} are published` : 'it publishes none of its own choice'
}

function staticProblem(
  view: StoreView,
  spec: ServiceSpec,
  given: Labels,
  current: Service | undefined,
): string | undefined {
  const targets = (spec.TaskTemplate?.Networks ?? []).map(({ Target = '' }) => Target)
  const isDnsrr = spec.EndpointSpec?.Mode === 'dnsrr'
  for (const { label, network: name, addresses } of staticAddresses(spec.Labels)) {
    const network = findOptional(view, 'network', name)
    const isOn = targets.includes(name) || (network !== undefined && isNamed(targets, network))
    // A network that changes its service's mode would have to be seen, though the label is as it was.
    if (isOn && isDnsrr) {
      return `label ${label}: it is the service's virtual address, and with endpoint mode dnsrr there is none`
    }
    if (given[label] === undefined) continue
    if (!isOn) return `label ${label}: the service is not on such a network`
    const problem =
      network &&
      (unsuitableAddress(network, addresses) ??
        addressHolder(view, network, addresses, current?.id) ??
        rival(view, network, addresses, current?.id))
    if (problem) return `label ${label}: ${problem}`
  }
  return undefined
}

function isNamed(
  targets: readonly string[],
  network: { readonly id: string; readonly spec: { readonly Name?: string } },
) {
  return targets.includes(network.id) || targets.includes(network.spec.Name ?? '')
}

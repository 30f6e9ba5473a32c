// Which networks of the cluster a service and its tasks are on, by their specs.

import type { Network, Service, Task } from '../../api/objects.ts'
import type { EndpointSpec, NetworkAttachmentConfig } from '../../api/spec.ts'
import type { StoreView } from '../store/types.ts'

export interface WantedNetwork {
  readonly networkId: string
  readonly aliases: readonly string[]
}

/** Networks of each engine (`host`, `bridge` …) stand in specs under their names; the API lets nothing else through. */
const PREDEFINED = new Set(['host', 'none', 'bridge'])

export function publishesIngress(spec: EndpointSpec | undefined): boolean {
  return (spec?.Ports ?? []).some((port) => (port.PublishMode ?? 'ingress') === 'ingress')
}

/** The ingress network first, as Swarm has it; none where the cluster has none. */
function wanted(
  view: StoreView,
  networks: readonly NetworkAttachmentConfig[],
  endpoint: EndpointSpec | undefined,
): readonly WantedNetwork[] {
  const ingress = publishesIngress(endpoint) ? view.ingressNetwork() : undefined
  const own = networks.flatMap(({ Target = '', Aliases = [] }): readonly WantedNetwork[] =>
    PREDEFINED.has(Target) && !view.get('network', Target) ? [] : [{ networkId: Target, aliases: Aliases }],
  )
  const all = [...(ingress ? [{ networkId: ingress.id, aliases: [] }] : []), ...own]
  return all.filter((one, at) => all.findIndex((other) => other.networkId === one.networkId) === at)
}

/** Networks on which the service has a virtual address. */
export function networksWithVip(view: StoreView, { spec }: Pick<Service, 'spec'>): readonly string[] {
  if (spec.EndpointSpec?.Mode === 'dnsrr') return []
  const networks = spec.TaskTemplate?.Networks ?? []
  return wanted(view, networks, spec.EndpointSpec).map(({ networkId }) => networkId)
}

/** Networks that the task is attached to: its own spec's, and what its service publishes. */
export function networksOfTask(view: StoreView, service: Service, task: Task): readonly WantedNetwork[] {
  return wanted(view, task.spec.Networks ?? [], service.spec.EndpointSpec)
}

export function networkName(network: Network | undefined, id: string): string {
  return network?.spec.Name ?? id
}

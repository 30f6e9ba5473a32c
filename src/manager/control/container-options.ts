// Whether this cluster lets a service have what its labels ask of its containers.

import { allowsHostAccess, HOST_ACCESS_LABEL } from '../../api/cluster-settings.ts'
import { containerLabel, powerfulLabel } from '../../api/container-labels.ts'
import type { ServiceSpec } from '../../api/spec.ts'
import { invalidArgument } from '../../api/validation/refusal.ts'
import type { StoreView } from '../store/types.ts'

const MAC_ADDRESS = containerLabel('mac-address')

/**
 * Tasks that run already are not looked at again when the setting changes.
 * @throws {CodedError} INVALID_ARGUMENT
 */
export function checkContainerOptions(view: StoreView, spec: ServiceSpec): void {
  const problem = containerOptionsProblem(view, spec)
  if (problem !== undefined) throw invalidArgument(problem)
}

/** What this cluster refuses of the spec's labels; undefined: nothing. */
export function containerOptionsProblem(view: StoreView, spec: ServiceSpec): string | undefined {
  const powerful = powerfulLabel(spec.Labels)
  if (powerful && !allowsHostAccess(view.cluster()?.spec)) {
    return `label ${powerful.label}: it gives power over the nodes (${powerful.summary}), which this cluster refuses its services; to allow it to all who may create services: swarmctl swarm update --label-add ${HOST_ACCESS_LABEL}=allow`
  }
  const networks = spec.TaskTemplate?.Networks ?? []
  if (spec.Labels?.[MAC_ADDRESS] !== undefined && networks.some(({ Target }) => Target !== 'bridge')) {
    return `label ${MAC_ADDRESS}: on networks of the cluster, and on host and none, addresses are not the service's; attach it to the network bridge alone`
  }
  return undefined
}

// Whether a task that is made now has to wait for the allocator: one of a service without networks and ports has nothing to be
// given, and is PENDING from the beginning. That is an entry less on its way to a node.

import type { Service } from '../../api/objects.ts'

/** The allocator's name, under which it shows what it cannot do for a service. */
export const ALLOCATOR = 'allocator'
export const PENDING_MESSAGE = 'pending task scheduling'

/** False only where the allocator would let each task of the service pass as it is. */
export function awaitsAllocator({ spec, endpoint, problem }: Service): boolean {
  const networks = [...(spec.TaskTemplate?.Networks ?? []), ...(spec.Networks ?? [])]
  if (networks.length > 0 || (spec.EndpointSpec?.Ports ?? []).length > 0) return true
  // What it had by its spec of before it has until that is taken back; and what was shown of it is taken away with a new task.
  const has = endpoint && (endpoint.ports.length > 0 || endpoint.virtualIps.length > 0)
  return has || problem?.source === ALLOCATOR
}

// Services that wait for each other would never start.

import { DEPENDS_ON_LABEL, dependenciesOf } from '../../api/depends-on.ts'
import type { ServiceSpec } from '../../api/spec.ts'
import { invalidArgument } from '../../api/validation/refusal.ts'
import type { StoreView } from '../store/types.ts'

/**
 * What is named need not be there yet: a stack's services come one by one.
 * @throws {CodedError} INVALID_ARGUMENT where what the service waits for waits for the service
 */
export function checkDependencies(view: StoreView, spec: ServiceSpec): void {
  const own = spec.Name ?? ''
  const before = new Map<string, string>()
  const open = dependenciesOf(spec.Labels).map(({ service }) => service)
  for (const name of open) before.set(name, own)
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (name === own) {
      const cycle = [own]
      for (let step = before.get(own); step !== undefined && step !== own; step = before.get(step)) cycle.unshift(step)
      throw invalidArgument(`label ${DEPENDS_ON_LABEL}: dependency cycle detected: ${[own, ...cycle].join(' → ')}`)
    }
    for (const { service } of dependenciesOf(view.byName('service', name)?.spec.Labels)) {
      if (before.has(service)) continue
      before.set(service, name)
      open.push(service)
    }
  }
}

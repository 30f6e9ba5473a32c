// The routes that nodes report of their hosts: what a cluster network lies over, containers no longer reach.

import type { Node } from '../../api/objects.ts'
import { type Cidr, formatCidr, parseCidr } from '../../lib/cidr.ts'
import type { StoreView } from '../store/types.ts'

export interface ReportedRoute {
  readonly cidr: Cidr
  /** One that reports it. */
  readonly node: Node
}

/** Each once; default routes lead everywhere, and count for nothing. */
export function reportedRoutes(view: Pick<StoreView, 'list'>): readonly ReportedRoute[] {
  const routes = new Map<string, ReportedRoute>()
  for (const node of view.list('node')) {
    for (const text of node.dataPath?.routes ?? []) {
      const cidr = parseCidr(text)
      if (cidr && cidr.prefix > 0) routes.set(formatCidr(cidr), { cidr, node })
    }
  }
  return [...routes.values()]
}

// The routes that nodes report of their hosts: what a cluster network lies over, containers no longer reach.

import type { DataPathProblem } from '../../api/data-plane.ts'
import type { Node } from '../../api/objects.ts'
import { type Cidr, formatCidr, overlaps, parseCidr } from '../../lib/cidr.ts'
import { subnetsOf } from '../store/indexes.ts'
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

/** What is wrong with a node's routes: networks that lie over them, the ingress network among them. One problem a route. */
export function overlapProblems(view: Pick<StoreView, 'list'>, routes: readonly string[]): readonly DataPathProblem[] {
  const networks = view.list('network')
  return routes.flatMap((route): readonly DataPathProblem[] => {
    const cidr = parseCidr(route)
    const over =
      cidr && cidr.prefix > 0 ? networks.filter((one) => subnetsOf(one).some((own) => overlaps(own, cidr))) : []
    const [network] = over
    if (!network) return []
    const others = over.length > 1 ? ` and ${over.length - 1} more` : ''
    const message = `the route ${route} of this host overlaps with network ${network.spec.Name ?? network.id}${others}: containers there do not reach what is behind it`
    return [{ code: 'ROUTE_OVERLAP', message, subject: network.id }]
  })
}

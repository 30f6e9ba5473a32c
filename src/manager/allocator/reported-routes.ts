// The routes that nodes report of their hosts: what a cluster network lies over, containers no longer reach.

import type { DataPathProblem } from '../../api/data-plane.ts'
import { NODE_SUBNETS } from '../../api/defaults.ts'
import type { Node } from '../../api/objects.ts'
import { type Cidr, formatCidr, overlaps, parseCidr } from '../../lib/cidr.ts'
import { subnetsOf } from '../store/indexes.ts'
import type { StoreView } from '../store/types.ts'

export interface ReportedRoute {
  readonly cidr: Cidr
  /** One that reports it. */
  readonly node: Node
}

/** VPNs write their default route as two or eight halves: what leads everywhere counts for nothing. */
const EVERYWHERE_PREFIX = 3

/** A route as a host tells it; undefined for default routes. */
export function parseRoute(text: string): Cidr | undefined {
  const cidr = parseCidr(text)
  return cidr && cidr.prefix > EVERYWHERE_PREFIX ? cidr : undefined
}

/** Each once. */
export function reportedRoutes(view: Pick<StoreView, 'list'>): readonly ReportedRoute[] {
  const routes = new Map<string, ReportedRoute>()
  for (const node of view.list('node')) {
    for (const text of node.dataPath?.routes ?? []) {
      const cidr = parseRoute(text)
      if (cidr) routes.set(formatCidr(cidr), { cidr, node })
    }
  }
  return [...routes.values()]
}

/**
 * What is wrong with a node's routes: networks that lie over them, the ingress network among them, and what every node gives
 * its containers. One problem a route.
 */
export function overlapProblems(view: Pick<StoreView, 'list'>, routes: readonly string[]): readonly DataPathProblem[] {
  const networks = view.list('network')
  const own = parseCidr(NODE_SUBNETS)
  return routes.flatMap((route): readonly DataPathProblem[] => {
    const cidr = parseRoute(route)
    if (!cidr) return []
    const [network, ...more] = networks.filter((one) => subnetsOf(one).some((subnet) => overlaps(subnet, cidr)))
    const others = more.length > 0 ? ` and ${more.length} more` : ''
    const over = network
      ? `network ${network.spec.Name ?? network.id}${others}: containers there do`
      : own && overlaps(own, cidr)
        ? `${NODE_SUBNETS}, which swarmd uses on every node: containers on overlay networks do`
        : undefined
    if (over === undefined) return []
    const message = `the route ${route} of this host overlaps with ${over} not reach what is behind it`
    return [{ code: 'ROUTE_OVERLAP', message, subject: network?.id ?? '' }]
  })
}

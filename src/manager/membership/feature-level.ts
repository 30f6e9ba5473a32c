// Raises the cluster's feature level once every manager can do more (architecture, principle 6): the lowest level that all
// managers support, never lowered.

import type { Cluster, Node } from '../../api/objects.ts'

/** From this level on every manager can seal its keys (autolock) and rotate the root. */
export const SECURITY_FEATURE_LEVEL = 3

/**
 * The highest level that this build knows: 2 is the data plane, 3 autolock and rotation of the root, 4 addresses of published ports and
 * services' own on networks. A test build is made with a higher one.
 */
declare const SWARMCTL_FEATURE_LEVEL: number | undefined
export const OWN_FEATURE_LEVEL: number = typeof SWARMCTL_FEATURE_LEVEL === 'number' ? SWARMCTL_FEATURE_LEVEL : 4

/** The level to raise the cluster to, or undefined where it stays. */
export function raisedFeatureLevel(cluster: Cluster, nodes: readonly Node[]): number | undefined {
  const levels = nodes.flatMap((node) => (node.manager ? [node.manager.featureLevel] : []))
  const common = levels.length > 0 ? Math.min(...levels) : cluster.featureLevel
  return common > cluster.featureLevel ? common : undefined
}

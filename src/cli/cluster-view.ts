// Asks the daemon for the containers of all nodes instead of those of its own machine.

/** Sent with each request about containers. */
export const CLUSTER_VIEW = { 'X-Swarmd-View': 'cluster' } as const
/** Hostnames of nodes that did not answer, on a listing. */
export const MISSING_HEADER = 'x-swarmd-missing-nodes'
/** The node of a container in a listing. */
export const NODE_LABEL = 'io.swarmctl.node'

// Which Docker API a service that binds /var/run/docker.sock gets: a setting of the cluster, kept in its labels.

import type { SwarmSpec } from './spec.ts'

/** Set to `engine` on the cluster (`swarm update --label` of swarmctl), tasks get the engine's own socket, not swarmd's. */
export const TASK_SOCKET_LABEL = 'io.swarmctl.task-docker-socket'

export type TaskSocketKind = 'swarmd' | 'engine'

export function taskSocketOf(spec: SwarmSpec | undefined): TaskSocketKind {
  return spec?.Labels?.[TASK_SOCKET_LABEL] === 'engine' ? 'engine' : 'swarmd'
}

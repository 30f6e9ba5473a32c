// What the engine's ids of networks are in the cluster, from what the engine lists and, on a manager, from the store.

import type { NetworkNames } from './network-view.ts'
import type { ServerContext } from './server-context.ts'

export async function namesOf(
  server: Pick<ServerContext, 'parts' | 'cluster'>,
  engineIds: readonly string[],
): Promise<NetworkNames> {
  const parts = await server.parts.of(engineIds)
  const state = server.cluster.state()
  const idOf = (name: string) => (state.kind === 'manager' ? (state.view.byName('network', name)?.id ?? '') : '')
  return { parts, idOf }
}

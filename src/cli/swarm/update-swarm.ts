// Reads the cluster's spec, changes it, and writes it back.

import type { SwarmJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'

/** `rotate` names what is made anew: rotateWorkerToken, rotateManagerToken, rotateManagerUnlockKey. */
export async function updateSwarm(
  client: ApiClient,
  change: (swarm: SwarmJson) => SwarmJson['Spec'],
  rotate: Readonly<Record<string, boolean>> = {},
): Promise<{ readonly before: SwarmJson['Spec']; readonly after: SwarmJson['Spec'] }> {
  const swarm = await client.json<SwarmJson>('GET', '/swarm')
  const after = change(swarm)
  await client.text('POST', '/swarm/update', {
    query: {
      version: String(swarm.Version?.Index ?? 0),
      rotateWorkerToken: false,
      rotateManagerToken: false,
      rotateManagerUnlockKey: false,
      ...rotate,
    },
    body: after,
  })
  return { before: swarm.Spec, after }
}

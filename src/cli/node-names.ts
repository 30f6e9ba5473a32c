// How nodes are called on command lines.

import type { InfoJson, NodeJson } from './api-types.ts'
import type { ApiClient } from './client.ts'
import { CliError } from './command.ts'

/** The id that `self` stands for; any other reference is itself. */
export async function reference(client: ApiClient, ref: string): Promise<string> {
  if (ref !== 'self') return ref
  const info = await client.json<InfoJson>('GET', '/info')
  const id = info.Swarm?.NodeID
  if (id) return id
  // a worker does not know: the daemon's own words say so
  await client.json('GET', '/nodes')
  throw new CliError('node ID not found in /info')
}

export async function nodeNames(client: ApiClient): Promise<readonly string[]> {
  const nodes = await client.json<NodeJson[]>('GET', '/nodes')
  return nodes.map((node) => node.Description?.Hostname ?? node.ID)
}

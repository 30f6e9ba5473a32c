// Which places that plain containers were given on networks of the cluster still have their container, running or not.

import type { Task } from '../../api/objects.ts'
import type { EngineClient } from './engine-client.ts'

/** What is read of GET /containers/json. */
interface ConnectedContainer {
  readonly NetworkSettings: {
    readonly Networks: Readonly<
      Record<string, { readonly IPAMConfig?: { readonly IPv4Address?: string; readonly IPv6Address?: string } | null }>
    > | null
  } | null
}

/**
 * @param networkIds ids of the cluster's networks by name, of those that the engine has a part of
 * @returns ids of the places
 */
export async function placesInUse(
  engine: EngineClient,
  networkIds: ReadonlyMap<string, string>,
  places: readonly Task[],
): Promise<ReadonlySet<string>> {
  const containers = await engine.json<readonly ConnectedContainer[]>({
    method: 'GET',
    path: '/containers/json',
    query: { all: true },
  })
  const used = new Set(
    containers.flatMap(({ NetworkSettings: settings }) =>
      Object.entries(settings?.Networks ?? {}).flatMap(([name, { IPAMConfig: given }]) =>
        [given?.IPv4Address, given?.IPv6Address].map((address) => `${networkIds.get(name)}/${address}`),
      ),
    ),
  )
  const isUsed = ({ attachments }: Task) =>
    attachments.some(({ networkId, addresses }) =>
      addresses.some((address) => used.has(`${networkId}/${address.split('/')[0]}`)),
    )
  return new Set(places.filter(isUsed).map(({ id }) => id))
}

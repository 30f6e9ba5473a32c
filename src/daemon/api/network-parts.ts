// The engine's networks that are this node's part of cluster networks, as the engine lists them: which engine network is which
// network of the cluster, and which are of no interest to anybody but this node.

import { EGRESS_NETWORK_ID } from '../../overlay/desired-state.ts'
import { NETWORK_ID_KEY, PORTS_NETWORK_ID } from '../../overlay/driver-options.ts'
import type { Engine } from './engine.ts'
import { asList, asObject, asText, type JsonObject, parseJson } from './engine-json.ts'

export interface NetworkPart {
  /** Of the engine: 64 hexadecimal digits, never used twice. */
  readonly engineId: string
  readonly name: string
  /** Of the cluster's network. */
  readonly clusterId: string
  /** A network of the node's own: nobody is shown it. */
  readonly hidden: boolean
}

const HIDDEN_IDS: ReadonlySet<string> = new Set([EGRESS_NETWORK_ID, PORTS_NETWORK_ID])
/** What was seen is remembered, for networks that are gone: of so many. */
const KNOWN_MAX = 10_000

/** undefined: the engine's own. */
export function networkPartOf(network: JsonObject): NetworkPart | undefined {
  const clusterId = asText(asObject(network.Labels)[NETWORK_ID_KEY])
  if (clusterId === '') return undefined
  return {
    engineId: asText(network.Id),
    name: asText(network.Name),
    clusterId,
    hidden: HIDDEN_IDS.has(clusterId),
  }
}

export class NetworkParts {
  readonly #engine: Engine
  /** By id of the engine; undefined: that network is no part, or was gone before it was ever listed. */
  readonly #known = new Map<string, NetworkPart | undefined>()

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** What these ids of engine networks are; those of no part are left out. Asks the engine only about what is new. */
  async of(engineIds: Iterable<string>): Promise<ReadonlyMap<string, NetworkPart>> {
    const ids = [...engineIds]
    if (ids.some((id) => !this.#known.has(id))) {
      await this.list()
      for (const id of ids) if (!this.#known.has(id)) this.#known.set(id, undefined)
    }
    return new Map(
      ids.flatMap((id): readonly [string, NetworkPart][] => {
        const part = this.#known.get(id)
        return part ? [[id, part]] : []
      }),
    )
  }

  /** The part of a cluster network, named by its id or the beginning of one. */
  async find(clusterId: string): Promise<NetworkPart | undefined> {
    if (clusterId === '') return undefined
    const parts = await this.list()
    return (
      parts.find((part) => part.clusterId === clusterId) ??
      parts.find((part) => !part.hidden && part.clusterId.startsWith(clusterId))
    )
  }

  /** Those that there are now. */
  async list(): Promise<readonly NetworkPart[]> {
    const answer = await this.#engine.get(await this.#engine.versionedPath(41, '/networks'))
    if (answer.status !== 200) return []
    if (this.#known.size > KNOWN_MAX) this.#known.clear()
    const networks = asList(parseJson(answer.body)).map(asObject)
    for (const network of networks) this.#known.set(asText(network.Id), networkPartOf(network))
    return networks.flatMap((network) => networkPartOf(network) ?? [])
  }
}

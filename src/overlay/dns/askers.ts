// Who asks: the container that a packet's source address belongs to, and with it the names that it may see. The fabric lets no
// container send with another's address.

import { formatAddress, parseAddress } from '../../lib/cidr.ts'
import { type DesiredState, EGRESS_NETWORK_ID, type LocalAttachment } from '../desired-state.ts'
import type { OwnAnswer } from './answer.ts'

/** What containers on the same networks have in common. */
export interface Asker {
  /** Whose names it sees, sorted by the networks' names; the gateway network has none. */
  readonly networkIds: readonly string[]
  /** It has a way out of the cluster, and so have its questions. */
  readonly forwards: boolean
  /** Its own name servers; empty: the host's. */
  readonly nameServers: readonly string[]
  /** What was answered since the table last changed, by question. */
  readonly answers: Map<string, KeptAnswer>
}

export interface KeptAnswer extends OwnAnswer {
  /** Rises with each use: answers begin with another record each time. */
  turn: number
}

export class Askers {
  readonly #state: () => DesiredState
  readonly #locals: () => Iterable<LocalAttachment>
  #byAddress: Map<string, Asker> | undefined

  constructor(options: { readonly state: () => DesiredState; readonly locals: () => Iterable<LocalAttachment> }) {
    this.#state = options.state
    this.#locals = options.locals
  }

  /** Attachments or networks have changed: the next question looks at them again. */
  invalidate(): void {
    this.#byAddress = undefined
  }

  /** Undefined for whoever is no container of this node. */
  find(address: string): Asker | undefined {
    this.#byAddress ??= this.#build()
    return this.#byAddress.get(address) ?? this.#byAddress.get(plainAddress(address))
  }

  /** Each of those that have asked or may ask. */
  all(): Iterable<Asker> {
    return new Set(this.#byAddress?.values())
  }

  #build(): Map<string, Asker> {
    const { networks } = this.#state()
    const containers = new Map<string, LocalAttachment[]>()
    for (const local of this.#locals()) {
      const container = local.sandbox || local.endpointId
      const others = containers.get(container)
      if (others) others.push(local)
      else containers.set(container, [local])
    }
    const alike = new Map<string, Asker>()
    const byAddress = new Map<string, Asker>()
    const isGateway = ({ networkId }: LocalAttachment) =>
      networkId === EGRESS_NETWORK_ID || networks.get(networkId)?.ingress === true
    // Not always by the gateway network: host-mode ports come with a bridge of the engine.
    const hasWayOut = (local: LocalAttachment) => isGateway(local) || networks.get(local.networkId)?.internal === false
    for (const attachments of containers.values()) {
      const networkIds = attachments
        .filter((local) => !isGateway(local))
        .map(({ networkId }) => ({ id: networkId, name: networks.get(networkId)?.name ?? '' }))
        .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
        .map(({ id }) => id)
      const forwards = attachments.some(hasWayOut)
      const nameServers = [...new Set(attachments.flatMap((local) => local.nameServers ?? []))]
      const key = JSON.stringify([networkIds, forwards, nameServers])
      const asker = alike.get(key) ?? { networkIds, forwards, nameServers, answers: new Map() }
      alike.set(key, asker)
      for (const address of attachments.flatMap((local) => local.addresses)) byAddress.set(plainAddress(address), asker)
    }
    return byAddress
  }
}

const MAPPED = '::ffff:'

/** As formatAddress writes it; IPv4 out of a socket of IPv6 is IPv4. */
export function plainAddress(address: string): string {
  const text = address.startsWith(MAPPED) && address.includes('.') ? address.slice(MAPPED.length) : address
  const parsed = parseAddress(text)
  return parsed ? formatAddress(parsed) : text
}

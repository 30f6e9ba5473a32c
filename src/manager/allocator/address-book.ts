// Which addresses of which network are in use: kept from the store's events, rebuilt from the view by each new leader, and
// ahead of the store by what is being proposed. What it gives out twice (after a rescan, or where a proposal of the last term
// is applied late) `apply` refuses, and the proposer asks again.

import type { StoreObject } from '../../api/objects.ts'
import { holdsAddresses } from '../store/indexes.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'
import { AddressPool, type AddressUse, type Region } from './address-pool.ts'

interface Holding {
  readonly networkId: string
  readonly address: string
}

interface Reservation extends Holding {
  readonly kind: 'service' | 'task'
  readonly holder: string
}

const NONE: readonly Holding[] = []

/** What an object has now. */
function holdings(object: StoreObject | undefined): readonly Holding[] {
  if (!object || (object.kind === 'task' && !holdsAddresses(object))) return NONE
  return everGiven(object)
}

function everGiven(object: StoreObject): readonly Holding[] {
  if (object.kind === 'service') return object.endpoint?.virtualIps ?? NONE
  if (object.kind !== 'task' || object.attachments.length === 0) return NONE
  return object.attachments.flatMap(({ networkId, addresses }) => addresses.map((address) => ({ networkId, address })))
}

function isSame(old: StoreObject, next: StoreObject): boolean {
  if (old.kind === 'service' && next.kind === 'service') return old.endpoint === next.endpoint
  if (old.kind !== 'task' || next.kind !== 'task') return false
  return old.attachments === next.attachments && holdsAddresses(old) === holdsAddresses(next)
}

export class AddressBook {
  readonly #pools = new Map<string, AddressPool>()
  /** Given out in proposals that are under way, by the key that proposes. */
  readonly #reserved = new Map<string, Reservation[]>();

  /** From nothing; undefined is a place to pause. Events that come in meanwhile are to be observed. */
  *build(view: StoreView): Iterable<undefined> {
    this.#pools.clear()
    this.#reserved.clear()
    for (const kind of ['service', 'task'] as const) {
      for (const [at, { id }] of view.list(kind).entries()) {
        // The list is of the beginning of this walk: what it names may have changed since.
        const object = view.get(kind, id)
        this.#put(object, view)
        if (object) {
          for (const { networkId, address } of everGiven(object)) {
            this.#pool(view, networkId)?.follow(address, object.meta.createdAt)
          }
        }
        if (at % 100 === 99) yield undefined
      }
    }
  }

  /** @returns networks that have a free address more */
  observe(event: StoreEvent, view: StoreView): readonly string[] {
    const { old, new: next } = event
    if (event.objectKind === 'network') {
      // Gone, or allocated anew: made again when somebody asks.
      if (!next) this.#pools.delete(event.id)
      return []
    }
    if (event.objectKind !== 'task' && event.objectKind !== 'service') return []
    if (old && next && isSame(old, next)) return []
    const freed = holdings(old).filter(({ networkId, address }) => this.#pools.get(networkId)?.free(address, event.id))
    this.#put(next, view)
    const kept = new Set(holdings(next).map(({ address }) => address))
    return freed.filter(({ address }) => !kept.has(address)).map(({ networkId }) => networkId)
  }

  /**
   * One free address of each family of the network, as CIDR texts, kept for `holder` until `settle`; undefined: exhausted.
   * @param key that proposes it
   * @param wished instead of any one
   * @param kept what the holder has there and keeps: of that family it gets no other
   */
  take(
    view: StoreView,
    networkId: string,
    region: Region,
    key: string,
    holder: Pick<StoreObject, 'kind' | 'id'>,
    wished: readonly string[] = [],
    kept: readonly string[] = [],
  ) {
    const addresses = this.#pool(view, networkId)?.take(holder.id, region, wished, kept)
    if (!addresses || (holder.kind !== 'task' && holder.kind !== 'service')) return undefined
    const list = this.#reserved.get(key) ?? []
    for (const address of addresses) {
      if (!kept.includes(address)) list.push({ networkId, address, kind: holder.kind, holder: holder.id })
    }
    this.#reserved.set(key, list)
    return addresses
  }

  /** Takes back what `take` gave in this key's decision and its holder will not get after all. */
  giveBack(key: string, holder: string): void {
    const list = this.#reserved.get(key) ?? []
    for (const one of list) if (one.holder === holder) this.#pools.get(one.networkId)?.free(one.address, holder)
    const rest = list.filter((one) => one.holder !== holder)
    if (rest.length > 0) this.#reserved.set(key, rest)
    else this.#reserved.delete(key)
  }

  /** The key's proposals are answered, and the view shows them: what was not written is free again. */
  settle(key: string, view: StoreView): readonly string[] {
    const freed: string[] = []
    for (const { kind, holder, networkId, address } of this.#reserved.get(key) ?? []) {
      const held = holdings(view.get(kind, holder)).some(
        (one) => one.networkId === networkId && one.address === address,
      )
      if (!held && this.#pools.get(networkId)?.free(address, holder)) freed.push(networkId)
    }
    this.#reserved.delete(key)
    return freed
  }

  /** How full each network is that somebody has asked for an address of. */
  *use(): Iterable<AddressUse & { readonly networkId: string }> {
    for (const [networkId, pool] of this.#pools) for (const use of pool.use()) yield { networkId, ...use }
  }

  /** How full a network is, for people. */
  describe(view: StoreView, networkId: string, region: Region): string {
    return this.#pool(view, networkId)?.describe(region) ?? ''
  }

  #put(object: StoreObject | undefined, view: StoreView): void {
    for (const { networkId, address } of holdings(object)) {
      this.#pool(view, networkId)?.put(address, object?.id ?? '')
    }
  }

  #pool(view: StoreView, networkId: string): AddressPool | undefined {
    const known = this.#pools.get(networkId)
    if (known) return known
    const network = view.get('network', networkId)
    if (!network?.allocated) return undefined
    const made = new AddressPool(network)
    this.#pools.set(networkId, made)
    return made
  }
}

// Objects in the order of their ids, with snapshots that stay what they were: `toArray` hands out the live array, and the next
// change copies it first. A copy of 30,000 references costs some 20 µs, and none is made while nobody looks.

interface Identified {
  readonly id: string
}

export class SortedObjects<T extends Identified> {
  #items: T[] = []
  #shared = false

  get size(): number {
    return this.#items.length
  }

  toArray(): readonly T[] {
    this.#shared = true
    return this.#items
  }

  get(id: string): T | undefined {
    const at = this.#search(id)
    const item = this.#items[at]
    return item?.id === id ? item : undefined
  }

  /** Adds the object, or replaces the one with its id. */
  put(item: T): void {
    this.#own()
    const at = this.#search(item.id)
    if (this.#items[at]?.id === item.id) this.#items[at] = item
    else this.#items.splice(at, 0, item)
  }

  delete(id: string): void {
    const at = this.#search(id)
    if (this.#items[at]?.id !== id) return
    this.#own()
    this.#items.splice(at, 1)
  }

  #own(): void {
    if (!this.#shared) return
    this.#items = this.#items.slice()
    this.#shared = false
  }

  #search(id: string): number {
    let low = 0
    let high = this.#items.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#items[middle]!.id < id) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Sorted objects that are looked up by their id much more often than they change. */
export class ObjectTable<T extends Identified> extends SortedObjects<T> {
  readonly #byId = new Map<string, T>()

  override get(id: string): T | undefined {
    return this.#byId.get(id)
  }

  override put(item: T): void {
    super.put(item)
    this.#byId.set(item.id, item)
  }

  override delete(id: string): void {
    if (this.#byId.delete(id)) super.delete(id)
  }
}

/** Objects grouped by a key, each group in the order of ids; empty groups are forgotten. */
export class GroupedObjects<T extends Identified> {
  readonly #groups = new Map<string, SortedObjects<T>>()

  get(key: string): readonly T[] {
    return this.#groups.get(key)?.toArray() ?? []
  }

  put(key: string, item: T): void {
    let group = this.#groups.get(key)
    if (!group) {
      group = new SortedObjects()
      this.#groups.set(key, group)
    }
    group.put(item)
  }

  delete(key: string, id: string): void {
    const group = this.#groups.get(key)
    if (!group) return
    group.delete(id)
    if (group.size === 0) this.#groups.delete(key)
  }
}

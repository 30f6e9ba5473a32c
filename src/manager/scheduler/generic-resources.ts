// User-defined resources of a node (`--node-generic-resource`): counted ones (SSD=3) and named ones (gpu=UUID1).

import type { GenericResource } from '../../api/spec.ts'

export type GenericResources = readonly GenericResource[]

/** What is left of `total` beside what tasks were given. */
export class FreeGenericResources {
  readonly #counts = new Map<string, number>()
  readonly #names = new Map<string, Set<string>>()

  constructor(total: GenericResources) {
    for (const { DiscreteResourceSpec: counted, NamedResourceSpec: named } of total) {
      if (counted?.Kind) this.#counts.set(counted.Kind, (this.#counts.get(counted.Kind) ?? 0) + (counted.Value ?? 0))
      if (named?.Kind && named.Value) {
        const names = this.#names.get(named.Kind) ?? new Set()
        this.#names.set(named.Kind, names.add(named.Value))
      }
    }
  }

  take(given: GenericResources): void {
    for (const { DiscreteResourceSpec: counted, NamedResourceSpec: named } of given) {
      if (counted?.Kind) this.#counts.set(counted.Kind, (this.#counts.get(counted.Kind) ?? 0) - (counted.Value ?? 0))
      if (named?.Kind && named.Value) this.#names.get(named.Kind)?.delete(named.Value)
    }
  }

  /** What a task that asks for `wanted` gets, named resources in the order of their names; undefined: not enough is left. */
  choose(wanted: GenericResources): GenericResources | undefined {
    const given: GenericResource[] = []
    for (const { DiscreteResourceSpec: asked } of wanted) {
      if (!asked?.Kind) continue
      const { Kind, Value = 0 } = asked
      const names = [...(this.#names.get(Kind) ?? [])].sort()
      if (names.length > 0) {
        if (names.length < Value) return undefined
        for (const name of names.slice(0, Value)) given.push({ NamedResourceSpec: { Kind, Value: name } })
      } else {
        if ((this.#counts.get(Kind) ?? 0) < Value) return undefined
        given.push({ DiscreteResourceSpec: { Kind, Value } })
      }
    }
    return given
  }

  /** True while the node still has, free or not, each of the given resources. */
  covers(given: GenericResources): boolean {
    return given.every(({ DiscreteResourceSpec: counted, NamedResourceSpec: named }) => {
      if (named?.Kind && named.Value) return this.#names.get(named.Kind)?.has(named.Value) ?? false
      return !counted?.Kind || (this.#counts.get(counted.Kind) ?? 0) >= (counted.Value ?? 0)
    })
  }
}

// How much of something each asker has in use: nobody gets so much that nothing is left for others.

export class Shares {
  readonly #max: number
  readonly #used = new Map<string, number>()

  constructor(max: number) {
    this.#max = max
  }

  /** False: it has its share already. Each true is given back by `release`. */
  take(owner: string): boolean {
    const used = this.#used.get(owner) ?? 0
    if (used >= this.#max) return false
    this.#used.set(owner, used + 1)
    return true
  }

  release(owner: string): void {
    const used = this.#used.get(owner) ?? 0
    if (used > 1) this.#used.set(owner, used - 1)
    else this.#used.delete(owner)
  }
}

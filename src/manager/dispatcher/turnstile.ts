// So many at once for each key; the others wait, in their order, until one of theirs has ended.

export class Turnstile {
  readonly #max: number
  readonly #active = new Map<string, number>()
  readonly #line = new Map<string, Set<() => void>>()

  constructor(max: number) {
    this.#max = max
  }

  /** Whoever is aborted while waiting rejects, and has never begun. */
  async pass<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    while (this.#count(key) >= this.#max) await this.#wait(key, signal)
    if (signal.aborted) this.#callNext(key) // its turn is another's
    signal.throwIfAborted()
    this.#active.set(key, this.#count(key) + 1)
    try {
      return await work()
    } finally {
      const left = this.#count(key) - 1
      if (left > 0) this.#active.set(key, left)
      else this.#active.delete(key)
      this.#callNext(key)
    }
  }

  #callNext(key: string): void {
    const [next] = this.#line.get(key) ?? []
    next?.()
  }

  #count(key: string): number {
    return this.#active.get(key) ?? 0
  }

  #wait(key: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const line = this.#line.get(key) ?? new Set()
    this.#line.set(key, line)
    return new Promise((resolve, reject) => {
      const leave = () => {
        line.delete(next)
        if (line.size === 0) this.#line.delete(key)
        signal.removeEventListener('abort', aborted)
      }
      const next = () => {
        leave()
        resolve()
      }
      const aborted = () => {
        leave()
        reject(signal.reason)
      }
      line.add(next)
      signal.addEventListener('abort', aborted, { once: true })
    })
  }
}

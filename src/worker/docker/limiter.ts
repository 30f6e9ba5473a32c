// At most so many at once; the others wait in line, in order.

export class Limiter {
  readonly #max: number
  #active = 0
  readonly #line: (() => void)[] = []

  constructor(max: number) {
    this.#max = max
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#active >= this.#max) await new Promise<void>((resolve) => this.#line.push(resolve))
    else this.#active++
    try {
      return await task()
    } finally {
      // The place goes to the next in line without becoming free in between.
      const next = this.#line.shift()
      if (next) next()
      else this.#active--
    }
  }
}

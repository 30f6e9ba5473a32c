// At most so many at once; the others wait in line, in order, those that finish what was begun before those that begin.

export class Limiter {
  readonly #max: number
  #active = 0
  readonly #finishing: (() => void)[] = []
  readonly #beginning: (() => void)[] = []

  constructor(max: number) {
    this.#max = max
  }

  async run<T>(work: 'begin' | 'finish', task: () => Promise<T>): Promise<T> {
    const line = work === 'finish' ? this.#finishing : this.#beginning
    if (this.#active >= this.#max) await new Promise<void>((resolve) => line.push(resolve))
    else this.#active++
    try {
      return await task()
    } finally {
      // The place goes to the next in line without becoming free in between.
      const next = this.#finishing.shift() ?? this.#beginning.shift()
      if (next) next()
      else this.#active--
    }
  }
}

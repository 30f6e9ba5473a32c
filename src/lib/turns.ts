// Work in turns: each piece begins when the one before it has ended, well or not.

export class Turns {
  #last: Promise<unknown> = Promise.resolve()

  /** Resolves or rejects as `work` does; who comes next does not hear of it. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work)
    this.#last = mine.catch(() => {})
    return mine
  }

  /** Resolves when all that has been given so far has ended. Never rejects. */
  async idle(): Promise<void> {
    await this.#last
  }
}

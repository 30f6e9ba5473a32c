// Changes of many callers become one step: what comes while one is taken goes into the next.

import type { DataPlaneKey } from '../api/data-plane.ts'

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class StepQueue {
  readonly #step: (keys: readonly DataPlaneKey[] | undefined) => Promise<void>
  #dirty = new Map<string, DataPlaneKey>()
  #all = false
  #waiters: Waiter[] = []
  #running: Promise<void> | undefined

  /** @param step makes it so that these keys are as wanted; undefined: that everything is */
  constructor(step: (keys: readonly DataPlaneKey[] | undefined) => Promise<void>) {
    this.#step = step
  }

  /** A step has failed: the next one is of everything, whoever asks for it. */
  get isBehind(): boolean {
    return this.#all
  }

  /** @param keys undefined: everything. @throws what the step did that has them */
  take(keys: readonly DataPlaneKey[] | undefined): Promise<void> {
    if (keys) for (const key of keys) this.#dirty.set(`${key.kind}/${key.id}`, key)
    else this.#all = true
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined
      })
    })
  }

  /** Resolves when no step is under way any more. Never throws. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    while (this.#waiters.length > 0) {
      const waiters = this.#waiters
      const keys = this.#all ? undefined : [...this.#dirty.values()]
      this.#waiters = []
      this.#dirty = new Map()
      this.#all = false
      try {
        await this.#step(keys)
        for (const { resolve } of waiters) resolve()
      } catch (error) {
        this.#all = true // part of it is done
        for (const { reject } of waiters) reject(error)
      }
    }
  }
}

// Structured concurrency: whatever is spawned in a scope ends with it, and one failure ends all of it.

import { errorMessage } from './errors.ts'

/** Tasks that live and die together. The first failure aborts the others; `close` waits until every task has ended. */
export class Scope {
  readonly #controller = new AbortController()
  readonly #running = new Set<Promise<void>>()
  readonly #failed: Promise<never>
  #reject: (error: unknown) => void = () => {}
  #failure: { readonly error: unknown } | undefined

  constructor(parent?: AbortSignal) {
    this.#failed = new Promise((_, reject) => {
      this.#reject = reject
    })
    this.#failed.catch(() => {}) // whoever calls wait() sees it; nobody has to
    if (parent?.aborted) this.#controller.abort(parent.reason)
    else
      parent?.addEventListener('abort', () => this.#controller.abort(parent.reason), {
        once: true,
        signal: this.signal,
      })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** The error that ended the scope, if one did. */
  get failure(): unknown {
    return this.#failure?.error
  }

  /** Runs `task`; errors after the scope was closed are the closing's consequence and are dropped. */
  spawn(name: string, task: (signal: AbortSignal) => Promise<void>): void {
    if (this.signal.aborted) return
    const running = (async () => {
      try {
        await task(this.signal)
      } catch (error) {
        if (!this.signal.aborted) this.#fail(error, name)
      }
    })()
    this.#running.add(running)
    void running.then(() => this.#running.delete(running))
  }

  /** Rejects with the first failure; resolves when all tasks ended or the scope was closed. */
  async wait(): Promise<void> {
    const idle = async () => {
      while (this.#running.size > 0) await Promise.all(this.#running)
    }
    await Promise.race([this.#failed, idle()])
    if (this.#failure) throw this.#failure.error
  }

  /** Aborts every task and waits for all of them; never throws. */
  async close(reason = 'closed'): Promise<void> {
    this.#controller.abort(new Error(reason))
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  #fail(error: unknown, name: string): void {
    if (this.#failure) return
    this.#failure = { error }
    this.#reject(error)
    this.#controller.abort(new Error(`${name} failed: ${errorMessage(error)}`))
  }
}

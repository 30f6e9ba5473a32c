// How this node's engine describes it: asked until it answers, again each minute, and whenever something may have changed.

import type { NodeDescription } from '../api/spec.ts'
import { type Clock, sleep } from '../lib/clock.ts'
import { errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'

export interface NodeDescriberOptions {
  readonly describe: () => Promise<NodeDescription>
  /** It is another than before; not called for the first one. */
  readonly onChange: (description: NodeDescription) => void
  readonly clock: Clock
  readonly log: Log
}

const EVERY_MS = 60_000
const ENGINE_RETRY_MS = 500

export class NodeDescriber {
  readonly #options: NodeDescriberOptions
  #description: NodeDescription | undefined
  #wake = (): void => {}
  #asked = false

  constructor(options: NodeDescriberOptions) {
    this.#options = options
  }

  /** undefined until `first` has resolved. */
  get description(): NodeDescription | undefined {
    return this.#description
  }

  /** Looks again soon. */
  refresh(): void {
    this.#asked = true
    this.#wake()
  }

  /** Resolves with the first description, however long the engine takes to answer, or when aborted. */
  async first(signal: AbortSignal): Promise<void> {
    const { describe, clock, log } = this.#options
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        this.#description = await describe()
        return
      } catch (error) {
        if (failures % 20 === 0) log.warn({ err: errorMessage(error) }, 'waiting for the engine')
        await sleep(clock, ENGINE_RETRY_MS, signal)
      }
    }
  }

  /** Until aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    const { describe, onChange, clock, log } = this.#options
    while (!signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          timer.cancel()
          signal.removeEventListener('abort', wake)
          resolve()
        }
        const timer = clock.setTimer(EVERY_MS, wake)
        this.#wake = wake
        signal.addEventListener('abort', wake, { once: true })
        if (this.#asked) wake()
      })
      if (signal.aborted) return
      this.#asked = false
      try {
        const description = await describe()
        if (JSON.stringify(description) === JSON.stringify(this.#description)) continue
        this.#description = description
        onChange(description)
      } catch (error) {
        log.debug({ err: errorMessage(error) }, 'the engine was not described')
      }
    }
  }
}

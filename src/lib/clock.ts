// Time as a dependency. Production code gets a Clock and never touches Date or timers itself, so that the simulator
// can run the same code on virtual time.

/** A pending timer; `cancel` is idempotent and a cancelled timer never fires. */
export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Monotonic milliseconds from an arbitrary origin: for durations and deadlines. */
  nowMs(): number
  /** Wall time in milliseconds since 1970: for people, certificates and stored timestamps only. */
  wallMs(): number
  /**
   * Calls `fire` once after `delayMs` (≥ 0), never synchronously. 0 means the next turn of the event loop: after the
   * I/O that is ready now, without the millisecond that a timer costs.
   */
  setTimer(delayMs: number, fire: () => void): Timer
}

/** The machine's clock. Timers do not keep the process alive when `unref` is asked for. */
export class SystemClock implements Clock {
  readonly #unref: boolean

  constructor(options: { readonly unref?: boolean } = {}) {
    this.#unref = options.unref ?? false
  }

  nowMs(): number {
    return performance.now()
  }

  wallMs(): number {
    return Date.now()
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    if (delayMs <= 0) {
      const immediate = setImmediate(fire)
      if (this.#unref) immediate.unref()
      return { cancel: () => clearImmediate(immediate) }
    }
    // Longer delays overflow setTimeout's 32 bits and would fire at once.
    const timer = setTimeout(fire, Math.min(delayMs, 2 ** 31 - 1))
    if (this.#unref) timer.unref()
    return { cancel: () => clearTimeout(timer) }
  }
}

/**
 * Resolves after `delayMs`; resolves at once (never rejects) when `signal` aborts, so that a loop can check its signal
 * in one place.
 */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      timer.cancel()
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = clock.setTimer(delayMs, done)
    signal?.addEventListener('abort', done, { once: true })
  })
}

/** RFC 3339 in UTC with nanosecond digits, as Docker's API prints times (JavaScript's precision is milliseconds). */
export function formatTime(wallMs: number): string {
  return `${new Date(wallMs).toISOString().slice(0, -1)}000000Z`
}

/** Milliseconds since 1970 of an RFC 3339 time, cut to milliseconds; NaN where the text is none. */
export function parseTime(text: string): number {
  return Date.parse(text.replace(/(\.\d{3})\d+/, '$1'))
}

// The node's last report, and those who wait for another one.

import type { DataPathReport } from '../api/data-plane.ts'

export interface Posted {
  /** Rises with each change. */
  readonly serial: number
  readonly report: DataPathReport
}

export class ReportBoard {
  #posted: Posted
  #text = ''
  readonly #waiting = new Set<() => void>()

  constructor(first: DataPathReport) {
    this.#posted = { serial: 0, report: first }
  }

  get posted(): Posted {
    return this.#posted
  }

  /** One that says the same as the last is none. */
  post(report: DataPathReport): void {
    const text = JSON.stringify(report)
    if (text === this.#text) return
    this.#text = text
    this.#posted = { serial: this.#posted.serial + 1, report }
    for (const done of [...this.#waiting]) done()
  }

  /** Resolves when there is another report than that one, or at the signal. */
  async changedSince(serial: number, signal: AbortSignal): Promise<void> {
    if (serial !== this.#posted.serial || signal.aborted) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiting.add(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }
}

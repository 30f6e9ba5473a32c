// The transcript of a simulated run: what managers, workers and their users did, in order. Its digest shows whether two
// runs were the same; its end is what a person reads of a failed one.

import { createHash } from 'node:crypto'
import { errorMessage } from '../../src/lib/errors.ts'
import type { Log } from '../../src/lib/log.ts'

const LINES_KEPT = 400

export class Transcript {
  readonly #nowMs: () => number
  readonly #onLine: (line: string) => void
  readonly #digest = createHash('sha256')
  readonly #last: string[] = []
  #lines = 0

  constructor(nowMs: () => number, onLine: (line: string) => void = () => {}) {
    this.#nowMs = nowMs
    this.#onLine = onLine
  }

  get lines(): number {
    return this.#lines
  }

  write(who: string, what: string): void {
    const line = `${(this.#nowMs() / 1000).toFixed(3).padStart(9)} ${who.padEnd(4)} ${what}`
    this.#digest.update(line)
    this.#lines++
    this.#last.push(line)
    if (this.#last.length > 2 * LINES_KEPT) this.#last.splice(0, LINES_KEPT)
    this.#onLine(line)
  }

  digest(): string {
    return this.#digest.copy().digest('hex').slice(0, 16)
  }

  end(count: number): readonly string[] {
    return this.#last.slice(-Math.min(count, LINES_KEPT))
  }
}

/** @param onError hears of what should never be logged: errors of a process that is alive */
export function transcriptLog(
  transcript: Transcript,
  who: string,
  isAlive: () => boolean,
  onError: (message: string) => void,
): Log {
  const write = (mark: string) => (fields: Readonly<Record<string, unknown>>, message: string) => {
    if (isAlive()) transcript.write(who, `${mark}${message} ${textOf(fields)}`)
  }
  const error = (fields: Readonly<Record<string, unknown>>, message: string) => {
    if (!isAlive()) return
    write('ERROR ')(fields, message)
    onError(`${who}: ${message} ${textOf(fields)}`)
  }
  const log: Log = { debug: () => {}, info: write(''), warn: write('! '), error, fatal: error, child: () => log }
  return log
}

function textOf(fields: Readonly<Record<string, unknown>>): string {
  // Keys are drawn anew in each run of a seed, and so is what follows from them.
  return Object.entries(fields)
    .filter(([name]) => name !== 'digest')
    .map(([name, value]) => `${name}=${value instanceof Error ? errorMessage(value) : String(value)}`)
    .join(' ')
}

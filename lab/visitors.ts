/** People who come to the voting app without a pause, through every node, from a machine that is none of them. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { Lab } from './lab.ts'

/** What they saw since they were last asked. */
export interface Visits {
  readonly visitors: number
  /** Votes that were acknowledged. */
  readonly votes: number
  /** How often each version of the page was seen. */
  readonly versions: Readonly<Record<string, number>>
  /** The addresses that the pages saw them come from. */
  readonly clients: readonly string[]
  /** Visitors of whom a request failed, or was not answered within 30 s. */
  readonly failed: number
  /** The first of these. */
  readonly failures: readonly string[]
}

export class Visitors {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #lines: AsyncIterator<string>

  constructor(lab: Lab, options: { readonly urls: readonly string[]; readonly perSecond: number }) {
    const program = join(import.meta.dirname, 'visitor-program.js')
    const [nsenter = '', ...args] = lab.clientArgv([
      process.execPath,
      program,
      String(options.perSecond),
      ...options.urls,
    ])
    this.#child = spawn(nsenter, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]()
  }

  /** What was seen since the last call. */
  seen(): Promise<Visits> {
    return this.#ask('now')
  }

  /** The same, when no more come and all that were there have left. */
  async end(): Promise<Visits> {
    const visits = await this.#ask('all')
    this.close()
    return visits
  }

  close(): void {
    this.#child.stdin.end()
  }

  async #ask(line: string): Promise<Visits> {
    this.#child.stdin.write(`${line}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the visitors are gone')
    return JSON.parse(value) as Visits
  }
}

// What swarmd-net starts from: the last DesiredState, as a journal of changes on the node's disk. One change costs one line, whatever
// the size of the state; the file is written anew when changes have outgrown it. Killed at any moment it leaves a state to go on from;
// after a power loss an older one, which swarmd then replaces.

import { type FileHandle, mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Turns } from '../lib/turns.ts'
import { type DesiredChange, DesiredStore } from './desired-state.ts'

const FORMAT = 1
const RECORDS_PER_LINE = 200
const REWRITE_MIN_BYTES = 1024 * 1024

interface Header {
  readonly format: number
}

export class StateFile {
  readonly #path: string
  readonly #log: Log
  #file: FileHandle | undefined
  #sizeBytes = 0
  /** of the file as it was last written anew */
  #baseBytes = 0
  readonly #turns = new Turns()

  constructor(path: string, log: Log) {
    this.#path = path
    this.#log = log
  }

  /** An unreadable rest is left out, a file of another format counts as none: swarmd sends everything anyway. */
  async load(): Promise<DesiredStore> {
    const store = new DesiredStore()
    const lines = (await readText(this.#path)).split('\n').filter((line) => line !== '')
    try {
      const header = lines[0] === undefined ? undefined : (JSON.parse(lines[0]) as Header)
      if (header?.format === FORMAT) {
        for (const line of lines.slice(1)) store.apply(JSON.parse(line) as DesiredChange)
      }
    } catch (error) {
      this.#log.warn({ path: this.#path, reason: errorMessage(error) }, 'the end of the saved state cannot be read')
    }
    return store
  }

  /**
   * Resolves when a killed process would find `change` again; `store` has it already.
   * @throws system errors: the state on disk is then an older one
   */
  append(change: DesiredChange, store: DesiredStore): Promise<void> {
    const line = change.complete ? undefined : `${JSON.stringify(change)}\n`
    return this.#turns.take(() => this.#append(line, store))
  }

  async close(): Promise<void> {
    await this.#turns.idle()
    await this.#file?.close()
    this.#file = undefined
  }

  async #append(line: string | undefined, store: DesiredStore): Promise<void> {
    if (line === undefined || !this.#file || this.#sizeBytes > Math.max(2 * this.#baseBytes, REWRITE_MIN_BYTES)) {
      await this.#rewrite(store)
      return
    }
    try {
      await this.#file.appendFile(line)
      this.#sizeBytes += line.length
    } catch (error) {
      // What follows half a line would be lost with it: the next change writes everything.
      await this.#file.close().catch(() => {})
      this.#file = undefined
      throw error
    }
  }

  async #rewrite(store: DesiredStore): Promise<void> {
    await this.#file?.close()
    this.#file = undefined
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 })
    const temporary = `${this.#path}.new`
    const file = await open(temporary, 'w', 0o600)
    try {
      let sizeBytes = 0
      for (const line of linesOf(store)) {
        await file.appendFile(line)
        sizeBytes += line.length
      }
      await rename(temporary, this.#path)
      this.#baseBytes = sizeBytes
      this.#sizeBytes = sizeBytes
      this.#file = file
    } catch (error) {
      await file.close()
      throw error
    }
  }
}

function* linesOf(store: DesiredStore): Generator<string> {
  yield `${JSON.stringify({ format: FORMAT } satisfies Header)}\n`
  const { self, revision } = store.state
  const records = store.records()
  for (let at = 0; at === 0 || at < records.length; at += RECORDS_PER_LINE) {
    const set = records.slice(at, at + RECORDS_PER_LINE)
    yield `${JSON.stringify({ self, revision, complete: at === 0, set, removed: [] } satisfies DesiredChange)}\n`
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return ''
    throw error
  }
}

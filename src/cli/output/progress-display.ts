// Progress as Docker draws it: on a terminal one line for each id, rewritten in place; in a pipe plain lines, one for
// each change.

import { bytesSize } from '../units.ts'

export interface ProgressLine {
  readonly id: string
  readonly action: string
  readonly current?: number
  readonly total?: number
  /** Shown behind the counts; without it and without `hideCounts`, they are bytes. */
  readonly units?: string
  readonly hideCounts?: boolean
  /** Says something without its bar: shown in a pipe as well. */
  readonly summary?: boolean
}

export interface ProgressOutput {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

const BAR_MIN_COLUMNS = 110
const DEFAULT_COLUMNS = 200

export class ProgressDisplay {
  readonly #out: ProgressOutput
  readonly #rows = new Map<string, number>()
  readonly #last = new Map<string, string>()

  constructor(out: ProgressOutput) {
    this.#out = out
  }

  update(line: ProgressLine): void {
    if (!this.#out.isTTY) {
      // bars are for eyes; a line that has not changed says nothing
      const isBar = ((line.current ?? 0) > 0 || (line.total ?? 0) > 0) && !line.summary
      if (isBar || this.#last.get(line.id) === line.action) return
      this.#last.set(line.id, line.action)
      this.#out.write(`${line.id}: ${line.action}\n`)
      return
    }
    let row = this.#rows.get(line.id)
    if (row === undefined) {
      row = this.#rows.size
      this.#rows.set(line.id, row)
      this.#out.write('\n')
    }
    const up = this.#rows.size - row
    this.#out.write(`\x1b[${up}A\x1b[2K\r${line.id}: ${line.action} ${this.#bar(line)}\r\x1b[${up}B`)
  }

  /** A line of its own below what has been drawn; later updates begin below it. */
  message(text: string, id = ''): void {
    this.#rows.clear()
    this.#out.write(`${id === '' ? '' : `${id}: `}${text}\n`)
  }

  #bar(line: ProgressLine): string {
    const { current = 0, total = 0, units, hideCounts } = line
    if (current <= 0 && total <= 0) return ''
    if (total <= 0) return units === undefined ? bytesSize(current).padStart(8) : `${current} ${units}`
    const done = Math.min(50, Math.trunc(Math.trunc((current / total) * 100) / 2))
    const wide = (this.#out.columns ?? DEFAULT_COLUMNS) > BAR_MIN_COLUMNS
    const box = wide ? `[${'='.repeat(done)}>${' '.repeat(50 - done)}] ` : ''
    if (hideCounts) return box
    if (units !== undefined) return `${box}${current > total ? `${current} ${units}` : `${current}/${total} ${units}`}`
    return `${box}${bytesSize(current).padStart(8)}${current > total ? '' : `/${bytesSize(total)}`}`
  }
}

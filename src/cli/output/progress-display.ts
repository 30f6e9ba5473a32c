// Progress as Docker draws it: on a terminal one line for each id, rewritten in place; in a pipe plain lines, one for
// each change. A line that would wrap is cut, and one that has left the screen is written anew below: neither could be drawn over.

import { bytesSize } from '../units.ts'
import { displayWidth, ellipsis } from './table.ts'

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
  readonly rows?: number
}

const BAR_MIN_COLUMNS = 110
const DEFAULT_COLUMNS = 200

export class ProgressDisplay {
  readonly #out: ProgressOutput
  /** Which line an id has, of those below the last message. */
  readonly #rows = new Map<string, number>()
  readonly #last = new Map<string, string>()
  #lines = 0
  #columns: number

  constructor(out: ProgressOutput) {
    this.#out = out
    this.#columns = columnsOf(out)
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
    // In a window that became narrower, what was drawn stands on more lines than before.
    const columns = columnsOf(this.#out)
    if (columns < this.#columns) this.#beginBelow()
    this.#columns = columns
    const text = fitting(line.id, `${line.action} ${this.#bar(line)}`, columns)
    let row = this.#rows.get(line.id)
    if (row !== undefined && this.#last.get(line.id) === text) return
    this.#last.set(line.id, text)
    if (row === undefined || this.#lines - row >= (this.#out.rows || Number.POSITIVE_INFINITY)) {
      row = this.#lines++
      this.#rows.set(line.id, row)
      this.#out.write('\n')
    }
    const up = this.#lines - row
    this.#out.write(`\x1b[${up}A\x1b[2K\r${text}\r\x1b[${up}B`)
  }

  /** A line of its own below what has been drawn; later updates begin below it. */
  message(text: string, id = ''): void {
    this.#beginBelow()
    this.#out.write(`${id === '' ? '' : `${id}: `}${text}\n`)
  }

  #beginBelow(): void {
    this.#rows.clear()
    this.#lines = 0
  }

  #bar(line: ProgressLine): string {
    const { current = 0, total = 0, units, hideCounts } = line
    if (current <= 0 && total <= 0) return ''
    if (total <= 0) return units === undefined ? bytesSize(current).padStart(8) : `${current} ${units}`
    const done = Math.min(50, Math.trunc(Math.trunc((current / total) * 100) / 2))
    const wide = columnsOf(this.#out) > BAR_MIN_COLUMNS
    const box = wide ? `[${'='.repeat(done)}>${' '.repeat(50 - done)}] ` : ''
    if (hideCounts) return box
    if (units !== undefined) return `${box}${current > total ? `${current} ${units}` : `${current}/${total} ${units}`}`
    return `${box}${bytesSize(current).padStart(8)}${current > total ? '' : `/${bytesSize(total)}`}`
  }
}

/** What happens is worth more room than the end of a long name. */
function fitting(id: string, what: string, columns: number): string {
  const whole = `${id}: ${what}`
  if (displayWidth(whole) <= columns) return whole
  return ellipsis(`${ellipsis(id, Math.floor(columns / 2))}: ${what}`, columns)
}

/** A terminal that does not know its width says 0. */
const columnsOf = ({ columns }: ProgressOutput): number => columns || DEFAULT_COLUMNS

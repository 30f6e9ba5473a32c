// Columns in line, as Go's tabwriter lays them out: a cell ends at a tab, and a column is as wide as its widest cell over
// the run of lines that have it.

export interface TableLayout {
  /** Narrowest column, padding included. */
  readonly minWidth: number
  readonly padding: number
}

/** Docker's layout of listings. */
export const LISTING: TableLayout = { minWidth: 10, padding: 3 }

/** `text` with its tabs replaced by blanks; what follows the last tab of a line is no cell and sets no width. */
export function alignColumns(text: string, layout: TableLayout): string {
  const lines = text.split('\n').map((line) => line.split('\t'))
  const widths: number[][] = lines.map(() => [])
  measure(lines, widths, 0, lines.length, 0, layout)
  return lines
    .map((cells, i) =>
      cells
        .map((cell, column) =>
          column === cells.length - 1 ? cell : cell + ' '.repeat(Math.max(0, widths[i]![column]! - displayWidth(cell))),
        )
        .join(''),
    )
    .join('\n')
}

/** Sets the width of `column` and those right of it for each run of lines in [from, to) that has it. */
function measure(
  lines: readonly (readonly string[])[],
  widths: number[][],
  from: number,
  to: number,
  column: number,
  layout: TableLayout,
): void {
  const hasCell = (i: number) => column < lines[i]!.length - 1
  for (let i = from; i < to; i++) {
    if (!hasCell(i)) continue
    let end = i
    let width = layout.minWidth
    while (end < to && hasCell(end)) {
      width = Math.max(width, displayWidth(lines[end]![column]!) + layout.padding)
      end++
    }
    for (let line = i; line < end; line++) widths[line]![column] = width
    measure(lines, widths, i, end, column + 1, layout)
    i = end - 1
  }
}

// East Asian wide and full-width ranges (UAX #11), the ones that terminals draw two cells wide.
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u

export function displayWidth(text: string): number {
  let width = 0
  for (const char of text) width += WIDE.test(char) ? 2 : 1
  return width
}

/** Cut to `maxWidth` columns, the last one an ellipsis. */
export function ellipsis(text: string, maxWidth: number): string {
  if (displayWidth(text) <= maxWidth) return text
  let out = ''
  let width = 0
  for (const char of text) {
    width += displayWidth(char)
    if (width > maxWidth - 1) break
    out += char
  }
  return `${out}…`
}

/** "running" → "Running": Docker's form of states in tables. */
export function capitalize(text: string): string {
  return text.length < 2 ? text.toLowerCase() : text[0]!.toUpperCase() + text.slice(1).toLowerCase()
}

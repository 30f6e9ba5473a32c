// Pieces of the --pretty pages.

import { printTime } from '../format/value.ts'
import { capitalize } from './table.ts'

export function sortedPairs(values: Readonly<Record<string, string>> | null | undefined): [string, string][] {
  return Object.entries(values ?? {}).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

/** A time as Docker's pages show it: Go's text, its letters in lower case ("2026-01-02 03:04:05.678 +0000 utc"). */
export function goTimeText(time: string | undefined): string {
  return capitalize(printTime(time ?? '0001-01-01T00:00:00Z'))
}

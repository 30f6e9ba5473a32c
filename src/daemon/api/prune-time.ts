// The `until` of prunes as dockerd reads it: a Unix time, a date, or a Go duration back from now.

import { refusal } from '../../api/validation/refusal.ts'
import { parseTime } from '../../lib/clock.ts'

const UNIT_MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, m: 60e3, h: 3600e3 }
const DURATION = /^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/
const DATE = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:\d{2})?$/

/**
 * @returns milliseconds since 1970
 * @throws {CodedError} INVALID_PARAMETER
 */
export function parsePruneTime(text: string, nowMs: number): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000
  if (DURATION.test(text)) {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)]
    return nowMs - parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_MS[unit ?? ''] ?? 0), 0)
  }
  const timeMs = DATE.test(text) ? parseTime(text) : Number.NaN
  if (Number.isNaN(timeMs)) throw refusal(`failed to parse value as time or duration: ${JSON.stringify(text)}`)
  return timeMs
}

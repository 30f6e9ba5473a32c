// Values of swarmd's flags about disks.

import type { PressureLimit } from './disk-level.ts'

const UNITS = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 } as const

/** Of a large disk a share would be more than anybody needs. */
const SHARE_AT_MOST_BYTES = 5 * 2 ** 30
/** To be opened again after a full disk, each of LevelDB's two logs here is written out once more: 4 MiB, and what follows from it. */
const MIN_RESERVE_BYTES = 16 * 2 ** 20

/** `64m`, `1g`, `1.5GiB` as Docker reads sizes; undefined: not a size. */
export function parseSize(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([bkmgt]?)(?:i?b)?$/i.exec(text.trim()) ?? []
  if (number === undefined) return undefined
  const bytes = Math.floor(Number(number) * UNITS[unit.toLowerCase() as keyof typeof UNITS])
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** `0` is none. */
export function parseReserve(text: string): number | undefined {
  const bytes = parseSize(text)
  return bytes !== undefined && (bytes === 0 || bytes >= MIN_RESERVE_BYTES) ? bytes : undefined
}

export type PressureFlag = { readonly kind: 'off' } | { readonly kind: 'limit'; readonly limit: PressureLimit }

/** `5%` (at most 5 GiB), a size, or `off`; undefined: none of these. */
export function parsePressure(text: string): PressureFlag | undefined {
  if (text === 'off') return { kind: 'off' }
  const [, percent] = /^(\d{1,2}(?:\.\d+)?) ?%$/.exec(text) ?? []
  if (percent !== undefined) {
    return { kind: 'limit', limit: { share: Number(percent) / 100, atMostBytes: SHARE_AT_MOST_BYTES } }
  }
  const bytes = parseSize(text)
  return bytes === undefined ? undefined : { kind: 'limit', limit: { share: 1, atMostBytes: bytes } }
}

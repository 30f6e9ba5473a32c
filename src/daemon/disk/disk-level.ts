// When a disk counts as full: pure, with room between falling below a limit and rising above it again, so that nothing flickers.

import type { DiskPressure } from '../../api/disk-pressure.ts'

export interface DiskSpace {
  /** what lies on it */
  readonly path: string
  /** of the file system: two paths may share one */
  readonly device: number
  readonly freeBytes: number
  readonly sizeBytes: number
}

// ---- a manager's reserve ----

export interface ReserveState {
  /** The file that holds the reserve is there. */
  readonly isMade: boolean
  /** Nothing that makes the log grow is taken. */
  readonly isLow: boolean
}

/**
 * Low where less than the reserve is left beside it, until it is twice that. A reserve that was given up is made again where
 * as much stays free beside it; what it holds counts as room in both cases, so that making it changes nothing.
 */
export function nextReserve(
  { isMade, isLow }: ReserveState,
  freeBytes: number,
  reserveBytes: number,
): { readonly isLow: boolean; readonly make: boolean } {
  const room = freeBytes + (isMade ? reserveBytes : 0)
  return { isLow: room < reserveBytes * (isLow ? 3 : 2), make: !isMade && freeBytes >= 2 * reserveBytes }
}

// ---- pressure on a node ----

/** A share of the disk, but never more than `atMostBytes`; undefined: nothing counts as pressure. */
export interface PressureLimit {
  readonly share: number
  readonly atMostBytes: number
}

/** What is left has to be half as much again before the pressure is over. */
const RELIEF = 1.5
/** Reported anew when it differs by so much from what was said. */
const NEWS_SHARE = 0.25

export function isUnderPressure(wasUnder: boolean, space: DiskSpace, limit: PressureLimit | undefined): boolean {
  if (limit === undefined) return false
  const limitBytes = Math.min(space.sizeBytes * limit.share, limit.atMostBytes)
  return space.freeBytes < limitBytes * (wasUnder ? RELIEF : 1)
}

/**
 * What to report now, of what was reported before and what is there; the same array where nothing is new.
 * @param refusing path of a manager's data root while it refuses writes
 */
export function nextPressure(
  before: readonly DiskPressure[],
  spaces: readonly DiskSpace[],
  limit: PressureLimit | undefined,
  refusing: string | undefined,
): readonly DiskPressure[] {
  const devices = new Set<number>()
  const now: DiskPressure[] = []
  for (const space of spaces) {
    const known = before.find(({ Path }) => Path === space.path)
    const RefusesWrites = space.path === refusing
    const isSecond = devices.has(space.device)
    devices.add(space.device)
    if (!RefusesWrites && (isSecond || !isUnderPressure(known !== undefined, space, limit))) continue
    const isNews =
      known === undefined || Math.abs(known.FreeBytes - space.freeBytes) > NEWS_SHARE * Math.max(known.FreeBytes, 1)
    now.push({
      Path: space.path,
      FreeBytes: isNews ? space.freeBytes : known.FreeBytes,
      SizeBytes: space.sizeBytes,
      ...(RefusesWrites && { RefusesWrites }),
    })
  }
  return JSON.stringify(now) === JSON.stringify(before) ? before : now
}

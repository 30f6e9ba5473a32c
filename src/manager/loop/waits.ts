// When a wait is over whose beginning is a stored time. Stored times are those of whichever manager led then, and clocks are set:
// a wait that began in what is now the future says nothing, and must not hold anything up until that time comes again.

/** More than the clocks of two managers differ where somebody cares for them. */
const CLOCKS_DIFFER_MS = 10_000

/** The clock was set back since, or was another's that is far ahead. */
export function isFromTheFuture(storedMs: number, nowMs: number): boolean {
  return storedMs > nowMs + CLOCKS_DIFFER_MS
}

/** The end of a wait of `durationMs` from a stored time on; now, where that time is from the future. */
export function endOfWait(storedMs: number, durationMs: number, nowMs: number): number {
  return isFromTheFuture(storedMs, nowMs) ? nowMs : storedMs + durationMs
}

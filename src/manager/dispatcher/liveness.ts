// When a node counts as gone. Pure: a table of deadlines that the dispatcher feeds and asks.
//
// Silence on an open connection is the sign of a cut or a hang: one heartbeat period. A connection that closed without goodbye
// is a crash or a restart of swarmd, whose containers run on: 10 s to return. A planned stop says how long it will take.
// After an election nobody is known to be silent yet, so everybody has as long as after a crash.

export const RETURN_GRACE_MS = 10_000
export const MAX_ANNOUNCED_GRACE_MS = 60_000

export class Liveness {
  readonly #heartbeatMs: () => number
  readonly #deadlines = new Map<string, number>()

  constructor(heartbeatMs: () => number) {
    this.#heartbeatMs = heartbeatMs
  }

  heard(nodeId: string, nowMs: number): void {
    this.#deadlines.set(nodeId, nowMs + this.#heartbeatMs())
  }

  /** The connection ended; `announcedMs` where the node had said goodbye. */
  closed(nodeId: string, nowMs: number, announcedMs: number | undefined): void {
    const grace = announcedMs === undefined ? RETURN_GRACE_MS : Math.min(announcedMs, MAX_ANNOUNCED_GRACE_MS)
    this.#deadlines.set(nodeId, nowMs + Math.max(grace, 0))
  }

  /** A node of which this new leader has heard nothing yet. */
  expected(nodeId: string, nowMs: number): void {
    this.#deadlines.set(nodeId, nowMs + Math.max(RETURN_GRACE_MS, this.#heartbeatMs()))
  }

  /** A new leadership begins: what was heard in an earlier one is no sign of anything. */
  clear(): void {
    this.#deadlines.clear()
  }

  /** What was to be written of an expired node was not: it expires once more. */
  again(nodeId: string, nowMs: number): void {
    if (!this.#deadlines.has(nodeId)) this.#deadlines.set(nodeId, nowMs)
  }

  forget(nodeId: string): void {
    this.#deadlines.delete(nodeId)
  }

  /** Nodes whose time is over, sorted; each is told once. */
  expire(nowMs: number): readonly string[] {
    const gone = [...this.#deadlines].filter(([, deadline]) => deadline <= nowMs).map(([nodeId]) => nodeId)
    for (const nodeId of gone) this.#deadlines.delete(nodeId)
    return gone.sort()
  }
}

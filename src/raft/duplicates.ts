// Forwarded proposals take effect at most once in a term, however often the network delivers them.

import type { RaftId } from './types.ts'

/** How far a late copy may lag behind; what is older counts as seen. */
const WINDOW = 65_536
const MAX_SESSIONS = 64

interface Seen {
  readonly ids: Set<number>
  highest: number
}

export class DuplicateFilter {
  readonly #sessions = new Map<string, Seen>()

  /** Whether the batch beginning with `requestId` comes for the first time; it counts as seen from now on. */
  isNew(from: RaftId, session: number, requestId: number): boolean {
    const seen = this.#session(`${from}/${session}`)
    if (requestId <= seen.highest - WINDOW || seen.ids.has(requestId)) return false
    seen.ids.add(requestId)
    seen.highest = Math.max(seen.highest, requestId)
    // Ids come nearly in order, so the oldest stand first.
    for (const id of seen.ids) {
      if (id > seen.highest - WINDOW) break
      seen.ids.delete(id)
    }
    return true
  }

  #session(key: string): Seen {
    const known = this.#sessions.get(key)
    if (known) return known
    if (this.#sessions.size >= MAX_SESSIONS) {
      const [oldest] = this.#sessions.keys()
      this.#sessions.delete(oldest!)
    }
    const seen: Seen = { ids: new Set(), highest: 0 }
    this.#sessions.set(key, seen)
    return seen
  }
}

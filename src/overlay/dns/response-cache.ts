// Answers of name servers, kept as long as they say and as many as fit: the longest unused go first.

import type { Response } from './message.ts'

const POSITIVE_SECONDS_MAX = 3600
const NEGATIVE_SECONDS_MAX = 60
/** What an entry costs beside its message. */
const ENTRY_BYTES = 500

interface Entry {
  readonly response: Response
  readonly storedMs: number
  readonly expiresMs: number
}

export interface Cached {
  readonly response: Response
  /** To be taken off its times to live. */
  readonly ageSeconds: number
}

export class ResponseCache {
  readonly #bytesMax: number
  readonly #entries = new Map<string, Entry>()
  #bytes = 0

  constructor(options: { readonly bytesMax: number }) {
    this.#bytesMax = options.bytesMax
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: string, nowMs: number): Cached | undefined {
    const entry = this.#entries.get(key)
    if (!entry) return undefined
    this.#delete(key, entry)
    if (nowMs >= entry.expiresMs) return undefined
    this.#add(key, entry)
    return { response: entry.response, ageSeconds: Math.floor((nowMs - entry.storedMs) / 1000) }
  }

  set(key: string, response: Response, nowMs: number): void {
    const old = this.#entries.get(key)
    if (old) this.#delete(key, old)
    const positive = response.rcode === 0 && response.message.readUInt16BE(6) > 0
    const seconds = Math.min(response.ttlSeconds, positive ? POSITIVE_SECONDS_MAX : NEGATIVE_SECONDS_MAX)
    if (seconds <= 0) return
    this.#add(key, { response, storedMs: nowMs, expiresMs: nowMs + seconds * 1000 })
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#bytesMax) break
      this.#delete(oldest, entry)
    }
  }

  #add(key: string, entry: Entry): void {
    this.#entries.set(key, entry)
    this.#bytes += sizeOf(entry)
  }

  #delete(key: string, entry: Entry): void {
    this.#entries.delete(key)
    this.#bytes -= sizeOf(entry)
  }
}

function sizeOf({ response }: Entry): number {
  return response.message.length + ENTRY_BYTES
}

// Questions that are not ours to answer: name servers are asked, once for all who ask the same at the same time, and what they
// say is kept as long as it says.

import type { Clock } from '../../lib/clock.ts'
import type { Random } from '../../lib/random.ts'
import { type Carry, lookUp, type NameServer } from './lookup.ts'
import type { Query, Response } from './message.ts'
import { type Cached, ResponseCache } from './response-cache.ts'

/** Questions under way at name servers; who comes then is told to try again. */
const PENDING_MAX = 1000
/** A server that was silent is asked last for so long. */
const SILENT_MS = 30_000
const CACHE_BYTES = 8 * 1024 * 1024

export interface ForwarderStats {
  readonly forwarded: number
  readonly cached: number
  readonly failed: number
  readonly silent: number
}

export class Forwarder {
  readonly #clock: Clock
  readonly #random: Random
  readonly #udp: Carry
  readonly #tcp: Carry
  readonly #cache: ResponseCache
  readonly #pending = new Map<string, Promise<Response | undefined>>()
  /** by address, until when */
  readonly #silentUntilMs = new Map<string, number>()
  #forwarded = 0
  #cached = 0
  #failed = 0
  #silent = 0

  constructor(options: {
    readonly clock: Clock
    readonly random: Random
    readonly udp: Carry
    readonly tcp: Carry
    readonly cacheBytes?: number
  }) {
    this.#clock = options.clock
    this.#random = options.random
    this.#udp = options.udp
    this.#tcp = options.tcp
    this.#cache = new ResponseCache({ bytesMax: options.cacheBytes ?? CACHE_BYTES })
  }

  get stats(): ForwarderStats {
    return { forwarded: this.#forwarded, cached: this.#cached, failed: this.#failed, silent: this.#silent }
  }

  /** What was answered before, as long as it holds. */
  known(query: Query, servers: readonly NameServer[]): Cached | undefined {
    const known = this.#cache.get(cacheKey(query, servers), this.#clock.nowMs())
    if (known) this.#cached++
    return known
  }

  /** Asks; undefined where no server has answered in time. Never rejects. */
  async resolve(query: Query, message: Buffer, servers: readonly NameServer[]): Promise<Cached | undefined> {
    if (servers.length === 0) return undefined
    const key = cacheKey(query, servers)
    const response = await (this.#pending.get(key) ?? this.#ask(key, query, message, servers))
    return response && { response, ageSeconds: 0 }
  }

  #ask(
    key: string,
    query: Query,
    message: Buffer,
    servers: readonly NameServer[],
  ): Promise<Response | undefined> | undefined {
    if (this.#pending.size >= PENDING_MAX) {
      this.#failed++
      return undefined
    }
    this.#forwarded++
    const asked = lookUp({
      query,
      message,
      servers: this.#inOrder(servers),
      clock: this.#clock,
      random: this.#random,
      udp: this.#udp,
      tcp: this.#tcp,
      onSilent: (server) => {
        this.#silent++
        this.#silentUntilMs.set(server.address, this.#clock.nowMs() + SILENT_MS)
      },
    }).then((response) => {
      this.#pending.delete(key)
      if (response) this.#cache.set(key, response, this.#clock.nowMs())
      else this.#failed++
      return response
    })
    this.#pending.set(key, asked)
    return asked
  }

  #inOrder(servers: readonly NameServer[]): readonly NameServer[] {
    const now = this.#clock.nowMs()
    for (const [address, untilMs] of this.#silentUntilMs) if (untilMs <= now) this.#silentUntilMs.delete(address)
    const isSilent = ({ address }: NameServer) => this.#silentUntilMs.has(address)
    return [...servers.filter((server) => !isSilent(server)), ...servers.filter(isSilent)]
  }
}

/** All that an answer depends on. */
function cacheKey({ name, type, class: class_, flags, edns }: Query, servers: readonly NameServer[]): string {
  const wishes = `${flags & 0x0130}/${edns ? Number(edns.dnssecOk) : '-'}`
  const asked = servers.map(({ address, inside }) => (inside ? `inside:${address}` : address))
  return `${asked.join()} ${wishes} ${class_} ${type} ${name}`
}

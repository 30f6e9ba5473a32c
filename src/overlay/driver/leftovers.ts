// What the engine has told and, after a crash, never takes back: end points whose cable is gone, end points that no container came
// for, addresses that no end point has. Nothing is taken for left over at first sight.

import type { EngineState } from './engine-state.ts'

export interface LeftoverOptions {
  readonly engine: EngineState
  readonly forget: (endpointId: string) => Promise<void>
}

/** An engine that makes an end point joins it within moments. */
const UNJOINED_AFTER_MS = 10 * 60_000
const CABLE_AFTER_MS = 30_000

export class Leftovers {
  readonly #options: LeftoverOptions
  readonly #suspectSinceMs = new Map<string, number>()

  constructor(options: LeftoverOptions) {
    this.#options = options
  }

  /** @param cables ids of end points whose cable is there */
  async sweep(cables: ReadonlySet<string>, nowMs: number): Promise<readonly string[]> {
    const { engine } = this.#options
    const suspects = new Map<string, number>()
    for (const [endpointId, { joined }] of engine.endpoints) {
      if (!joined) suspects.set(endpointId, UNJOINED_AFTER_MS)
      else if (!cables.has(endpointId)) suspects.set(endpointId, CABLE_AFTER_MS)
    }
    const held = new Set([...engine.endpoints.values()].flatMap(({ local }) => local.addresses))
    for (const address of engine.egress) if (!held.has(address)) suspects.set(address, UNJOINED_AFTER_MS)
    for (const known of this.#suspectSinceMs.keys()) if (!suspects.has(known)) this.#suspectSinceMs.delete(known)
    const gone: string[] = []
    for (const [suspect, afterMs] of suspects) {
      const sinceMs = this.#suspectSinceMs.get(suspect) ?? nowMs
      this.#suspectSinceMs.set(suspect, sinceMs)
      if (nowMs - sinceMs >= afterMs) gone.push(suspect)
    }
    for (const one of gone) await this.#drop(one)
    if (gone.length > 0) await engine.save()
    return gone
  }

  async #drop(suspect: string): Promise<void> {
    const { engine, forget } = this.#options
    this.#suspectSinceMs.delete(suspect)
    const endpoint = engine.endpoints.get(suspect)
    for (const address of endpoint?.local.addresses ?? [suspect]) engine.egress.delete(address)
    if (!endpoint) return
    engine.endpoints.delete(suspect)
    await forget(suspect)
  }
}

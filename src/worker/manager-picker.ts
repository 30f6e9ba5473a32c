// Which manager to dial next, and when. The first try after a loss is quick, because a killed leader is replaced within
// half a second; then the pauses grow, each with its own jitter, so that a thousand workers make no storm.

import type { ManagerAddress } from '../api/dispatcher.ts'
import type { Random } from '../lib/random.ts'

export interface Attempt {
  readonly manager: ManagerAddress
  readonly delayMs: number
}

const PAUSE_MS = { first: 50, max: 3_000, growth: 1.4 }
/** Redirects followed at once; more of them in a row mean that managers disagree, and take their pauses. */
const QUICK_REDIRECTS = 2

export class ManagerPicker {
  readonly #random: Random
  #managers: readonly ManagerAddress[]
  /** The rest of this round through all managers. */
  #round: ManagerAddress[] = []
  #hint: ManagerAddress | undefined
  #attempts = 0
  #redirects = 0
  #avoid = ''

  constructor(options: { readonly random: Random; readonly managers: readonly ManagerAddress[] }) {
    this.#random = options.random
    this.#managers = options.managers
  }

  get managers(): readonly ManagerAddress[] {
    return this.#managers
  }

  /** An empty list is no news: a worker that forgot all managers could never return. */
  update(managers: readonly ManagerAddress[]): void {
    if (managers.length === 0) return
    this.#managers = managers
    this.#round = this.#round.filter(({ address }) => managers.some((manager) => manager.address === address))
  }

  /** A manager said who leads (undefined: nobody does now). */
  redirected(leader: ManagerAddress | undefined): void {
    this.#hint = leader?.address === '' ? undefined : leader
  }

  /** A session stands: the next loss is tried again quickly. */
  connected(): void {
    this.#attempts = 0
    this.#redirects = 0
    this.#hint = undefined
    this.#round = []
  }

  /** The session with this manager ended: others are asked first. */
  lost(address: string): void {
    this.#avoid = address
    this.#round = []
  }

  /** undefined when no manager is known at all. */
  next(): Attempt | undefined {
    const hint = this.#hint
    this.#hint = undefined
    if (hint && this.#redirects++ < QUICK_REDIRECTS) return { manager: hint, delayMs: 0 }
    const manager = hint ?? this.#take()
    if (!manager) return undefined
    const pauseMs = Math.min(PAUSE_MS.max, PAUSE_MS.first * PAUSE_MS.growth ** this.#attempts)
    this.#attempts = Math.min(this.#attempts + 1, 64)
    return { manager, delayMs: pauseMs * (0.5 + this.#random.float() / 2) }
  }

  #take(): ManagerAddress | undefined {
    if (this.#round.length === 0) this.#round = this.#shuffled()
    return this.#round.shift()
  }

  #shuffled(): ManagerAddress[] {
    const round = this.#managers.map((manager) => ({ manager, rank: this.#random.float() }))
    round.sort((a, b) => a.rank - b.rank)
    const order = round.map(({ manager }) => manager)
    const avoid = this.#avoid
    this.#avoid = ''
    return [...order.filter(({ address }) => address !== avoid), ...order.filter(({ address }) => address === avoid)]
  }
}

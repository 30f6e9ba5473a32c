// What a manager does while it leads: the dispatcher, the control loops, the roles of nodes, the feature level. One scope a
// term: it ends with the leadership, and the next one begins only when the last one's loops have ended.

import { setMaxListeners } from 'node:events'
import type { Cluster } from '../api/objects.ts'
import type { Clock } from '../lib/clock.ts'
import { errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Scope } from '../lib/scope.ts'
import { Allocator } from './allocator/allocator.ts'
import { RootRotation } from './ca/root-rotation.ts'
import { createControlLoops } from './control-loops.ts'
import type { Dispatcher } from './dispatcher/dispatcher.ts'
import type { KeyedLoop } from './loop/keyed-loop.ts'
import { raisedFeatureLevel } from './membership/feature-level.ts'
import { type Consensus, RoleManager } from './membership/role-manager.ts'
import type { Store } from './store/store.ts'
import type { Proposer } from './store/types.ts'

export interface LeadershipOptions {
  readonly store: Store
  readonly proposer: Proposer
  readonly dispatcher: Dispatcher
  readonly consensus: Consensus
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class Leadership {
  readonly #options: LeadershipOptions
  #scope: Scope | undefined
  /** the beginnings and ends so far, one after the other */
  #transitions: Promise<void> = Promise.resolve()
  #term: number | undefined
  #loops: readonly KeyedLoop[] = []
  #allocator: Allocator | undefined

  constructor(options: LeadershipOptions) {
    this.#options = options
  }

  /** The term that is led, once its loops run. */
  get term(): number | undefined {
    return this.#scope ? this.#term : undefined
  }

  /** What runs while this manager leads; none otherwise. */
  get loops(): readonly KeyedLoop[] {
    return this.#scope ? this.#loops : []
  }

  get allocator(): Allocator | undefined {
    return this.#scope && this.#allocator
  }

  /** @param onFailure told when a loop has failed: a leader without one of its loops must not go on */
  begin(term: number, signal: AbortSignal, onFailure: (error: unknown) => void): void {
    this.#term = term
    this.#transitions = this.#transitions.then(() => {
      if (this.#term !== term || signal.aborted || this.#scope) return
      const scope = new Scope(signal)
      setMaxListeners(0, scope.signal) // every loop listens to it
      this.#scope = scope
      this.#options.log.info({ term }, 'leading the cluster')
      this.#spawnLoops(scope)
      void this.#watch(scope, onFailure)
    })
  }

  /** Resolves when every loop has ended. */
  async end(): Promise<void> {
    this.#term = undefined
    this.#transitions = this.#transitions.then(async () => {
      const scope = this.#scope
      this.#scope = undefined
      await scope?.close('leadership lost')
    })
    await this.#transitions
  }

  #spawnLoops(scope: Scope): void {
    const { store, proposer, dispatcher, consensus, clock, random, log } = this.#options
    const subscribe = (listener: Parameters<Store['subscribe']>[0]) => store.subscribe(listener)
    const shared = { view: store, subscribe, proposer, clock, random, log }
    this.#allocator = new Allocator()
    this.#loops = createControlLoops({ ...shared, allocator: this.#allocator })
    const loops = [dispatcher, new RoleManager({ ...shared, consensus }), new RootRotation(shared), ...this.#loops]
    for (const loop of loops) scope.spawn(loop.constructor.name, (signal) => loop.run({ signal }))
    scope.spawn('feature level', (signal) => this.#raiseFeatureLevel(signal))
  }

  async #watch(scope: Scope, onFailure: (error: unknown) => void): Promise<void> {
    try {
      await scope.wait()
    } catch (error) {
      this.#options.log.error({ code: errorCode(error), reason: errorMessage(error) }, 'a loop of the leader failed')
      onFailure(error)
    }
  }

  async #raiseFeatureLevel(signal: AbortSignal): Promise<void> {
    const { store } = this.#options
    const unsubscribe = store.subscribe((events) => {
      if (events.some((event) => event.objectKind === 'node')) void this.#raiseOnce()
    })
    void this.#raiseOnce()
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    unsubscribe()
  }

  async #raiseOnce(): Promise<void> {
    const { store, proposer, log } = this.#options
    const cluster = store.cluster()
    const level = cluster && raisedFeatureLevel(cluster, store.list('node'))
    if (!cluster || level === undefined) return
    const object: Cluster = { ...cluster, featureLevel: level }
    try {
      await proposer.propose([{ kind: 'update', object, expectedVersion: cluster.meta.version }])
      log.info({ featureLevel: level }, 'feature level raised')
    } catch (error) {
      // Another change of the cluster's object came first, or the leadership went: whoever leads looks again.
      log.info({ code: errorCode(error) }, 'feature level not raised yet')
      if (errorCode(error) === 'OUT_OF_SEQUENCE') await this.#raiseOnce()
    }
  }
}

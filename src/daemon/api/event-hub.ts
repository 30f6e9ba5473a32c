// The cluster's events as they happen, and the last ones for clients that ask back in time (Docker keeps 256 as well).

import type { Clock } from '../../lib/clock.ts'
import { type ClusterEvent, clusterEvent, leadershipEvent } from '../../manager/control/events.ts'
import type { StoreView } from '../../manager/store/types.ts'
import type { ClusterAccess } from './cluster-access.ts'
import { sightOf } from './node-state.ts'

const KEPT_EVENTS = 256

export class EventHub {
  readonly #cluster: ClusterAccess
  readonly #clock: Clock
  readonly #listeners = new Set<(event: ClusterEvent) => void>()
  #history: readonly ClusterEvent[] = []
  #source: { readonly view: StoreView; readonly stop: () => void } | undefined
  #leaderId: string | undefined

  constructor(cluster: ClusterAccess, clock: Clock) {
    this.#cluster = cluster
    this.#clock = clock
  }

  get history(): readonly ClusterEvent[] {
    return this.#history
  }

  subscribe(listener: (event: ClusterEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** This node's role or the leader may have changed: listen to the store that it has now, if any. */
  refresh(): void {
    const state = this.#cluster.state()
    if (state.kind !== 'manager') {
      this.close()
      return
    }
    if (this.#source?.view !== state.view) {
      this.close()
      const stop = state.subscribe((events) => {
        for (const event of events) {
          const told = clusterEvent(event, this.#clock.wallMs())
          if (told !== undefined) this.#tell(told)
        }
      })
      this.#source = { view: state.view, stop }
    }
    const leaderId = sightOf(state).leaderId
    if (leaderId === undefined || leaderId === this.#leaderId) return
    const before = this.#leaderId
    this.#leaderId = leaderId
    if (before === undefined) return
    for (const id of [before, leaderId]) {
      const node = state.view.get('node', id)
      if (node !== undefined) this.#tell(leadershipEvent(node, id === leaderId, this.#clock.wallMs()))
    }
  }

  close(): void {
    this.#source?.stop()
    this.#source = undefined
    this.#leaderId = undefined
  }

  #tell(event: ClusterEvent): void {
    this.#history = [...this.#history.slice(1 - KEPT_EVENTS), event]
    for (const listener of this.#listeners) listener(event)
  }
}

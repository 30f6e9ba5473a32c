// What the API's route tables share.

import type { Clock } from '../../lib/clock.ts'
import type { Random } from '../../lib/random.ts'
import type { ControlContext } from '../../manager/control/context.ts'
import type { Call } from './call.ts'
import type { ClusterAccess } from './cluster-access.ts'
import type { Engine } from './engine.ts'
import type { EventHub } from './event-hub.ts'
import type { NetworkParts } from './network-parts.ts'
import type { ManagerState } from './node-state.ts'

export interface ServerContext {
  readonly cluster: ClusterAccess
  readonly engine: Engine
  readonly parts: NetworkParts
  readonly events: EventHub
  readonly clock: Clock
  readonly random: Random
  /** swarmd's own */
  readonly version: string
  /** Runs `handle` here if this manager leads, else has the leader answer `url` (the call's own by default). */
  readonly onLeader: (call: Call, handle: (state: ManagerState) => Promise<void>, url?: string) => Promise<void>
}

export function controlOf(server: ServerContext, state: ManagerState, call: Call): ControlContext {
  const { clock, random } = server
  return { view: state.view, proposer: state.proposer, clock, random, objectId: call.objectId, removal: call.removal }
}

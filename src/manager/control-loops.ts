// All loops that a leader runs, as one array: losing the leadership aborts their signal, and the next leader starts with
// what the store says.

import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { Allocator } from './allocator/allocator.ts'
import type { Controller } from './loop/controller.ts'
import { KeyedLoop, type Subscribe } from './loop/keyed-loop.ts'
import { TurnBudget } from './loop/turn-budget.ts'
import { ConstraintEnforcer } from './orchestrator/constraint-enforcer.ts'
import { JoinWatch } from './orchestrator/join-watch.ts'
import { OrphanController } from './orchestrator/orphan-controller.ts'
import { PublishedPortsWatch } from './orchestrator/published-ports-watch.ts'
import { Rebalancer } from './orchestrator/rebalancer.ts'
import { ServiceController } from './orchestrator/service-controller.ts'
import { StartFirstWatch } from './orchestrator/start-first-watch.ts'
import { TaskReaper } from './orchestrator/task-reaper.ts'
import { Scheduler } from './scheduler/scheduler.ts'
import type { Proposer, StoreView } from './store/types.ts'

export interface ControlLoopOptions {
  readonly view: StoreView
  /** The store's change feed; listeners are called within `apply`. */
  readonly subscribe: Subscribe
  readonly proposer: Proposer
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Default: one of its own. */
  readonly allocator?: Allocator
}

/**
 * Run each with the signal of one leadership, on an applied state that has caught up with the term's first entry. They may
 * be run again, in a later term.
 */
export function createControlLoops(options: ControlLoopOptions): readonly KeyedLoop[] {
  const budget = new TurnBudget(options.clock)
  const controllers: readonly Controller[] = [
    new ServiceController(),
    options.allocator ?? new Allocator(),
    new Scheduler(),
    new ConstraintEnforcer(),
    new TaskReaper(),
    new OrphanController(),
    new PublishedPortsWatch(),
    new StartFirstWatch(),
    new Rebalancer(),
    new JoinWatch(),
  ]
  return controllers.map((controller) => new KeyedLoop({ ...options, controller, budget }))
}

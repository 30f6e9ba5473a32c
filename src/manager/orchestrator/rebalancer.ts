// Carries rebalancings out: begins moves while fewer are under way in the cluster than may be, and ends a run when nothing is
// left to even out, or when something went wrong. It only makes the successor of a task, on the other node; that the old one
// goes when the new one runs, and the new one when the run is stopped, is what the orchestrator does with two tasks of a slot.
// Nothing is remembered but in the store. There is one key.

import type { Rebalance, Service } from '../../api/objects.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { type Controller, type Decision, NOTHING, type ReconcileContext } from '../loop/controller.ts'
import { packChanges } from '../loop/pack-changes.ts'
import { endOfWait } from '../loop/waits.ts'
import { ClusterMap } from '../scheduler/cluster-map.ts'
import { isEncrypted } from '../store/indexes.ts'
import type { Change, StoreEvent, StoreView } from '../store/types.ts'
import { newTask } from './new-task.ts'
import { Balance, type Move } from './rebalance-moves.ts'
import { movableTasks, moveOrder, obstacleOf } from './rebalance-rules.ts'
import { accountOf, isRebalancing, type MoveUnderWay, type RunAccount } from './rebalance-run.ts'

const KEY = 'cluster'
/** A move that takes longer, or a service that is not itself again by then, ends the run: it would hold its places for ever. */
export const NO_PROGRESS_MS = 300_000
/** More than twice as many moves as there are tasks, and these, lead nowhere. */
const SPARE_MOVES = 10

type Rebalanced = Service & { readonly rebalance: Rebalance }

export class Rebalancer implements Controller {
  readonly name = 'rebalancer'
  readonly #active = new Set<string>()
  /** While something is being rebalanced: built once, and kept up to date. */
  #map: ClusterMap | undefined;

  *start(view: StoreView): Iterable<string | undefined> {
    this.#active.clear()
    this.#map = undefined
    for (const [at, service] of view.list('service').entries()) {
      if (isRebalancing(service)) this.#active.add(service.id)
      else if (at % 100 === 0) yield undefined
    }
    yield KEY
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    const { objectKind, id, new: next, old } = event
    this.#map?.observe(event, view)
    if (objectKind === 'service') {
      const isActive = next?.kind === 'service' && isRebalancing(next)
      if (isActive) this.#active.add(id)
      if (isActive || this.#active.delete(id)) yield KEY
    } else if (this.#active.size === 0) return
    else if (objectKind === 'node') yield KEY
    else if (objectKind === 'task') {
      const task = next ?? old
      if (task?.kind === 'task' && this.#active.has(task.serviceId)) yield KEY
    }
  }

  reconcile(view: StoreView, _key: string, context: ReconcileContext): Decision {
    const services = [...this.#active].flatMap((id) => view.get('service', id) ?? []).filter(isRebalancing)
    if (services.length === 0) {
      this.#map = undefined
      return NOTHING
    }
    const pass = new Pass(view, context, () => {
      this.#map ??= mapOf(view)
      return this.#map
    })
    for (const service of services.toSorted(byTurn)) pass.look(service)
    return pass.decision()
  }
}

function byTurn(a: Rebalanced, b: Rebalanced): number {
  const [x, y] = [a.rebalance.startedAt, b.rebalance.startedAt]
  return x === y ? (a.id < b.id ? -1 : 1) : x < y ? -1 : 1
}

/** One look at all runs, the oldest first. */
class Pass {
  readonly #view: StoreView
  readonly #context: ReconcileContext
  readonly #map: () => ClusterMap
  readonly #waiting: { readonly service: Rebalanced; readonly account: RunAccount }[] = []
  readonly #units: (readonly Change[])[] = []
  readonly #underWay: MoveUnderWay[] = []
  #places = 0
  #requeueAtMs = Number.POSITIVE_INFINITY

  constructor(view: StoreView, context: ReconcileContext, map: () => ClusterMap) {
    this.#view = view
    this.#context = context
    this.#map = map
  }

  look(service: Rebalanced): void {
    const { nowMs } = this.#context
    const run = service.rebalance
    const account = accountOf(this.#view, service, run, nowMs)
    const { underWay, failure, lookAgainAtMs } = account
    const message = failure ?? this.#stuck(run, account)
    if (message !== undefined) {
      this.#end(service, 'stopped', message)
      return
    }
    this.#places += underWay.length
    this.#underWay.push(...underWay)
    if (lookAgainAtMs !== undefined) this.#lookAgainAt(lookAgainAtMs)
    this.#waiting.push({ service, account })
  }

  decision(): Decision {
    let balance: Balance | undefined
    try {
      this.#beginMoves(() => {
        balance ??= new Balance(this.#map(), this.#underWay)
        return balance
      })
    } finally {
      balance?.release()
    }
    const requeueAtMs = Number.isFinite(this.#requeueAtMs) ? this.#requeueAtMs : undefined
    return { transactions: this.#units.flatMap((unit) => packChanges([unit])), requeueAtMs }
  }

  #beginMoves(balance: () => Balance): void {
    for (const { service, account } of this.#waiting) {
      if (this.#places >= service.rebalance.atOnce) continue
      const moving = account.underWay.map(({ task }) => task.slot)
      const obstacle = obstacleOf(this.#view, service, service.rebalance.volumes, moving)
      if (obstacle?.kind === 'never') this.#end(service, 'stopped', obstacle.reason)
      else if (obstacle) this.#wait(service, obstacle.reason)
      else this.#begin(service, account, balance())
    }
  }

  #lookAgainAt(atMs: number): void {
    this.#requeueAtMs = Math.min(this.#requeueAtMs, atMs)
  }

  /** Why a move is given up; undefined: there is time left. */
  #stuck(run: Rebalance, { underWay }: RunAccount): string | undefined {
    const slow = underWay.find(({ stage }) => stage !== 'watching')
    if (!slow) return undefined
    const endMs = endOfWait(parseTime(run.steppedAt), NO_PROGRESS_MS, this.#context.nowMs)
    if (endMs > this.#context.nowMs) {
      this.#lookAgainAt(endMs)
      return undefined
    }
    const { task, stage } = slow
    const what = stage === 'starting' ? `is still ${task.status.state}` : 'waits for the one before it to stop'
    return `task ${task.id} (${task.serviceName}.${task.slot}) ${what} after ${NO_PROGRESS_MS / 60_000} minutes`
  }

  #wait(service: Rebalanced, reason: string): void {
    const { nowMs } = this.#context
    const { waitsSince } = service.rebalance
    if (waitsSince === '') {
      this.#write(service, { waitsSince: formatTime(nowMs) })
      this.#lookAgainAt(nowMs + NO_PROGRESS_MS)
      return
    }
    const endMs = endOfWait(parseTime(waitsSince), NO_PROGRESS_MS, nowMs)
    if (endMs <= nowMs) this.#end(service, 'stopped', `${reason}, for ${NO_PROGRESS_MS / 60_000} minutes`)
    else this.#lookAgainAt(endMs)
  }

  #begin(service: Rebalanced, { underWay }: RunAccount, balance: Balance): void {
    const { rebalance: run } = service
    const { nowMs } = this.#context
    const isEncryptedHere = (networkId: string) => isEncrypted(this.#view.get('network', networkId))
    let tasks = movableTasks(this.#view, service)
    if (run.begun > 2 * tasks.length + SPARE_MOVES) {
      this.#end(service, 'stopped', `${run.begun} moves have not made it even: something moves its tasks back`)
      return
    }
    const changes: Change[] = []
    let begun = 0
    while (this.#places < run.atOnce) {
      const move = balance.next({ tasks, onto: run.onto, isEncrypted: isEncryptedHere, nowMs })
      if (!move) break
      balance.begin(move)
      tasks = tasks.filter((task) => task.id !== move.task.id)
      changes.push(...this.#changesOf(service, move))
      begun++
      this.#places++
    }
    if (begun > 0) {
      this.#write(service, { begun: run.begun + begun, steppedAt: formatTime(nowMs), waitsSince: '' }, ...changes)
    } else if (underWay.length === 0) this.#end(service, 'completed', '')
  }

  #changesOf(service: Rebalanced, { task, toNodeId, reason }: Move): readonly Change[] {
    const order = moveOrder(service)
    const object = newTask(
      service,
      this.#view.cluster(),
      {
        id: this.#context.random.id(),
        slot: task.slot,
        nodeId: toNodeId,
        // With stop-first it prepares itself while its predecessor stops.
        desiredState: order === 'start-first' ? 'running' : 'ready',
        failures: task.failures ?? 0,
        origin: { kind: 'move', predecessorId: task.id, rebalanceId: service.rebalance.id, detail: reason },
      },
      this.#context.nowMs,
    )
    const expectedVersion = task.meta.version
    if (order === 'start-first') {
      return [
        { kind: 'create', object },
        { kind: 'check', objectKind: 'task', id: task.id, expectedVersion },
      ]
    }
    const predecessor = this.#view.get('task', task.id)!
    return [
      { kind: 'create', object },
      { kind: 'update', object: { ...predecessor, desiredState: 'shutdown' }, expectedVersion },
    ]
  }

  #end(service: Rebalanced, state: 'completed' | 'stopped', message: string): void {
    this.#write(service, { state, message, waitsSince: '', endedAt: formatTime(this.#context.nowMs) })
  }

  #write(service: Rebalanced, change: Partial<Rebalance>, ...together: readonly Change[]): void {
    const object: Service = { ...service, rebalance: { ...service.rebalance, ...change } }
    this.#units.push([{ kind: 'update', object, expectedVersion: service.meta.version }, ...together])
  }
}

function mapOf(view: StoreView): ClusterMap {
  const map = new ClusterMap()
  for (const _ of map.build(view)) void _
  return map
}

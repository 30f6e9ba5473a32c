// Where the cluster's settings want it: rebalances onto a node that joins or returns, once it has been there for a while. What it
// waits for is in the node's record, so that an election neither forgets a return nor takes itself for one. One key is a node.

import { rebalanceSettings } from '../../api/cluster-settings.ts'
import type { Node, Service } from '../../api/objects.ts'
import { formatTime, parseTime } from '../../lib/clock.ts'
import { type Controller, type Decision, NOTHING, type ReconcileContext } from '../loop/controller.ts'
import { endOfWait } from '../loop/waits.ts'
import { ClusterMap } from '../scheduler/cluster-map.ts'
import type { Change, StoreEvent, StoreView, Transaction } from '../store/types.ts'
import { newRebalance, planMoves } from './rebalance-plan.ts'
import { isRebalancing } from './rebalance-run.ts'

const ABSENT = 'absent'
/** Services in one look; the next look, which follows at once, takes on the rest. */
const MAX_SERVICES = 100

export class JoinWatch implements Controller {
  readonly name = 'join watch';

  *start(view: StoreView): Iterable<string> {
    if (isWanted(view)) for (const node of view.list('node')) yield node.id
  }

  *affected(event: StoreEvent, view: StoreView): Iterable<string> {
    if (event.objectKind === 'node') {
      if (isWanted(view) || (event.new?.kind === 'node' && event.new.rebalanceDue)) yield event.id
    } else if (event.new?.kind === 'cluster' && event.old?.kind === 'cluster') {
      const { Labels } = event.new.spec
      if (Labels !== event.old.spec.Labels) for (const node of view.list('node')) yield node.id
    }
  }

  reconcile(view: StoreView, nodeId: string, context: ReconcileContext): Decision {
    const node = view.get('node', nodeId)
    if (!node) return NOTHING
    const { rebalanceDue: due } = node
    if (!isWanted(view)) return due === undefined ? NOTHING : { transactions: [[marked(node, undefined)]] }
    if (isAbsent(node)) return due === ABSENT ? NOTHING : { transactions: [[marked(node, ABSENT)]] }
    // After an election, before it has been heard from, a node is neither here nor gone.
    if (due === undefined || node.status.state !== 'ready') return NOTHING
    // A node that comes and goes is left alone.
    const { afterMs } = rebalanceSettings(view.cluster()?.spec)
    const { nowMs } = context
    if (due === ABSENT) {
      return { transactions: [[marked(node, formatTime(nowMs))]], requeueAtMs: nowMs + afterMs }
    }
    const dueMs = endOfWait(parseTime(due), afterMs, nowMs)
    if (dueMs > nowMs) return { transactions: [], requeueAtMs: dueMs }
    return this.#begin(view, node, context)
  }

  #begin(view: StoreView, node: Node, { nowMs, random }: ReconcileContext): Decision {
    const map = new ClusterMap()
    for (const _ of map.build(view)) void _
    const onto = [node.id]
    const changes: Change[] = []
    const request = { services: view.list('service'), onto, volumes: false, nowMs }
    const name = node.description.Hostname || node.id
    for (const planned of planMoves(view, map, request)) {
      if (!planned) continue
      const { service, moves } = planned
      const rebalance = isRebalancing(service)
        ? { ...service.rebalance, onto: withNode(service, node.id) }
        : newRebalance(
            {
              cause: `node ${name} has come`,
              atOnce: rebalanceSettings(view.cluster()?.spec).atOnce,
              onto,
              volumes: false,
              planned: moves.length,
            },
            nowMs,
            random,
          )
      const isNew = isRebalancing(service) ? rebalance.onto !== service.rebalance.onto : moves.length > 0
      if (!isNew) continue
      const object: Service = { ...service, rebalance }
      changes.push({ kind: 'update', object, expectedVersion: service.meta.version })
      if (changes.length >= MAX_SERVICES) return { transactions: [changes], requeueAtMs: nowMs }
    }
    const transaction: Transaction = [...changes, marked(node, undefined)]
    return { transactions: [transaction] }
  }
}

/** A run that is under way onto other nodes goes onto this one as well. */
function withNode(service: Service, nodeId: string): readonly string[] {
  const onto = service.rebalance?.onto ?? []
  return onto.length === 0 || onto.includes(nodeId) ? onto : [...onto, nodeId]
}

function isWanted(view: StoreView): boolean {
  return rebalanceSettings(view.cluster()?.spec).onJoin
}

/** It takes no tasks: it has not come yet, is down, or is not to. */
function isAbsent({ status, spec, description }: Node): boolean {
  const isNew = description.Hostname === undefined && status.state !== 'ready'
  return isNew || status.state === 'down' || (spec.Availability ?? 'active') !== 'active'
}

function marked(node: Node, rebalanceDue: string | undefined): Change {
  const { rebalanceDue: _, ...rest } = node
  const object: Node = rebalanceDue === undefined ? rest : { ...rest, rebalanceDue }
  return { kind: 'update', object, expectedVersion: node.meta.version }
}

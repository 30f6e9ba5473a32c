// The data plane's part of the dispatcher: the records that sessions follow, and the withdrawal of end points that are to stop.

import type { DataPathReport } from '../../api/data-plane.ts'
import type { Node } from '../../api/objects.ts'
import type { Log } from '../../lib/log.ts'
import { overlapProblems } from '../allocator/reported-routes.ts'
import type { StoreEvent, StoreView } from '../store/types.ts'
import { DataPlaneIndex, type WithdrawnEndpoint } from './data-plane-index.ts'
import { isDraining } from './data-plane-records.ts'
import type { Session } from './session.ts'
import { Withdrawals } from './withdrawals.ts'

/** The node with what its data plane reports, if it does, and what is to be said of its routes. */
export function withDataPath(view: StoreView, node: Node, report: DataPathReport | undefined): Node {
  const dataPath = report && nextDataPath(node.dataPath, report)
  if (!dataPath) return node
  const problems = dataPath.problems.filter(({ code }) => code !== 'ROUTE_OVERLAP')
  return { ...node, dataPath: { ...dataPath, problems: [...problems, ...overlapProblems(view, dataPath.routes)] } }
}

/**
 * What is written of a report. A data plane that does not answer says nothing of keys and ports: its kernel goes on with those
 * that it had, and other nodes are to do so as well. One that has not heard yet which cluster it is in says nothing at all.
 */
function nextDataPath(before: DataPathReport | undefined, report: DataPathReport): DataPathReport | undefined {
  if (report.problems.some(({ code }) => code === 'NOT_IN_CLUSTER')) return before
  const isDown = report.problems.some(({ code }) => code === 'DATA_PLANE_DOWN')
  return isDown && before ? { ...before, problems: report.problems } : report
}

export class DataPlaneDispatch {
  readonly index: DataPlaneIndex
  readonly #sessions: ReadonlyMap<string, Session>
  readonly #withdrawals: Withdrawals

  /** @param options.sessions by node, as they stand */
  constructor(options: {
    readonly view: StoreView
    readonly sessions: ReadonlyMap<string, Session>
    readonly log: Log
  }) {
    this.index = new DataPlaneIndex(options.view)
    this.#sessions = options.sessions
    this.#withdrawals = new Withdrawals((nodeId, taskIds) => {
      options.log.debug({ nodeId, tasks: taskIds.length }, 'end points are withdrawn everywhere')
      const session = this.#sessions.get(nodeId)
      // An older worker does not know the word, and drains nothing.
      if (session?.follower) session.send({ kind: 'withdrawn', taskIds })
    })
  }

  /** A session has been sent its complete set. */
  began(session: Session): void {
    const taskIds = session.follower ? this.#withdrawals.doneOn(session.nodeId) : []
    if (taskIds.length > 0) session.send({ kind: 'withdrawn', taskIds })
  }

  programmed(session: Session, sequence: number): void {
    const taskIds = session.noteProgrammed(sequence)
    if (session.follower && taskIds.length > 0) this.#withdrawals.acknowledged(session.follower, taskIds)
  }

  ended(session: Session): void {
    if (session.follower) this.#withdrawals.left(session.follower)
  }

  clear(): void {
    this.#withdrawals.clear()
  }

  observe(events: readonly StoreEvent[]): void {
    let ingress = false
    for (const event of events) {
      const { old, new: next } = event
      for (const withdrawn of this.index.observe(event)) this.#withdraw(withdrawn)
      if (old?.kind === 'task' && isDraining(old) && !(next?.kind === 'task' && isDraining(next)))
        this.#withdrawals.forget(event.id)
      if (event.objectKind === 'network' && [old, next].some((one) => one?.kind === 'network' && one.spec.Ingress))
        ingress = true
    }
    if (ingress) for (const session of this.#sessions.values()) session.ingressChanged()
  }

  #withdraw(withdrawn: WithdrawnEndpoint): void {
    this.#withdrawals.begin(withdrawn)
    for (const session of this.#sessions.values()) {
      if (session.follower && withdrawn.followers.has(session.follower)) session.awaitWithdrawal(withdrawn.taskId)
    }
  }
}

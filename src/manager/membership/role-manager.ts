// Makes the role that a node has follow the role that its spec asks for. A promotion only changes the record: the node
// renews its certificate and joins consensus by itself. A demotion takes the node out of consensus first, and only while the
// others remain a quorum.

import type { Node } from '../../api/objects.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { errorCode } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { updateNode } from '../dispatcher/node-writer.ts'
import type { Proposer, StoreEvent, StoreView } from '../store/types.ts'

const RETRY_MS = 1000

export interface Consensus {
  /** Takes the member out; resolves when that is committed. A member that is not there is no error. */
  remove(raftId: string): Promise<void>
  transferLeadership(): Promise<void>
  readonly ownRaftId: string
  /** all that take part, voters and learners */
  members(): readonly { readonly raftId: string; readonly nodeId: string }[]
}

export type RoleStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'promote' }
  | { readonly kind: 'leave-consensus'; readonly raftId: string }
  | { readonly kind: 'hand-over' }
  | { readonly kind: 'demote' }

/** What to do next for a node; pure. */
export function nextRoleStep(node: Node, ownRaftId: string): RoleStep {
  const wished = node.spec.Role ?? 'worker'
  if (wished === 'manager') return node.role === 'manager' ? { kind: 'none' } : { kind: 'promote' }
  if (node.manager?.raftId === ownRaftId) return { kind: 'hand-over' }
  if (node.manager) return { kind: 'leave-consensus', raftId: node.manager.raftId }
  return node.role === 'worker' ? { kind: 'none' } : { kind: 'demote' }
}

export class RoleManager {
  readonly #view: StoreView
  readonly #proposer: Proposer
  readonly #consensus: Consensus
  readonly #subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
  readonly #clock: Clock
  readonly #log: Log

  constructor(options: {
    readonly view: StoreView
    readonly subscribe: (listener: (events: readonly StoreEvent[]) => void) => () => void
    readonly proposer: Proposer
    readonly consensus: Consensus
    readonly clock: Clock
    readonly log: Log
  }) {
    this.#view = options.view
    this.#subscribe = options.subscribe
    this.#proposer = options.proposer
    this.#consensus = options.consensus
    this.#clock = options.clock
    this.#log = options.log
  }

  /** Removes members of nodes that are gone, moves roles; one node at a time, since each step changes the quorum. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    let wake: () => void = () => {}
    let changed = true
    const unsubscribe = this.#subscribe((events) => {
      if (!events.some((event) => event.objectKind === 'node')) return
      changed = true
      wake()
    })
    signal.addEventListener('abort', () => wake(), { once: true })
    try {
      while (!signal.aborted) {
        if (!changed) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
          continue
        }
        changed = false
        if (!(await this.#removeStrangers())) {
          changed = true
          await sleep(this.#clock, RETRY_MS, signal)
        }
        for (const node of this.#view.list('node')) {
          if (signal.aborted) return
          if (!(await this.#settle(node))) {
            changed = true
            await sleep(this.#clock, RETRY_MS, signal)
          }
        }
      }
    } finally {
      unsubscribe()
    }
  }

  /**
   * Members whose node is gone, or is a worker that no record calls a manager: it was removed or demoted while it joined.
   * @returns false where it has to be tried again
   */
  async #removeStrangers(): Promise<boolean> {
    const { ownRaftId } = this.#consensus
    for (const { raftId, nodeId } of this.#consensus.members()) {
      const node = this.#view.get('node', nodeId)
      if (raftId === ownRaftId || node?.manager || node?.role === 'manager') continue
      try {
        await this.#consensus.remove(raftId)
        this.#log.info({ nodeId, raftId }, 'a member that is no manager was taken out of consensus')
      } catch (error) {
        this.#log.warn({ nodeId, raftId, code: errorCode(error) }, 'member not taken out of consensus yet')
        return false
      }
    }
    return true
  }

  /** @returns false where it has to be tried again */
  async #settle(node: Node): Promise<boolean> {
    const step = nextRoleStep(node, this.#consensus.ownRaftId)
    try {
      switch (step.kind) {
        case 'none':
          return true
        case 'promote':
          await updateNode(this.#view, this.#proposer, node.id, (current) => ({ ...current, role: 'manager' }))
          return true
        case 'demote':
          await updateNode(this.#view, this.#proposer, node.id, (current) =>
            current.spec.Role === 'worker' && !current.manager ? { ...current, role: 'worker' } : undefined,
          )
          return true
        case 'leave-consensus':
          await this.#consensus.remove(step.raftId)
          await updateNode(this.#view, this.#proposer, node.id, (current) =>
            current.manager?.raftId === step.raftId ? { ...current, manager: undefined, role: 'worker' } : undefined,
          )
          return true
        case 'hand-over':
          await this.#consensus.transferLeadership()
          return true
      }
    } catch (error) {
      this.#log.warn({ nodeId: node.id, step: step.kind, code: errorCode(error) }, 'role change delayed')
      return false
    }
  }
}

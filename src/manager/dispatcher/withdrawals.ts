// Tasks that are to stop and whose end points are being withdrawn: who has not said yet that its kernel sends them nothing new.
// When all have, the task's worker is told. Nodes whose session ends do not count: what they do, nobody can wait for.

import { groupBy } from '../../lib/group-by.ts'
import type { RecordFollower, WithdrawnEndpoint } from './data-plane-index.ts'

interface Withdrawal {
  readonly nodeId: string
  readonly waiting: Set<RecordFollower>
}

export class Withdrawals {
  readonly #open = new Map<string, Withdrawal>()
  /** Tasks that are withdrawn everywhere and have not ended, with their nodes. */
  readonly #done = new Map<string, string>()
  readonly #tell: (nodeId: string, taskIds: readonly string[]) => void

  constructor(tell: (nodeId: string, taskIds: readonly string[]) => void) {
    this.#tell = tell
  }

  /** Each follower is about to be told; once more of the same task (on another network) adds to those who have to know. */
  begin({ taskId, nodeId, followers }: WithdrawnEndpoint): void {
    const waiting = this.#open.get(taskId)?.waiting ?? new Set()
    for (const follower of followers) waiting.add(follower)
    this.#open.set(taskId, { nodeId, waiting })
    this.#done.delete(taskId)
  }

  /** The follower's kernel has what it was told of these tasks. */
  acknowledged(follower: RecordFollower, taskIds: Iterable<string>): void {
    this.#without(follower, taskIds)
  }

  left(follower: RecordFollower): void {
    this.#without(follower, [...this.#open.keys()])
  }

  /** Of tasks that are draining on the node, which its new session may not have been told. */
  doneOn(nodeId: string): readonly string[] {
    return [...this.#done].flatMap(([taskId, node]) => (node === nodeId ? [taskId] : []))
  }

  forget(taskId: string): void {
    this.#open.delete(taskId)
    this.#done.delete(taskId)
  }

  clear(): void {
    this.#open.clear()
    this.#done.clear()
  }

  #without(follower: RecordFollower, taskIds: Iterable<string>): void {
    const done: { readonly taskId: string; readonly nodeId: string }[] = []
    for (const taskId of taskIds) {
      const open = this.#open.get(taskId)
      if (!open?.waiting.delete(follower) || open.waiting.size > 0) continue
      this.#open.delete(taskId)
      this.#done.set(taskId, open.nodeId)
      done.push({ taskId, nodeId: open.nodeId })
    }
    for (const [nodeId, tasks] of groupBy(done, (one) => one.nodeId))
      this.#tell(
        nodeId,
        tasks.map(({ taskId }) => taskId),
      )
  }
}

// Membership changes that this node proposed as leader and that are not in force yet.

import type { CodedError } from '../lib/errors.ts'
import { isJoint } from './conf-change.ts'
import { dropped, unknown } from './proposal-tracker.ts'
import type { ConfState, Entry } from './types.ts'

interface Waiter {
  readonly index: number
  readonly term: number
  readonly deadlineMs: number
  readonly resolve: () => void
  readonly reject: (error: CodedError) => void
  applied: boolean
}

export class MembershipWaiters {
  #waiters: Waiter[] = []
  #joint = false

  add(index: number, term: number, deadlineMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ index, term, deadlineMs, resolve, reject, applied: false })
    })
  }

  /** The configuration in force changed. */
  conf(conf: ConfState): void {
    this.#joint = isJoint(conf)
    this.#settle()
  }

  applied(entry: Entry): void {
    if (this.#waiters.length === 0) return
    for (const waiter of this.#waiters) {
      if (waiter.index !== entry.index) continue
      if (waiter.term === entry.term) waiter.applied = true
      else waiter.reject(dropped())
    }
    this.#settle()
  }

  leadershipLost(): void {
    this.#reject(() => true, unknown('this manager is no longer the leader'))
  }

  expire(nowMs: number): void {
    this.#reject((waiter) => waiter.deadlineMs <= nowMs, unknown('no quorum of managers answered in time'))
  }

  close(error: CodedError): void {
    this.#reject(() => true, error)
  }

  /** A joint configuration is only a step on the way: the leader leaves it by itself. */
  #settle(): void {
    if (this.#joint) return
    for (const waiter of this.#waiters) if (waiter.applied) waiter.resolve()
    this.#waiters = this.#waiters.filter((waiter) => !waiter.applied)
  }

  #reject(which: (waiter: Waiter) => boolean, error: CodedError): void {
    for (const waiter of this.#waiters) if (which(waiter)) waiter.reject(error)
    this.#waiters = this.#waiters.filter((waiter) => !which(waiter))
  }
}

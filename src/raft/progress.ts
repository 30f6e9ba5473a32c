// The leader's view of one follower, as a small state machine: all transitions stand here.
//
//   probe      one append at a time, until the follower's answer shows where the logs agree
//   replicate  appends are sent ahead of their answers, within the window
//   snapshot   the follower needs entries that are compacted: nothing is sent until its snapshot arrived or failed

import { Inflights } from './inflights.ts'
import type { ProgressState } from './types.ts'

export interface ProgressOptions {
  readonly next: number
  readonly maxInflightMessages: number
  readonly maxInflightBytes: number
}

export class Progress {
  readonly #inflights: Inflights
  #state: ProgressState = 'probe'
  #match = 0
  #next: number
  #probePaused = false
  #pendingSnapshot = 0
  #sentCommit = 0
  #readContext = 0
  /** Set by every message of the follower, cleared by each check of the quorum. A new one gets the benefit of the doubt. */
  #recentlyActive = true
  /** The same, of the period before that check: right after it nobody could be known to be there. */
  #activeBefore = false

  constructor(options: ProgressOptions) {
    this.#inflights = new Inflights(options.maxInflightMessages, options.maxInflightBytes)
    this.#next = options.next
  }

  get state(): ProgressState {
    return this.#state
  }
  get match(): number {
    return this.#match
  }
  get next(): number {
    return this.#next
  }
  /** The highest commit index that a message under way to the follower carries. */
  get sentCommit(): number {
    return this.#sentCommit
  }
  get readContext(): number {
    return this.#readContext
  }
  get recentlyActive(): boolean {
    return this.#recentlyActive || this.#activeBefore
  }

  /** Whether to hold back entries. */
  get paused(): boolean {
    if (this.#state === 'probe') return this.#probePaused
    return this.#state === 'snapshot' || this.#inflights.full
  }

  heard(): void {
    this.#recentlyActive = true
  }

  /** Returns whether the follower was heard of since the last call. */
  takeRecentlyActive(): boolean {
    this.#activeBefore = this.#recentlyActive
    this.#recentlyActive = false
    return this.#activeBefore
  }

  /** An append with `count` entries and this commit index leaves. */
  sent(count: number, sizeBytes: number, commit: number): void {
    this.#sentCommit = Math.max(this.#sentCommit, Math.min(commit, this.#next - 1 + count))
    if (this.#state === 'probe') {
      this.#probePaused = true
    } else if (count > 0) {
      this.#next += count
      this.#inflights.add(this.#next - 1, sizeBytes)
    }
  }

  /** A heartbeat with this commit index, which the follower is known to have in its log, leaves. */
  sentHeartbeat(commit: number): void {
    this.#sentCommit = Math.max(this.#sentCommit, commit)
  }

  sentSnapshot(index: number): void {
    this.#reset('snapshot')
    this.#pendingSnapshot = index
  }

  /**
   * The follower's log agrees up to `index`. `firstIndex` is the first entry that the leader still has.
   * Returns whether that is news.
   */
  acknowledged(index: number, firstIndex: number): boolean {
    const news = index > this.#match
    this.#match = Math.max(this.#match, index)
    this.#next = Math.max(this.#next, index + 1)
    switch (this.#state) {
      case 'probe':
        // An old answer proves nothing about the probe under way, unless it is as far as the probe asked.
        if (news || index === this.#next - 1) this.#replicate()
        break
      case 'snapshot':
        if (this.#match >= this.#pendingSnapshot || this.#match + 1 >= firstIndex) this.#replicate()
        break
      case 'replicate':
        this.#inflights.freeTo(index)
        break
    }
    return news
  }

  /**
   * The follower refused the append after `rejected`; logs may agree at `hint`.
   * Returns false for an answer that is out of date.
   */
  rejected(rejected: number, hint: number): boolean {
    switch (this.#state) {
      case 'snapshot':
        return false
      case 'replicate':
        if (rejected <= this.#match) return false
        this.#reset('probe')
        this.#next = this.#match + 1
        return true
      case 'probe':
        if (this.#next - 1 !== rejected) return false
        this.#next = Math.max(Math.min(rejected, hint + 1), this.#match + 1)
        this.#probePaused = false
        this.#sentCommit = Math.min(this.#sentCommit, this.#next - 1)
        return true
    }
  }

  /** A heartbeat came back: what was sent before it may be lost, so a probe may go again. */
  heartbeatAnswered(readContext: number): void {
    this.#probePaused = false
    this.#readContext = Math.max(this.#readContext, readContext)
  }

  /** A message was lost for sure: no more sending ahead. */
  unreachable(): void {
    if (this.#state !== 'replicate') return
    this.#reset('probe')
    this.#next = this.#match + 1
  }

  /** The snapshot's stream ended. The next probe waits for a sign of life (after a failure), or goes from the snapshot on. */
  snapshotEnded(ok: boolean): void {
    if (this.#state !== 'snapshot') return
    const pending = this.#pendingSnapshot
    this.#reset('probe')
    this.#next = Math.max(this.#match, ok ? pending : 0) + 1
    this.#probePaused = true
  }

  #replicate(): void {
    this.#reset('replicate')
    this.#next = this.#match + 1
  }

  #reset(state: ProgressState): void {
    this.#state = state
    this.#probePaused = false
    this.#pendingSnapshot = 0
    this.#sentCommit = Math.min(this.#sentCommit, this.#match)
    this.#inflights.clear()
  }
}

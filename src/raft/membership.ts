// The configuration in force: that of the last committed config entry (or of the snapshot). A change takes effect on
// each member when it learns that the entry is committed; since a change is only proposed when the one before it is
// committed, and every append carries the commit index that goes to disk with it, a member that holds a change in its
// log has always activated the one before, also after a restart, so neighbouring majorities overlap.

import { assert } from '../lib/errors.ts'
import { applyConfChange, isMember } from './conf-change.ts'
import { decodeConfChange } from './conf-change-codec.ts'
import type { RaftLog } from './log.ts'
import { allVoters, isVoter, type VoterSets } from './quorum.ts'
import type { SafetyRules } from './rules.ts'
import type { ConfState, RaftId, SnapshotMeta } from './types.ts'

export class Membership {
  readonly #rules: SafetyRules
  readonly #log: RaftLog
  /** The configuration at the applied index, then those in force from a later index on, up to the present one. */
  readonly #history: { readonly index: number; readonly conf: ConfState }[]
  #activatedTo: number
  #sets: VoterSets
  /** Of the configuration before: none after a restart from a later snapshot. */
  #previousSets: VoterSets
  readonly #known = new Set<RaftId>()

  constructor(rules: SafetyRules, log: RaftLog) {
    this.#rules = rules
    this.#log = log
    this.#history = [{ index: log.snapshot.index, conf: log.snapshot.conf }]
    this.#activatedTo = log.snapshot.index
    this.#sets = rules.voterSets(log.snapshot.conf)
    this.#previousSets = this.#sets
    this.#meet(log.snapshot.conf)
    this.activate()
  }

  get conf(): ConfState {
    return this.#history.at(-1)!.conf
  }

  /** Whose votes and acknowledgements count. */
  get sets(): VoterSets {
    return this.#sets
  }

  isVoter(id: RaftId): boolean {
    return isVoter(this.#sets, id)
  }

  /** Whether the last change took its vote from `id`. */
  lostVote(id: RaftId): boolean {
    return !this.isVoter(id) && isVoter(this.#previousSets, id)
  }

  /** Whether the last change took somebody's vote. */
  get shrank(): boolean {
    return allVoters(this.#previousSets).some((id) => this.lostVote(id))
  }

  /** Whether `id` was a member and is none any more. */
  wasRemoved(id: RaftId): boolean {
    return this.#known.has(id) && !isMember(this.conf, id)
  }

  voters(): readonly RaftId[] {
    return allVoters(this.#sets)
  }

  /** Puts the config entries that were committed since the last call in force. Returns whether there were any. */
  activate(): boolean {
    let changed = false
    while (this.#activatedTo < this.#log.commit) {
      const entry = this.#log.entryAt(++this.#activatedTo)
      if (entry.kind !== 'config') continue
      const result = applyConfChange(this.conf, decodeConfChange(entry.data))
      // The leader checked it before it appended it; a change that makes no sense changes nothing, on all members alike.
      if (result.kind === 'changed') this.#enter(entry.index, result.conf)
      changed = true
    }
    return changed
  }

  restore(snapshot: SnapshotMeta): void {
    this.#activatedTo = snapshot.index
    this.#enter(snapshot.index, snapshot.conf)
  }

  /** Forgets the configurations before the one at the applied index. */
  appliedTo(index: number): void {
    while (this.#history.length > 1 && this.#history[1]!.index <= index) this.#history.shift()
  }

  /** The configuration as of the applied index, for a snapshot of the state there. */
  get appliedConf(): ConfState {
    const oldest = this.#history[0]
    assert(oldest !== undefined && oldest.index <= this.#log.applied, 'no configuration at the applied index')
    return oldest.conf
  }

  #enter(index: number, conf: ConfState): void {
    this.#history.push({ index, conf })
    this.#previousSets = this.#sets
    this.#sets = this.#rules.voterSets(conf)
    this.#meet(conf)
  }

  #meet(conf: ConfState): void {
    for (const { id } of conf.members) this.#known.add(id)
  }
}

// What a member's disk holds when its life begins.

import { EMPTY_CONF } from './conf-change.ts'
import type { ConfState, StoredState } from './types.ts'

/** What a new member that joins an existing cluster starts from. */
export const EMPTY_STATE: StoredState = {
  hardState: { term: 0, vote: '', commit: 0 },
  snapshot: { index: 0, term: 0, conf: EMPTY_CONF },
  entries: [],
}

/**
 * What a new cluster's first member starts from, to be stored before the core is made: an empty state as the snapshot at
 * index 1, so that those who join get their first configuration from a snapshot and not from a replay without it.
 */
export function bootstrapState(conf: ConfState): StoredState {
  return beginningAt(1, 1, conf)
}

/** A member that knows a state at `index` and nothing before. */
export function beginningAt(index: number, term: number, conf: ConfState): StoredState {
  return { hardState: { term, vote: '', commit: index }, snapshot: { index, term, conf }, entries: [] }
}

// What the parts of one core share.

import type { Random } from '../lib/random.ts'
import type { Ballot } from './ballot.ts'
import type { CoreLimits } from './core-types.ts'
import type { RaftLog } from './log.ts'
import type { Membership } from './membership.ts'
import type { Outbox } from './outbox.ts'
import type { SafetyRules } from './rules.ts'
import type { RaftId } from './types.ts'

export interface CoreContext {
  readonly id: RaftId
  readonly limits: CoreLimits
  readonly rules: SafetyRules
  readonly random: Random
  readonly ballot: Ballot
  readonly log: RaftLog
  readonly membership: Membership
  readonly outbox: Outbox
}

// Five ways to break Raft, each one rule of it, to prove that the checkers notice. None of this can happen in production
// code: it lives here only.

import { allVoters } from '../../src/raft/quorum.ts'
import { SAFETY_RULES, type SafetyRules } from '../../src/raft/rules.ts'
import type { RaftId } from '../../src/raft/types.ts'
import type { Profile } from './raft-profile.ts'
import type { SimulationOptions } from './raft-simulation.ts'

export type BrokenRule =
  | 'votes twice a term'
  | 'commits an older term by count'
  | 'answers before the sync'
  | 'applies a snapshot over newer state'
  | 'counts a removed voter'

export const BROKEN_RULES: readonly BrokenRule[] = [
  'votes twice a term',
  'commits an older term by count',
  'answers before the sync',
  'applies a snapshot over newer state',
  'counts a removed voter',
]

export function breakRule(broken: BrokenRule): Pick<SimulationOptions, 'rules' | 'answerBeforeSync'> {
  switch (broken) {
    case 'votes twice a term':
      return { rules: () => ({ ...SAFETY_RULES, mayVote: () => true }) }
    case 'commits an older term by count':
      return { rules: () => ({ ...SAFETY_RULES, mayCommit: () => true }) }
    case 'answers before the sync':
      return {
        answerBeforeSync: true,
        rules: () => ({ ...SAFETY_RULES, ownMatch: (_durableIndex, lastIndex) => lastIndex }),
      }
    case 'applies a snapshot over newer state':
      return { rules: () => ({ ...SAFETY_RULES, mayRestore: () => true }) }
    case 'counts a removed voter':
      // If all did, each quorum would again overlap with each other one.
      return { rules: (id) => (Number(id.slice(1)) % 2 === 1 ? withRemovedVoters() : SAFETY_RULES) }
  }
}

/** Circumstances under which the broken rule soon shows: crashes and short partitions, and what the rule is about. */
export function provoke(broken: BrokenRule): Partial<Profile> {
  const rough: Partial<Profile> = {
    voters: 5,
    durationMs: 20_000,
    lossRate: 0.1,
    doubleRate: 0,
    lateRate: 0,
    delayMs: 20,
    crashEveryMs: 500,
    powerFailureShare: 0,
    downMs: 1_500,
    partitionEveryMs: 800,
    partitionMs: 2_000,
    membershipEveryMs: Infinity,
    transferEveryMs: Infinity,
    noticeRate: 1,
    snapshotEvery: Infinity,
    diskMs: 1,
    diskStallRate: 0,
    applyMs: 0,
    thinkMs: 200,
    patienceMs: 1_000,
    limits: { maxMessageBytes: 1 },
  }
  switch (broken) {
    case 'votes twice a term':
    case 'commits an older term by count':
      return rough
    case 'answers before the sync':
      return { ...rough, crashEveryMs: 2_000, powerFailureShare: 1, diskMs: 40, delayMs: 5 }
    case 'applies a snapshot over newer state':
      return { ...rough, snapshotEvery: 3, snapshotKept: 0, lateRate: 0.3, lateMs: 3_000, doubleRate: 0.3, thinkMs: 50 }
    case 'counts a removed voter':
      return { ...rough, crashEveryMs: Infinity, partitionEveryMs: 1_500, partitionMs: 5_000, membershipEveryMs: 1_000 }
  }
}

/** Whoever once was a voter goes on counting, for this member. */
function withRemovedVoters(): SafetyRules {
  const ever = new Set<RaftId>()
  return {
    ...SAFETY_RULES,
    voterSets: (conf) => {
      for (const id of allVoters(conf)) ever.add(id)
      return { voters: [...ever], outgoing: [] }
    },
  }
}

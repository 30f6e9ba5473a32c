// Five ways to break Raft, each one rule of it, to prove that the checkers notice. None of this can happen in production
// code: it lives here only.

import { allVoters } from '../../src/raft/quorum.ts'
import { SAFETY_RULES, type SafetyRules } from '../../src/raft/rules.ts'
import type { RaftId } from '../../src/raft/types.ts'
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
      return { rules: () => withRemovedVoters() }
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

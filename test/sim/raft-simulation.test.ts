// Raft under every fault that the simulator knows. A seed that fails is repeated with `make sim SEED=n`; see docs/raft.md.

import { readFileSync } from 'node:fs'
import t from 'tap'
import { SystemRandom } from '../../src/lib/random.ts'
import { SAFETY_RULES } from '../../src/raft/rules.ts'
import { ScriptCluster } from '../raft/script-cluster.ts'
import { type Property, Violation } from './raft-checkers.ts'
import { BROKEN_RULES, type BrokenRule, breakRule, provoke } from './raft-faults.ts'
import { simulate } from './raft-simulation.ts'

const FIXED_SEEDS = 40
/** Fresh ones, as many as fit into so many events. */
const FRESH_EVENTS = 250_000

t.setTimeout(0) // bounded by events, and a busy machine is no fault

t.test('fixed seeds keep every promise and recover', async (t) => {
  for (let seed = 1; seed <= FIXED_SEEDS; seed++) {
    const { failure, acknowledged } = simulate({ seed })
    t.equal(failure, undefined, `seed ${seed}`)
    t.ok(acknowledged > 0, `seed ${seed} does something`)
  }
})

t.test('fresh seeds do too', async (t) => {
  const random = new SystemRandom()
  const first = random.below(2 ** 31)
  let seed = first
  for (let events = 0; events < FRESH_EVENTS; seed++) {
    const result = simulate({ seed })
    events += result.events
    t.equal(result.failure, undefined, `seed ${seed}`)
  }
  t.comment(`seeds ${first} to ${seed - 1}`)
})

t.test('a seed decides everything', async (t) => {
  for (const seed of [3, 7, 11]) t.same(simulate({ seed }), simulate({ seed }), `seed ${seed}`)
  t.not(simulate({ seed: 3 }).digest, simulate({ seed: 4 }).digest)
})

/** Where the search begins, so that it does not take long; and by which promise it may show. */
const CAUGHT: Readonly<Record<BrokenRule, { readonly from: number; readonly by: readonly Property[] } | undefined>> = {
  'votes twice a term': { from: 1, by: ['one leader a term'] },
  'answers before the sync': { from: 40, by: ['leader completeness', 'state machine safety', 'linearizable'] },
  'applies a snapshot over newer state': { from: 1, by: ['state machine safety'] },
  'counts a removed voter': { from: 25, by: ['leader completeness', 'state machine safety', 'one leader a term'] },
  // Too rare for random runs: figure 8 of the paper is played below.
  'commits an older term by count': undefined,
}

for (const broken of BROKEN_RULES) {
  const caught = CAUGHT[broken]
  if (!caught) continue
  t.test(`a member that ${broken} is caught`, async (t) => {
    for (let seed = caught.from; seed < caught.from + 200; seed++) {
      const { failure } = simulate({ seed, profile: provoke(broken), ...breakRule(broken) })
      if (!(failure instanceof Violation) || !caught.by.includes(failure.property)) continue
      t.pass(`by seed ${seed}: ${failure.message.slice(0, 200)}`)
      t.equal(simulate({ seed, profile: provoke(broken) }).failure, undefined, 'and is innocent when it keeps the rule')
      return
    }
    t.fail('by no seed')
  })
}

t.test('a member that commits an older term by count is caught', async (t) => {
  const commands = readFileSync('test/raft/transcripts/figure-8.md', 'utf8').split('\n')
  const play = (cluster: ScriptCluster) => {
    for (const line of commands) if (line.startsWith('> ')) cluster.run(line.slice(2))
  }
  t.doesNotThrow(() => play(new ScriptCluster()))
  const broken = new ScriptCluster(() => ({ ...SAFETY_RULES, mayCommit: () => true }))
  let failure: unknown
  try {
    play(broken)
  } catch (error) {
    failure = error
  }
  t.match(failure, { name: 'Violation', property: 'leader completeness' })
})

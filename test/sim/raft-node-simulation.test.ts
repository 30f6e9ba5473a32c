// The production driver, storage and transport of Raft under simulated faults. A seed that fails is repeated with
// `node build/test/sim/main.js nodes:SEED`.

import t from 'tap'
import { SystemRandom } from '../../src/lib/random.ts'
import { simulateNodes } from './raft-node-simulation.ts'

const FIXED_SEEDS = [1, 7]
/** Fresh ones until so many events have passed. */
const FRESH_EVENTS = 5_000

t.setTimeout(0) // bounded by events, and a busy machine is no fault

t.test('whole nodes keep every promise under faults and recover', async (t) => {
  for (const seed of FIXED_SEEDS) {
    const { failure, acknowledged } = await simulateNodes({ seed })
    t.equal(failure, undefined, `seed ${seed}`)
    t.ok(acknowledged > 0, `seed ${seed} does something`)
  }
})

t.test('fresh seeds do too', async (t) => {
  const random = new SystemRandom()
  const first = random.below(2 ** 31)
  let seed = first
  for (let events = 0; events < FRESH_EVENTS; seed++) {
    const result = await simulateNodes({ seed })
    events += result.events
    t.equal(result.failure, undefined, `seed ${seed}`)
  }
  t.comment(`seeds ${first} to ${seed - 1}`)
})

t.test('a seed decides everything', async (t) => {
  t.same(await simulateNodes({ seed: 4 }), await simulateNodes({ seed: 4 }))
})

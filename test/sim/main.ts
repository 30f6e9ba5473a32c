// Repeats one simulated run, or many: `node build/test/sim/main.js SEED [COUNT] [--nodes] [--trace]`. A failing seed
// prints itself. `--nodes` runs whole RaftNodes (driver, storage, transport) and not the core alone.

import { simulateNodes } from './raft-node-simulation.ts'
import { simulate } from './raft-simulation.ts'

const [seedText = '1', countText = '1'] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const trace = process.argv.includes('--trace')
const nodes = process.argv.includes('--nodes')
const first = Number(seedText)
const count = Number(countText)
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  console.error('usage: main.js SEED [COUNT] [--nodes] [--trace]: SEED and COUNT are whole numbers')
  process.exit(2)
}

let failures = 0
let events = 0
for (let seed = first; seed < first + count; seed++) {
  const options = { seed, ...(trace ? { onTrace: (line: string) => console.log(line) } : {}) }
  const { digest, failure, ...figures } = nodes ? await simulateNodes(options) : simulate(options)
  events += figures.events
  if (failure) failures++
  if (failure || count === 1) {
    const outcome = failure ? `FAILED: ${failure.message.slice(0, 4_000)}` : 'passed'
    console.log(`seed ${seed} ${outcome} ${JSON.stringify(figures)} digest ${digest}`)
  }
}
if (count > 1) console.log(`${count} seeds from ${first}, ${events} events: ${failures} failed`)
process.exitCode = failures > 0 ? 1 : 0

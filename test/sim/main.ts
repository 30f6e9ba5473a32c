// Repeats one simulated run, or many: `node build/test/sim/main.js SEED [COUNT] [--trace]`. A failing seed prints itself.

import { simulate } from './raft-simulation.ts'

const [seedText = '1', countText = '1'] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const trace = process.argv.includes('--trace')
const first = Number(seedText)
const count = Number(countText)
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  console.error('usage: main.js SEED [COUNT] [--trace]: SEED and COUNT are whole numbers')
  process.exit(2)
}

let failures = 0
for (let seed = first; seed < first + count; seed++) {
  const { digest, failure, ...figures } = simulate({ seed, ...(trace ? { onTrace: (line) => console.log(line) } : {}) })
  if (failure) failures++
  if (failure || count === 1)
    console.log(
      `seed ${seed} ${failure ? `FAILED: ${failure.message.slice(0, 4_000)}` : 'passed'} ${JSON.stringify(figures)} digest ${digest}`,
    )
}
if (count > 1) console.log(`${count} seeds from ${first}: ${failures} failed`)
process.exitCode = failures > 0 ? 1 : 0

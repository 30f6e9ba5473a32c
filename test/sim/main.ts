// Repeats simulated runs: `node build/test/sim/main.js [KIND:]SEED [COUNT] [--trace]`. Without a kind (`raft`: the core alone,
// `nodes`: whole RaftNodes, `cluster`: managers and workers) each simulator runs the seed. A failing seed prints itself.

import { simulateCluster } from './cluster-simulation.ts'
import { simulateNodes } from './raft-node-simulation.ts'
import { simulate } from './raft-simulation.ts'

interface Outcome {
  readonly digest: string
  readonly failure: Error | undefined
  readonly virtualMs: number
  readonly lastEvents?: readonly string[]
}

interface Options {
  readonly seed: number
  readonly onTrace?: (line: string) => void
}

const SIMULATORS: Readonly<Record<string, (options: Options) => Outcome | Promise<Outcome>>> = {
  raft: simulate,
  nodes: simulateNodes,
  cluster: simulateCluster,
}

/** How much of a failed run's end is shown. */
const MESSAGE_MAX = 4_000

async function repeat(kind: string, first: number, count: number, trace: boolean): Promise<number> {
  let failures = 0
  let virtualMs = 0
  for (let seed = first; seed < first + count; seed++) {
    const options = { seed, ...(trace ? { onTrace: (line: string) => console.log(line) } : {}) }
    const { digest, failure, lastEvents = [], ...figures } = await SIMULATORS[kind]!(options)
    virtualMs += figures.virtualMs
    if (failure) failures++
    if (!failure && count > 1) continue
    if (!trace) for (const line of lastEvents) console.log(line)
    const outcome = failure ? `FAILED: ${failure.message.slice(0, MESSAGE_MAX)}` : 'passed'
    console.log(`${kind}:${seed} ${outcome} ${JSON.stringify(figures)} digest ${digest}`)
  }
  const hours = (virtualMs / 3_600_000).toFixed(2)
  if (count > 1) console.log(`${kind}: ${count} seeds from ${first}, ${hours} virtual hours: ${failures} failed`)
  return failures
}

const [what = '1', countText = '1'] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const [seedText = '', ...kinds] = what.split(':').reverse()
const first = Number(seedText || Number.NaN)
const count = Number(countText)
const known = kinds.every((kind) => SIMULATORS[kind] !== undefined) && kinds.length <= 1
if (!known || !Number.isSafeInteger(first) || !Number.isSafeInteger(count) || count < 1) {
  console.error(
    `usage: main.js [KIND:]SEED [COUNT] [--trace], where KIND is one of ${Object.keys(SIMULATORS).join(', ')}`,
  )
  process.exit(2)
}

let failures = 0
for (const kind of kinds.length > 0 ? kinds : Object.keys(SIMULATORS))
  failures += await repeat(kind, first, count, process.argv.includes('--trace'))
process.exitCode = failures > 0 ? 1 : 0

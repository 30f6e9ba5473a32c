// Proposes the numbers that follow those in its log, many at a time, and prints each once it is acknowledged. Runs until
// it is killed: see raft-storage.test.ts.

import { startProposer } from './proposer.ts'

const { node, machine, leading, ended } = startProposer(process.argv[2]!, { bootstrap: true })
ended.catch((error: unknown) => {
  console.error(error)
  process.exit(1)
})
await leading
let next = machine.texts.length + 1
for (;;) {
  const batch = Array.from({ length: 1 + (next % 20) }, () => String(next++))
  await Promise.all(batch.map((text) => node.propose(Buffer.from(text))))
  process.stdout.write(`${batch.at(-1)}\n`)
}

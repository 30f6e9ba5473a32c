// Plays the scripts in test/raft/transcripts and compares what happens with what stands there, line by line.
// `REWRITE_TRANSCRIPTS=1` writes what happens instead: read the difference before committing it.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ScriptCluster } from './script-cluster.ts'

const FOLDER = join(process.cwd(), 'test/raft/transcripts')

/** `> command` lines are played; indented lines are their outcome; all others are for the reader. */
function play(script: string): string {
  let cluster = new ScriptCluster()
  const lines: string[] = []
  for (const line of script.trimEnd().split('\n')) {
    if (line.startsWith('  ')) continue
    lines.push(line)
    if (line.startsWith('#')) cluster = new ScriptCluster() // a scene of its own
    if (line.startsWith('> ')) lines.push(...cluster.run(line.slice(2)).map((said) => `  ${said}`))
  }
  return `${lines.join('\n')}\n`
}

for (const file of readdirSync(FOLDER).sort()) {
  t.test(file.replace('.md', ''), async (t) => {
    const path = join(FOLDER, file)
    const written = readFileSync(path, 'utf8')
    const played = play(written)
    if (process.env.REWRITE_TRANSCRIPTS) writeFileSync(path, played)
    else t.equal(played, written)
  })
}

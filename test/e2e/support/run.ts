/**
 * Runs the end-to-end tests: brings up the lab that they share, runs tap with one job, and takes the lab down.
 *   run.js [NAME...]    only the files whose path contains a NAME
 */
import { spawn } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { Lab } from '../../../lab/lab.ts'
import { projectRoot } from '../../../lab/layout.ts'
import { bringUpSharedLab, FILE_TIMEOUT_MS, SHARED_LAB_VARIABLE, takeDownTestLabs } from './shared-lab.ts'

let stopping = false
let tap: ReturnType<typeof spawn> | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stopping = true
    tap?.kill('SIGTERM')
  })
}

process.exitCode = await main(process.argv.slice(2))

async function main(words: readonly string[]): Promise<number> {
  const folder = join(import.meta.dirname, '..')
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
    .map((file) => relative(projectRoot, join(folder, file)))
    .toSorted()
  if (files.length === 0) {
    console.log(`no end-to-end test matches ${words.join(' ')}`)
    return 1
  }
  let lab: Lab
  try {
    lab = await bringUpSharedLab(console.log)
  } catch (error) {
    console.log(`\nnot ok the lab of the end-to-end tests\n${error instanceof Error ? error.message : error}`)
    countFailure()
    return 1
  }
  try {
    return stopping ? 1 : await runTap(lab, files)
  } finally {
    await takeDownTestLabs()
  }
}

function runTap(lab: Lab, files: readonly string[]): Promise<number> {
  const program = join(projectRoot, 'node_modules/.bin/tap')
  const flags = ['run', '--disable-coverage', '--jobs=1', `--timeout=${FILE_TIMEOUT_MS / 1_000}`]
  return new Promise((resolve, reject) => {
    tap = spawn(program, [...flags, ...files], {
      cwd: projectRoot,
      stdio: 'inherit',
      env: { ...process.env, [SHARED_LAB_VARIABLE]: lab.dir },
    })
    tap.once('error', reject)
    tap.once('exit', (code) => resolve(code ?? 1))
  })
}

/** For scripts/test.mjs, which sums the runs. */
function countFailure(): void {
  const file = process.env.SWARMCTL_TEST_COUNTS
  if (file) writeFileSync(file, JSON.stringify({ passed: 0, failed: 1, skipped: 0 }))
}

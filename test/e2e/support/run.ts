/**
 * Runs the end-to-end tests in two rows at once, each one file after the other: those that share a lab, which it brings up
 * and takes down, and those with hosts or engines of their own.
 *   run.js [NAME...]    only the files whose path contains a NAME
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { Lab } from '../../../lab/lab.ts'
import { projectRoot } from '../../../lab/layout.ts'
import { bringUpSharedLab, FILE_TIMEOUT_MS, SHARED_LAB_VARIABLE, takeDownTestLabs } from './shared-lab.ts'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** For scripts/test.mjs, which sums its runs. */
const countsFile = process.env.SWARMCTL_TEST_COUNTS
let stopping = false
const rows = new Set<ReturnType<typeof spawn>>()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stopping = true
    for (const row of rows) row.kill('SIGTERM')
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
  const shared = files.filter(sharesLab)
  const own = files.filter((file) => !sharesLab(file))
  try {
    const ended = await Promise.all([
      ...(shared.length > 0 ? [runShared(shared)] : []),
      ...(own.length > 0 ? [runTap('own', own)] : []),
    ])
    if (countsFile) writeFileSync(countsFile, JSON.stringify(sum(ended)))
    return ended.every(({ failed }) => failed === 0) ? 0 : 1
  } finally {
    await takeDownTestLabs()
  }
}

function sharesLab(file: string): boolean {
  return /\b(sharedCluster|sharedLab|freshCluster|bareLab)\(/.test(readFileSync(join(projectRoot, file), 'utf8'))
}

async function runShared(files: readonly string[]): Promise<Counts> {
  let lab: Lab
  try {
    lab = await bringUpSharedLab(console.log)
  } catch (error) {
    console.log(`\nnot ok the lab of the end-to-end tests\n${error instanceof Error ? error.message : error}`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  return stopping ? { passed: 0, failed: 1, skipped: 0 } : runTap('shared', files, { [SHARED_LAB_VARIABLE]: lab.dir })
}

function runTap(row: string, files: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Counts> {
  const program = join(projectRoot, 'node_modules/.bin/tap')
  const flags = ['run', '--disable-coverage', '--jobs=1', `--timeout=${FILE_TIMEOUT_MS / 1_000}`]
  const counts = countsFile && `${countsFile}-${row}`
  return new Promise((resolve, reject) => {
    const tap = spawn(program, [...flags, ...files], {
      cwd: projectRoot,
      stdio: 'inherit',
      env: { ...process.env, ...env, ...(counts && { SWARMCTL_TEST_COUNTS: counts }) },
    })
    rows.add(tap)
    tap.once('error', reject)
    tap.once('exit', (code) => {
      rows.delete(tap)
      const told = counts && existsSync(counts) ? (JSON.parse(readFileSync(counts, 'utf8')) as Counts) : undefined
      const { passed = 0, failed = 0, skipped = 0 } = told ?? {}
      resolve({ passed, failed: code === 0 ? failed : failed || 1, skipped })
    })
  })
}

function sum(all: readonly Counts[]): Counts {
  return {
    passed: all.reduce((total, { passed }) => total + passed, 0),
    failed: all.reduce((total, { failed }) => total + failed, 0),
    skipped: all.reduce((total, { skipped }) => total + skipped, 0),
  }
}

/**
 * Runs the end-to-end tests in three rows at once, each one file after the other, since they mostly wait. Two rows have a lab
 * each that their files share; files with hosts or engines of their own stand where there is time.
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

/** Files with engines of their own that the rows with a lab run as well. What shares programs or folders stands in one row. */
const BESIDE = [/\/(cli-|lab|single|versions)/, /\/(worker-|observability|overlay-encrypted|overlay-rules)/] as const

/** For scripts/test.mjs, which sums its runs. */
const countsFile = process.env.SWARMCTL_TEST_COUNTS
let stopping = false
let bringingUp: Promise<unknown> = Promise.resolve()
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
  try {
    const ended = await Promise.all(rowsOf(files).map(runRow))
    if (countsFile) writeFileSync(countsFile, JSON.stringify(sum(ended)))
    return ended.every(({ failed }) => failed === 0) ? 0 : 1
  } finally {
    await takeDownTestLabs()
  }
}

interface Row {
  readonly name: string
  readonly hasLab: boolean
  readonly files: readonly string[]
}

function rowsOf(files: readonly string[]): readonly Row[] {
  const shared = files.filter(sharesLab)
  const own = files.filter((file) => !sharesLab(file))
  const rows = [
    ...BESIDE.map((beside, index) => {
      const inLab = shared.filter((_, at) => at % BESIDE.length === index)
      return {
        name: `e2e${index === 0 ? '' : index + 1}`,
        hasLab: inLab.length > 0,
        files: [...inLab, ...own.filter((file) => beside.test(file))],
      }
    }),
    { name: 'own', hasLab: false, files: own.filter((file) => !BESIDE.some((beside) => beside.test(file))) },
  ]
  return rows.filter((row) => row.files.length > 0)
}

function sharesLab(file: string): boolean {
  return /\b(sharedCluster|sharedLab|freshCluster|bareLab)\(/.test(readFileSync(join(projectRoot, file), 'utf8'))
}

async function runRow({ name, hasLab, files }: Row): Promise<Counts> {
  if (!hasLab) return runTap(name, files)
  let lab: Lab
  try {
    // one after the other: they build the same images
    const mine = bringingUp.then(() => bringUpSharedLab(console.log, name))
    bringingUp = mine.catch(() => {})
    lab = await mine
  } catch (error) {
    console.log(`\nnot ok the lab of the end-to-end tests\n${error instanceof Error ? error.message : error}`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  return stopping ? { passed: 0, failed: 1, skipped: 0 } : runTap(name, files, { [SHARED_LAB_VARIABLE]: lab.dir })
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

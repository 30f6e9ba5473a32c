// Runs the steps that it is given, in order, and ends with one line over all of them: "N passed, N failed".
//   node scripts/test.mjs [build] [check] [unit] [e2e] [soak] [-- NAME...]    NAMEs choose end-to-end files
// A step that is no test run (build, check) counts as one failure if it fails; nothing runs after a failed build.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const bin = (name) => join(root, 'node_modules/.bin', name)
const scratch = mkdtempSync(join(tmpdir(), 'swarmctl-test-'))
const sum = { passed: 0, failed: 0, skipped: 0 }
let interrupted = false
let current
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    interrupted = true
    current?.kill(signal)
  })
}

const steps = {
  build: async () => {
    if ((await run(process.execPath, ['scripts/build.mjs'])) === 0) return true
    sum.failed++
    return false
  },
  check: async () => {
    const checks = [
      [bin('biome'), 'check', '--error-on-warnings', '.'],
      [bin('oxlint'), '--type-aware', '--deny-warnings', ...['src', 'test', 'lab', 'bench'].filter(hasSources)],
    ]
    for (const [program, ...args] of checks) if ((await run(program, args)) !== 0) sum.failed++
    return true
  },
  unit: () =>
    tap(
      testFiles((file) => !/^(e2e|soak)\//.test(file)),
      [],
    ),
  // the runner brings up the lab that the end-to-end tests share, and runs tap itself
  e2e: (names) => counted(process.execPath, ['build/test/e2e/support/run.js', ...names]),
  soak: () =>
    tap(
      testFiles((file) => file.startsWith('soak/')),
      ['--jobs=1', '--timeout=3600'],
    ),
}

const argv = process.argv.slice(2)
const dashes = argv.indexOf('--')
const words = dashes < 0 ? argv : argv.slice(0, dashes)
const names = dashes < 0 ? [] : argv.slice(dashes + 1)
for (const word of words) {
  if (interrupted) break
  if (!(word in steps)) throw new Error(`"${word}" is no step: ${Object.keys(steps).join(' ')}`)
  console.log(`\n# ${word}`)
  if (!(await steps[word](names))) break
}
if (interrupted) sum.failed ||= 1
rmSync(scratch, { recursive: true, force: true })
console.log(`${sum.skipped} skipped\n${sum.passed} passed, ${sum.failed} failed`)
process.exitCode = sum.failed === 0 ? 0 : 1

/** Compiled test files below build/test, as tap wants them. */
function testFiles(wanted) {
  const tests = join(root, 'build/test')
  if (!existsSync(tests)) return []
  return readdirSync(tests, { recursive: true })
    .filter((file) => file.endsWith('.test.js') && wanted(file))
    .map((file) => relative(root, join(tests, file)))
    .toSorted()
}

function tap(files, flags) {
  if (files.length === 0) return true
  return counted(bin('tap'), ['run', '--disable-coverage', ...flags, ...files])
}

/** Runs what ends in our tap reporter, which leaves its counts in a file. */
async function counted(program, args) {
  const file = join(scratch, `counts-${process.hrtime.bigint()}`)
  const code = await run(program, args, { SWARMCTL_TEST_COUNTS: file })
  const counts = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { passed: 0, failed: 0, skipped: 0 }
  if (code !== 0 && counts.failed === 0) counts.failed = 1
  for (const key of Object.keys(sum)) sum[key] += counts[key]
  return true
}

function run(program, args, env = {}) {
  return new Promise((resolve) => {
    current = spawn(program, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } })
    current.once('error', (error) => {
      console.log(`${program}: ${error.message}`)
      resolve(1)
    })
    current.once('exit', (code) => resolve(code ?? 1))
  })
}

function hasSources(folder) {
  const path = join(root, folder)
  return existsSync(path) && readdirSync(path, { recursive: true }).some((file) => file.endsWith('.ts'))
}

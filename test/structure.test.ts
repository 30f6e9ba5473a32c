// The structure of the source, as ARCHITECTURE.md draws it: imports go only downward and never in a circle, time and chance
// come from src/lib alone, and no file is there that nobody uses.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import { VERSION } from '../src/lib/version.ts'

const ROOT = process.cwd()

/** What each folder of src/ may import from the others. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  cli: ['api', 'lib'],
  daemon: ['manager', 'worker', 'overlay', 'raft', 'api', 'lib'],
  manager: ['raft', 'api', 'lib'],
  worker: ['overlay', 'api', 'lib'],
  overlay: ['api', 'lib'],
  raft: ['lib'],
  api: ['lib'],
  lib: [],
}

/** Programs that are started, not imported. */
const ENTRY_POINTS = ['src/cli/main.ts', 'src/daemon/main.ts', 'src/overlay/main.ts']

/** Sources of time, chance and locale which a simulation could not repeat. */
const AMBIENT: readonly (readonly [string, RegExp])[] = [
  ['Date', /\bDate\.(now|parse)\(|\bnew Date\(\s*\)/],
  ['performance', /\bperformance\.(now|timeOrigin)/],
  ['process.hrtime', /\bhrtime\b/],
  ['timers', /\b(setTimeout|setInterval|setImmediate)\(|['"]node:timers/],
  ['AbortSignal.timeout', /\bAbortSignal\.timeout\b/],
  ['Math.random', /\bMath\.random\b/],
  ['crypto.random*', /\b(randomBytes|randomInt|randomUUID|getRandomValues)\b/],
  ['nanoid', /['"]nanoid['"]/],
  ['locale', /\.(localeCompare|toLocaleString)\(|\bIntl\./],
]

interface SourceFile {
  readonly path: string
  readonly code: string
  /** paths of imported files of the project, also of types and of what is loaded when it is needed */
  readonly imports: readonly string[]
  /** of these, the ones that are loaded with the file: where a circle would be one at run time */
  readonly loads: readonly string[]
}

/** The code without comments and without what stands in plain strings, so that words in texts do not count. */
function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

function filesBelow(folder: string): readonly string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
    .sort()
}

function read(path: string): SourceFile {
  const code = withoutComments(readFileSync(join(ROOT, path), 'utf8'))
  const paths = (pattern: RegExp): readonly string[] =>
    [...code.matchAll(pattern)].map((match) => relative(ROOT, resolve(ROOT, dirname(path), match[1]!)))
  const imports = paths(/(?:from|import)\s*\(?\s*['"](\.{1,2}\/[^'"]+)['"]/g)
  const loads = paths(/^(?:import|export)\s(?!type\b)[^'"]*?['"](\.{1,2}\/[^'"]+)['"]/gm)
  return { path, code, imports, loads }
}

const source = filesBelow('src').map(read)
const layerOf = (path: string): string => path.split('/')[1] ?? ''

t.test('imports go only downward', async (t) => {
  const upward = source.flatMap((file) => {
    const layer = layerOf(file.path)
    const allowed = LAYERS[layer]
    if (!allowed) return [`${file.path} is in no layer`]
    return file.imports
      .filter((target) => {
        if (!target.startsWith('src/')) return true
        return layerOf(target) !== layer && !allowed.includes(layerOf(target))
      })
      .map((target) => `${file.path} imports ${target}`)
  })
  t.same(upward, [])
})

t.test('no file imports itself by a detour', async (t) => {
  const byPath = new Map(source.map((file) => [file.path, file]))
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path)
    if (at >= 0) cycles.push([...trail.slice(at), path].join(' → '))
    if (at >= 0 || done.has(path)) return
    for (const target of byPath.get(path)?.loads ?? []) visit(target, [...trail, path])
    done.add(path)
  }
  for (const file of source) visit(file.path, [])
  t.same(cycles, [])
})

t.test('time, chance and locale come from src/lib only', async (t) => {
  // The command line is a client on a person's machine: it takes its clock from src/lib too.
  const found = source
    .filter((file) => layerOf(file.path) !== 'lib')
    .flatMap((file) =>
      AMBIENT.filter(([, pattern]) => pattern.test(file.code)).map(([name]) => `${file.path}: ${name}`),
    )
  t.same(found, [])
})

t.test('every source file is used', async (t) => {
  const users = [...source, ...['test', 'bench', 'lab'].flatMap(filesBelow).map(read)]
  const used = new Set(users.flatMap((file) => file.imports))
  const product = new Set(source.flatMap((file) => file.imports))
  const dead = source.map((file) => file.path).filter((path) => !used.has(path) && !ENTRY_POINTS.includes(path))
  t.same(dead, [])
  const onlyTested = source
    .map((file) => file.path)
    .filter((path) => used.has(path) && !product.has(path) && !ENTRY_POINTS.includes(path))
  // Implementations that exist for the simulator and the conformance suites.
  t.same(
    onlyTested.filter((path) => !/memory-|simulated-/.test(path)),
    [],
  )
})

t.test('the programs tell the version of package.json', async (t) => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { readonly version: string }
  t.equal(VERSION, manifest.version)
})

t.test('the checks above see what they are to see', async (t) => {
  const sees = (text: string): readonly string[] =>
    AMBIENT.filter(([, pattern]) => pattern.test(withoutComments(text))).map(([name]) => name)
  t.same(sees('const a = Date.now()'), ['Date'])
  t.same(sees('// Date.now() is not allowed\nclock.setTimer(5, f)'), [])
  t.same(sees("import { nanoid } from 'nanoid'; setTimeout(f, 1)"), ['timers', 'nanoid'])
})

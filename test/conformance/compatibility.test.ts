// docs/compatibility.md against the code: what we have stands in a row, what a row names is there, what Docker has (its API's
// description, its CLI's help pages) is in a row, and the tests that rows name exist and speak of what the row is about.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import { CLUSTER_SETTINGS } from '../../src/api/cluster-settings.ts'
import { CONTAINER_OPTIONS, containerLabel } from '../../src/api/container-labels.ts'
import { PUBLISH_LABEL_PREFIX } from '../../src/api/publish-addresses.ts'
import { staticAddressLabel } from '../../src/api/static-addresses.ts'
import type { Decoder } from '../../src/api/validation/decode.ts'
import {
  configSpecDecoder,
  initDecoder,
  joinDecoder,
  networkCreateDecoder,
  nodeSpecDecoder,
  secretSpecDecoder,
  swarmSpecDecoder,
  unlockDecoder,
} from '../../src/api/validation/object-decoders.ts'
import { serviceSpecDecoder } from '../../src/api/validation/service-decoder.ts'
import type { Flag } from '../../src/cli/command.ts'
import { globalFlags } from '../../src/cli/global-flags.ts'
import { groups, topCommands } from '../../src/cli/registry.ts'
import { errorMessage } from '../../src/lib/errors.ts'
import { NETWORK_FILTERS, PRUNE_FILTERS } from '../../src/manager/control/networks.ts'
import { NODE_FILTERS } from '../../src/manager/control/nodes.ts'
import { CONFIG_FILTERS, SECRET_FILTERS } from '../../src/manager/control/secrets-configs.ts'
import { SERVICE_FILTERS } from '../../src/manager/control/services.ts'
import { TASK_FILTERS } from '../../src/manager/control/tasks.ts'

interface Row {
  readonly cells: readonly string[]
  /** What the row is about: the first cell without its backquotes. */
  readonly name: string
  readonly what: string
  readonly tests: readonly string[]
}

const root = process.cwd()
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const page = read('docs/compatibility.md')

/** The tables of the page, by the heading that they stand under. */
const tables = new Map<string, readonly Row[]>()
for (const [, heading = '', body = ''] of page.matchAll(/^#{2,3} (.+)\n([\s\S]*?)(?=^#{2,3} |(?![\s\S]))/gm)) {
  const lines = body.split('\n').filter((line) => line.startsWith('| '))
  tables.set(
    heading,
    lines.slice(1).map((line) => {
      const cells = line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim())
      const [first = ''] = cells
      return {
        cells: cells.map((cell) => cell.replace(/^`([^`]*)`$/, '$1')),
        name: /^`([^`]+)`/.exec(first)?.[1] ?? first,
        what: cells.at(-2) ?? '',
        tests: [...(cells.at(-1) ?? '').matchAll(/`(test\/[^`]+)`/g)].map(([, test]) => test!),
      }
    }),
  )
}

function rowsOf(heading: string): readonly Row[] {
  const rows = tables.get(heading)
  if (rows === undefined || rows.length === 0) throw new Error(`docs/compatibility.md has no table under "${heading}"`)
  return rows
}

const namesOf = (heading: string) => rowsOf(heading).map(({ name }) => name)
const sorted = (names: Iterable<string>) => [...new Set(names)].sort()

const api = JSON.parse(read('test/conformance/api-1.51.json')) as {
  readonly requests: readonly { readonly request: string; readonly query: string[]; readonly headers: string[] }[]
  readonly objects: Readonly<Record<string, readonly string[]>>
}

const DECODERS: Readonly<Record<string, Decoder<unknown>>> = {
  ServiceSpec: serviceSpecDecoder,
  NodeSpec: nodeSpecDecoder,
  SwarmSpec: swarmSpecDecoder,
  SecretSpec: secretSpecDecoder,
  ConfigSpec: configSpecDecoder,
  NetworkCreate: networkCreateDecoder,
  SwarmInit: initDecoder,
  SwarmJoin: joinDecoder,
  SwarmUnlock: unlockDecoder,
}

/**
 * Whether the decoder reads the field at this path: no field takes a list in a list in a list, and one that is not read is dropped.
 * What holds the field is an object, or a list of one where the decoder asks for that.
 */
function isRead(decoder: Decoder<unknown>, path: string, lists: ReadonlySet<string> = new Set()): boolean {
  const names = path.split('.')
  const body = names.reduceRight<unknown>(
    (inner, name, at) => {
      const isList = at < names.length - 1 && lists.has(names.slice(0, at + 1).join('.'))
      const beside = name === 'ExternalCAs' ? { Protocol: 'cfssl', ...(inner as object) } : inner
      return { [name]: isList ? [beside] : beside }
    },
    [[[]]],
  )
  // what else has to be there for the field's turn to come
  const first = names.length > 1 ? {} : { Role: 'worker', Availability: 'active' }
  try {
    decoder({ ...first, ...(body as object) }, '')
    return false
  } catch (error) {
    const [, place = '', problem = ''] = /^invalid JSON: ([^:]*): (.*)$/.exec(errorMessage(error)) ?? []
    const at = place.replace(/\[\d+\]/g, '')
    if (at.toLowerCase() === path.toLowerCase()) return true
    if (!path.startsWith(`${at}.`) || !problem.startsWith('expected array') || lists.has(at)) return false
    return isRead(decoder, path, new Set([...lists, at]))
  }
}

t.test('fields of the API are those of the decoders, and all of Docker’s', async (t) => {
  const source = ['service', 'object'].map((name) =>
    read(`src/api/validation/${name}-decoder${name === 'object' ? 's' : ''}.ts`),
  )
  const words = sorted(source.flatMap((text) => [...text.matchAll(/\b([A-Z]\w*):/g)].map(([, word]) => word!)))
  t.ok(words.length > 100, 'names of fields are found')
  for (const [object, decoder] of Object.entries(DECODERS)) {
    const rows = new Set(namesOf(object))
    const known = new Set([...rows].map((field) => field.toLowerCase()))
    const lacking = (api.objects[object] ?? []).filter((field) => !rows.has(field))
    t.same(lacking, [], `${object}: fields that Docker describes`)
    const unread = [...rows].filter((field) => !field.includes('PluginSpec.') && !isRead(decoder, field))
    t.same(unread, [], `${object}: rows of fields that are not read`)
    const places = ['', ...[...rows].filter((field) => !field.endsWith('PluginSpec')).map((field) => `${field}.`)]
    const missing = places.flatMap((place) =>
      words
        .map((word) => `${place}${word}`)
        .filter((field) => !known.has(field.toLowerCase()) && hasPlace(rows, field) && isRead(decoder, field)),
    )
    t.same(
      missing.filter((field) => !(object === 'SwarmInit' && field.startsWith('Spec.'))),
      [],
      `${object}: fields that are read and have no row`,
    )
  }
})

/** A field's own place takes objects: below a text, everything is wrong. */
function hasPlace(rows: ReadonlySet<string>, field: string): boolean {
  const place = field.slice(0, Math.max(0, field.lastIndexOf('.')))
  return place === '' || [...rows].some((row) => row.startsWith(`${place}.`))
}

t.test('requests are all of Docker’s, with their parameters', async (t) => {
  const rows = rowsOf('API: requests')
  const described = api.requests.map(({ request, query, headers }) =>
    [request, [...query, ...headers].map((name) => `\`${name}\``).join(', ')].join(' '),
  )
  t.same(
    rows.map(({ cells, name }) => `${name} ${cells[1]!.replace(/^([^`]+)$/, '`$1`')}`.trim()).sort(),
    described.map((line) => line.trim()).sort(),
  )
  const parameters = new Set(
    rowsOf("Parameters of the cluster's requests").map(({ cells }) => `${cells[0]} ${cells[1]}`),
  )
  const known = api.requests.flatMap(({ request, query, headers }) =>
    [...query, ...headers].map((name) => `${request} ${name}`),
  )
  for (const row of parameters) t.ok(known.includes(row), row)
  const cluster = /^\w+ \/(?:swarm|services|tasks|nodes|secrets|configs|networks|events)\b/
  t.same(
    known.filter((name) => cluster.test(name) && !parameters.has(name)),
    [],
    'parameters without a row',
  )
})

t.test('requests of our own are the routes that there are', async (t) => {
  const folder = 'src/daemon/api'
  const source = readdirSync(join(root, folder)).map((name) => read(join(folder, name)))
  const routes = source.flatMap((text) => [...text.matchAll(/'(\/swarmd\/[^'?]*)'/g)].map(([, path]) => path!))
  t.same(sorted(namesOf('Requests of our own')), sorted(routes))
})

interface Shown {
  readonly short: string
  readonly type: string
  readonly help: string
}

const shownOf = ({ short = '', type, help, shownDefault }: Flag): Shown => ({
  short,
  type: type.name,
  help: help + (shownDefault === undefined ? '' : ` (default ${shownDefault})`),
})
const plain = (help: string) => help.replaceAll('swarmctl', 'docker').replace(/\s+/g, ' ').replace(' (default [])', '')

t.test('commands and flags are those of the registry, and all of docker 28.2.2’s', async (t) => {
  const ours = new Map<string, readonly Flag[]>()
  for (const group of groups) for (const { name, flags } of await group.load()) ours.set(`${group.name} ${name}`, flags)
  for (const top of topCommands) ours.set(top.name, (await top.load()).flags)
  ours.set('Before the command', globalFlags)
  const docker = JSON.parse(read('test/conformance/docker-commands-28.2.2.json')) as Record<
    string,
    Record<string, [string, string, string]>
  >
  t.same(
    Object.keys(docker).filter((name) => !ours.has(name)),
    [],
    'docker’s commands that we lack',
  )
  for (const [command, flags] of ours) {
    const rows = new Map(rowsOf(command).map((row) => [row.name, row]))
    const wanted = [...flags.map(({ name }) => `--${name}`), ...(command === 'Before the command' ? [] : [command])]
    t.same(sorted(rows.keys()), sorted(wanted), command)
    const dockers = docker[command]
    if (dockers === undefined) continue
    t.same(
      Object.keys(dockers).filter((name) => !rows.has(`--${name}`)),
      [],
      `flags of docker ${command} that we lack`,
    )
    for (const flag of flags) {
      const [short, type, help] = dockers[flag.name] ?? []
      const what = rows.get(`--${flag.name}`)?.what ?? ''
      if (short === undefined || type === undefined || help === undefined) {
        t.match(what, /^ours|^as Docker 29/, `${command} --${flag.name}`)
        continue
      }
      if (what.startsWith('differs')) continue
      const shown = shownOf(flag)
      t.same({ ...shown, help: plain(shown.help) }, { short, type, help: plain(help) }, `${command} --${flag.name}`)
    }
  }
  const commands = [...tables.keys()].slice(
    [...tables.keys()].indexOf('Commands and flags') + 1,
    [...tables.keys()].indexOf('Requests of our own'),
  )
  t.same(
    commands.filter((name) => !ours.has(name)),
    [],
    'rows of commands that are not there',
  )
})

t.test('filters are those of the listings', async (t) => {
  const known = {
    '/services': SERVICE_FILTERS,
    '/tasks': TASK_FILTERS,
    '/nodes': NODE_FILTERS,
    '/secrets': SECRET_FILTERS,
    '/configs': CONFIG_FILTERS,
    '/networks': NETWORK_FILTERS,
    '/networks/prune': PRUNE_FILTERS,
  }
  const wanted = Object.entries(known).flatMap(([path, names]) => names.map((name) => `${path} ${name}`))
  t.same(sorted(rowsOf('Filters').map(({ cells }) => `${cells[0]} ${cells[1]}`)), sorted(wanted))
})

t.test('labels are those that the source knows', async (t) => {
  const source = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => read(join('src', name)))
  const written = source.flatMap((text) =>
    [...text.matchAll(/'(io\.swarmctl\.[a-z][a-z.-]*[a-z])'/g)].map(([, label]) => label!),
  )
  const known = [
    ...written,
    ...CLUSTER_SETTINGS.map(({ label }) => label),
    ...CONTAINER_OPTIONS.map(({ name }) => containerLabel(name)),
    `${PUBLISH_LABEL_PREFIX}PORT/PROTOCOL`,
    staticAddressLabel('NETWORK'),
  ]
  const rows = namesOf('Labels')
  t.same(sorted(rows.filter((name) => name.startsWith('io.'))), sorted(known))
  for (const name of rows.filter((one) => one.startsWith('com.'))) {
    t.ok(
      source.some((text) => text.includes(name)),
      name,
    )
  }
})

t.test('events are told of every kind of object', async (t) => {
  const kinds = ['service', 'node', 'secret', 'config', 'network']
  t.same(
    sorted(namesOf('Events')),
    sorted(kinds.flatMap((kind) => ['create', 'update', 'remove'].map((action) => `${kind} ${action}`))),
  )
})

/** A test's own text and that of the modules and files below test/ that it names. */
const texts = new Map<string, string>()
function textOf(test: string): string {
  const known = texts.get(test)
  if (known !== undefined) return known
  const own = read(test)
  const named = [
    ...[...own.matchAll(/from '(\.[^']+)'/g)].map(([, path]) => normalize(join(dirname(test), path!))),
    ...[...own.matchAll(/'(test\/[^']+)'/g)].map(([, path]) => path!),
    ...[...own.matchAll(/projectRoot, '(test\/[^']+)'/g)].map(([, path]) => path!),
  ].filter((path) => path.startsWith('test/') && /\.\w+$/.test(path) && existsSync(join(root, path)))
  const text = [own, ...named.map(read)].join('\n')
  texts.set(test, text)
  return text
}

const mentions = (text: string, word: string) =>
  new RegExp(`(?<![\\w-])${word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w-])`).test(text)

t.test('every row has a test that exists and speaks of it', async (t) => {
  for (const [heading, rows] of tables) {
    if (heading === 'Not there') continue
    for (const row of rows) {
      const where = `${heading}: ${row.name}`
      t.not(row.tests.length, 0, where)
      for (const test of row.tests) {
        if (!existsSync(join(root, test))) {
          t.fail(`${where}: there is no ${test}`)
          continue
        }
        const words = wordsOf(heading, row)
        t.ok(
          words.length === 0 || words.some((word) => mentions(textOf(test), word)),
          `${where}: ${test} says nothing of it`,
        )
      }
    }
  }
})

/** Words of which a row's test has to have one. */
function wordsOf(heading: string, { name, cells, what }: Row): readonly string[] {
  if (DECODERS[heading]) {
    const leaf = name.split('.').at(-1)!
    const others = what.startsWith('as `') ? [/^as `([^`]+)`/.exec(what)![1]!] : []
    return [leaf === 'HealthCheck' ? 'Healthcheck' : leaf, ...others]
  }
  if (name.startsWith('--')) return [name, ...[...cells[0]!.matchAll(/`?(-\w)`?$/g)].map(([, short]) => short!)]
  if (heading === 'Filters') return [cells[1]!]
  if (heading.startsWith('Parameters')) return [cells[1]!, cells[1]!.toLowerCase()]
  return []
}

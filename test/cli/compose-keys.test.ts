// The table of keys against Docker's schema 3.13 and the Compose Specification's: every key of both has a row that takes what
// they take, and docs/compose.md is what the table says.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { fileShape } from '../../src/cli/compose/compose-keys.ts'
import type { Row, Shape } from '../../src/cli/compose/shape.ts'
import { TABLES, withTables } from './compose-table.ts'

interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean | Schema
  readonly items?: Schema
  readonly uniqueItems?: boolean
  readonly required?: readonly string[]
  readonly enum?: readonly string[]
  readonly oneOf?: readonly Schema[]
  readonly format?: string
  readonly definitions?: Readonly<Record<string, Schema>>
}

const read = (name: string) => JSON.parse(readFileSync(join(process.cwd(), 'test/cli', name), 'utf8')) as Schema
const docker = read('compose-v3.13.json')
const specification = read('compose-spec.json')

/** Keys that Docker refuses with a reason, though its schema does not name them. */
const BEYOND = new Set(['services.*.volume_driver'])

function resolve(schema: Schema, part: Schema): Schema {
  return part.$ref === undefined ? part : resolve(schema, schema.definitions![part.$ref.split('/').at(-1)!]!)
}

const typesOf = (part: Schema): readonly string[] => (typeof part.type === 'string' ? [part.type] : (part.type ?? []))

/** The alternative of `shape` that is of a JSON-schema type. */
function alternative(shape: Shape, type: string): Shape | undefined {
  if (shape.kind === 'any') return shape
  if (shape.kind === 'choice') return shape.of.find((one) => alternative(one, type) !== undefined)
  if (type === 'object') return shape.kind === 'map' || shape.kind === 'dict' ? shape : undefined
  if (type === 'array') return shape.kind === 'list' ? shape : undefined
  if (type === 'null' && shape.kind === 'map' && shape.isNullable) return shape
  return shape.kind === 'scalar' && shape.types.some((known) => known === type) ? shape : undefined
}

/** What the table lacks of a schema. `known` hears of each path that the schema has. */
function compare(schema: Schema, part: Schema, shape: Shape, path: string, known: Set<string>): readonly string[] {
  const own = resolve(schema, part)
  if (own.oneOf) return own.oneOf.flatMap((one) => compare(schema, one, shape, path, known))
  return typesOf(own).flatMap((type) => {
    const found = alternative(shape, type)
    if (!found) return [`${path}: no ${type}`]
    const wrong: string[] = []
    if (found.kind === 'scalar') {
      if (found.format !== undefined && own.format !== undefined && found.format !== own.format) {
        wrong.push(`${path}: format`)
      }
      if (found.oneOf && !own.enum?.every((word) => found.oneOf!.includes(word))) wrong.push(...strictOnPurpose(path))
    }
    if (type === 'array' && found.kind === 'list') {
      if (found.isUnique && own.uniqueItems !== true) wrong.push(`${path}: unique`)
      if (own.items) wrong.push(...compare(schema, own.items, found.items, `${path}.[]`, known))
    }
    if (type === 'object') wrong.push(...compareKeys(schema, own, found, path, known))
    return wrong
  })
}

/** Words that are none of the schema's, but all that can be. */
function strictOnPurpose(path: string): readonly string[] {
  return path.endsWith('env_file.[].format') ? [] : [`${path}: enum`]
}

function compareKeys(schema: Schema, part: Schema, shape: Shape, path: string, known: Set<string>): readonly string[] {
  const below = (key: string) => (path === '' ? key : `${path}.${key}`)
  if (shape.kind === 'dict') {
    const [pattern, value] =
      Object.entries(part.patternProperties ?? {}).find(([key]) => key !== '^x-') ??
      (typeof part.additionalProperties === 'object' ? ['.+', part.additionalProperties] : [])
    if (pattern === undefined || value === undefined) return shape.value.kind === 'any' ? [] : [`${path}: names`]
    return compare(schema, value, shape.value, below('*'), known)
  }
  if (shape.kind !== 'map') return []
  const properties = part.properties ?? {}
  const missing = Object.entries(properties).flatMap(([key, value]) => {
    known.add(below(key))
    const row = shape.keys[key]
    return row ? compare(schema, value, row.shape, below(key), known) : [`${below(key)}: no row`]
  })
  const hasExtensions = '^x-' in (part.patternProperties ?? {})
  const required = shape.required.filter((key) => !part.required?.includes(key))
  return [
    ...missing,
    ...(hasExtensions && !shape.hasExtensions && !shape.isOpen ? [`${path}: x-`] : []),
    ...required.map((key) => `${path}: requires ${key}`),
  ]
}

/** Every row: its path, and the row itself. */
function rows(shape: Shape, path: string): readonly (readonly [string, Row])[] {
  const below = (key: string) => (path === '' ? key : `${path}.${key}`)
  switch (shape.kind) {
    case 'choice':
      return shape.of.flatMap((one) => rows(one, path))
    case 'list':
      return rows(shape.items, `${path}.[]`)
    case 'dict':
      return rows(shape.value, below('*'))
    case 'map':
      return Object.entries(shape.keys).flatMap(([key, row]) => [
        [below(key), row] as const,
        ...rows(row.shape, below(key)),
      ])
    case 'any':
    case 'scalar':
      return []
  }
}

t.test('every key of schema 3.13 and of the Specification has a row that takes what the schema takes', async (t) => {
  t.same(compare(docker, docker, fileShape, '', new Set()), [])
  t.same(compare(specification, specification, fileShape, '', new Set()), [])
})

t.test('no row is of a key that no schema has', async (t) => {
  const known = new Set<string>()
  compare(docker, docker, fileShape, '', known)
  compare(specification, specification, fileShape, '', known)
  const beyond = rows(fileShape, '').map(([path]) => path)
  t.same(
    beyond.filter((path) => !known.has(path) && !BEYOND.has(path)),
    [],
  )
})

t.test('the walk sees a key without a row, and one that takes another type', async (t) => {
  const extended: Schema = {
    ...docker,
    properties: { ...docker.properties, surprise: { type: 'string' }, version: { type: 'integer' } },
  }
  t.same(compare(extended, extended, fileShape, '', new Set()), ['version: no integer', 'surprise: no row'])
})

t.test('what is refused or left out says why', async (t) => {
  const silent = rows(fileShape, '').filter(([, { use, reason }]) => use !== 'applied' && reason === '')
  t.same(
    silent.map(([path]) => path),
    [],
  )
})

t.test('docs/compose.md has the tables as they are', async (t) => {
  const text = readFileSync(join(process.cwd(), 'docs/compose.md'), 'utf8')
  t.equal(withTables(text), text, 'written anew by compose-docs.ts')
  for (const name of Object.keys(TABLES)) t.match(text, new RegExp(`<!-- ${name} -->\n\n\\|`))
})

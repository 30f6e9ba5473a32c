// The table of keys against Docker's schema 3.13: every key has a row and takes the same types, and our rows beyond it
// are refusals.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { fileShape } from '../../src/cli/compose/compose-keys.ts'
import type { Shape } from '../../src/cli/compose/shape.ts'

interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly patternProperties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean
  readonly items?: Schema
  readonly uniqueItems?: boolean
  readonly required?: readonly string[]
  readonly enum?: readonly string[]
  readonly oneOf?: readonly Schema[]
  readonly format?: string
  readonly definitions?: Readonly<Record<string, Schema>>
}

const schema = JSON.parse(readFileSync(join(process.cwd(), 'test/cli/compose-v3.13.json'), 'utf8')) as Schema

/** Keys of docker's program that its schema does not name: it lets any key pass there. */
const BEYOND = new Set(['services.*.volumes.[].volume.subpath', 'services.*.volumes.[].tmpfs.mode'])

function resolve(part: Schema): Schema {
  return part.$ref === undefined ? part : resolve(schema.definitions![part.$ref.split('/').at(-1)!]!)
}

const typesOf = (part: Schema): readonly string[] => (typeof part.type === 'string' ? [part.type] : (part.type ?? []))

/** The alternative of `shape` that is of a JSON-schema type. */
function alternative(shape: Shape, type: string): Shape | undefined {
  if (shape.kind === 'choice') return shape.of.find((one) => alternative(one, type) !== undefined)
  if (type === 'object') return shape.kind === 'map' || shape.kind === 'dict' ? shape : undefined
  if (type === 'array') return shape.kind === 'list' ? shape : undefined
  if (type === 'null' && shape.kind === 'map' && shape.isNullable) return shape
  return shape.kind === 'scalar' && shape.types.some((known) => known === type) ? shape : undefined
}

/** What the table lacks of the schema, or has beyond it. */
function compare(part: Schema, shape: Shape, path: string): readonly string[] {
  const own = resolve(part)
  if (own.oneOf) return own.oneOf.flatMap((one) => compare(one, shape, path))
  return typesOf(own).flatMap((type) => {
    const found = alternative(shape, type)
    if (!found) return [`${path}: no ${type}`]
    const wrong: string[] = []
    if (found.kind === 'scalar') {
      if (own.format !== undefined && own.format !== 'expose' && found.format !== own.format)
        wrong.push(`${path}: format`)
      if (own.enum && JSON.stringify(own.enum) !== JSON.stringify(found.oneOf)) wrong.push(`${path}: enum`)
    }
    if (type === 'array' && found.kind === 'list') {
      if (found.isUnique !== (own.uniqueItems ?? false)) wrong.push(`${path}: unique`)
      if (own.items) wrong.push(...compare(own.items, found.items, `${path}.[]`))
    }
    if (type === 'object') wrong.push(...compareKeys(own, found, path))
    return wrong
  })
}

function compareKeys(part: Schema, shape: Shape, path: string): readonly string[] {
  const below = (key: string) => (path === '' ? key : `${path}.${key}`)
  if (shape.kind === 'dict') {
    const [pattern, value] = Object.entries(part.patternProperties ?? {})[0] ?? []
    if (pattern === undefined || value === undefined) return [`${path}: keys that the user names`]
    return [
      ...(shape.key.source.replaceAll(/[\^$]/g, '') === pattern.replaceAll(/[\^$]/g, '')
        ? []
        : [`${path}: ${pattern}`]),
      ...(shape.isClosed === (part.additionalProperties === false) ? [] : [`${path}: other keys`]),
      ...compare(value, shape.value, below('*')),
    ]
  }
  if (shape.kind !== 'map') return []
  const properties = part.properties ?? {}
  const missing = Object.entries(properties).flatMap(([key, value]) => {
    const row = shape.keys[key]
    return row ? compare(value, row.shape, below(key)) : [`${below(key)}: no row`]
  })
  const beyond = Object.entries(shape.keys)
    .filter(
      ([key, { use }]) => !(key in properties) && use !== 'later' && use !== 'forbidden' && !BEYOND.has(below(key)),
    )
    .map(([key]) => `${below(key)}: not in the schema`)
  return [
    ...missing,
    ...beyond,
    ...(shape.isOpen === (part.additionalProperties !== false) ? [] : [`${path}: other keys`]),
    ...(shape.hasExtensions === '^x-' in (part.patternProperties ?? {}) ? [] : [`${path}: x-`]),
    ...(JSON.stringify(shape.required) === JSON.stringify(part.required ?? []) ? [] : [`${path}: required`]),
  ]
}

t.test('every key of schema 3.13 has a row that takes what the schema takes', async (t) => {
  t.same(compare(schema, fileShape, ''), [])
})

t.test('the walk sees a key without a row, and one that takes another type', async (t) => {
  const extended: Schema = {
    ...schema,
    properties: { ...schema.properties, surprise: { type: 'string' }, version: { type: 'integer' } },
  }
  t.same(compare(extended, fileShape, ''), ['version: no integer', 'surprise: no row'])
})

t.test('what is refused or left out says why, unless docker has words for it', async (t) => {
  const silent: string[] = []
  const walk = (shape: Shape, path: string): void => {
    if (shape.kind === 'choice') for (const one of shape.of) walk(one, path)
    if (shape.kind === 'list') walk(shape.items, `${path}.[]`)
    if (shape.kind === 'dict') walk(shape.value, `${path}.*`)
    if (shape.kind !== 'map') return
    for (const [key, row] of Object.entries(shape.keys)) {
      if (['forbidden', 'deprecated', 'unheeded'].includes(row.use) && row.reason === '') silent.push(`${path}.${key}`)
      walk(row.shape, `${path}.${key}`)
    }
  }
  walk(fileShape, '')
  t.same(silent, [])
})

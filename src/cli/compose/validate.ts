// Checks a file against the table of keys. Of several things that are wrong, the one that is told is the one that
// Docker's loader tells: the deepest, and among equals a wrong type first. Texts are Docker's.

import { parsePorts } from '../service/ports.ts'
import { ValueError } from '../strconv.ts'
import { parseDuration } from '../units.ts'
import { nearest } from './near-miss.ts'
import { ComposeError, field, isNull, type MapNode, type Node, type Position, scalarText } from './node.ts'
import {
  acceptsType,
  castText,
  chosen,
  type DictShape,
  type MapShape,
  type Row,
  type ScalarShape,
  type Shape,
} from './shape.ts'

interface Problem {
  readonly path: readonly string[]
  readonly text: string
  readonly isType: boolean
  readonly at: Position
}

/** @throws {ComposeError} for the most specific thing that is wrong. */
export function validate(root: Node, shape: Shape): void {
  const problems = check(root, shape, [])
  let worst = problems[0]
  for (const problem of problems) {
    const deeper = problem.path.length - worst!.path.length
    if (deeper > 0 || (deeper === 0 && problem.isType && !worst!.isType)) worst = problem
  }
  if (worst) throw new ComposeError(worst.at, `${worst.path.join('.') || '(root)'} ${worst.text}`)
}

function check(node: Node, shape: Shape, path: readonly string[]): readonly Problem[] {
  // what is taken away may be of any type
  if (node.tag === 'reset') return []
  const problem = (text: string, at = node.at): readonly Problem[] => [{ path, text, isType: false, at }]
  if (!acceptsType(shape, node)) {
    return [{ path, text: `must be a ${expected(chosen(shape, node))}`, isType: true, at: node.at }]
  }
  const inner = chosen(shape, node)
  switch (inner.kind) {
    case 'any':
      return []
    case 'scalar':
      if (isNoCast(node, inner)) {
        return [{ path, text: `must be a ${expected(inner)}`, isType: true, at: node.at }]
      }
      return checkScalar(node, inner).flatMap((text) => problem(text))
    case 'list': {
      const items = node.kind === 'list' ? node.items : []
      const twice = inner.isUnique ? firstTwice(items) : undefined
      return [
        ...(twice ? problem(`array items[${twice[0]},${twice[1]}] must be unique`, items[twice[1]]!.at) : []),
        ...items.flatMap((item, i) => check(item, inner.items, [...path, String(i)])),
      ]
    }
    case 'map':
      return node.kind === 'map' ? checkMap(node, inner, path) : []
    case 'dict':
      return node.kind === 'map' ? checkDict(node, inner, path) : []
  }
}

function checkMap(node: MapNode, shape: MapShape, path: readonly string[]): readonly Problem[] {
  const missing = shape.required
    .filter((key) => !node.entries.has(key))
    .map((key) => ({ path, text: `${key} is required`, isType: false, at: node.at }))
  const inside = [...node.entries].flatMap(([key, { keyAt, node: value }]) => {
    const row = Object.hasOwn(shape.keys, key) ? shape.keys[key] : undefined
    if (row && row.use !== 'refused' && row.use !== 'forbidden') return check(value, row.shape, [...path, key])
    if (!row && (shape.isOpen || (shape.hasExtensions && key.startsWith('x-')))) return []
    return [{ path, text: notAllowed(key, row, shape), isType: false, at: keyAt }]
  })
  return [...missing, ...inside]
}

function checkDict(node: MapNode, shape: DictShape, path: readonly string[]): readonly Problem[] {
  return [...node.entries].flatMap(([key, { keyAt, node: value }]) => {
    if (shape.key.test(key)) return check(value, shape.value, [...path, key])
    if (!shape.isClosed) return []
    return [{ path, text: `Additional property ${key} is not allowed`, isType: false, at: keyAt }]
  })
}

function notAllowed(key: string, row: Row | undefined, shape: MapShape): string {
  const text = `Additional property ${key} is not allowed`
  if (row) return `${text} (${row.reason})`
  const near = nearest(key, Object.keys(shape.keys))
  return near === undefined ? text : `${text} (did you mean ${near}?)`
}

/** A text where another type is wanted, that cannot be read as one. */
function isNoCast(node: Node, shape: ScalarShape): boolean {
  if (!shape.cast || node.kind !== 'scalar' || typeof node.value !== 'string') return false
  return castText(node.value, shape.cast) === undefined
}

function checkScalar(node: Node, shape: ScalarShape): readonly string[] {
  if (node.kind !== 'scalar' || isNull(node)) return []
  const text = scalarText(node)
  if (shape.format) {
    try {
      if (shape.format === 'duration') parseDuration(text)
      else checkPort(text)
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      return [`Does not match format '${shape.format}' (${error.message})`]
    }
  }
  if (shape.oneOf && !shape.oneOf.includes(text)) {
    return [`must be one of the following: ${shape.oneOf.map((word) => `"${word}"`).join(', ')}`]
  }
  if (shape.minimum !== undefined && Number(node.value) < shape.minimum) {
    return [`Must be greater than or equal to ${shape.minimum}`]
  }
  return []
}

function checkPort(text: string): void {
  // the long form of --publish is none of a compose file's
  if (text.includes('=')) throw new ValueError(`invalid containerPort: ${text}`)
  parsePorts(text)
}

function firstTwice(items: readonly Node[]): readonly [number, number] | undefined {
  const seen = new Map<string, number>()
  for (const [i, item] of items.entries()) {
    const key = identity(item)
    const earlier = seen.get(key)
    if (earlier !== undefined) return [earlier, i]
    seen.set(key, i)
  }
  return undefined
}

/** A text that is the same for nodes that say the same. */
export function identity(node: Node): string {
  switch (node.kind) {
    case 'scalar':
      return typeof node.value === 'string' ? JSON.stringify(node.value) : String(node.value)
    case 'list':
      return `[${node.items.map(identity).join(',')}]`
    case 'map':
      return `{${[...node.entries.keys()]
        .sort((a, b) => (a < b ? -1 : 1))
        .map((key) => `${JSON.stringify(key)}:${identity(field(node, key)!)}`)
        .join(',')}}`
  }
}

function expected(shape: Exclude<Shape, { readonly kind: 'choice' }>): string {
  switch (shape.kind) {
    case 'any':
      return 'value'
    case 'scalar':
      return words(shape.cast ? [shape.cast] : shape.types)
    case 'list':
      return 'list'
    case 'map':
      return shape.isNullable ? 'mapping or null' : 'mapping'
    case 'dict':
      return 'mapping'
  }
}

function words(types: readonly string[]): string {
  return types.length < 2 ? (types[0] ?? '') : `${types.slice(0, -1).join(', ')} or ${types.at(-1)}`
}

// The functions of Docker's templates: Go's built-in ones and json, split, join, title, lower, upper, pad, truncate.

import { encodeJson } from './json.ts'
import { formatPrintf } from './printf.ts'
import { GoDuration, GoFloat, GoNil, isList, isMap, isTrue, printValue, typeName, type Value } from './value.ts'

/** What a function says of its arguments. */
export class FunctionError extends Error {}

/** What a parameter takes: a string, an integer, a list of strings, anything. */
export type Parameter = 'string' | 'int' | '[]string' | 'any'

export interface TemplateFunction {
  /** undefined: any number of anything. */
  readonly parameters: readonly Parameter[] | undefined
  readonly call: (args: readonly Value[]) => Value
}
export type FunctionTable = ReadonlyMap<string, TemplateFunction>

type Entry = readonly [string, TemplateFunction]

function takes(name: string, parameters: readonly Parameter[], call: TemplateFunction['call']): Entry {
  return [name, { parameters, call }]
}

function takesAny(name: string, call: TemplateFunction['call']): Entry {
  return [name, { parameters: undefined, call }]
}

/** Does `value` fit the parameter? A nil is an empty list. */
export function fits(value: Value, parameter: Parameter): boolean {
  if (parameter === 'any') return true
  if (parameter === 'string') return typeof value === 'string'
  if (parameter === 'int') return typeof value === 'number'
  return value === null || value === undefined || isList(value)
}

// the executor has checked these with `fits`
const text = (value: Value) => (typeof value === 'string' ? value : '')
const integer = (value: Value) => (typeof value === 'number' ? value : 0)
const list = (value: Value) => (isList(value) ? value : [])

const toTitle = (source: string) =>
  source.replace(/(^|[^\p{L}\p{N}_'])(\p{L})/gu, (_, before: string, letter: string) => before + letter.toUpperCase())

/** Go's fmt.Sprint: blanks between operands when neither is a string. */
function sprint(args: readonly Value[]): string {
  return args
    .map((arg, i) =>
      i > 0 && typeof arg !== 'string' && typeof args[i - 1] !== 'string' ? ` ${printValue(arg)}` : printValue(arg),
    )
    .join('')
}

function length(value: Value): number {
  if (typeof value === 'string') return Buffer.byteLength(value)
  if (isList(value)) return value.length
  if (isMap(value)) return value.size
  if (value === null || value === undefined) throw new FunctionError('len of nil pointer')
  throw new FunctionError(`len of type ${typeName(value)}`)
}

function index(args: readonly Value[]): Value {
  const [first, ...keys] = args
  let value = first
  for (const key of keys) {
    if (value === null || value === undefined) throw new FunctionError('index of untyped nil')
    if (isMap(value)) {
      if (typeof key !== 'string') throw new FunctionError(`value has type ${typeName(key)}; should be string`)
      value = value.has(key) ? value.get(key) : ''
    } else if (isList(value) || typeof value === 'string') {
      if (typeof key !== 'number') throw new FunctionError(`cannot index slice/array with type ${typeName(key)}`)
      const items: readonly Value[] = typeof value === 'string' ? [...Buffer.from(value)] : value
      if (key < 0 || key >= items.length) throw new FunctionError(`index out of range: ${key}`)
      value = items[key]
    } else throw new FunctionError(`can't index item of type ${typeName(value)}`)
  }
  return value
}

function slice(args: readonly Value[]): Value {
  const [value, from = 0, to] = args
  if (typeof value !== 'string' && !isList(value))
    throw new FunctionError(`can't slice item of type ${typeName(value)}`)
  const size = value.length
  const start = integer(from)
  const end = to === undefined ? size : integer(to)
  if (start < 0 || start > size) throw new FunctionError(`index out of range: ${start}`)
  if (end < 0 || end > size) throw new FunctionError(`index out of range: ${end}`)
  if (start > end) throw new FunctionError(`invalid slice index: ${start} > ${end}`)
  return value.slice(start, end)
}

function basicKind(value: Value): 'string' | 'int' | 'float' | 'bool' | undefined {
  if (typeof value === 'string') return 'string'
  if (typeof value === 'number' || value instanceof GoDuration) return 'int'
  if (value instanceof GoFloat) return 'float'
  if (typeof value === 'boolean') return 'bool'
  return undefined
}

function scalar(value: Value): string | number | boolean {
  if (value instanceof GoFloat) return value.value
  if (value instanceof GoDuration) return value.nanoseconds
  return value as string | number | boolean
}

const isNil = (value: Value) => value === null || value === undefined || value instanceof GoNil

function equal(args: readonly Value[]): boolean {
  const [first, ...rest] = args
  if (rest.length === 0) throw new FunctionError('missing argument for comparison')
  return rest.some((other) => {
    if (isNil(first) || isNil(other)) {
      return isNil(first) === isNil(other)
    }
    const kinds = [basicKind(first), basicKind(other)]
    if (kinds[0] === undefined || kinds[1] === undefined)
      throw new FunctionError(
        `non-comparable type ${printValue(kinds[0] === undefined ? first : other)}: ${typeName(kinds[0] === undefined ? first : other)}`,
      )
    if (kinds[0] !== kinds[1]) throw new FunctionError('incompatible types for comparison')
    return scalar(first) === scalar(other)
  })
}

function less(args: readonly Value[]): boolean {
  const [a, b] = args
  const kinds = [basicKind(a), basicKind(b)]
  if (kinds[0] === undefined || kinds[1] === undefined || kinds[0] === 'bool')
    throw new FunctionError('invalid type for comparison')
  if (kinds[0] !== kinds[1]) throw new FunctionError('incompatible types for comparison')
  return scalar(a) < scalar(b)
}

function pad(args: readonly Value[]): string {
  const source = text(args[0])
  return source === '' ? '' : ' '.repeat(integer(args[1])) + source + ' '.repeat(integer(args[2]))
}

function truncate(args: readonly Value[]): string {
  const bytes = Buffer.from(text(args[0]))
  return bytes.subarray(0, Math.max(0, integer(args[1]))).toString()
}

const escapeHtml = (source: string) =>
  source.replace(
    /[&<>"'\0]/g,
    (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&#34;', "'": '&#39;' })[char] ?? '\uFFFD',
  )

const escapeScript = (source: string) =>
  source.replace(/[\\'"<>&=\n\r\t]/g, (char) =>
    /[\\'"]/.test(char)
      ? `\\${char}`
      : char === '\n'
        ? '\\n'
        : char === '\r'
          ? '\\r'
          : char === '\t'
            ? '\\t'
            : `\\u${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
  )

export const templateFunctions: FunctionTable = new Map<string, TemplateFunction>([
  // and, or: evaluated by the executor, which looks at no more operands than it needs
  takesAny('and', (args) => args.find((arg) => !isTrue(arg)) ?? args.at(-1)),
  takesAny('or', (args) => args.find((arg) => isTrue(arg)) ?? args.at(-1)),
  takes('not', ['any'], ([value]) => !isTrue(value)),
  takes('len', ['any'], ([value]) => length(value)),
  takesAny('index', index),
  takesAny('slice', slice),
  takesAny('print', sprint),
  takesAny('println', (args) => `${args.map(printValue).join(' ')}\n`),
  takesAny('printf', ([format, ...args]) => formatPrintf(text(format), args)),
  takesAny('html', (args) => escapeHtml(sprint(args))),
  takesAny('js', (args) => escapeScript(sprint(args))),
  takesAny('urlquery', (args) => encodeURIComponent(sprint(args)).replaceAll('%20', '+')),
  takesAny('eq', equal),
  takes('ne', ['any', 'any'], (args) => !equal(args)),
  takes('lt', ['any', 'any'], (args) => less(args)),
  takes('le', ['any', 'any'], (args) => less(args) || equal(args)),
  takes('gt', ['any', 'any'], ([a, b]) => less([b, a])),
  takes('ge', ['any', 'any'], ([a, b]) => less([b, a]) || equal([a, b])),
  takes('json', ['any'], ([value]) => encodeJson(value)),
  takes('split', ['string', 'string'], ([value, separator]) => text(value).split(text(separator))),
  takes('join', ['[]string', 'string'], ([value, separator]) => list(value).map(printValue).join(text(separator))),
  takes('title', ['string'], ([value]) => toTitle(text(value))),
  takes('lower', ['string'], ([value]) => text(value).toLowerCase()),
  takes('upper', ['string'], ([value]) => text(value).toUpperCase()),
  takes('pad', ['string', 'int', 'int'], pad),
  takes('truncate', ['string', 'int'], truncate),
])

/** For a table's header: the functions leave column names as they are, but pad keeps the columns in line. */
export const headerFunctions: FunctionTable = new Map([
  ...templateFunctions,
  ...['json', 'split', 'join', 'title', 'lower', 'upper', 'truncate'].map((name) => takesAny(name, ([value]) => value)),
])

// The functions of Docker's templates: Go's built-in ones and json, split, join, title, lower, upper, pad, truncate.

import { quote } from '../strconv.ts'
import { encodeJson } from './json.ts'
import { formatPrintf } from './printf.ts'
import { GoDuration, GoFloat, GoStruct, isList, isMap, isTrue, printValue, typeName, type Value } from './value.ts'

/** What a function says of its arguments; `bare`: Go reports it without "error calling". */
export class FunctionError extends Error {
  readonly bare: boolean
  constructor(message: string, options: { readonly bare?: boolean } = {}) {
    super(message)
    this.bare = options.bare ?? false
  }
}

export type TemplateFunction = (args: readonly Value[]) => Value
export type FunctionTable = ReadonlyMap<string, TemplateFunction>

function takes(name: string, count: number, call: TemplateFunction): [string, TemplateFunction] {
  const check: TemplateFunction = (args) => {
    if (args.length !== count) {
      throw new FunctionError(`wrong number of args for ${name}: want ${count} got ${args.length}`, { bare: true })
    }
    return call(args)
  }
  return [name, check]
}

function text(value: Value): string {
  if (typeof value === 'string') return value
  throw new FunctionError(`wrong type for value; expected string; got ${typeName(value)}`, { bare: true })
}

function list(value: Value): readonly Value[] {
  if (value === null || value === undefined) return []
  if (isList(value)) return value
  throw new FunctionError(`wrong type for value; expected []string; got ${typeName(value)}`, { bare: true })
}

function integer(value: Value): number {
  if (typeof value === 'number') return value
  throw new FunctionError(`wrong type for value; expected int; got ${typeName(value)}`, { bare: true })
}

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

function equal(args: readonly Value[]): boolean {
  const [first, ...rest] = args
  if (rest.length === 0) throw new FunctionError('missing argument for comparison')
  return rest.some((other) => {
    if (first === null || first === undefined || other === null || other === undefined) {
      return (first ?? null) === (other ?? null)
    }
    const kinds = [basicKind(first), basicKind(other)]
    if (kinds[0] === undefined || kinds[1] === undefined)
      throw new FunctionError(`non-comparable type ${typeName(kinds[0] === undefined ? first : other)}`)
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
  ['and', (args) => args.find((arg) => !isTrue(arg)) ?? args.at(-1)],
  ['or', (args) => args.find((arg) => isTrue(arg)) ?? args.at(-1)],
  takes('not', 1, ([value]) => !isTrue(value)),
  takes('len', 1, ([value]) => length(value)),
  ['index', index],
  ['slice', slice],
  ['print', sprint],
  ['println', (args) => `${args.map(printValue).join(' ')}\n`],
  ['printf', ([format, ...args]) => formatPrintf(text(format), args)],
  ['html', (args) => escapeHtml(sprint(args))],
  ['js', (args) => escapeScript(sprint(args))],
  ['urlquery', (args) => encodeURIComponent(sprint(args)).replaceAll('%20', '+')],
  ['eq', equal],
  takes('ne', 2, (args) => !equal(args)),
  takes('lt', 2, (args) => less(args)),
  takes('le', 2, (args) => less(args) || equal(args)),
  takes('gt', 2, ([a, b]) => less([b, a])),
  takes('ge', 2, ([a, b]) => less([b, a]) || equal([a, b])),
  takes('json', 1, ([value]) => encodeJson(value)),
  takes('split', 2, ([value, separator]) => text(value).split(text(separator))),
  takes('join', 2, ([value, separator]) => list(value).map(text).join(text(separator))),
  takes('title', 1, ([value]) => toTitle(text(value))),
  takes('lower', 1, ([value]) => text(value).toLowerCase()),
  takes('upper', 1, ([value]) => text(value).toUpperCase()),
  takes('pad', 3, pad),
  takes('truncate', 2, truncate),
])

/** For a table's header: the functions leave column names as they are, but pad keeps the columns in line. */
export const headerFunctions: FunctionTable = new Map([
  ...templateFunctions,
  ...['json', 'split', 'join', 'title', 'lower', 'upper', 'truncate'].map((name): [string, TemplateFunction] => [
    name,
    ([value]) => value,
  ]),
])

/** Go's %q: used by printf. */
export function quoted(value: Value): string {
  return typeof value === 'string'
    ? quote(value)
    : value instanceof GoStruct
      ? printValue(value)
      : `%!q(${typeName(value)}=${printValue(value)})`
}

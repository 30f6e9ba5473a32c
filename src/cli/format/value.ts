// What a template computes with: Go's values in TypeScript. Docker's templates run over typed Go structs, so a field that
// a struct has not is an error, an absent map key is not, and a duration prints as "5s".

import { formatDuration } from '../units.ts'

/** A struct: its fields are known, so naming another one is an error. `fields` are in Go's order. */
export class GoStruct {
  /** As Go's errors name it, with its star where a pointer is meant: `swarm.Service`, `*node.nodeContext`. */
  readonly typeName: string
  readonly fields: ReadonlyMap<string, Value>
  /** Fields of embedded structs, and methods: reachable in templates, no part of the value as printed. */
  readonly promoted: ReadonlyMap<string, Value>
  readonly encode: (() => string) | undefined
  /** Of a type with a String method: what it prints as. */
  readonly text: string | undefined

  constructor(
    typeName: string,
    fields: ReadonlyMap<string, Value>,
    options: {
      readonly promoted?: ReadonlyMap<string, Value>
      readonly encode?: () => string
      readonly text?: string | undefined
    } = {},
  ) {
    this.typeName = typeName
    this.fields = fields
    this.promoted = options.promoted ?? new Map()
    this.encode = options.encode
    this.text = options.text
  }

  has(name: string): boolean {
    return this.fields.has(name) || this.promoted.has(name)
  }

  get(name: string): Value {
    return this.fields.has(name) ? this.fields.get(name) : this.promoted.get(name)
  }
}

export class GoDuration {
  readonly nanoseconds: number
  constructor(nanoseconds: number) {
    this.nanoseconds = nanoseconds
  }
}

/** A moment, kept as the RFC 3339 text that the API sent. */
export class GoTime {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** A float: 1.0 prints as 1, but is no integer to a comparison. */
export class GoFloat {
  readonly value: number
  constructor(value: number) {
    this.value = value
  }
}

/** A nil pointer to a struct: false, null as JSON, and naming one of its fields is an error. */
export class GoNil {
  readonly typeName: string
  readonly fields: ReadonlySet<string>
  constructor(typeName: string, fields: ReadonlySet<string>) {
    this.typeName = typeName
    this.fields = fields
  }
}

/** A method with arguments: `{{.Label "key"}}`. */
export class GoMethod {
  readonly call: (args: readonly Value[]) => Value
  constructor(call: (args: readonly Value[]) => Value) {
    this.call = call
  }
}

/** `undefined` is a missing map key ("<no value>"), `null` a nil. Numbers are integers. */
export type Value =
  | undefined
  | null
  | boolean
  | number
  | string
  | GoFloat
  | GoDuration
  | GoTime
  | GoStruct
  | GoNil
  | GoMethod
  | readonly Value[]
  | ReadonlyMap<string, Value>

/** A nil slice and a nil map: empty, but null as JSON. */
export const NIL_LIST: readonly Value[] = []
export const NIL_MAP: ReadonlyMap<string, Value> = new Map()

export const isList = (value: Value): value is readonly Value[] => Array.isArray(value)
export const isMap = (value: Value): value is ReadonlyMap<string, Value> => value instanceof Map

export function isTrue(value: Value): boolean {
  if (value === undefined || value === null || value instanceof GoNil) return false
  if (typeof value === 'boolean') return value
  if (typeof value === 'number') return value !== 0
  if (typeof value === 'string') return value !== ''
  if (value instanceof GoFloat) return value.value !== 0
  if (value instanceof GoDuration) return value.nanoseconds !== 0
  if (isList(value)) return value.length > 0
  if (isMap(value)) return value.size > 0
  return true
}

export function sortedEntries(map: ReadonlyMap<string, Value>): [string, Value][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

/** The value as Go's %v prints it. */
export function printValue(value: Value): string {
  if (value === undefined) return '<no value>'
  if (value === null || value instanceof GoNil) return '<nil>'
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'number') return BigInt(Math.trunc(value)).toString()
  if (value instanceof GoFloat) return printFloat(value.value)
  if (value instanceof GoDuration) return formatDuration(value.nanoseconds)
  if (value instanceof GoTime) return printTime(value.text)
  if (value instanceof GoMethod) return '<func>'
  if (isList(value)) return `[${value.map(printValue).join(' ')}]`
  if (isMap(value))
    return `map[${sortedEntries(value)
      .map(([k, v]) => `${k}:${printValue(v)}`)
      .join(' ')}]`
  if (value.text !== undefined) return value.text
  const body = [...value.fields.values()].map(printValue).join(' ')
  return `{${body}}`
}

/** Go's %v of a float: the shortest digits, an exponent from 1e21 on. */
export function printFloat(value: number): string {
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1e-4 && size < 1e21) return String(value)
  const [mantissa = '', power = ''] = value.toExponential().split('e')
  return `${mantissa}e${power[0]}${power.slice(1).padStart(2, '0')}`
}

/** Go's time.Time.String(): "2006-01-02 15:04:05.999 +0000 UTC". */
export function printTime(text: string): string {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (!match) return text
  const [, date, time, fraction = '', zone = ''] = match
  const trimmed = fraction.replace(/\.?0+$/, '')
  const offset = zone === 'Z' ? '+0000 UTC' : `${zone.replace(':', '')} ${zone.replace(':', '')}`
  return `${date} ${time}${trimmed} ${offset}`
}

/** What a template's error calls the type. */
export function typeName(value: Value): string {
  if (value === undefined || value === null) return 'nil'
  if (typeof value === 'string') return 'string'
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'number') return 'int'
  if (value instanceof GoFloat) return 'float64'
  if (value instanceof GoDuration) return 'time.Duration'
  if (value instanceof GoTime) return 'time.Time'
  if (value instanceof GoMethod) return 'func'
  if (isList(value)) return '[]string'
  if (isMap(value)) return 'map[string]string'
  return value.typeName
}

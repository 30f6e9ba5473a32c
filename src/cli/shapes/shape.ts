// The Go structs behind Docker's API objects, as data: order of fields, which are left out when empty, which are pointers.
// `inspect` prints an object as Docker's client would after reading it into those structs, and a template may name
// exactly the fields that they have.

import { encodeJson, goNumber, goString, goTime } from '../format/json.ts'
import {
  GoDuration,
  GoFloat,
  GoNil,
  GoStruct,
  GoTime,
  NIL_LIST,
  NIL_MAP,
  printValue,
  type Value,
} from '../format/value.ts'

export type Shape =
  | { readonly kind: 'string' | 'int' | 'float' | 'bool' | 'time' | 'duration' | 'any' }
  | { readonly kind: 'pointer' | 'list' | 'map'; readonly of: Shape }
  | StructShape

export interface StructShape {
  readonly kind: 'struct'
  readonly name: string
  readonly fields: readonly Field[]
  /** The field that its String method prints. */
  readonly shown: string | undefined
}

export interface Field {
  /** In Go, and in templates. */
  readonly name: string
  /** In JSON. */
  readonly key: string
  readonly omitEmpty: boolean
  readonly shape: Shape
  /** Its fields stand in the JSON of the outer struct. */
  readonly embedded: boolean
}

export const string: Shape = { kind: 'string' }
export const int: Shape = { kind: 'int' }
export const float: Shape = { kind: 'float' }
export const bool: Shape = { kind: 'bool' }
export const time: Shape = { kind: 'time' }
export const duration: Shape = { kind: 'duration' }
export const any: Shape = { kind: 'any' }
/** Go's []byte: base64 in JSON. */
export const bytes: Shape = { kind: 'string' }
export const pointer = (of: Shape): Shape => ({ kind: 'pointer', of })
export const list = (of: Shape): Shape => ({ kind: 'list', of })
export const map = (of: Shape): Shape => ({ kind: 'map', of })
export const strings = list(string)
export const stringMap = map(string)

/** Fields by name: `Name?` is left out when empty, `...Name` is embedded, `Name=key` has another key in JSON. */
export function struct(name: string, fields: Readonly<Record<string, Shape>>, shown?: string): StructShape {
  return {
    kind: 'struct',
    name,
    shown,
    fields: Object.entries(fields).map(([text, shape]) => {
      const embedded = text.startsWith('...')
      const [full = '', key] = text.replace('...', '').replace('?', '').split('=')
      return { name: full, key: key ?? full, omitEmpty: text.includes('?'), shape, embedded }
    }),
  }
}

const isRecord = (json: unknown): json is Readonly<Record<string, unknown>> =>
  typeof json === 'object' && json !== null && !Array.isArray(json)

const ZERO_TIME = '0001-01-01T00:00:00Z'

/** The typed value of `json`, with Go's zero values where it says nothing. Keys that the struct has not are dropped. */
export function decode(shape: Shape, json: unknown): Value {
  switch (shape.kind) {
    case 'string':
      return typeof json === 'string' ? json : ''
    case 'int':
      return typeof json === 'number' ? json : 0
    case 'float':
      return new GoFloat(typeof json === 'number' ? json : 0)
    case 'bool':
      return json === true
    case 'time':
      return new GoTime(typeof json === 'string' ? json : ZERO_TIME)
    case 'duration':
      return new GoDuration(typeof json === 'number' ? json : 0)
    case 'any':
      return fromJson(json)
    case 'pointer':
      return decodePointer(shape.of, json)
    case 'list':
      return Array.isArray(json) ? json.map((item) => decode(shape.of, item)) : NIL_LIST
    case 'map':
      return isRecord(json)
        ? new Map(Object.entries(json).map(([key, value]) => [key, decode(shape.of, value)]))
        : NIL_MAP
    case 'struct':
      return decodeStruct(shape, isRecord(json) ? json : {})
  }
}

function decodePointer(shape: Shape, json: unknown): Value {
  const missing = json === null || json === undefined
  if (shape.kind !== 'struct') return missing ? null : decode(shape, json)
  const starred = { ...shape, name: `*${shape.name}` }
  if (!missing) return decodeStruct(starred, isRecord(json) ? json : {})
  return new GoNil(starred.name, new Set(shape.fields.map(({ name }) => name)))
}

/** As `decode`, for a struct. */
export function decodeStruct(shape: StructShape, json: Readonly<Record<string, unknown>>): GoStruct {
  const fields = new Map<string, Value>()
  const promoted = new Map<string, Value>()
  for (const field of shape.fields) {
    if (!field.embedded) {
      fields.set(field.name, decode(field.shape, json[field.key]))
      continue
    }
    const inner = decode(field.shape, json)
    fields.set(field.name, inner)
    if (inner instanceof GoStruct)
      for (const source of [inner.promoted, inner.fields]) for (const [k, v] of source) promoted.set(k, v)
  }
  const text = shape.shown === undefined ? undefined : printValue(fields.get(shape.shown))
  return new GoStruct(shape.name, fields, { promoted, text, encode: () => encode(shape, json) })
}

/** JSON of anything as template values: objects are maps, and a missing key is no error. */
export function fromJson(json: unknown): Value {
  if (json === null || json === undefined) return null
  if (typeof json === 'string' || typeof json === 'boolean') return json
  if (typeof json === 'number') return Number.isInteger(json) ? json : new GoFloat(json)
  if (Array.isArray(json)) return json.map(fromJson)
  if (isRecord(json)) return new Map(Object.entries(json).map(([key, value]) => [key, fromJson(value)]))
  return null
}

/** Compact JSON as Go's encoder writes the struct. */
export function encode(shape: Shape, json: unknown, escapeHtml = false): string {
  switch (shape.kind) {
    case 'string':
      return goString(typeof json === 'string' ? json : '', escapeHtml)
    case 'int':
    case 'float':
    case 'duration':
      return goNumber(typeof json === 'number' ? json : 0)
    case 'bool':
      return String(json === true)
    case 'time':
      return goTime(typeof json === 'string' ? json : ZERO_TIME)
    case 'any':
      return encodeJson(fromJson(json))
    case 'pointer':
      return json === null || json === undefined ? 'null' : encode(shape.of, json, escapeHtml)
    case 'list':
      return Array.isArray(json) ? `[${json.map((item) => encode(shape.of, item, escapeHtml)).join(',')}]` : 'null'
    case 'map': {
      if (!isRecord(json)) return 'null'
      const keys = Object.keys(json).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      return `{${keys.map((key) => `${goString(key, escapeHtml)}:${encode(shape.of, json[key], escapeHtml)}`).join(',')}}`
    }
    case 'struct':
      return `{${encodeFields(shape, isRecord(json) ? json : {}, escapeHtml).join(',')}}`
  }
}

function encodeFields(shape: StructShape, json: Readonly<Record<string, unknown>>, escapeHtml: boolean): string[] {
  return shape.fields.flatMap((field) => {
    if (field.embedded) return field.shape.kind === 'struct' ? encodeFields(field.shape, json, escapeHtml) : []
    const value = json[field.key]
    if (field.omitEmpty && isEmpty(field.shape, value)) return []
    return [`${goString(field.key)}:${encode(field.shape, value, escapeHtml)}`]
  })
}

/** What Go's omitempty leaves out: zero, false, "", nil, and empty lists and maps; never a struct or a time. */
function isEmpty(shape: Shape, json: unknown): boolean {
  switch (shape.kind) {
    case 'struct':
    case 'time':
      return false
    case 'pointer':
    case 'any':
      return json === null || json === undefined
    case 'list':
      return !Array.isArray(json) || json.length === 0
    case 'map':
      return !isRecord(json) || Object.keys(json).length === 0
    case 'string':
    case 'int':
    case 'float':
    case 'bool':
    case 'duration':
      return json === undefined || json === null || json === 0 || json === false || json === ''
  }
}

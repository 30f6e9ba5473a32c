// Turns the JSON of a request into our spec types: checks every type, drops what is not known (as Go's decoder does),
// treats null as absent, and leaves objects in Docker's field order without empty fields, so that what is stored is
// also what is shown. Errors name the place: `TaskTemplate.ContainerSpec.Env[2]: expected string, found number`.

import { CodedError } from '../../lib/errors.ts'
import { isRecord } from '../spec-equality.ts'

/** Returns undefined where the value is absent: null, or empty where Go omits empty values. */
export type Decoder<T> = (value: unknown, path: string) => T | undefined

export function malformed(path: string, problem: string): CodedError {
  return new CodedError('INVALID_JSON', `invalid JSON: ${path === '' ? problem : `${path}: ${problem}`}`)
}

function nameOfType(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  return value === null ? 'null' : typeof value
}

function expected(path: string, what: string, value: unknown): CodedError {
  return malformed(path, `expected ${what}, found ${nameOfType(value)}`)
}

export const text: Decoder<string> = (value, path) => {
  if (value === null || value === undefined || value === '') return undefined
  if (typeof value !== 'string') throw expected(path, 'string', value)
  return value
}

export const flag: Decoder<boolean> = (value, path) => {
  if (value === null || value === undefined || value === false) return undefined
  if (typeof value !== 'boolean') throw expected(path, 'boolean', value)
  return value
}

function checkedInteger(value: unknown, path: string, least: number, most: number): number {
  if (typeof value !== 'number') throw expected(path, 'integer', value)
  if (!Number.isSafeInteger(value)) throw malformed(path, `${value} is no integer of at most 53 bits`)
  if (value < least || value > most) throw malformed(path, `${value} is out of range (${least} to ${most})`)
  return value
}

function integerBetween(least: number, most: number): Decoder<number> {
  return (value, path) => {
    if (value === null || value === undefined || value === 0) return undefined
    return checkedInteger(value, path, least, most)
  }
}

export const integer = integerBetween(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
export const count = integerBetween(0, Number.MAX_SAFE_INTEGER)
export const uint32 = integerBetween(0, 2 ** 32 - 1)

export const ratio: Decoder<number> = (value, path) => {
  if (value === null || value === undefined || value === 0) return undefined
  if (typeof value !== 'number') throw expected(path, 'number', value)
  return value
}

/** Keeps a zero that was sent: Go's pointer fields (`Init`, `Replicas`, `StopGracePeriod` …). */
export function pointer<T extends number | boolean>(decoder: Decoder<T>, zero: T): Decoder<T> {
  return (value, path) => (value === null || value === undefined ? undefined : (decoder(value, path) ?? zero))
}

/** Fills in a value where none was sent: Go's fields without `omitempty`, and the defaults that Swarm stores. */
export function always<T>(decoder: Decoder<T>, absent: T): Decoder<T> {
  return (value, path) => decoder(value, path) ?? absent
}

export function list<T>(element: Decoder<T>, absentElement?: T): Decoder<readonly T[]> {
  return (value, path) => {
    if (value === null || value === undefined) return undefined
    if (!Array.isArray(value)) throw expected(path, 'array', value)
    const decoded = value.flatMap((each, position) => {
      const one = element(each, `${path}[${position}]`) ?? absentElement
      return one === undefined ? [] : [one]
    })
    return decoded.length === 0 ? undefined : decoded
  }
}

/** Empty strings in the list are kept: a command may have empty arguments. */
export const texts: Decoder<readonly string[]> = list(text, '')

/** A map of strings, sorted by key as Go prints maps. */
export const labels: Decoder<Readonly<Record<string, string>>> = (value, path) => {
  if (value === null || value === undefined) return undefined
  if (!isRecord(value)) throw expected(path, 'object', value)
  const entries = Object.entries(value).map(([key, each]): [string, string] => [
    key,
    text(each, `${path}[${JSON.stringify(key)}]`) ?? '',
  ])
  if (entries.length === 0) return undefined
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
}

type Fields<T> = { readonly [K in keyof T]-?: Decoder<Exclude<T[K], undefined>> }

/** An object with these fields, in this order. Names match without regard to case where no exact match is there, as in Go. */
export function object<T extends object>(fields: Fields<T>): Decoder<T> {
  const decoders: readonly (readonly [string, Decoder<unknown>])[] = Object.entries<Decoder<unknown>>(fields)
  const names = new Map(decoders.map(([name]) => [name.toLowerCase(), name]))
  return (value, path) => {
    if (value === null || value === undefined) return undefined
    if (!isRecord(value)) throw expected(path, 'object', value)
    const given = new Map<string, unknown>()
    for (const [key, each] of Object.entries(value)) {
      const name = names.get(key.toLowerCase())
      if (name !== undefined && (key === name || !given.has(name))) given.set(name, each)
    }
    const result: [string, unknown][] = []
    for (const [name, decoder] of decoders) {
      const decoded = decoder(given.get(name), path === '' ? name : `${path}.${name}`)
      if (decoded !== undefined) result.push([name, decoded])
    }
    return Object.fromEntries(result) as T
  }
}

/** An object without fields that means something by being there (`Global: {}`). */
export const presence: Decoder<Readonly<Record<string, never>>> = (value, path) => {
  if (value === null || value === undefined) return undefined
  if (!isRecord(value)) throw expected(path, 'object', value)
  return {}
}

/** Decodes the whole body; an empty one is an empty object. */
export function decodeBody<T>(decoder: Decoder<T>, body: string): T {
  let parsed: unknown
  try {
    parsed = body.trim() === '' ? {} : JSON.parse(body)
  } catch (error) {
    throw malformed('', error instanceof Error ? error.message : 'not readable')
  }
  const decoded = decoder(parsed ?? {}, '')
  if (decoded === undefined) throw malformed('', 'expected an object')
  return decoded
}

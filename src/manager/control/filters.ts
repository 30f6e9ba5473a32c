// The `filters` parameter of Docker's listings: a JSON map of sets, in the present and in the old form.

import type { Labels } from '../../api/spec.ts'
import { refusal } from '../../api/validation/refusal.ts'

export type Filters = ReadonlyMap<string, readonly string[]>

/** @throws {CodedError} INVALID_PARAMETER */
export function parseFilters(parameter: string | undefined, accepted?: readonly string[]): Filters {
  const filters = new Map<string, readonly string[]>()
  if (!parameter) return filters
  let parsed: unknown
  try {
    parsed = JSON.parse(parameter)
  } catch {
    throw refusal('invalid filter')
  }
  if (parsed === null) return filters
  if (typeof parsed !== 'object' || Array.isArray(parsed)) throw refusal('invalid filter')
  for (const [name, values] of Object.entries(parsed)) {
    if (accepted !== undefined && !accepted.includes(name)) throw refusal(`invalid filter '${name}'`)
    const list = valuesOf(values)
    if (list.length > 0) filters.set(name, list)
  }
  return filters
}

/** As the engine takes them: a set of values each, all in the same form. */
export function filterText(filters: Filters): string {
  const sets = [...filters].map(([name, values]) => [name, Object.fromEntries(values.map((value) => [value, true]))])
  return JSON.stringify(Object.fromEntries(sets.filter(([, set]) => Object.keys(set as object).length > 0)))
}

function valuesOf(values: unknown): readonly string[] {
  if (values === null) return []
  if (Array.isArray(values) && values.every((each) => typeof each === 'string')) return values
  if (typeof values === 'object' && !Array.isArray(values)) {
    return Object.entries(values).flatMap(([value, wanted]) => (wanted === false ? [] : [value]))
  }
  throw refusal('invalid filter')
}

/** No filter of that name, or one of its values is the text. */
export function equalsOne(filters: Filters, name: string, text: string): boolean {
  const values = filters.get(name)
  return values === undefined || values.includes(text)
}

/** No filter of that name, or the text begins with one of its values. */
export function beginsWithOne(filters: Filters, name: string, text: string): boolean {
  const values = filters.get(name)
  return values === undefined || values.some((value) => text.startsWith(value))
}

/** Every `key` is there and every `key=value` is so. */
export function hasLabels(filters: Filters, name: string, labels: Labels | undefined): boolean {
  return (filters.get(name) ?? []).every((wanted) => {
    const equals = wanted.indexOf('=')
    const key = equals < 0 ? wanted : wanted.slice(0, equals)
    const value = equals < 0 ? '' : wanted.slice(equals + 1)
    if (labels === undefined || !Object.hasOwn(labels, key)) return false
    return value === '' || labels[key] === value
  })
}

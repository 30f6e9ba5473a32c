// JSON as Go's encoder writes it: map keys sorted, `<`, `>` and `&` escaped where asked for, numbers in full digits.

import {
  GoDuration,
  GoFloat,
  GoMethod,
  GoNil,
  GoStruct,
  GoTime,
  isList,
  NIL_LIST,
  NIL_MAP,
  printFloat,
  sortedEntries,
  type Value,
} from './value.ts'

/** A JSON string as Go writes it. */
export function goString(text: string, escapeHtml = false): string {
  const escaped = JSON.stringify(text).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029')
  if (!escapeHtml) return escaped
  return escaped.replace(/[<>&]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

export function goNumber(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? BigInt(value).toString() : printFloat(value)
}

/** An RFC 3339 time as Go's encoder writes it: without trailing zeros in its fraction. */
export function goTime(text: string): string {
  return goString(text.replace(/(\.\d*?)0+(?=Z|[+-]\d\d:\d\d$)/, '$1').replace(/\.(?=Z|[+-]\d\d:\d\d$)/, ''))
}

/** Compact JSON of a template's value. The `json` function does not escape HTML; a listing's own line does. */
export function encodeJson(value: Value, escapeHtml = false): string {
  if (value === undefined || value === null || value instanceof GoMethod || value instanceof GoNil) return 'null'
  if (value === NIL_LIST || value === NIL_MAP) return 'null'
  if (typeof value === 'string') return goString(value, escapeHtml)
  if (typeof value === 'number') return goNumber(value)
  if (typeof value === 'boolean') return String(value)
  if (value instanceof GoFloat) return goNumber(value.value)
  if (value instanceof GoDuration) return goNumber(value.nanoseconds)
  if (value instanceof GoTime) return goTime(value.text)
  if (isList(value)) return `[${value.map((item) => encodeJson(item, escapeHtml)).join(',')}]`
  if (value instanceof GoStruct) return value.encode ? value.encode() : encodeFields([...value.fields], escapeHtml)
  return encodeFields(sortedEntries(value), escapeHtml)
}

function encodeFields(entries: readonly (readonly [string, Value])[], escapeHtml: boolean): string {
  const pairs = entries.map(([key, value]) => `${goString(key, escapeHtml)}:${encodeJson(value, escapeHtml)}`)
  return `{${pairs.join(',')}}`
}

/**
 * Lays out JSON text with `indent`, or compactly without one, as Go's json.Indent and json.Compact do: the text itself
 * (escapes, number formats, order of keys) stays as the daemon wrote it.
 */
export function layoutJson(text: string, indent: string): string {
  let out = ''
  let depth = 0
  const line = () => (indent === '' ? '' : `\n${indent.repeat(depth)}`)
  const tokens = text.match(/"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? []
  for (const [i, token] of tokens.entries()) {
    const next = tokens[i + 1]
    if (token === '{' || token === '[') {
      out += token
      if (next !== '}' && next !== ']') {
        depth++
        out += line()
      }
    } else if (token === '}' || token === ']') {
      const previous = tokens[i - 1]
      if (previous !== '{' && previous !== '[') {
        depth--
        out += line()
      }
      out += token
    } else if (token === ',') out += `,${line()}`
    else if (token === ':') out += indent === '' ? ':' : ': '
    else out += token
  }
  return out
}

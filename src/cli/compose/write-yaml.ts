// YAML text in the style of go-yaml, which Docker writes with: block style, two blanks, quotes only where they must be,
// and texts that an older parser would take for something else in double quotes.

import { resolvePlain } from './parse-yaml.ts'

export type YamlValue = null | boolean | number | bigint | string | readonly YamlValue[] | YamlMap
export type YamlMap = ReadonlyMap<string, YamlValue>

export function writeYaml(value: YamlMap): string {
  return value.size === 0 ? '{}\n' : block(value, 0)
}

function block(value: YamlMap | readonly YamlValue[], depth: number): string {
  const pad = '  '.repeat(depth)
  if (value instanceof Map) {
    return [...(value as YamlMap)]
      .map(([key, item]) => `${pad}${scalar(key, depth, true)}:${after(item, depth)}`)
      .join('')
  }
  return (value as readonly YamlValue[])
    .map((item) => {
      if (!isCollection(item) || isEmptyCollection(item)) return `${pad}-${after(item, depth)}`
      // the first key of a mapping stands beside the dash
      return `${pad}- ${block(item, depth + 1).slice(pad.length + 2)}`
    })
    .join('')
}

const isLetter = (char: string) => /\p{L}/u.test(char)
const isDigit = (char: string) => /\p{Nd}/u.test(char)

/** go-yaml's order of keys: numbers within them by value, what is no letter before letters, but after digits behind them. */
export function compareKeys(a: string, b: string): number {
  const [left, right] = [[...a], [...b]]
  let i = 0
  while (i < left.length && i < right.length && left[i] === right[i]) i++
  const [x, y] = [left[i], right[i]]
  if (x === undefined || y === undefined) return left.length - right.length
  if (isLetter(x) && isLetter(y)) return x < y ? -1 : 1
  if (isLetter(x) || isLetter(y)) {
    const afterDigit = i > 0 && isDigit(left[i - 1]!)
    return isLetter(x) === afterDigit ? -1 : 1
  }
  const [m, n] = [digitsFrom(left, i), digitsFrom(right, i)]
  const zeros = (x === '0' || y === '0') && /[1-9]\p{Nd}*$/u.test(left.slice(0, i).join('')) ? '1' : ''
  const [from, to] = [BigInt(zeros + m || '0'), BigInt(zeros + n || '0')]
  if (from !== to) return from < to ? -1 : 1
  return m.length - n.length || (x < y ? -1 : 1)
}

function digitsFrom(chars: readonly string[], from: number): string {
  return /^[0-9]*/.exec(chars.slice(from).join(''))![0]
}

const isCollection = (value: YamlValue): value is YamlMap | readonly YamlValue[] =>
  typeof value === 'object' && value !== null

const isEmptyCollection = (value: YamlMap | readonly YamlValue[]) =>
  value instanceof Map ? value.size === 0 : (value as readonly YamlValue[]).length === 0

/** What follows "key:" or "-". */
function after(value: YamlValue, depth: number): string {
  if (!isCollection(value)) return ` ${scalar(value, depth, false)}\n`
  if (isEmptyCollection(value)) return value instanceof Map ? ' {}\n' : ' []\n'
  return `\n${block(value, depth + 1)}`
}

function scalar(value: null | boolean | number | bigint | string, depth: number, isKey: boolean): string {
  if (typeof value !== 'string') return String(value)
  const style = styleOf(value, isKey)
  if (style === 'plain') return value
  if (style === 'single') return `'${value.replaceAll("'", "''")}'`
  return style === 'literal' ? literal(value, depth) : doubleQuoted(value)
}

function styleOf(text: string, isKey: boolean): 'plain' | 'single' | 'double' | 'literal' {
  const isUnprintable = hasUnprintable(text)
  const isBrokenAtSpace = / \n/.test(text)
  if (text.includes('\n')) {
    return isKey || isUnprintable || isBrokenAtSpace || text.endsWith(' ') ? 'double' : 'literal'
  }
  if (!meansText(text)) return 'double'
  if (isUnprintable || text.includes('\t')) return 'double'
  return hasIndicators(text) || text.startsWith(' ') || text.endsWith(' ') ? 'single' : 'plain'
}

const OLD_BOOLEAN = /^(?:y|Y|yes|Yes|YES|on|On|ON|n|N|no|No|NO|off|Off|OFF)$/
const BASE_60 = /^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$/
const TIMESTAMP =
  /^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?)?$/

/** Without quotes it would be read as this text again. */
function meansText(text: string): boolean {
  if (OLD_BOOLEAN.test(text) || BASE_60.test(text) || TIMESTAMP.test(text)) return false
  return typeof resolvePlain(text).value === 'string'
}

function hasIndicators(text: string): boolean {
  return (
    /^[#,[\]{}&*!|>'"%@`]/.test(text) ||
    /^[-?:](?:\s|$)/.test(text) ||
    /^(?:---|\.\.\.)/.test(text) ||
    /:(?:\s|$)/.test(text) ||
    /\s#/.test(text)
  )
}

function hasUnprintable(text: string): boolean {
  // what go-yaml calls printable, but for tabs and line ends
  return /[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]/u.test(text)
}

function literal(text: string, depth: number): string {
  const indent = '  '.repeat(depth + 1)
  const chomp = text.endsWith('\n\n') || text === '\n' ? '+' : text.endsWith('\n') ? '' : '-'
  const hint = /^[ \n]/.test(text) ? '2' : ''
  const body = text.endsWith('\n') ? text.slice(0, -1) : text
  return `|${hint}${chomp}\n${body
    .split('\n')
    .map((line) => (line === '' ? '' : indent + line))
    .join('\n')}`
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\0': '\\0',
  '\x07': '\\a',
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\v': '\\v',
  '\f': '\\f',
  '\r': '\\r',
  '\x1b': '\\e',
  '"': '\\"',
  '\x85': '\\N',
  '\u2028': '\\L',
  '\u2029': '\\P',
  '\ufeff': '\\uFEFF',
  '\\': '\\\\',
}

function doubleQuoted(text: string): string {
  let out = ''
  for (const char of text) {
    const code = char.codePointAt(0)!
    if (ESCAPES[char] !== undefined) out += ESCAPES[char]
    else if (!hasUnprintable(char)) out += char
    else if (code <= 0xff) out += `\\x${code.toString(16).toUpperCase().padStart(2, '0')}`
    else if (code <= 0xffff) out += `\\u${code.toString(16).toUpperCase().padStart(4, '0')}`
    else out += `\\U${code.toString(16).toUpperCase().padStart(8, '0')}`
  }
  return `"${out}"`
}

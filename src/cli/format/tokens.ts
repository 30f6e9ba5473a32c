// The words of Go's text/template: text between actions, and what stands inside {{ }}.

import { TemplateError } from './template-error.ts'

export interface Token {
  readonly kind:
    | 'text'
    | '{{'
    | '}}'
    | 'space'
    | 'dot'
    | 'field'
    | 'variable'
    | 'identifier'
    | 'keyword'
    | 'string'
    | 'char'
    | 'number'
    | '('
    | ')'
    | '|'
    | ':='
    | '='
    | ','
    | 'eof'
  readonly text: string
  /** Of a string or character constant: what it means. */
  readonly value: string
  /** Offset in the template. */
  readonly at: number
}

const KEYWORDS = new Set(['if', 'else', 'end', 'range', 'with', 'define', 'block', 'template', 'break', 'continue'])
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\x07',
  b: '\b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  '"': '"',
  "'": "'",
}

/** @throws {TemplateError} for an unclosed action or comment and for characters that begin nothing. */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = []
  let at = 0
  let trimNext = false
  const error = (offset: number, message: string) =>
    new TemplateError(`template: :${source.slice(0, offset).split('\n').length}: ${message}`)
  while (at < source.length) {
    const open = source.indexOf('{{', at)
    let text = open < 0 ? source.slice(at) : source.slice(at, open)
    const trimBefore = open >= 0 && /^\{\{-\s/.test(source.slice(open, open + 4))
    if (trimNext) text = text.trimStart()
    if (trimBefore) text = text.trimEnd()
    if (text !== '') tokens.push({ kind: 'text', text, value: '', at })
    if (open < 0) break
    const start = open + 2 + (trimBefore ? 1 : 0)
    const comment = /^\s*\/\*/.exec(source.slice(start))
    if (comment) {
      const close = source.indexOf('*/', start)
      if (close < 0) throw error(open, 'unclosed comment')
      const end = /^(\s-)?\}\}/.exec(source.slice(close + 2))
      if (!end) throw error(open, 'comment ends before closing delimiter')
      trimNext = end[1] !== undefined
      at = close + 2 + end[0].length
      continue
    }
    tokens.push({ kind: '{{', text: '{{', value: '', at: open })
    at = readAction(source, start, tokens, error)
    trimNext = /\s-$/.test(source.slice(0, at - 2))
  }
  tokens.push({ kind: 'eof', text: '', value: '', at: source.length })
  return tokens
}

function readAction(
  source: string,
  start: number,
  tokens: Token[],
  error: (offset: number, message: string) => TemplateError,
): number {
  const rules: readonly [Token['kind'], RegExp][] = [
    ['}}', /^\}\}/],
    ['space', /^\s+/],
    ['field', /^\.[\p{L}_][\p{L}\p{N}_]*/u],
    ['number', /^[+-]?(0[xX][0-9a-fA-F_]+|[0-9][0-9_]*\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?)/],
    ['dot', /^\./],
    ['variable', /^\$[\p{L}\p{N}_]*/u],
    ['identifier', /^[\p{L}_][\p{L}\p{N}_]*/u],
    ['string', /^"(\\.|[^"\\\n])*"/],
    ['string', /^`[^`]*`/],
    ['char', /^'(\\.|[^'\\\n])+'/],
    [':=', /^:=/],
    ['=', /^=/],
    ['|', /^\|/],
    [',', /^,/],
    ['(', /^\(/],
    [')', /^\)/],
  ]
  let at = start
  while (at < source.length) {
    const rest = source.slice(at)
    if (/^\s-\}\}/.test(rest)) {
      tokens.push({ kind: '}}', text: '}}', value: '', at: at + 2 })
      return at + 4
    }
    const rule = rules.find(([, pattern]) => pattern.test(rest))
    if (!rule) {
      if (rest[0] === '"') throw error(at, 'unterminated quoted string')
      if (rest[0] === '`') throw error(at, 'unterminated raw quoted string')
      const code = rest.codePointAt(0)!
      const hex = code.toString(16).toUpperCase().padStart(4, '0')
      throw error(
        at,
        `unexpected ${rest[0] === '{' || rest[0] === '}' ? `"${rest[0]}" in command` : `bad character U+${hex} '${String.fromCodePoint(code)}'`}`,
      )
    }
    const text = rule[1].exec(rest)![0]
    const kind = rule[0] === 'identifier' && KEYWORDS.has(text) ? 'keyword' : rule[0]
    tokens.push({ kind, text, value: kind === 'string' || kind === 'char' ? unquote(text) : '', at })
    at += text.length
    if (kind === '}}') return at
  }
  throw error(start, 'unclosed action')
}

function unquote(text: string): string {
  const body = text.slice(1, -1)
  if (text[0] === '`') return body
  return body.replace(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)/g, (_, code: string) => {
    if (/^[xuU]/.test(code)) return String.fromCodePoint(Number.parseInt(code.slice(1), 16))
    if (/^[0-7]{3}/.test(code)) return String.fromCodePoint(Number.parseInt(code, 8))
    return ESCAPES[code] ?? code
  })
}

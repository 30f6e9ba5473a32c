// The part of Go's text/template that services use in env, hostnames, mounts, secrets and configs: fields, functions,
// pipelines, if/else, range, with, comments, trim markers. Variables and nested definitions are refused by name. As
// Swarm runs templates, a missing key is an error.

export type TemplateValue =
  | string
  | number
  | boolean
  | readonly TemplateValue[]
  | { readonly [key: string]: TemplateValue }
export type TemplateFunction = (...args: readonly TemplateValue[]) => TemplateValue

/** A template that cannot be read or run; the message begins as Go's does. */
export class TemplateError extends Error {}

type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly expression: string }
  | {
      readonly kind: 'if' | 'range' | 'with'
      readonly expression: string
      readonly body: readonly Node[]
      readonly otherwise: readonly Node[]
    }

/** @throws {TemplateError} */
export function expandTemplate(
  text: string,
  data: TemplateValue,
  functions: Readonly<Record<string, TemplateFunction>> = {},
): string {
  if (!text.includes('{{')) return text
  const tokens = lex(text)
  const { nodes, at } = parse(tokens, 0)
  if (at < tokens.length) throw new TemplateError(`template: expansion:1: unexpected {{${tokens[at]!.text}}}`)
  return render(nodes, { data, functions: { ...BUILT_IN, ...functions } })
}

interface Token {
  readonly action: boolean
  readonly text: string
}

function lex(text: string): readonly Token[] {
  const tokens: Token[] = []
  let at = 0
  let trim = false
  while (at < text.length) {
    const open = text.indexOf('{{', at)
    let plain = text.slice(at, open < 0 ? text.length : open)
    if (trim) plain = plain.trimStart()
    if (open < 0) {
      tokens.push({ action: false, text: plain })
      break
    }
    const close = closing(text, open + 2)
    if (close < 0) throw new TemplateError('template: expansion:1: unclosed action')
    let body = text.slice(open + 2, close)
    if (/^-\s/.test(body)) {
      plain = plain.trimEnd()
      body = body.slice(1)
    }
    trim = /\s-$/.test(body)
    if (trim) body = body.slice(0, -1)
    tokens.push({ action: false, text: plain }, { action: true, text: body.trim() })
    at = close + 2
  }
  return tokens.filter(({ action, text: body }) => (action ? !body.startsWith('/*') : body !== ''))
}

/** Where the action's `}}` stands, outside of strings. */
function closing(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const character = text[at]
    if (character === '"' || character === '`') {
      at++
      while (at < text.length && text[at] !== character) at += character === '"' && text[at] === '\\' ? 2 : 1
    } else if (character === '}' && text[at + 1] === '}') return at
  }
  return -1
}

function parse(tokens: readonly Token[], from: number): { readonly nodes: readonly Node[]; readonly at: number } {
  const nodes: Node[] = []
  let at = from
  while (at < tokens.length) {
    const { action, text } = tokens[at]!
    if (!action) {
      nodes.push({ kind: 'text', text })
      at++
      continue
    }
    const [, word = '', rest = ''] = /^(\w*)\s*(.*)$/s.exec(text) ?? []
    if (word === 'end' || word === 'else') break
    if (word === 'if' || word === 'range' || word === 'with') {
      const body = parse(tokens, at + 1)
      const otherwise = parseElse(tokens, body.at)
      nodes.push({ kind: word, expression: rest, body: body.nodes, otherwise: otherwise.nodes })
      at = otherwise.at
      continue
    }
    if (['define', 'template', 'block', 'break', 'continue'].includes(word) || /\$/.test(text.replace(STRING, '')))
      throw new TemplateError(`template: expansion:1: {{${text}}} is not supported`)
    nodes.push({ kind: 'print', expression: text })
    at++
  }
  return { nodes, at }
}

const STRING = /"(?:[^"\\]|\\.)*"|`[^`]*`/g

/** From an `else`, `else if` or `end`; answers where the text goes on behind the matching `end`. */
function parseElse(tokens: readonly Token[], at: number): { readonly nodes: readonly Node[]; readonly at: number } {
  const text = tokens[at]?.text
  if (text === undefined) throw new TemplateError('template: expansion:1: unexpected EOF')
  if (text === 'end') return { nodes: [], at: at + 1 }
  const chained = /^else\s+(if|with)\s+(.*)$/s.exec(text)
  if (chained) {
    const body = parse(tokens, at + 1)
    const otherwise = parseElse(tokens, body.at)
    const kind = chained[1] === 'with' ? 'with' : 'if'
    return {
      nodes: [{ kind, expression: chained[2]!, body: body.nodes, otherwise: otherwise.nodes }],
      at: otherwise.at,
    }
  }
  const body = parse(tokens, at + 1)
  if (tokens[body.at]?.text !== 'end') throw new TemplateError('template: expansion:1: unexpected EOF')
  return { nodes: body.nodes, at: body.at + 1 }
}

interface Scope {
  readonly data: TemplateValue
  readonly functions: Readonly<Record<string, TemplateFunction>>
}

function render(nodes: readonly Node[], scope: Scope): string {
  return nodes.map((node) => renderOne(node, scope)).join('')
}

function renderOne(node: Node, scope: Scope): string {
  switch (node.kind) {
    case 'text':
      return node.text
    case 'print':
      return print(evaluate(node.expression, scope))
    case 'if':
      return render(truth(evaluate(node.expression, scope)) ? node.body : node.otherwise, scope)
    case 'with': {
      const data = evaluate(node.expression, scope)
      return truth(data) ? render(node.body, { ...scope, data }) : render(node.otherwise, scope)
    }
    case 'range': {
      const items = elements(evaluate(node.expression, scope))
      if (items.length === 0) return render(node.otherwise, scope)
      return items.map((data) => render(node.body, { ...scope, data })).join('')
    }
  }
}

function elements(value: TemplateValue): readonly TemplateValue[] {
  if (isList(value)) return value
  if (typeof value === 'object')
    return Object.keys(value)
      .sort()
      .map((key) => value[key]!)
  throw new TemplateError(`template: expansion:1: range can't iterate over ${print(value)}`)
}

function isList(value: TemplateValue): value is readonly TemplateValue[] {
  return Array.isArray(value)
}

function truth(value: TemplateValue): boolean {
  if (typeof value === 'object') return (isList(value) ? value.length : Object.keys(value).length) > 0
  return Boolean(value)
}

function print(value: TemplateValue): string {
  if (isList(value)) return `[${value.map(print).join(' ')}]`
  if (typeof value === 'object')
    return `map[${Object.keys(value)
      .sort()
      .map((key) => `${key}:${print(value[key]!)}`)
      .join(' ')}]`
  return String(value)
}

const WORD = /\s*(?:("(?:[^"\\]|\\.)*"|`[^`]*`)|([()|])|([^\s()|"`]+))/y

/** A pipeline: commands joined by `|`, each given the result of the one before as its last argument. */
function evaluate(expression: string, scope: Scope): TemplateValue {
  const words: string[] = []
  WORD.lastIndex = 0
  const source = expression.trim()
  while (WORD.lastIndex < source.length) {
    const match = WORD.exec(source)
    if (!match) throw new TemplateError(`template: expansion:1: unexpected text in {{${expression}}}`)
    words.push(match[1] ?? match[2] ?? match[3]!)
  }
  const { value, at } = pipeline(words, 0, scope)
  if (at < words.length) throw new TemplateError(`template: expansion:1: unexpected ${words[at]} in {{${expression}}}`)
  return value
}

function pipeline(words: readonly string[], from: number, scope: Scope): { value: TemplateValue; at: number } {
  let piped: readonly TemplateValue[] = []
  let at = from
  for (;;) {
    const command = runCommand(words, at, scope, piped)
    at = command.at
    if (words[at] !== '|') return command
    piped = [command.value]
    at++
  }
}

function runCommand(
  words: readonly string[],
  from: number,
  scope: Scope,
  piped: readonly TemplateValue[],
): { value: TemplateValue; at: number } {
  const first = words[from]
  if (first === undefined || first === ')' || first === '|')
    throw new TemplateError('template: expansion:1: missing value for command')
  const called = /^[A-Za-z]\w*$/.test(first) && first !== 'true' && first !== 'false' ? first : undefined
  let at = called ? from + 1 : from
  const values: TemplateValue[] = []
  while (at < words.length && words[at] !== ')' && words[at] !== '|') {
    if (words[at] === '(') {
      const inner = pipeline(words, at + 1, scope)
      if (words[inner.at] !== ')') throw new TemplateError('template: expansion:1: unclosed left paren')
      at = inner.at + 1
      const tail = words[at]
      if (tail?.startsWith('.') && tail.length > 1) {
        values.push(field(inner.value, tail))
        at++
      } else values.push(inner.value)
    } else values.push(operand(words[at++]!, scope))
  }
  if (!called) {
    if (values.length + piped.length !== 1)
      throw new TemplateError(`template: expansion:1: can't give argument to non-function ${first}`)
    return { value: values[0]!, at }
  }
  const call = Object.hasOwn(scope.functions, called) ? scope.functions[called] : undefined
  if (!call) throw new TemplateError(`template: expansion:1: function "${called}" not defined`)
  return { value: call(...values, ...piped), at }
}

function operand(word: string, scope: Scope): TemplateValue {
  if (word.startsWith('"')) return JSON.parse(word) as string
  if (word.startsWith('`')) return word.slice(1, -1)
  if (word === 'true' || word === 'false') return word === 'true'
  if (/^-?\d+(\.\d+)?$/.test(word)) return Number(word)
  if (word === '.') return scope.data
  if (word.startsWith('.')) return field(scope.data, word)
  const call = Object.hasOwn(scope.functions, word) ? scope.functions[word] : undefined
  if (!call) throw new TemplateError(`template: expansion:1: function "${word}" not defined`)
  return call()
}

function field(value: TemplateValue, path: string): TemplateValue {
  let current = value
  for (const name of path.slice(1).split('.')) {
    if (typeof current !== 'object' || isList(current) || !Object.hasOwn(current, name))
      throw new TemplateError(`template: expansion:1: executing "expansion" at <${path}>: can't evaluate field ${name}`)
    current = current[name]!
  }
  return current
}

const equal = (a: TemplateValue | undefined, b: TemplateValue | undefined) => a === b

const BUILT_IN: Readonly<Record<string, TemplateFunction>> = {
  and: (...values) => values.find((value) => !truth(value)) ?? values.at(-1) ?? '',
  or: (...values) => values.find(truth) ?? values.at(-1) ?? '',
  not: (value = '') => !truth(value),
  eq: (first, ...others) => others.some((other) => equal(first, other)),
  ne: (first, second) => !equal(first, second),
  len: (value = '') => (typeof value === 'object' ? Object.keys(value).length : print(value).length),
  index: (value = '', ...keys) =>
    keys.reduce<TemplateValue>((current, key) => {
      if (isList(current) && typeof key === 'number') return current[key] ?? missing(key)
      if (typeof current === 'object' && !isList(current))
        return Object.hasOwn(current, String(key)) ? current[String(key)]! : ''
      return missing(key)
    }, value),
  print: (...values) => values.map(print).join(' '),
  printf: (format = '', ...values) => {
    let at = 0
    return print(format).replace(/%([%svdq])/g, (_, verb: string) => {
      if (verb === '%') return '%'
      const value = print(values[at++] ?? '')
      return verb === 'q' ? JSON.stringify(value) : value
    })
  },
  join: (list = '', separator = '') => (isList(list) ? list.map(print).join(print(separator)) : print(list)),
}

function missing(key: TemplateValue): never {
  throw new TemplateError(`template: expansion:1: index out of range: ${print(key)}`)
}

// Go's text/template syntax → a tree. Parsing errors carry Go's text ("template: :1: unclosed action"), because users
// search for it.

import { TemplateError } from './template-error.ts'
import { type Token, tokenize } from './tokens.ts'

export interface Command {
  readonly args: readonly Operand[]
  /** Its text, for errors. */
  readonly source: string
}

export interface Pipeline {
  readonly declare: readonly string[]
  /** `=` to a variable that exists, instead of `:=`. */
  readonly assign: boolean
  readonly commands: readonly Command[]
}

export type Operand =
  | { readonly kind: 'dot'; readonly at: number; readonly source: string }
  | { readonly kind: 'nil'; readonly at: number; readonly source: string }
  | { readonly kind: 'field'; readonly path: readonly string[]; readonly at: number; readonly source: string }
  | {
      readonly kind: 'variable'
      readonly name: string
      readonly path: readonly string[]
      readonly at: number
      readonly source: string
    }
  | {
      readonly kind: 'chain'
      readonly base: Operand
      readonly path: readonly string[]
      readonly at: number
      readonly source: string
    }
  | { readonly kind: 'string'; readonly text: string; readonly at: number; readonly source: string }
  | {
      readonly kind: 'number'
      readonly value: number
      readonly float: boolean
      readonly at: number
      readonly source: string
    }
  | { readonly kind: 'bool'; readonly value: boolean; readonly at: number; readonly source: string }
  | { readonly kind: 'function'; readonly name: string; readonly at: number; readonly source: string }
  | { readonly kind: 'pipeline'; readonly pipeline: Pipeline; readonly at: number; readonly source: string }

export type TemplateNode =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'action'; readonly pipeline: Pipeline }
  | {
      readonly kind: 'if' | 'with' | 'range'
      readonly pipeline: Pipeline
      readonly body: readonly TemplateNode[]
      readonly otherwise: readonly TemplateNode[]
    }
  | { readonly kind: 'break' | 'continue' }
  | { readonly kind: 'template'; readonly name: string; readonly at: number; readonly pipeline: Pipeline | undefined }

export interface Template {
  readonly source: string
  readonly nodes: readonly TemplateNode[]
  readonly defined: ReadonlyMap<string, readonly TemplateNode[]>
}

/** @throws {TemplateError} with Go's text. `functions` are the names that may be called. */
export function parseTemplate(source: string, functions: ReadonlySet<string>): Template {
  return new Parser(source, tokenize(source), functions).parse()
}

type BlockEnd = { readonly kind: 'end' | 'eof' } | { readonly kind: 'else'; readonly next: 'if' | 'with' | undefined }

class Parser {
  readonly #source: string
  readonly #tokens: readonly Token[]
  readonly #functions: ReadonlySet<string>
  readonly #variables: string[] = ['$']
  readonly #defined = new Map<string, readonly TemplateNode[]>()
  #next = 0
  #loops = 0

  constructor(source: string, tokens: readonly Token[], functions: ReadonlySet<string>) {
    this.#source = source
    this.#tokens = tokens
    this.#functions = functions
  }

  parse(): Template {
    const { nodes, end } = this.#list()
    if (end.kind !== 'eof') throw this.#error(`unexpected {{${end.kind}}}`)
    return { source: this.#source, nodes, defined: this.#defined }
  }

  #error(message: string): TemplateError {
    const at = this.#tokens[Math.max(0, this.#next - 1)]?.at ?? 0
    const line = this.#source.slice(0, at).split('\n').length
    return new TemplateError(`template: :${line}: ${message}`)
  }

  #peek(): Token {
    return this.#tokens[this.#next]!
  }

  #take(): Token {
    return this.#tokens[this.#next++]!
  }

  #skipSpace(): Token {
    while (this.#peek().kind === 'space') this.#next++
    return this.#peek()
  }

  #list(): { nodes: TemplateNode[]; end: BlockEnd } {
    const nodes: TemplateNode[] = []
    for (;;) {
      const token = this.#take()
      if (token.kind === 'eof') return { nodes, end: { kind: 'eof' } }
      if (token.kind === 'text') {
        nodes.push({ kind: 'text', text: token.text })
        continue
      }
      // '{{'
      const first = this.#skipSpace()
      if (first.kind === 'keyword') {
        this.#next++
        const ended = this.#keyword(first.text, nodes)
        if (ended) return { nodes, end: ended }
      } else {
        nodes.push({ kind: 'action', pipeline: this.#pipeline('command', '}}') })
      }
    }
  }

  #keyword(word: string, nodes: TemplateNode[]): BlockEnd | undefined {
    switch (word) {
      case 'end':
        this.#close('end')
        return { kind: 'end' }
      case 'else': {
        const token = this.#skipSpace()
        if (token.kind === 'keyword' && (token.text === 'if' || token.text === 'with')) {
          return { kind: 'else', next: token.text }
        }
        this.#close('else')
        return { kind: 'else', next: undefined }
      }
      case 'if':
      case 'with':
      case 'range':
        nodes.push(this.#control(word))
        return undefined
      case 'break':
      case 'continue':
        if (this.#loops === 0) throw this.#error(`{{${word}}} outside {{range}}`)
        this.#close(word)
        nodes.push({ kind: word })
        return undefined
      case 'template': {
        const name = this.#skipSpace()
        if (name.kind !== 'string') throw this.#error(`unexpected ${describe(name)} in template clause`)
        this.#next++
        const more = this.#skipSpace()
        const pipeline = more.kind === '}}' ? undefined : this.#pipeline('template clause', '}}')
        if (!pipeline) this.#next++
        nodes.push({ kind: 'template', name: name.value, at: name.at, pipeline })
        return undefined
      }
      case 'define':
      case 'block': {
        const name = this.#skipSpace()
        if (name.kind !== 'string') throw this.#error(`unexpected ${describe(name)} in ${word} clause`)
        this.#next++
        const pipeline = word === 'block' ? this.#pipeline('block clause', '}}') : undefined
        if (word === 'define') this.#close('define clause')
        const { nodes: body, end } = this.#list()
        if (end.kind !== 'end') throw this.#error(`unexpected ${end.kind === 'eof' ? 'EOF' : '{{else}}'}`)
        this.#defined.set(name.value, body)
        if (pipeline) nodes.push({ kind: 'template', name: name.value, at: name.at, pipeline })
        return undefined
      }
      default:
        throw this.#error(`unexpected <${word}> in command`)
    }
  }

  #close(where: string): void {
    const token = this.#skipSpace()
    this.#next++
    if (token.kind !== '}}') throw this.#error(`unexpected ${describe(token)} in ${where}`)
  }

  #control(kind: 'if' | 'with' | 'range'): TemplateNode {
    const depth = this.#variables.length
    const pipeline = this.#pipeline(kind, '}}')
    if (kind === 'range') this.#loops++
    const { nodes: body, end } = this.#list()
    if (kind === 'range') this.#loops--
    let otherwise: readonly TemplateNode[] = []
    if (end.kind === 'eof') throw this.#error('unexpected EOF')
    if (end.kind === 'else') {
      if (end.next === undefined) {
        const rest = this.#list()
        if (rest.end.kind === 'eof') throw this.#error('unexpected EOF')
        if (rest.end.kind === 'else') throw this.#error('expected end; found {{else}}')
        otherwise = rest.nodes
      } else {
        this.#next++ // the keyword of {{else if}}
        otherwise = [this.#control(end.next)]
      }
    }
    this.#variables.length = depth
    return { kind, pipeline, body, otherwise }
  }

  #pipeline(context: string, end: '}}' | ')'): Pipeline {
    const declare: string[] = []
    let assign = false
    const first = this.#skipSpace()
    if (first.kind === 'variable') {
      const saved = this.#next
      this.#next++
      const after = this.#skipSpace()
      if (after.kind === ':=' || after.kind === '=') {
        this.#next++
        declare.push(first.text)
        assign = after.kind === '='
      } else if (after.kind === ',' && context === 'range') {
        this.#next++
        const second = this.#skipSpace()
        if (second.kind !== 'variable') throw this.#error('range can only initialize variables')
        this.#next++
        const operator = this.#skipSpace()
        if (operator.kind !== ':=' && operator.kind !== '=')
          throw this.#error(`unexpected ${describe(operator)} in range`)
        this.#next++
        declare.push(first.text, second.text)
        assign = operator.kind === '='
      } else {
        this.#next = saved
      }
    }
    const commands: Command[] = []
    for (;;) {
      const token = this.#skipSpace()
      if (token.kind === end) {
        this.#next++
        if (commands.length === 0) throw this.#error(`missing value for ${context}`)
        break
      }
      if (token.kind === 'eof' || token.kind === 'text') throw this.#error('unclosed action')
      commands.push(this.#command(context))
      const after = this.#skipSpace()
      if (after.kind === '|') {
        this.#next++ // Go takes a pipe into nothing
      } else if (after.kind !== end) {
        throw this.#error(`unexpected ${describe(after)} in ${context === 'command' ? 'operand' : context}`)
      }
    }
    if (assign) {
      for (const name of declare) if (!this.#variables.includes(name)) throw this.#error(`undefined variable "${name}"`)
    } else this.#variables.push(...declare)
    return { declare, assign, commands }
  }

  #command(context: string): Command {
    const args: Operand[] = []
    const start = this.#skipSpace().at
    const command = () => ({ args, source: this.#source.slice(start, this.#peek().at).trimEnd() })
    for (;;) {
      this.#skipSpace()
      const operand = this.#operand()
      if (!operand) {
        this.#next++
        throw this.#error(`unexpected ${describe(this.#tokens[this.#next - 1]!)} in ${context}`)
      }
      args.push(operand)
      const after = this.#peek()
      if (after.kind === 'space') {
        const next = this.#skipSpace()
        if (next.kind === '|' || next.kind === ')' || next.kind === '}}') return command()
        continue
      }
      return command()
    }
  }

  #operand(): Operand | undefined {
    const token = this.#peek()
    const base = this.#term(token)
    if (!base) return undefined
    const path: string[] = []
    // Go places a chain of fields at its second link
    const { at } = this.#peek()
    while (this.#peek().kind === 'field') path.push(this.#take().text.slice(1))
    if (path.length === 0) return base
    const source = this.#source.slice(token.at, this.#peek().at)
    if (base.kind === 'field') return { ...base, path: [...base.path, ...path], at, source }
    if (base.kind === 'variable') return { ...base, path: [...base.path, ...path], at, source }
    return { kind: 'chain', base, path, at, source }
  }

  #term(token: Token): Operand | undefined {
    const at = token.at
    const source = token.text
    switch (token.kind) {
      case 'dot':
        this.#next++
        return { kind: 'dot', at, source }
      case 'field':
        this.#next++
        return { kind: 'field', path: [token.text.slice(1)], at, source }
      case 'variable':
        this.#next++
        if (!this.#variables.includes(token.text)) throw this.#error(`undefined variable "${token.text}"`)
        return { kind: 'variable', name: token.text, path: [], at, source }
      case 'string':
        this.#next++
        return { kind: 'string', text: token.value, at, source }
      case 'number':
        this.#next++
        return {
          kind: 'number',
          value: Number(token.text.replaceAll('_', '')),
          float: /[.eE]/.test(token.text) && !/^0x/i.test(token.text),
          at,
          source,
        }
      case 'char':
        this.#next++
        return { kind: 'number', value: token.value.codePointAt(0) ?? 0, float: false, at, source }
      case 'identifier':
        this.#next++
        if (token.text === 'true' || token.text === 'false')
          return { kind: 'bool', value: token.text === 'true', at, source }
        if (token.text === 'nil') return { kind: 'nil', at, source }
        if (!this.#functions.has(token.text)) throw this.#error(`function "${token.text}" not defined`)
        return { kind: 'function', name: token.text, at, source }
      case '(': {
        this.#next++
        const pipeline = this.#pipeline('parenthesized pipeline', ')')
        return { kind: 'pipeline', pipeline, at, source: this.#source.slice(at, this.#peek().at) }
      }
      case '{{':
      case '}}':
      case ')':
      case '|':
      case ':=':
      case '=':
      case ',':
      case 'space':
      case 'text':
      case 'keyword':
      case 'eof':
        return undefined
    }
  }
}

function describe(token: Token): string {
  if (token.kind === 'eof') return 'EOF'
  if (token.kind === 'keyword') return `<${token.text}>`
  return `"${token.text}"`
}

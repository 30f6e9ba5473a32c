// Variables in the values of a compose file: $V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+a} ${V+a}, the words nested, and
// $$ for a dollar sign. As in Docker, keys are not touched, and a value that had variables takes the type its place asks for.

import { quote } from '../strconv.ts'
import { ComposeError, type Entry, type Node, type Scalar, type ScalarNode } from './node.ts'
import { castText, childShape, type Shape, scalarShape } from './shape.ts'

export type Lookup = (name: string) => string | undefined

/** A template that cannot be filled in; the message is what Docker quotes. */
export class TemplateProblem extends Error {}

/** Fills `template` in. `onUnset` hears of variables that are neither set nor have a default. @throws {TemplateProblem} */
export function substitute(template: string, lookup: Lookup, onUnset: (name: string) => void = () => {}): string {
  return new Substitution(template, lookup, onUnset).run()
}

class Substitution {
  readonly #text: string
  readonly #lookup: Lookup
  readonly #onUnset: (name: string) => void
  #at = 0

  constructor(text: string, lookup: Lookup, onUnset: (name: string) => void) {
    this.#text = text
    this.#lookup = lookup
    this.#onUnset = onUnset
  }

  run(): string {
    return this.#until('')
  }

  /** Everything up to `end` ('' for the end of the text), which is consumed. */
  #until(end: string): string {
    let out = ''
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at]!
      if (end !== '' && char === end) {
        this.#at++
        return out
      }
      this.#at++
      out += char === '$' ? this.#variable() : char
    }
    if (end !== '') throw new TemplateProblem(this.#text)
    return out
  }

  #variable(): string {
    if (this.#text[this.#at] === '$') {
      this.#at++
      return '$'
    }
    const braced = this.#text[this.#at] === '{'
    if (braced) this.#at++
    const name = /^[_a-zA-Z][_a-zA-Z0-9]*/.exec(this.#text.slice(this.#at))?.[0]
    if (name === undefined) throw new TemplateProblem(this.#text)
    this.#at += name.length
    const value = this.#lookup(name)
    if (!braced) return this.#valueOf(name, value)
    const operator = /^(?::?[-?+]|\})/.exec(this.#text.slice(this.#at))?.[0]
    if (operator === undefined) throw new TemplateProblem(this.#text)
    this.#at += operator.length
    if (operator === '}') return this.#valueOf(name, value)
    const isMissing = value === undefined || (operator.startsWith(':') && value === '')
    const kind = operator.at(-1)!
    // a word that is not used is read all the same, but nobody has to know of its variables
    const isWordUsed = kind === '+' ? !isMissing : isMissing
    const word = this.#word(isWordUsed)
    if (kind === '+') return isMissing ? '' : word
    if (!isMissing) return value
    if (kind === '?') throw new TemplateProblem(`required variable ${name} is missing a value: ${word}`)
    return word
  }

  #word(isUsed: boolean): string {
    const inner = isUsed
      ? new Substitution(this.#text, this.#lookup, this.#onUnset)
      : new Substitution(
          this.#text,
          () => 'unused',
          () => {},
        )
    inner.#at = this.#at
    const word = inner.#until('}')
    this.#at = inner.#at
    return word
  }

  #valueOf(name: string, value: string | undefined): string {
    if (value === undefined) this.#onUnset(name)
    return value ?? ''
  }
}

/** A copy of `node` with variables filled in. `path` is dotted, as Docker names it. @throws {ComposeError} */
export function interpolate(
  node: Node,
  shape: Shape | undefined,
  path: string,
  lookup: Lookup,
  onUnset: (name: string) => void,
): Node {
  switch (node.kind) {
    case 'scalar':
      return typeof node.value === 'string' ? interpolateText(node, node.value, shape, path, lookup, onUnset) : node
    case 'list':
      return {
        ...node,
        items: node.items.map((item) =>
          interpolate(item, childShape(shape, item, 0), join(path, '[]'), lookup, onUnset),
        ),
      }
    case 'map': {
      const entries = new Map<string, Entry>()
      for (const [key, entry] of node.entries) {
        const inner = interpolate(entry.node, childShape(shape, node, key), join(path, key), lookup, onUnset)
        entries.set(key, { ...entry, node: inner })
      }
      return { ...node, entries }
    }
  }
}

const join = (path: string, part: string) => (path === '' ? part : `${path}.${part}`)

function interpolateText(
  node: ScalarNode,
  text: string,
  shape: Shape | undefined,
  path: string,
  lookup: Lookup,
  onUnset: (name: string) => void,
): ScalarNode {
  let filled: string
  try {
    filled = substitute(text, lookup, onUnset)
  } catch (error) {
    if (!(error instanceof TemplateProblem)) throw error
    throw new ComposeError(
      node.at,
      `invalid interpolation format for ${path}: ${quote(error.message)}; you may need to escape any $ with another $`,
    )
  }
  if (filled === text) return node
  const wanted = scalarShape(shape)
  const types = wanted?.types ?? ['string']
  if (wanted?.cast === undefined && types.includes('string')) return { ...node, value: filled }
  return { ...node, ...cast(node, filled, wanted?.cast ?? (types.includes('integer') ? 'integer' : 'number'), path) }
}

function cast(
  node: ScalarNode,
  text: string,
  to: 'boolean' | 'integer' | 'number',
  path: string,
): { value: Scalar; isFloat?: true } {
  const value = castText(text, to)
  if (value !== undefined) return /^[-+]?[0-9]+$/.test(text) || to === 'boolean' ? { value } : { value, isFloat: true }
  const reasons = {
    boolean: `invalid boolean: ${text}`,
    integer: `strconv.Atoi: parsing ${quote(text)}: invalid syntax`,
    number: `strconv.ParseFloat: parsing ${quote(text)}: invalid syntax`,
  }
  throw new ComposeError(node.at, `error while interpolating ${path}: failed to cast to expected type: ${reasons[to]}`)
}

// Runs a parsed template over a value, as Go's text/template does, errors included.

import { FunctionError, type FunctionTable, fits, type Parameter } from './functions.ts'
import type { Operand, Pipeline, Template, TemplateNode } from './parse.ts'
import { TemplateError } from './template-error.ts'
import {
  GoFloat,
  GoMethod,
  GoNil,
  GoStruct,
  isList,
  isMap,
  isTrue,
  printValue,
  sortedEntries,
  typeName,
  type Value,
} from './value.ts'

class LoopSignal extends Error {
  readonly kind: 'break' | 'continue'
  constructor(kind: 'break' | 'continue') {
    super(kind)
    this.kind = kind
  }
}

/**
 * The text that the template gives for `dot`.
 * @throws {TemplateError} with Go's text.
 */
export function executeTemplate(
  template: Template,
  dot: Value,
  functions: FunctionTable,
  options: { readonly missingKeyIsError?: boolean } = {},
): string {
  const run = new Execution(template, functions, options.missingKeyIsError ?? false)
  run.list(template.nodes, dot, [['$', dot]])
  return run.output
}

type Scope = [string, Value][]

class Execution {
  output = ''
  readonly #template: Template
  readonly #functions: FunctionTable
  readonly #missingKeyIsError: boolean

  constructor(template: Template, functions: FunctionTable, missingKeyIsError: boolean) {
    this.#template = template
    this.#functions = functions
    this.#missingKeyIsError = missingKeyIsError
  }

  list(nodes: readonly TemplateNode[], dot: Value, scope: Scope): void {
    for (const node of nodes) this.#node(node, dot, scope)
  }

  #node(node: TemplateNode, dot: Value, scope: Scope): void {
    switch (node.kind) {
      case 'text':
        this.output += node.text
        return
      case 'action': {
        const value = this.#pipeline(node.pipeline, dot, scope)
        if (node.pipeline.declare.length === 0) this.output += printValue(value)
        return
      }
      case 'if':
      case 'with': {
        const inner: Scope = [...scope]
        const value = this.#pipeline(node.pipeline, dot, inner)
        const next = node.kind === 'with' && isTrue(value) ? value : dot
        this.list(isTrue(value) ? node.body : node.otherwise, next, inner)
        this.#writeBack(scope, inner)
        return
      }
      case 'range':
        this.#range(node, dot, scope)
        return
      case 'break':
      case 'continue':
        throw new LoopSignal(node.kind)
      case 'template': {
        const body = this.#template.defined.get(node.name)
        if (!body) {
          const column = node.at - (this.#template.source.lastIndexOf('\n', node.at) + 1)
          throw new TemplateError(
            `template: :1:${column}: executing "" at <{{template "${node.name}"}}>: template "${node.name}" not defined`,
          )
        }
        const value = node.pipeline ? this.#pipeline(node.pipeline, dot, scope) : undefined
        this.list(body, value, [['$', value]])
        return
      }
    }
  }

  /** Assignments inside a block change the variables outside it. */
  #writeBack(outer: Scope, inner: Scope): void {
    for (let i = 0; i < outer.length; i++) outer[i] = inner[i]!
  }

  #range(node: TemplateNode & { kind: 'if' | 'with' | 'range' }, dot: Value, scope: Scope): void {
    const value = this.#evaluate({ ...node.pipeline, declare: [] }, dot, scope)
    const items: [Value, Value][] = []
    if (isList(value)) for (const [i, item] of value.entries()) items.push([i, item])
    else if (isMap(value)) items.push(...sortedEntries(value))
    else if (typeof value === 'number') for (let i = 0; i < value; i++) items.push([i, i])
    else if (value !== null && value !== undefined) {
      const operand = node.pipeline.commands[0]!.args[0]!
      throw this.#error(operand, `range can't iterate over ${printValue(value)}`)
    }
    if (items.length === 0) {
      this.list(node.otherwise, dot, scope)
      return
    }
    const { declare, assign } = node.pipeline
    for (const [key, item] of items) {
      const inner: Scope = [...scope]
      const values = declare.length === 2 ? [key, item] : [item]
      for (const [i, name] of declare.entries()) this.#bind(inner, name, values[i], assign)
      try {
        this.list(node.body, item, inner)
      } catch (error) {
        if (!(error instanceof LoopSignal)) throw error
        this.#writeBack(scope, inner)
        if (error.kind === 'break') return
        continue
      }
      this.#writeBack(scope, inner)
    }
  }

  #bind(scope: Scope, name: string, value: Value, assign: boolean): void {
    const at = assign ? scope.findLastIndex(([key]) => key === name) : -1
    if (at >= 0) scope[at] = [name, value]
    else scope.push([name, value])
  }

  #pipeline(pipeline: Pipeline, dot: Value, scope: Scope): Value {
    const value = this.#evaluate(pipeline, dot, scope)
    for (const name of pipeline.declare) this.#bind(scope, name, value, pipeline.assign)
    return value
  }

  #evaluate(pipeline: Pipeline, dot: Value, scope: Scope): Value {
    let value: Value
    for (const [i, command] of pipeline.commands.entries()) {
      const piped: Value[] = i === 0 ? [] : [value]
      const [first, ...rest] = command.args
      if (first!.kind === 'function') {
        value = this.#call(first!, first!.name, command.source, rest, dot, scope, piped)
        continue
      }
      if (first!.kind === 'nil') throw this.#error(first!, 'nil is not a command')
      const given = rest.length > 0 || piped.length > 0
      const args = () => [...rest.map((operand) => this.#operand(operand, dot, scope)), ...piped]
      value = this.#operand(first!, dot, scope, given ? args : undefined)
    }
    return value
  }

  #call(
    at: Operand,
    name: string,
    source: string,
    rest: readonly Operand[],
    dot: Value,
    scope: Scope,
    piped: readonly Value[],
  ): Value {
    if (name === 'and' || name === 'or') {
      // evaluated one at a time: what follows a decision is never looked at
      let value: Value
      for (const operand of rest) {
        value = this.#operand(operand, dot, scope)
        if (isTrue(value) === (name === 'or')) return value
      }
      return piped.length > 0 ? piped[0] : value
    }
    const func = this.#functions.get(name)
    if (!func) throw this.#error(at, `"${name}" is not a defined function`)
    const { parameters } = func
    const count = rest.length + piped.length
    if (parameters && parameters.length !== count) {
      throw this.#error(at, `wrong number of args for ${name}: want ${parameters.length} got ${count}`)
    }
    const args = rest.map((operand, i) => {
      const value = this.#operand(operand, dot, scope)
      this.#checkArgument(operand, value, parameters?.[i] ?? 'any')
      return value
    })
    const last = parameters?.at(-1) ?? 'any'
    if (piped.length > 0 && !fits(piped[0], last)) {
      throw this.#error(at, `wrong type for value; expected ${last}; got ${typeName(piped[0])}`)
    }
    try {
      return func.call([...args, ...piped])
    } catch (error) {
      if (!(error instanceof FunctionError)) throw error
      throw this.#error({ ...at, source }, `error calling ${name}: ${error.message}`)
    }
  }

  #checkArgument(operand: Operand, value: Value, parameter: Parameter): void {
    if (fits(value, parameter)) return
    const literal = operand.kind === 'number' || operand.kind === 'string' || operand.kind === 'bool'
    throw this.#error(
      operand,
      literal
        ? `expected ${parameter === 'int' ? 'integer' : parameter}; found ${operand.source}`
        : `wrong type for value; expected ${parameter}; got ${typeName(value)}`,
    )
  }

  #operand(operand: Operand, dot: Value, scope: Scope, args?: () => Value[]): Value {
    const refuseArgs = (value: Value) => {
      if (args) throw this.#error(operand, `can't give argument to non-function ${operand.source}`)
      return value
    }
    switch (operand.kind) {
      case 'dot':
        return refuseArgs(dot)
      case 'nil':
        return null
      case 'string':
        return refuseArgs(operand.text)
      case 'number':
        return refuseArgs(operand.float ? new GoFloat(operand.value) : operand.value)
      case 'bool':
        return refuseArgs(operand.value)
      case 'field':
        return this.#path(operand, dot, operand.path, args)
      case 'variable': {
        const found = scope.findLast(([name]) => name === operand.name)
        return operand.path.length === 0 ? refuseArgs(found?.[1]) : this.#path(operand, found?.[1], operand.path, args)
      }
      case 'chain':
        return this.#path(operand, this.#operand(operand.base, dot, scope), operand.path, args)
      case 'function':
        return this.#call(operand, operand.name, operand.source, [], dot, scope, [])
      case 'pipeline':
        return refuseArgs(this.#pipeline(operand.pipeline, dot, scope))
    }
  }

  #path(operand: Operand, start: Value, path: readonly string[], args?: () => Value[]): Value {
    let value = start
    for (const [i, name] of path.entries()) {
      const last = i === path.length - 1
      value = this.#field(operand, value, name, last && args ? args : undefined)
    }
    return value
  }

  #field(operand: Operand, receiver: Value, name: string, args?: () => Value[]): Value {
    if (receiver === undefined) throw this.#error(operand, `nil data; no entry for key "${name}"`)
    if (receiver instanceof GoNil) {
      const known = receiver.fields.has(name)
      throw this.#error(
        operand,
        known
          ? `nil pointer evaluating ${receiver.typeName}.${name}`
          : `can't evaluate field ${name} in type ${receiver.typeName}`,
      )
    }
    if (receiver === null) throw this.#error(operand, `nil pointer evaluating interface {}.${name}`)
    let value: Value
    if (receiver instanceof GoStruct) {
      if (!receiver.has(name)) throw this.#error(operand, `can't evaluate field ${name} in type ${receiver.typeName}`)
      value = receiver.get(name)
    } else if (isMap(receiver)) {
      if (this.#missingKeyIsError && !receiver.has(name)) {
        throw this.#error(operand, `map has no entry for key "${name}"`)
      }
      value = receiver.get(name)
    } else throw this.#error(operand, `can't evaluate field ${name} in type ${typeName(receiver)}`)
    if (value instanceof GoMethod) {
      const given = args?.() ?? []
      if (given.length === 0) throw this.#error(operand, `wrong number of args for ${name}: want 1 got 0`)
      return value.call(given)
    }
    if (args) throw this.#error(operand, `${name} has arguments but cannot be invoked as function`)
    return value
  }

  #error(operand: Operand, message: string): TemplateError {
    const before = this.#template.source.slice(0, operand.at)
    const line = before.split('\n').length
    const column = operand.at - (before.lastIndexOf('\n') + 1)
    return new TemplateError(`template: :${line}:${column}: executing "" at <${operand.source}>: ${message}`)
  }
}

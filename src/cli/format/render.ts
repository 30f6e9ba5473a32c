// The door to the template engine: a --format text in, a function from values to text out.

import { executeTemplate } from './execute.ts'
import { type FunctionTable, headerFunctions, templateFunctions } from './functions.ts'
import { parseTemplate } from './parse.ts'
import type { Value } from './value.ts'

export interface CompiledFormat {
  render(dot: Value): string
  /** As `render`, but naming a key that a map has not is an error. */
  renderStrict(dot: Value): string
  /** The header line of a table: functions leave the column names as they are. */
  renderHeader(dot: Value): string
}

/** @throws {TemplateError} as does `render`. `extra` adds functions to Docker's own. */
export function compileFormat(source: string, extra: FunctionTable = new Map()): CompiledFormat {
  const functions = new Map([...templateFunctions, ...extra])
  const template = parseTemplate(source, new Set(functions.keys()))
  return {
    render: (dot) => executeTemplate(template, dot, functions),
    renderStrict: (dot) => executeTemplate(template, dot, functions, { missingKeyIsError: true }),
    renderHeader: (dot) => executeTemplate(template, dot, headerFunctions),
  }
}

// `inspect`: objects as indented JSON, or through a template; what was found is printed even if something was not.

import { CliError, type Context } from '../command.ts'
import { layoutJson } from '../format/json.ts'
import { type CompiledFormat, compileFormat } from '../format/render.ts'
import { TemplateError } from '../format/template-error.ts'
import { decodeStruct, encode, fromJson, type StructShape } from '../shapes/shape.ts'

export interface InspectOptions {
  readonly refs: readonly string[]
  /** '' for indented JSON, 'json' for compact JSON, else a template. */
  readonly format: string
  readonly shape: StructShape
  /** 'daemon': print the daemon's own JSON text; 'client': as the client's structs write it. Docker does both, by kind of object. */
  readonly layout: 'daemon' | 'client'
  /** The daemon's JSON. @throws {CliError} */
  readonly fetch: (ref: string) => Promise<string>
  /** Exit code for a template that cannot be parsed. */
  readonly badFormatCode?: number
}

/** @throws {CliError} with one line for each object that could not be had. */
export async function inspect(context: Context, options: InspectOptions): Promise<void> {
  const render = renderer(options)
  const errors: string[] = []
  const parts: string[] = []
  for (const ref of options.refs) {
    try {
      parts.push(render(await options.fetch(ref)))
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      errors.push(error.message)
    }
  }
  context.stdout.write(assemble(options.format, parts))
  if (errors.length > 0) throw new CliError(errors.join('\n'))
}

function renderer(options: InspectOptions): (text: string) => string {
  const { format, shape, layout } = options
  if (format === '' || format === 'json') {
    return (text) => (layout === 'daemon' ? text : encode(shape, JSON.parse(text), true))
  }
  const template = compile(format, options.badFormatCode ?? 1)
  return (text) => {
    const json = JSON.parse(text) as Record<string, unknown>
    try {
      return `${template.render(decodeStruct(shape, json))}\n`
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error
      if (layout === 'client') throw new CliError(`template parsing error: ${error.message}`)
    }
    // fields that the daemon sent and our struct has not
    try {
      return `${template.renderStrict(fromJson(json))}\n`
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error
      throw new CliError(`template parsing error: ${error.message}`)
    }
  }
}

function compile(format: string, exitCode: number): CompiledFormat {
  try {
    return compileFormat(format)
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error
    throw new CliError(`template parsing error: ${error.message}`, exitCode)
  }
}

function assemble(format: string, parts: readonly string[]): string {
  if (format === '' || format === 'json') {
    return `${layoutJson(`[${parts.join(',')}]`, format === 'json' ? '' : '    ')}\n`
  }
  return parts.length === 0 ? '\n' : parts.join('')
}

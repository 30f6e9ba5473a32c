// `ls` and `ps`: rows in a table, as JSON lines, or through the user's template.

import { CliError } from '../command.ts'
import { encodeJson } from '../format/json.ts'
import { compileFormat } from '../format/render.ts'
import { TemplateError } from '../format/template-error.ts'
import { GoMethod, GoStruct, type Value } from '../format/value.ts'
import { alignColumns, LISTING } from './table.ts'

export interface Listing {
  /** --format, or the default of the user's configuration; '' for the table. */
  readonly format: string
  readonly quiet: boolean
  /** Columns of the default table, as a template: "{{.ID}}\t{{.Name}}". */
  readonly table: string
  /** What --format raw means. */
  readonly raw?: string
  readonly quietRaw?: string
  /** Header of each column by the field's name. */
  readonly headers: Readonly<Record<string, string>>
  readonly rows: readonly GoStruct[]
}

/** One line of a listing. `typeName` is what Go's errors name it. Fields print in the order of their names as JSON. */
export function row(
  typeName: string,
  fields: Readonly<Record<string, Value>>,
  methods: Readonly<Record<string, (argument: string) => string>> = {},
): GoStruct {
  const map = new Map(Object.entries(fields))
  const promoted = new Map(
    Object.entries(methods).map(([name, method]) => [name, new GoMethod(([argument]) => method(String(argument)))]),
  )
  return new GoStruct(typeName, map, { promoted, encode: () => encodeJson(map, true) })
}

/** The whole output. @throws {CliError} for a template that is wrong. */
export function renderListing(listing: Listing): string {
  const source = chooseFormat(listing)
  const isTable = source.startsWith('table')
  const text = (isTable ? source.slice('table'.length) : source === 'json' ? '{{json .}}' : source)
    .replace(/^ +| +$/g, '')
    .replaceAll('\\t', '\t')
    .replaceAll('\\n', '\n')
  try {
    const format = compileFormat(text)
    const lines = listing.rows.map((item) => `${format.render(item)}\n`).join('')
    if (!isTable) return lines
    const header = renderHeader(() => format.renderHeader(headerRow(listing.headers)))
    return alignColumns(`${header}\n${lines}`, LISTING)
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error
    throw new CliError(`template parsing error: ${error.message}`)
  }
}

function chooseFormat(listing: Listing): string {
  const format = listing.format || 'table'
  if (format === 'table') return listing.quiet ? '{{.ID}}' : `table ${listing.table}`
  if (format === 'raw' && listing.raw !== undefined) return (listing.quiet && listing.quietRaw) || listing.raw
  return format
}

/** A header that fails is left out: the rows have said what is wrong, if there are any. */
function renderHeader(render: () => string): string {
  try {
    return render()
  } catch (error) {
    if (error instanceof TemplateError) return ''
    throw error
  }
}

function headerRow(headers: Readonly<Record<string, string>>): Value {
  const label = new GoMethod(([name]) => String(name).split('.').at(-1)!.replace(/[-_]/g, ' '))
  return new Map<string, Value>([...Object.entries(headers), ['Label', label]])
}

/** "a=1,b=2" in the order of keys. */
export function joinLabels(labels: Readonly<Record<string, string>> | null | undefined): string {
  return Object.keys(labels ?? {})
    .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    .map((key) => `${key}=${labels![key]}`)
    .join(',')
}

// The kinds of flags, and the values that a command line gave. Values are kept as text that its type has accepted; who
// needs more than text parses it again with the same pure function.

import type { Environment, Flag, FlagType } from './command.ts'
import { parseBool, parseFloat64, parseInt64, parseUint, ValueError } from './strconv.ts'
import { parseBytes, parseCpus, parseDuration } from './units.ts'

/** A type whose values must parse; the text is kept. */
export function parsed(name: string, parse: (text: string) => unknown): FlagType {
  return {
    name,
    accept: (text) => {
      parse(text)
      return text
    },
  }
}

export const switchType: FlagType = {
  name: '',
  isSwitch: true,
  accept: (text) => String(parseBool(text)),
}
export const textType: FlagType = { name: 'string', accept: (text) => text }
export const listType: FlagType = { name: 'list', accept: (text) => text }
/** Go's StringSlice: one value may hold several, comma-separated. */
export const textsType: FlagType = { name: 'strings', accept: (text) => text }
export const mapType: FlagType = { name: 'map', accept: (text) => text }
/** Docker's own unsigned type takes 0x, 0o and 0b as well. */
export const uintType = parsed('uint', (text) => parseUint(text, 0))
export const uint32Type = parsed('uint32', (text) => parseUint(text, 0, 32))
export const intType = parsed('int', (text) => parseInt64(text, 0))
export const floatType = parsed('float', parseFloat64)
export const durationType = parsed('duration', parseDuration)
export const positiveDurationType = parsed('duration', (text) => {
  if (parseDuration(text) < 0) throw new ValueError('duration cannot be negative')
})
export const bytesType = parsed('bytes', parseBytes)
export const cpusType = parsed('decimal', parseCpus)

export const filterType: FlagType = {
  name: 'filter',
  accept: (text) => {
    if (text !== '' && !text.includes('=')) throw new ValueError('bad format of filter (expected name=value)')
    return text
  },
}

/** A label: a key without blanks, `=`, any value. */
export const labelType: FlagType = {
  name: 'list',
  accept: (text) => {
    const key = text.split('=', 1)[0]!.replace(/^[ \t]+/, '')
    if (key === '') throw new ValueError(`invalid label '${text}': empty name`)
    if (/[ \t]/.test(key)) throw new ValueError(`label '${key}' contains whitespaces`)
    return text
  },
}

/** An environment variable: without `=`, its value is taken from the caller's environment if it is set there. */
export const environmentType: FlagType = {
  name: 'list',
  accept: (text, environment: Environment) => {
    const key = text.split('=', 1)[0]!
    if (key === '') throw new ValueError(`invalid environment variable: ${text}`)
    const value = environment[key]
    return text.includes('=') || value === undefined ? text : `${key}=${value}`
  },
}

export const FORMAT_HELP = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`

export const INSPECT_FORMAT_HELP = `Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`

export const formatFlag: Flag = { name: 'format', type: textType, help: FORMAT_HELP }
export const inspectFormatFlag: Flag = { name: 'format', short: 'f', type: textType, help: INSPECT_FORMAT_HELP }
export const prettyFlag: Flag = {
  name: 'pretty',
  type: switchType,
  help: 'Print the information in a human friendly format',
}
export const filterFlag: Flag = {
  name: 'filter',
  short: 'f',
  type: filterType,
  help: 'Filter output based on conditions provided',
}
export const quietFlag = (help: string): Flag => ({ name: 'quiet', short: 'q', type: switchType, help })

/** The flags of one command line. */
export class Flags {
  readonly #values: ReadonlyMap<string, readonly string[]>

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values
  }

  /** The flag stands on the command line. */
  changed(...names: readonly string[]): boolean {
    return names.some((name) => this.#values.has(name))
  }

  names(): string[] {
    return [...this.#values.keys()]
  }

  /** All values, in order. */
  list(name: string): readonly string[] {
    return this.#values.get(name) ?? []
  }

  /** The last value; '' without one. */
  text(name: string): string {
    return this.list(name).at(-1) ?? ''
  }

  /** The last value, undefined where the flag is not given. */
  maybe(name: string): string | undefined {
    return this.list(name).at(-1)
  }

  on(name: string): boolean {
    return this.text(name) === 'true'
  }

  duration(name: string): number | undefined {
    const text = this.maybe(name)
    return text === undefined ? undefined : parseDuration(text)
  }

  uint(name: string): number | undefined {
    const text = this.maybe(name)
    return text === undefined ? undefined : parseUint(text, 0)
  }

  int(name: string): number | undefined {
    const text = this.maybe(name)
    return text === undefined ? undefined : parseInt64(text, 0)
  }

  /** Docker's filters: { label: { 'a=b': true } }; undefined without any. */
  filters(name = 'filter'): Filters | undefined {
    const filters: Record<string, Record<string, true>> = {}
    for (const text of this.list(name)) {
      if (text === '') continue
      const at = text.indexOf('=')
      const key = text.slice(0, at).trim().toLowerCase()
      filters[key] = { ...filters[key], [text.slice(at + 1).trim()]: true }
    }
    return Object.keys(filters).length === 0 ? undefined : filters
  }
}

export type Filters = Readonly<Record<string, Readonly<Record<string, true>>>>

/** ["a=1", "b"] → { a: "1", b: "" } */
export function keyValues(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    list.map((text) => {
      const at = text.indexOf('=')
      return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
    }),
  )
}

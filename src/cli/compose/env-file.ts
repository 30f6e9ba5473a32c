// Files of variables: those that a service names in `env_file` (Docker's plain KEY=VALUE lines; in the long form, which
// Docker does not have, Compose's), and `.env` beside the compose file or --env-file, which fills in the compose file
// itself (quotes, comments and variables, as Compose has them).

import { readFileSync } from 'node:fs'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import { ValueError } from '../strconv.ts'
import { type Lookup, substitute, TemplateProblem } from './interpolate.ts'

/** The text of a file. @throws {ValueError} with Go's text of the reason. */
export function readText(path: string): string {
  return readBytes(path).toString()
}

/** @throws {ValueError} with Go's text of the reason. */
export function readBytes(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    const code = errorCode(error)
    if (code === 'ENOENT') throw new ValueError(`open ${path}: no such file or directory`)
    if (code === 'EACCES') throw new ValueError(`open ${path}: permission denied`)
    if (code === 'EISDIR') throw new ValueError(`read ${path}: is a directory`)
    if (code === 'ENOTDIR') throw new ValueError(`open ${path}: not a directory`)
    throw new ValueError(`open ${path}: ${errorMessage(error)}`)
  }
}

/**
 * Variables of an `env_file`; a name alone takes its value from `lookup`, and is left out without one. Nothing is filled in
 * and no quotes are taken away, as Docker has it for stacks.
 * @throws {ValueError}
 */
export function readEnvFile(path: string, lookup: Lookup): ReadonlyMap<string, string> {
  const variables = new Map<string, string>()
  for (const [i, raw] of readText(path)
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = raw.trimStart()
    if (line === '' || line.startsWith('#')) continue
    const at = line.indexOf('=')
    const name = at < 0 ? line : line.slice(0, at)
    if (name === '') throw new ValueError(`invalid env file (${path}): no variable name on line '${line}'`)
    if (/[ \t]/.test(name)) throw new ValueError(`invalid env file (${path}): variable '${name}' contains whitespaces`)
    if (line.includes('\0')) throw new ValueError(`invalid env file (${path}): line ${i + 1} has a zero byte`)
    const value = at < 0 ? lookup(name) : line.slice(at + 1)
    if (value !== undefined) variables.set(name, value)
  }
  return variables
}

const ASSIGNMENT =
  /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(?:=|:[ \t])[ \t]*(?:'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|([^\n]*))[ \t]*(?:#[^\n]*)?$/
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\' }

/** Variables of a `.env`; later lines see earlier ones and what `lookup` has, which wins. @throws {ValueError} */
export function readDotEnv(path: string, lookup: Lookup): ReadonlyMap<string, string> {
  const variables = new Map<string, string>()
  const source = readText(path)
    .replace(/^\ufeff/, '')
    .replaceAll('\r\n', '\n')
  const known: Lookup = (name) => lookup(name) ?? variables.get(name)
  for (const { text, line } of statements(source)) {
    const match = ASSIGNMENT.exec(text)
    const name = match?.[1]
    if (match && name !== undefined) {
      const [, , single, double, bare] = match
      variables.set(
        name,
        single ??
          filledIn(path, line, () =>
            double === undefined ? substitute(withoutComment(bare ?? ''), known) : unquote(double, known),
          ),
      )
      continue
    }
    const inherited = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*$/.exec(text)?.[1]
    if (inherited === undefined)
      throw new ValueError(`failed to read ${path}: line ${line}: unexpected ${JSON.stringify(text)}`)
    const value = lookup(inherited)
    if (value !== undefined) variables.set(inherited, value)
  }
  return variables
}

/** Lines, those of a quoted value together; without blank ones and comments. */
function statements(source: string): readonly { readonly text: string; readonly line: number }[] {
  const found: { text: string; line: number }[] = []
  const lines = source.split('\n')
  for (let i = 0; i < lines.length; i++) {
    let text = lines[i]!
    if (/^[ \t]*(?:#|$)/.test(text)) continue
    const line = i + 1
    const quote = /^[^=:#]*[=:][ \t]*(['"])/.exec(text)?.[1]
    while (quote && !isClosed(text, quote) && i + 1 < lines.length) text += `\n${lines[++i]}`
    found.push({ text, line })
  }
  return found
}

function isClosed(text: string, quote: string): boolean {
  const body = text.slice(text.indexOf(quote) + 1)
  return quote === "'" ? body.includes("'") : /^(?:[^"\\]|\\[\s\S])*"/.test(body)
}

const withoutComment = (text: string) => text.replace(/(^|[ \t])#.*$/, '').trim()

function filledIn(path: string, line: number, fill: () => string): string {
  try {
    return fill()
  } catch (error) {
    if (!(error instanceof TemplateProblem)) throw error
    throw new ValueError(`failed to read ${path}: line ${line}: ${error.message}`)
  }
}

/** The inside of double quotes: variables, then escapes. */
function unquote(text: string, lookup: Lookup): string {
  const filled = substitute(text.replace(/\\\$/g, '$$$$'), lookup)
  return filled.replace(/\\([\s\S])/g, (whole, escaped: string) => ESCAPES[escaped] ?? whole)
}

// Reads a command line the way Docker's does (Go's pflag): clusters of letters, `-fvalue`, switches that take no word,
// a first operand that ends the flags, Docker's error texts. The result goes to yargs in one canonical form, because
// yargs itself cannot stop at IMAGE and reads `-e` and numbers by rules of its own.

import type { Environment, Flag } from './command.ts'
import { quote, ValueError } from './strconv.ts'
import { closest } from './suggest.ts'

/** What is wrong with a flag; the message is pflag's. */
export class FlagError extends Error {}

export interface Scanned {
  /** Accepted values by flag name, in order. */
  readonly values: ReadonlyMap<string, readonly string[]>
  readonly operands: readonly string[]
  readonly help: boolean
  /** Words after the first operand, where scanning stopped there. */
  readonly rest: readonly string[]
}

export interface ScanOptions {
  /** The first operand ends it: the words from there on are `rest`. */
  readonly stopAtOperand?: boolean
}

const HELP: Flag = { name: 'help', short: 'h', type: { name: '', isSwitch: true, accept: (text) => text }, help: '' }

/** @throws {FlagError} */
export function scan(
  words: readonly string[],
  flags: readonly Flag[],
  environment: Environment,
  options: ScanOptions = {},
): Scanned {
  const byName = new Map([HELP, ...flags].map((flag) => [flag.name, flag]))
  const byLetter = new Map([HELP, ...flags].flatMap((flag) => (flag.short ? [[flag.short, flag] as const] : [])))
  const values = new Map<string, string[]>()
  const operands: string[] = []
  let at = 0

  const set = (flag: Flag, text: string) => {
    const shown = flag.short ? `-${flag.short}, --${flag.name}` : `--${flag.name}`
    try {
      const accepted = flag.type.accept(text, environment)
      values.set(flag.name, [...(values.get(flag.name) ?? []), accepted])
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      throw new FlagError(`invalid argument ${quote(text)} for ${quote(shown)} flag: ${error.message}`)
    }
  }

  const long = (word: string) => {
    const equals = word.indexOf('=')
    const name = equals < 0 ? word.slice(2) : word.slice(2, equals)
    if (name === '' || name.startsWith('-')) throw new FlagError(`bad flag syntax: ${word}`)
    const flag = byName.get(name)
    if (!flag) throw new FlagError(`unknown flag: --${name}${hint(name, byName)}`)
    if (equals >= 0) set(flag, word.slice(equals + 1))
    else if (flag.type.isSwitch) set(flag, 'true')
    else if (at >= words.length) throw new FlagError(`flag needs an argument: --${name}`)
    else set(flag, words[at++]!)
  }

  const short = (word: string) => {
    for (let i = 1; i < word.length; i++) {
      const letter = word[i]!
      const flag = byLetter.get(letter)
      if (!flag) throw new FlagError(`unknown shorthand flag: '${letter}' in -${word.slice(i)}`)
      const rest = word.slice(i + 1)
      if (rest.startsWith('=')) return set(flag, rest.slice(1))
      if (!flag.type.isSwitch) {
        if (rest !== '') return set(flag, rest)
        if (at >= words.length) throw new FlagError(`flag needs an argument: '${letter}' in -${word.slice(i)}`)
        return set(flag, words[at++]!)
      }
      set(flag, 'true')
    }
  }

  while (at < words.length) {
    const word = words[at++]!
    if (word === '--') {
      operands.push(...words.slice(at))
      break
    }
    if (word.startsWith('--')) long(word)
    else if (word.startsWith('-') && word !== '-') short(word)
    else if (options.stopAtOperand) {
      return { values: withoutHelp(values), operands, help: asked(values), rest: words.slice(at - 1) }
    } else operands.push(word)
    // as pflag: nothing after --help is looked at
    if (asked(values)) break
  }
  return { values: withoutHelp(values), operands, help: asked(values), rest: [] }
}

const asked = (values: ReadonlyMap<string, readonly string[]>) => values.get('help')?.at(-1) === 'true'

function withoutHelp(values: ReadonlyMap<string, readonly string[]>): ReadonlyMap<string, readonly string[]> {
  return new Map([...values].filter(([name]) => name !== 'help'))
}

function hint(name: string, known: ReadonlyMap<string, Flag>): string {
  const near = closest(name, [...known.keys()])
  return near.length === 0 ? '' : `\n\nDid you mean this?\n${near.map((flag) => `\t--${flag}`).join('\n')}`
}

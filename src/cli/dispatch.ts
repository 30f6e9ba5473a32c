// Hands a scanned command line to yargs, which finds the command's handler and types its options. The line is in one
// form (`--name=value`, then `--`, then the operands), so that yargs' own rules for words never apply.

import yargs from 'yargs'
import type { Command } from './command.ts'
import { Flags } from './flags.ts'
import type { Scanned } from './scan.ts'

/** Runs `handler` with what yargs made of the line, and returns when it is done. */
export async function dispatch(
  path: readonly string[],
  command: Command,
  scanned: Scanned,
  handler: (flags: Flags, operands: readonly string[]) => Promise<void>,
): Promise<void> {
  const words = [
    ...path,
    ...[...scanned.values].flatMap(([name, values]) => values.map((value) => `--${name}=${value}`)),
    '--',
    ...scanned.operands,
  ]
  let work: Promise<void> | undefined
  const leaf = path.length - 1
  const options = Object.fromEntries(
    command.flags.map((flag) => [flag.name, { type: 'string' as const, array: true, nargs: 1, hidden: true }]),
  )
  const parser = yargs()
    .parserConfiguration({
      'populate--': true,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'dot-notation': false,
      'boolean-negation': false,
      'camel-case-expansion': false,
      'greedy-arrays': false,
      'strip-aliased': true,
    })
    .help(false)
    .version(false)
    .exitProcess(false)
    .fail(false)
  const run = (argv: Readonly<Record<string, unknown>>) => {
    const values = new Map(
      command.flags.flatMap((flag) => {
        const value = argv[flag.name]
        return Array.isArray(value) ? [[flag.name, value.map(String)] as const] : []
      }),
    )
    const operands = argv['--']
    work = handler(new Flags(values), Array.isArray(operands) ? operands.map(String) : [])
  }
  if (leaf === 0) parser.command(path[0]!, false, (builder) => builder.options(options), run)
  else {
    parser.command(path[0]!, false, (builder) =>
      builder.command(path[1]!, false, (inner) => inner.options(options), run),
    )
  }
  await parser.parseAsync(words)
  await work
}

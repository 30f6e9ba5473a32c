// Help pages, laid out as Docker's.

import type { Command, Flag } from './command.ts'
import { globalFlags } from './global-flags.ts'
import { type GroupEntry, groups, topCommands } from './registry.ts'

export const PROGRAM = 'swarmctl'
const WIDTH = 79

export function rootHelp(): string {
  const names = [...groups, ...topCommands].map(({ name }) => name.length)
  const line = (entry: { name: string; summary: string }) =>
    `  ${entry.name.padEnd(Math.max(...names) + 2)}${entry.summary}`
  const section = (title: string) =>
    `${title}:\n${groups
      .filter((group) => group.section === title)
      .map(line)
      .join('\n')}`
  return `Usage:  ${PROGRAM} [OPTIONS] COMMAND

A Docker-Swarm-compatible cluster manager

${section('Swarm Commands')}

${section('Management Commands')}

Commands:
${topCommands.map(line).join('\n')}

Global Options:
${flagUsages(globalFlags)}

Run '${PROGRAM} COMMAND --help' for more information on a command.
`
}

export function groupHelp(group: GroupEntry, commands: readonly Command[]): string {
  const width = Math.max(11, ...commands.map(({ name }) => name.length))
  return `Usage:  ${PROGRAM} ${group.name} COMMAND

${group.summary}

Commands:
${commands.map((command) => `  ${command.name.padEnd(width)} ${command.summary}`).join('\n')}

Run '${PROGRAM} ${group.name} COMMAND --help' for more information on a command.
`
}

export function commandHelp(path: string, command: Command): string {
  const parent = path.slice(0, path.lastIndexOf(' '))
  const aliases = command.aliases?.length
    ? `\n\nAliases:\n  ${[path, ...command.aliases.map((alias) => `${parent} ${alias}`)].join(', ')}`
    : ''
  const examples = command.examples ? `\n\nExamples:\n${command.examples}` : ''
  const options = command.flags.length === 0 ? '' : `\n\nOptions:\n${flagUsages(command.flags)}`
  return `Usage:  ${usageLine(path, command)}\n\n${command.summary}${aliases}${examples}${options}\n`
}

export function usageLine(path: string, command: Command): string {
  return command.usage === '' ? path : `${path} ${command.usage}`
}

/** A line or more for each flag, in the order of their names. */
function flagUsages(flags: readonly Flag[]): string {
  const sorted = flags.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const heads = sorted.map((flag) => {
    const letter = flag.short ? `-${flag.short}, ` : '    '
    return `  ${letter}--${flag.name}${flag.type.isSwitch ? '' : ` ${flag.type.name}`}`
  })
  const column = Math.max(...heads.map((head) => head.length)) + 3
  return sorted
    .map((flag, i) => {
      const shown = flag.shownDefault === undefined ? '' : ` (default ${flag.shownDefault})`
      return heads[i]!.padEnd(column) + wrap(`${flag.help}${shown}`, column)
    })
    .join('\n')
}

function wrap(text: string, indent: number): string {
  const width = Math.max(24, WIDTH - indent)
  const lines = text.split('\n').flatMap((paragraph) => {
    const out: string[] = []
    // inner runs of blanks are layout and stay
    for (const word of paragraph.split(/(?<=\S)(?= )/)) {
      const last = out.at(-1)
      if (last !== undefined && last.length + word.length <= width) out[out.length - 1] = last + word
      else out.push(out.length === 0 ? word : word.trimStart())
    }
    return out
  })
  return lines.join(`\n${' '.repeat(indent)}`)
}

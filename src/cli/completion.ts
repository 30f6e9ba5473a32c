// Shell completion. `swarmctl completion SHELL` prints a small script that asks `swarmctl __complete WORD…` for what can
// stand in the place of the last word; names of objects come from the daemon.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NetworkJson, SecretJson, ServiceJson } from './api-types.ts'
import { CliError, type Command, type Context, type Environment, type Flag, type ObjectKind } from './command.ts'
import { configDirectory } from './docker-config.ts'
import { Flags } from './flags.ts'
import { globalFlags } from './global-flags.ts'
import { PROGRAM } from './help.ts'
import { nodeNames } from './node-names.ts'
import { groups, topCommands } from './registry.ts'

// bash takes a line apart at = and : too; its own words are told to `__complete`, and only what bash would replace is answered.
const BASH = `# bash completion for ${PROGRAM}
_${PROGRAM}() {
  local line=\${COMP_LINE:0:COMP_POINT} words=() word kept candidate
  COMPREPLY=()
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  word=\${words[\${#words[@]}-1]}
  kept=\${word%"$2"}
  while IFS=$'\\t' read -r candidate _; do
    [[ $candidate == "$word"* ]] && COMPREPLY+=("\${candidate#"$kept"}")
  done < <(${PROGRAM} __complete "\${words[@]:1}" 2>/dev/null)
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _${PROGRAM} ${PROGRAM}
`

const ZSH = `#compdef ${PROGRAM}
_${PROGRAM}() {
  local -a candidates
  local line
  while IFS= read -r line; do
    candidates+=("\${line/$'\\t'/:}")
  done < <(${PROGRAM} __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#candidates} )); then _describe '${PROGRAM}' candidates; else _files; fi
}
if [ "$funcstack[1]" = "_${PROGRAM}" ]; then _${PROGRAM} "$@"; else compdef _${PROGRAM} ${PROGRAM}; fi
`

const FISH = `# fish completion for ${PROGRAM}
function __${PROGRAM}_complete
  set -l words (commandline -opc)
  set -l found (${PROGRAM} __complete $words[2..-1] (commandline -ct) 2>/dev/null)
  if set -q found[1]
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c ${PROGRAM} -f -a '(__${PROGRAM}_complete)'
`

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH }

export const completionCommand: Command = {
  name: 'completion',
  usage: 'bash|zsh|fish',
  summary: 'Generate the autocompletion script for the specified shell',
  examples: `  source <(${PROGRAM} completion bash)\n  ${PROGRAM} completion zsh > "\${fpath[1]}/_${PROGRAM}"\n  ${PROGRAM} completion fish > ~/.config/fish/completions/${PROGRAM}.fish`,
  flags: [],
  operands: { min: 1, max: 1 },
  run: async (context, _flags, operands) => {
    const script = SCRIPTS[operands[0]!]
    if (!script) throw new CliError(`unknown shell: ${operands[0]} (must be one of bash, zsh, fish)`)
    context.stdout.write(script)
  },
}

interface Candidate {
  readonly value: string
  readonly help?: string
}

type MakeContext = (path: string, globals: Flags) => Context

/** Prints what can stand in the place of the last word: one candidate a line, its help after a tab. */
export async function complete(
  words: readonly string[],
  makeContext: MakeContext,
  environment: Environment,
): Promise<void> {
  const { candidates, globals } = await candidatesFor(words, makeContext, environment)
  const current = words.at(-1) ?? ''
  const context = makeContext(PROGRAM, globals)
  for (const { value, help } of candidates) {
    if (!value.startsWith(current)) continue
    context.stdout.write(help === undefined ? `${value}\n` : `${value}\t${help.split('\n')[0]}\n`)
  }
}

async function candidatesFor(
  words: readonly string[],
  makeContext: MakeContext,
  environment: Environment,
): Promise<{ readonly candidates: readonly Candidate[]; readonly globals: Flags }> {
  const current = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  const root = walk(before, globalFlags, true)
  const globals = new Flags(root.values)
  const names = (kind: ObjectKind) => objectNames(kind, makeContext, globals, environment)
  const answer = (candidates: readonly Candidate[]) => ({ candidates, globals })
  const first = root.operands[0]
  if (first === undefined) {
    return answer(await atLevel(root, current, globalFlags, [...groups, ...topCommands].map(entry), names))
  }
  const top = topCommands.find(({ name }) => name === first)
  const group = groups.find(({ name }) => name === first)
  const rest = root.operands.slice(1)
  const commands = (await group?.load()) ?? []
  if (group && rest.length === 0) return answer(current.startsWith('-') ? [] : commands.map(entry))
  const command = top
    ? await top.load()
    : commands.find(({ name, aliases }) => name === rest[0] || aliases?.includes(rest[0]!))
  if (!command) return answer([])
  const state = walk(top ? rest : rest.slice(1), command.flags, command.stopAtOperand ?? false)
  if (command.name === 'completion') return answer(Object.keys(SCRIPTS).map((value) => ({ value })))
  if (command.name === 'join-token') return answer([{ value: 'worker' }, { value: 'manager' }])
  const operands = await operandCandidates(command, state, current, names)
  return answer(await atLevel(state, current, command.flags, operands, names))
}

const entry = ({ name, summary }: { readonly name: string; readonly summary: string }): Candidate => ({
  value: name,
  help: summary,
})

interface Walked {
  readonly values: ReadonlyMap<string, readonly string[]>
  readonly operands: readonly string[]
  /** The last word is a flag that waits for its value. */
  readonly waiting: Flag | undefined
}

/** As scan.ts, but forgiving: the line is not finished. */
function walk(words: readonly string[], flags: readonly Flag[], stopAtOperand: boolean): Walked {
  const values = new Map<string, string[]>()
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    if (!word.startsWith('-') || word === '-' || word === '--') {
      if (stopAtOperand) return { values, operands: words.slice(i), waiting: undefined }
      const rest = walk(words.slice(i + 1), flags, false)
      return { ...rest, operands: [word, ...rest.operands] }
    }
    const [name = '', value] = word.split(/=(.*)/s)
    const flag = flags.find((known) => `--${known.name}` === name || `-${known.short}` === name)
    if (!flag || flag.type.isSwitch) continue
    if (value === undefined && i + 1 >= words.length) return { values, operands: [], waiting: flag }
    values.set(flag.name, [...(values.get(flag.name) ?? []), value ?? words[++i]!])
  }
  return { values, operands: [], waiting: undefined }
}

type Names = (kind: ObjectKind) => Promise<readonly Candidate[]>

async function atLevel(
  state: Walked,
  current: string,
  flags: readonly Flag[],
  operands: readonly Candidate[],
  names: Names,
): Promise<readonly Candidate[]> {
  if (state.waiting) return await flagValues(state.waiting, names)
  const inline = /^--([^=]+)=/.exec(current)
  if (inline) {
    const flag = flags.find(({ name }) => name === inline[1])
    return flag ? (await flagValues(flag, names)).map(({ value }) => ({ value: `${inline[0]}${value}` })) : []
  }
  if (!current.startsWith('-')) return operands
  return [...flags, { name: 'help', help: 'Print usage' }].map(({ name, help }) => ({ value: `--${name}`, help }))
}

async function flagValues(flag: Flag, names: Names): Promise<readonly Candidate[]> {
  if (flag.complete === undefined) return []
  return typeof flag.complete === 'string' ? await names(flag.complete) : flag.complete.map((value) => ({ value }))
}

async function operandCandidates(
  command: Command,
  state: Walked,
  current: string,
  names: Names,
): Promise<readonly Candidate[]> {
  if (!command.completeOperand || state.waiting || current.startsWith('-')) return []
  const { max } = command.operands
  if (max !== undefined && state.operands.length >= max) return []
  const kinds = [command.completeOperand].flat()
  const found = (await Promise.all(kinds.map(names))).flat()
  const fresh = found.filter(({ value }) => !state.operands.includes(value))
  return command.name === 'scale' ? fresh.map(({ value }) => ({ value: `${value}=` })) : fresh
}

/** Nothing where the daemon cannot be asked: completion is no place for errors. */
async function objectNames(
  kind: ObjectKind,
  makeContext: MakeContext,
  globals: Flags,
  environment: Environment,
): Promise<readonly Candidate[]> {
  if (kind === 'context') return contextNames(configDirectory(environment, globals.maybe('config')))
  try {
    const client = await makeContext(PROGRAM, globals).client()
    if (kind === 'node') {
      return [...(await nodeNames(client)), 'self'].map((value) => ({ value }))
    }
    if (kind === 'network') {
      const networks = await client.json<NetworkJson[]>('GET', '/networks')
      return networks.map(({ Name }) => ({ value: Name }))
    }
    const objects = await client.json<(ServiceJson | SecretJson)[]>('GET', `/${kind}s`)
    return objects.map(({ Spec }) => ({ value: Spec.Name ?? '' }))
  } catch (error) {
    if (error instanceof CliError) return []
    throw error
  }
}

function contextNames(directory: string): Candidate[] {
  const folder = join(directory, 'contexts', 'meta')
  const names: Candidate[] = [{ value: 'default' }]
  let entries: string[]
  try {
    entries = readdirSync(folder)
  } catch {
    return names // no contexts were ever made
  }
  for (const id of entries) {
    try {
      const { Name } = JSON.parse(readFileSync(join(folder, id, 'meta.json'), 'utf8')) as { Name?: string }
      if (Name) names.push({ value: Name })
    } catch {
      // one broken context does not hide the others
    }
  }
  return names
}

// A command line from its words to its exit code.

import { SystemClock } from '../lib/clock.ts'
import { VERSION } from '../lib/version.ts'
import { resolveAddress, SWARMD_SOCKET } from './address.ts'
import { CliError, type Command, type Context, type Environment } from './command.ts'
import { configDirectory, type DockerConfig, readDockerConfig } from './docker-config.ts'
import { Flags } from './flags.ts'
import { globalFlags } from './global-flags.ts'
import { commandHelp, groupHelp, PROGRAM, rootHelp, usageLine } from './help.ts'
import { groups, topCommands } from './registry.ts'
import { FlagError, type Scanned, scan } from './scan.ts'
import { closest } from './suggest.ts'

export interface Streams {
  readonly stdin: Context['stdin']
  readonly stdout: Context['stdout']
  readonly stderr: Context['stderr']
}

/** Exit code of a wrong flag, as Docker's. */
const BAD_FLAG = 125

/** Runs one command line; prints its errors; never throws for what a user can do wrong. */
export async function run(words: readonly string[], environment: Environment, streams: Streams): Promise<number> {
  try {
    await execute(words, environment, streams)
    return 0
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    if (error.message !== '') streams.stderr.write(`${error.message}\n`)
    return error.exitCode
  }
}

async function execute(words: readonly string[], environment: Environment, streams: Streams): Promise<void> {
  const globals = scanOrExplain(
    () => scan(words, globalFlags, environment, { stopAtOperand: true }),
    PROGRAM,
    `${PROGRAM} [OPTIONS] COMMAND [ARG...]`,
  )
  const [first, ...rest] = globals.operands.length > 0 ? globals.operands : globals.rest
  if (globals.help) return void streams.stdout.write(rootHelp())
  if (new Flags(globals.values).on('version')) return void streams.stdout.write(`${PROGRAM} version ${VERSION}\n`)
  if (first === undefined) return void streams.stderr.write(rootHelp())
  if (first === 'help') return await help(rest, streams)
  if (first === '__complete') {
    const { complete } = await import('./completion.ts')
    return await complete(rest, (path, parsed) => makeContext(path, parsed, environment, streams), environment)
  }
  const found = await find(first, rest)
  if (found.kind === 'group') return void streams[found.asked ? 'stdout' : 'stderr'].write(found.help)
  const { command, path, commandWords } = found
  const commandPath = [PROGRAM, ...path].join(' ')
  const scanned = scanOrExplain(
    () => scanCommand(commandWords, command, environment),
    commandPath,
    usageLine(commandPath, command),
  )
  if (scanned.help) return void streams.stdout.write(commandHelp(commandPath, command))
  checkOperands(scanned.operands, command, commandPath)
  if (command.helpWithoutFlags && scanned.values.size === 0) {
    return void streams.stdout.write(commandHelp(commandPath, command))
  }
  const { dispatch } = await import('./dispatch.ts')
  const context = makeContext(commandPath, new Flags(globals.values), environment, streams)
  await dispatch(path, command, scanned, async (flags, operands) => {
    await checkVersions(command, flags, context)
    await command.run(context, flags, operands)
  })
}

type Found =
  | { readonly kind: 'group'; readonly help: string; readonly asked: boolean }
  | {
      readonly kind: 'command'
      readonly command: Command
      readonly path: readonly string[]
      readonly commandWords: readonly string[]
    }

/** The command that the words name. @throws {CliError} with a suggestion where none does. */
async function find(first: string, rest: readonly string[]): Promise<Found> {
  const top = topCommands.find(({ name }) => name === first)
  if (top) return { kind: 'command', command: await top.load(), path: [first], commandWords: rest }
  const group = groups.find(({ name }) => name === first)
  if (!group) {
    const hint = engineHint(first, rest) ?? (await otherwise(first))
    throw new CliError(
      `${PROGRAM}: unknown command: ${PROGRAM} ${first}${hint}\n\nRun '${PROGRAM} --help' for more information`,
    )
  }
  const commands = await group.load()
  const [second, ...words] = rest
  const groupPath = `${PROGRAM} ${group.name}`
  if (second === undefined) return { kind: 'group', help: groupHelp(group, commands), asked: false }
  if (second === '--help' || second === '-h') return { kind: 'group', help: groupHelp(group, commands), asked: true }
  if (second.startsWith('-')) {
    scanOrExplain(() => scan(rest, [], {}, { stopAtOperand: true }), groupPath, `${groupPath} COMMAND`)
  }
  const command = commands.find(({ name, aliases }) => name === second || aliases?.includes(second))
  if (command) return { kind: 'command', command, path: [group.name, command.name], commandWords: words }
  throw new CliError(
    `${PROGRAM}: unknown command: ${groupPath} ${second}${didYouMean(second, commands)}\n\nUsage:  ${groupPath}\n\nRun '${groupPath} --help' for more information`,
  )
}

async function help(words: readonly string[], streams: Streams): Promise<void> {
  const [first, ...rest] = words
  if (first === undefined) return void streams.stdout.write(rootHelp())
  const found = await find(first, rest)
  streams.stdout.write(
    found.kind === 'group' ? found.help : commandHelp([PROGRAM, ...found.path].join(' '), found.command),
  )
}

/** What docker does with one machine: the words that have no place here, and who has one for them. */
const ENGINE_COMMANDS = new Set(
  'attach build builder buildx commit container context cp diff events export history images import inspect kill load login logout manifest pause plugin port pull push rename restart rmi run save search start stats stop system tag top trust unpause volume wait'.split(
    ' ',
  ),
)
/** Of these, those that ask about a container, which may be on any node. */
const CONTAINER_COMMANDS = new Set(
  'attach container cp diff export inspect kill pause port restart stats stop top wait'.split(' '),
)

function engineHint(first: string, rest: readonly string[]): string | undefined {
  if (!ENGINE_COMMANDS.has(first)) return undefined
  const line = ['docker', '-H', `unix://${SWARMD_SOCKET}`, first, ...rest].join(' ')
  const cluster = SWARMD_SOCKET.replace(/[^/]+$/, 'cluster.sock')
  const everywhere = CONTAINER_COMMANDS.has(first) ? `\nContainers of all nodes are at unix://${cluster}.` : ''
  return `\n\nThis is the engine's. Through swarmd:\n\t${line}${everywhere}`
}

/** `swarmctl deploy` is `swarmctl stack deploy`, where no command has nearly that name. */
async function otherwise(word: string): Promise<string> {
  const near = didYouMean(word, [...groups, ...topCommands])
  if (near !== '') return near
  const loaded = await Promise.all(groups.map(async (group) => ({ group, commands: await group.load() })))
  return suggestion(
    loaded.flatMap(({ group, commands }) =>
      commands.filter(({ name }) => name === word).map(({ name }) => `${group.name} ${name}`),
    ),
  )
}

function didYouMean(word: string, known: readonly { readonly name: string }[]): string {
  return suggestion(
    closest(
      word,
      known.map(({ name }) => name),
    ),
  )
}

const suggestion = (names: readonly string[]): string =>
  names.length === 0 ? '' : `\n\nDid you mean this?\n${names.map((name) => `\t${name}`).join('\n')}`

/** Reads a command's words; for `create IMAGE COMMAND` the first operand ends the flags. @throws {FlagError} */
function scanCommand(words: readonly string[], command: Command, environment: Environment): Scanned {
  const scanned = scan(words, command.flags, environment, { stopAtOperand: command.stopAtOperand ?? false })
  return scanned.rest.length === 0 ? scanned : { ...scanned, operands: scanned.rest }
}

function scanOrExplain(scanner: () => Scanned, path: string, usage: string): Scanned {
  try {
    return scanner()
  } catch (error) {
    if (!(error instanceof FlagError)) throw error
    throw new CliError(`${error.message}\n\nUsage:  ${usage}\n\nRun '${path} --help' for more information`, BAD_FLAG)
  }
}

function checkOperands(operands: readonly string[], command: Command, path: string): void {
  const { min, max } = command.operands
  if (operands.length >= min && (max === undefined || operands.length <= max)) return
  const plural = (count: number) => (count === 1 ? 'argument' : 'arguments')
  const needs =
    max === 0
      ? 'accepts no arguments'
      : max === undefined
        ? `requires at least ${min} ${plural(min)}`
        : min === max
          ? `requires ${min} ${plural(min)}`
          : min === 0
            ? `requires at most ${max} ${plural(max)}`
            : `requires at least ${min} and at most ${max} ${plural(max)}`
  const verb = max === undefined ? 'See' : 'Run'
  throw new CliError(
    `${PROGRAM}: '${path}' ${needs}\n\nUsage:  ${usageLine(path, command)}\n\n${verb} '${path} --help' for more information`,
  )
}

/** Refuses flags that the daemon's API is too old for. @throws {CliError} */
async function checkVersions(command: Command, flags: Flags, context: Context): Promise<void> {
  const dated = command.flags.filter(({ name, since }) => since !== undefined && flags.changed(name))
  if (dated.length === 0) return
  const { compareVersions } = await import('./client.ts')
  const client = await context.client()
  const version = await client.version()
  const refused = dated.filter(({ since }) => compareVersions(version, since!) < 0)
  if (refused.length === 0) return
  throw new CliError(
    refused
      .map(
        ({ name, since }) =>
          `"--${name}" requires API version ${since}, but the Docker daemon API version is ${version}`,
      )
      .join('\n'),
  )
}

export function makeContext(commandPath: string, globals: Flags, environment: Environment, streams: Streams): Context {
  const config: DockerConfig = readDockerConfig(configDirectory(environment, globals.maybe('config')))
  const address = resolveAddress(globals, environment, config)
  let client: ReturnType<Context['client']> | undefined
  let abort: AbortController | undefined
  return {
    ...streams,
    environment,
    config,
    commandPath,
    contextName: address.contextName,
    clock: new SystemClock(),
    interrupted: () => {
      if (!abort) {
        const controller = new AbortController()
        abort = controller
        process.once('SIGINT', () => controller.abort())
      }
      return abort.signal
    },
    client: () => {
      client ??= import('./client.ts').then(({ ApiClient }) => new ApiClient(address, environment.DOCKER_API_VERSION))
      return client
    },
  }
}

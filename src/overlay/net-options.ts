// swarmd-net's command line. swarmd or systemd starts it; people use it to look and to clean up.

import { parseArgs } from 'node:util'
import { CodedError } from '../lib/errors.ts'
import type { LogLevel } from '../lib/log.ts'

export interface NetOptions {
  /** Durable state: what the data plane was told, keys. */
  readonly stateDirectory: string
  /** The control socket, control.sock, lies here. */
  readonly runDirectory: string
  /** Where the engine looks for its plugins' sockets. */
  readonly pluginDirectory: string
  readonly logLevel: LogLevel
  /** A service manager keeps the sockets and starts the holder again. */
  readonly supervised: boolean
}

export type NetCommand =
  | { readonly kind: 'start'; readonly options: NetOptions }
  | { readonly kind: 'remove'; readonly options: NetOptions }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  /** the program's own processes */
  | { readonly kind: 'hold'; readonly options: NetOptions; readonly instance: number }
  | { readonly kind: 'serve'; readonly options: NetOptions; readonly instance: number }
  | { readonly kind: 'open'; readonly sockets: string }
  | { readonly kind: 'probe' }

export const NET_HELP = `Usage: swarmd-net [COMMAND] [OPTIONS]

The data plane of this machine's node: the Docker Engine's network driver "swarmctl", the containers' name server and the
keeper of overlay networks, virtual addresses and published ports in the kernel. swarmd starts it where systemd does not, and
tells it what to do. It may end and come back at any time: traffic goes on in the kernel.

Commands:
  start     Run (default)
  remove    Take everything of the data plane off this machine: network namespace, links, rules, state. For a node
            whose swarmd is gone for good; containers of the cluster lose their networks.

Options:
      --state-dir string    Directory of durable state (default "/var/lib/swarmd/net")
      --run-dir string      Directory of the control socket (default "/run/swarmd/net")
      --plugin-dir string   Where the engine looks for plugins (default "/run/docker/plugins")
      --log-level string    Least severe level that is logged: debug, info, warn, error, fatal (default "info")
      --supervised          systemd holds the sockets and starts this program again
      --help                Print usage
      --version             Print version information and quit
`

const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'fatal']

/** @throws {CodedError} INVALID_FLAG with a message for the user */
export function parseNetCommand(argv: readonly string[]): NetCommand {
  const { values, positionals } = parsed(argv)
  if (values.help) return { kind: 'help' }
  if (values.version) return { kind: 'version' }
  const logLevel = LOG_LEVELS.find((level) => level === values['log-level'])
  if (!logLevel)
    throw invalid(`invalid value "${values['log-level']}" for flag --log-level: expected ${LOG_LEVELS.join(', ')}`)
  const options: NetOptions = {
    stateDirectory: values['state-dir'],
    runDirectory: values['run-dir'],
    pluginDirectory: values['plugin-dir'],
    logLevel,
    supervised: values.supervised,
  }
  const [command = 'start', argument = '', ...more] = positionals
  if (more.length > 0) throw invalid(`unexpected argument "${more[0]}"`)
  switch (command) {
    case 'start':
    case 'remove':
      if (argument) throw invalid(`unexpected argument "${argument}"`)
      return { kind: command, options }
    case 'hold':
    case 'serve':
      return { kind: command, options, instance: Number(argument) }
    case 'probe':
      return { kind: 'probe' }
    case 'open':
      return { kind: 'open', sockets: argument }
    default:
      throw invalid(`unknown command "${command}"`)
  }
}

/** What a process of ours is started with, to have the same options. */
export function optionArguments(options: NetOptions, instance: number): readonly string[] {
  return [
    String(instance),
    `--state-dir=${options.stateDirectory}`,
    `--run-dir=${options.runDirectory}`,
    `--plugin-dir=${options.pluginDirectory}`,
    `--log-level=${options.logLevel}`,
    ...(options.supervised ? ['--supervised'] : []),
  ]
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        'state-dir': { type: 'string', default: '/var/lib/swarmd/net' },
        'run-dir': { type: 'string', default: '/run/swarmd/net' },
        'plugin-dir': { type: 'string', default: '/run/docker/plugins' },
        'log-level': { type: 'string', default: 'info' },
        supervised: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
        version: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error))
  }
}

function invalid(message: string): CodedError {
  return new CodedError('INVALID_FLAG', message)
}

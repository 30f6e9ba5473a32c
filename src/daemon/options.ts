// swarmd's command line: dockerd's names where dockerd has the flag. Nothing has to be given.

import { join } from 'node:path'
import yargs from 'yargs'
import type { GenericResource } from '../api/spec.ts'
import { CodedError } from '../lib/errors.ts'
import type { LogFormat, LogLevel } from '../lib/log.ts'
import { type ListenAddress, parseListenAddress } from './api/connections.ts'
import type { EngineAddress } from './api/engine.ts'
import { parsePressure, parseReserve } from './disk/disk-flags.ts'
import type { PressureLimit } from './disk/disk-level.ts'

export interface DaemonOptions {
  /** Where the API is served. */
  readonly hosts: readonly ListenAddress[]
  /** `unix:///path` of the local engine. */
  readonly engine: string
  /** Durable state: identity, Raft log, the worker's assignments. */
  readonly dataRoot: string
  /** Runtime state: secrets on memory, sockets. */
  readonly execRoot: string
  readonly pidfile: string
  readonly defaultAdvertiseAddress: string
  readonly logLevel: LogLevel
  readonly logFormat: LogFormat
  /** Where metrics are served; undefined: nowhere. */
  readonly metricsAddress: { readonly host: string; readonly port: number } | undefined
  /** What a manager keeps of its disk; 0: nothing. */
  readonly diskReserveBytes: number
  /** From when on a node is short of disk; undefined: never. */
  readonly diskPressure: PressureLimit | undefined
  readonly engineLabels: Readonly<Record<string, string>>
  readonly genericResources: readonly GenericResource[]
  /** Group of the unix socket, where the machine has it. */
  readonly group: string
}

export const DEFAULT_HOST = 'unix:///run/swarmd/swarmd.sock'
export const DEFAULT_ENGINE = 'unix:///var/run/docker.sock'

const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal'] as const

const LOG_FORMATS = ['json', 'text'] as const

function invalid(flag: string, value: string, expected: string): CodedError {
  return new CodedError('INVALID_FLAG', `invalid value "${value}" for flag --${flag}: ${expected}`)
}

function parseLabels(values: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = {}
  for (const value of values) {
    const at = value.indexOf('=')
    if (at <= 0) throw invalid('label', value, 'expected key=value')
    labels[value.slice(0, at)] = value.slice(at + 1)
  }
  return labels
}

/** `gpu=3` is a number of them, `gpu=UUID1` a named one (given once for each). */
export function parseGenericResources(values: readonly string[]): readonly GenericResource[] {
  return values
    .flatMap((value) => value.split(','))
    .map((value): GenericResource => {
      const [kind = '', amount = ''] = value.split('=')
      if (!kind || !amount) throw invalid('node-generic-resource', value, 'expected kind=number or kind=name')
      return /^\d+$/.test(amount)
        ? { DiscreteResourceSpec: { Kind: kind, Value: Number(amount) } }
        : { NamedResourceSpec: { Kind: kind, Value: amount } }
    })
}

/**
 * A value of --engine: unix:///path, a bare path, or tcp://host:port.
 * @throws {CodedError} INVALID_FLAG
 */
export function parseEngineAddress(text: string): EngineAddress {
  try {
    const address = parseListenAddress(text)
    return address.kind === 'unix'
      ? { kind: 'unix', path: address.path }
      : { kind: 'tcp', host: address.host, port: address.port }
  } catch {
    throw invalid('engine', text, 'expected unix:///path or tcp://address:port')
  }
}

/**
 * A value of --metrics-addr, as dockerd takes it: host:port, [IPv6]:port, or :port for every address.
 * @throws {CodedError} INVALID_FLAG
 */
export function parseMetricsAddress(text: string): DaemonOptions['metricsAddress'] {
  if (text === '') return undefined
  const [, six, plain = '', digits] = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]/]*)):(\d{1,5})$/.exec(text) ?? []
  if (digits === undefined || Number(digits) > 65_535) throw invalid('metrics-addr', text, 'expected address:port')
  return { host: six ?? (plain || '0.0.0.0'), port: Number(digits) }
}

/**
 * @throws {CodedError} INVALID_FLAG with a message for the user
 */
export async function parseOptions(argv: readonly string[], version: string): Promise<DaemonOptions> {
  const parser = yargs([...argv])
    .scriptName('swarmd')
    .usage('$0 [options]\n\nRuns this machine’s part of a swarm next to its Docker Engine.')
    .parserConfiguration({
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'duplicate-arguments-array': true,
    })
    .option('host', {
      alias: 'H',
      type: 'string',
      array: true,
      nargs: 1,
      default: [DEFAULT_HOST],
      describe: 'Serve the API on this socket (repeatable)',
    })
    .option('engine', { type: 'string', default: DEFAULT_ENGINE, describe: 'Socket of the local Docker Engine' })
    .option('data-root', { type: 'string', default: '/var/lib/swarmd', describe: 'Directory of durable state' })
    .option('exec-root', { type: 'string', default: '/run/swarmd', describe: 'Directory of runtime state' })
    .option('pidfile', {
      alias: 'p',
      type: 'string',
      describe: 'Path of the file with the process id (default: swarmd.pid in exec-root)',
    })
    .option('swarm-default-advertise-addr', {
      type: 'string',
      default: '',
      describe: 'Default address or interface for the swarm’s advertised address',
    })
    .option('log-level', {
      alias: 'l',
      type: 'string',
      choices: LOG_LEVELS,
      default: 'info',
      describe: 'Least severe level that is logged',
    })
    .option('log-format', {
      type: 'string',
      choices: LOG_FORMATS,
      default: 'json',
      describe: 'How lines of the log are written',
    })
    .option('metrics-addr', {
      type: 'string',
      default: '',
      describe: 'Serve metrics, /healthz and /readyz on this address and port (default: nowhere)',
    })
    .option('disk-reserve', {
      type: 'string',
      default: '64m',
      describe:
        'On a manager: disk kept for its own log; with less than as much left beside it, nothing new is taken (0: off)',
    })
    .option('disk-pressure', {
      type: 'string',
      default: '5%',
      describe: 'With less disk left than this (N% of it, at most 5 GiB; a size; off) the node gets no new tasks',
    })
    .option('debug', { alias: 'D', type: 'boolean', default: false, describe: 'Log at level debug' })
    .option('label', {
      type: 'string',
      array: true,
      nargs: 1,
      default: [],
      describe: 'Engine label of this node, key=value (repeatable)',
    })
    .option('node-generic-resource', {
      type: 'string',
      array: true,
      nargs: 1,
      default: [],
      describe: 'Generic resource that this node offers, such as gpu=2 (repeatable)',
    })
    .option('group', {
      alias: 'G',
      type: 'string',
      default: 'docker',
      describe: 'Group that may use the unix socket, where it exists',
    })
    .epilogue(
      'Overlay networks, names and published ports are kept in the kernel by swarmd-net, which goes on without swarmd.\n"swarmd-net remove" takes all of them off a machine whose swarmd is gone for good.',
    )
    .strict()
    .version(version)
    .help()
    .exitProcess(true)
    .fail((message, error) => {
      throw error ?? new CodedError('INVALID_FLAG', message)
    })
  const flags = await parser.parse()
  for (const name of [
    'engine',
    'data-root',
    'exec-root',
    'pidfile',
    'swarm-default-advertise-addr',
    'log-level',
    'log-format',
    'metrics-addr',
    'disk-reserve',
    'disk-pressure',
    'group',
  ]) {
    const value: unknown = flags[name]
    if (Array.isArray(value)) throw invalid(name, value.join(' '), 'given more than once')
  }
  const execRoot = flags['exec-root']
  const reserve = parseReserve(flags['disk-reserve'])
  if (reserve === undefined) {
    throw invalid('disk-reserve', flags['disk-reserve'], 'expected a size of at least 16m, such as 64m, or 0')
  }
  const pressure = parsePressure(flags['disk-pressure'])
  if (!pressure) throw invalid('disk-pressure', flags['disk-pressure'], 'expected N%, a size such as 2g, or off')
  return {
    hosts: flags.host.map(parseListenAddress),
    engine: flags.engine,
    dataRoot: flags['data-root'],
    execRoot,
    pidfile: flags.pidfile ?? join(execRoot, 'swarmd.pid'),
    defaultAdvertiseAddress: flags['swarm-default-advertise-addr'],
    logLevel: flags.debug ? 'debug' : (flags['log-level'] as LogLevel),
    logFormat: flags['log-format'] as LogFormat,
    metricsAddress: parseMetricsAddress(flags['metrics-addr']),
    diskReserveBytes: reserve,
    diskPressure: pressure.kind === 'limit' ? pressure.limit : undefined,
    engineLabels: parseLabels(flags.label),
    genericResources: parseGenericResources(flags['node-generic-resource']),
    group: flags.group,
  }
}

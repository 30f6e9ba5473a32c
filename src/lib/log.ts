// Logs: a constant message, data in fields. The interface is pino's; tests and the simulator pass a silent one.

import { pino } from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal'

/** `json`: one object a line. `text`: for people, one line each. */
export type LogFormat = 'json' | 'text'

type Write = (fields: Readonly<Record<string, unknown>>, message: string) => void

export interface Log {
  readonly debug: Write
  readonly info: Write
  readonly warn: Write
  readonly error: Write
  readonly fatal: Write
  /** The same log with fields added to every line. */
  child(fields: Readonly<Record<string, unknown>>): Log
}

/** What may never reach a log, whatever object it hides in. */
const REDACTED = ['secret', 'token', 'joinToken', 'password', 'auth', 'data', 'keyPem', 'unlockKey'].flatMap((name) => [
  name,
  `*.${name}`,
])

export interface LogOptions {
  readonly level: LogLevel
  /** Default: json. */
  readonly format?: LogFormat
  /** Default: standard error, the file descriptor of a daemon's log. */
  readonly destination?: { write(line: string): void }
}

export function createLog(options: LogOptions): Log {
  const settings = {
    level: options.level,
    redact: REDACTED,
    timestamp: pino.stdTimeFunctions.isoTime,
    base: null,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  const destination = options.destination ?? pino.destination({ fd: 2, sync: true })
  return pino(
    settings,
    options.format === 'text' ? { write: (line) => destination.write(textLine(line)) } : destination,
  )
}

const STANDARD_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'msg'])

/** A line of JSON as `time LEVEL message  name=value …`: what a terminal can show, and `grep` can find. */
function textLine(json: string): string {
  const fields = JSON.parse(json) as Readonly<Record<string, unknown>>
  const rest = Object.entries(fields)
    .filter(([name]) => !STANDARD_FIELDS.has(name))
    .map(([name, value]) => `${name}=${textValue(value)}`)
  const head = `${String(fields.time)} ${String(fields.level).toUpperCase().padEnd(5)} ${String(fields.msg)}`
  return `${[head, ...rest].join('  ')}\n`
}

function textValue(value: unknown): string {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return value
  return JSON.stringify(value) // also what has line ends in it: one event, one line
}

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
  child: () => silentLog,
}

// Logs: a constant message, data in fields. The interface is pino's; tests and the simulator pass a silent one.

import { pino } from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal'

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

/** JSON lines on standard error (the file descriptor of a daemon's log). */
export function createLog(options: { readonly level: LogLevel; readonly destination?: NodeJS.WritableStream }): Log {
  const settings = {
    level: options.level,
    redact: REDACTED,
    timestamp: pino.stdTimeFunctions.isoTime,
    base: null,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  return options.destination
    ? pino(settings, options.destination)
    : pino(settings, pino.destination({ fd: 2, sync: true }))
}

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
  child: () => silentLog,
}

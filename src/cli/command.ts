// What a command of swarmctl is, and what it is given to run with. Commands are data (flags, operands, help) with a
// `run`; the groups in registry.ts load them only when they are needed.

import type { Readable, Writable } from 'node:stream'
import type { Clock } from '../lib/clock.ts'
import type { ApiClient } from './client.ts'
import type { DockerConfig } from './docker-config.ts'
import type { Flags } from './flags.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** An end that is not success: `message` goes to stderr as it is, and the process exits with `exitCode`. */
export class CliError extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

export interface FlagType {
  /** As help shows it: "list", "duration"; empty for a switch. */
  readonly name: string
  /** Takes no value unless one is given with `=`. */
  readonly isSwitch?: boolean
  /** The value as it is kept (an environment variable filled in, say). @throws {ValueError} */
  readonly accept: (text: string, environment: Environment) => string
}

export interface Flag {
  readonly name: string
  /** One letter. */
  readonly short?: string
  readonly type: FlagType
  readonly help: string
  /** As help shows it; says nothing about what the command does without the flag. */
  readonly shownDefault?: string
  /** Least API version of the daemon. */
  readonly since?: string
  /** Values, or names of objects, that completion offers. */
  readonly complete?: readonly string[] | ObjectKind
}

export type ObjectKind = 'node' | 'service' | 'secret' | 'config' | 'network' | 'context'

/** How many operands a command takes. */
export interface Operands {
  readonly min: number
  /** undefined: any number. */
  readonly max: number | undefined
}

export interface Command {
  readonly name: string
  readonly aliases?: readonly string[]
  /** What follows the name: "[OPTIONS] IMAGE [COMMAND] [ARG...]". */
  readonly usage: string
  readonly summary: string
  readonly examples?: string
  readonly flags: readonly Flag[]
  readonly operands: Operands
  /** What the first operand ends: everything after it is an operand, also what looks like a flag. */
  readonly stopAtOperand?: boolean
  readonly completeOperand?: ObjectKind | readonly ObjectKind[]
  /** Without any flag it shows its help: there is nothing to do. */
  readonly helpWithoutFlags?: boolean
  run(context: Context, flags: Flags, operands: readonly string[]): Promise<void>
}

export interface Context {
  readonly environment: Environment
  readonly stdin: Readable & { readonly isTTY?: boolean }
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number }
  readonly stderr: Writable & { readonly isTTY?: boolean }
  readonly clock: Clock
  readonly config: DockerConfig
  /** "swarmctl service create": for messages that say what to run. */
  readonly commandPath: string
  /** Name of the Docker context in use. */
  readonly contextName: string
  /** From the first call on, Ctrl-C aborts this signal instead of ending the process; a second one ends it. */
  interrupted(): AbortSignal
  /** Connects on the first call. */
  client(): Promise<ApiClient>
}

// The system's tools in the host's network namespace, where a tool that is not installed is a status like others.

import { errorCode, errorMessage } from '../../lib/errors.ts'
import { type CommandResult, Commands } from '../kernel/commands.ts'

/** Never rejects. */
export type Command = (argv: readonly string[], input?: string) => Promise<CommandResult>

const NOT_STARTED = 127

/** `hostNamespace`: path; empty: this process's own. */
export function hostCommand(hostNamespace: string): Command {
  const commands = new Commands({ fabric: '', host: hostNamespace })
  return async ([program = '', ...args], input) => {
    try {
      return await commands.host(program, args, input)
    } catch (error) {
      return { status: NOT_STARTED, stdout: '', stderr: `${errorCode(error) ?? ''} ${errorMessage(error)}`.trim() }
    }
  }
}

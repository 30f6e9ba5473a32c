// A line that a person types and nobody may read over the shoulder: on a terminal it is not echoed.

import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { CliError, type Context } from './command.ts'

/** Of a process that Ctrl-C has ended. */
const INTERRUPTED = 130

/** The first line of the input, without blanks around it; empty where there is none. @throws {CliError} after Ctrl-C */
export async function hiddenLine({ stdin, stdout }: Context, prompt: string): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: stdin, ...(stdin.isTTY ? { output: silent, terminal: true } : {}) })
  if (stdin.isTTY) stdout.write(prompt)
  let isInterrupted = false
  lines.once('SIGINT', () => {
    isInterrupted = true
    lines.close()
  })
  const answer = await lines[Symbol.asyncIterator]().next()
  lines.close()
  if (stdin.isTTY) stdout.write('\n')
  if (isInterrupted) throw new CliError('', INTERRUPTED)
  return answer.done ? '' : String(answer.value).trim()
}

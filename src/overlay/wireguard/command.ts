// Runs the system's tools. Their output is small and they are quick: a tool that hangs is ended.

import { execFile } from 'node:child_process'

export interface CommandResult {
  /** -1: it could not be started, or was ended */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Never rejects. */
export type Command = (argv: readonly string[], input?: string) => Promise<CommandResult>

const ENDED_AFTER_MS = 20_000
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024

/** `prefix` goes before every command line: `nsenter --net=…` for another network namespace than this process's. */
export function commandRunner(prefix: readonly string[] = []): Command {
  return (argv, input = '') =>
    new Promise((resolve) => {
      const [program = '', ...rest] = [...prefix, ...argv]
      const options = { timeout: ENDED_AFTER_MS, maxBuffer: OUTPUT_BYTES_MAX, env: { ...process.env, LC_ALL: 'C' } }
      const child = execFile(program, rest, options, (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : -1) : 0
        resolve({ code, stdout, stderr: stderr || (error?.message ?? '') })
      })
      child.stdin?.on('error', () => {}) // it ended without reading: its exit code says why
      child.stdin?.end(input)
    })
}

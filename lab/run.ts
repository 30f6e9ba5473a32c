/** Runs programs of this machine: the lab drives `ip`, `nft`, `nsenter`, `docker` and the like, and reads what they say. */
import { spawn } from 'node:child_process'

export interface RunOptions {
  readonly input?: string | Uint8Array
  /** Replaces the environment; the default is this process's own. */
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** SIGKILL to the whole process group after so long; 60,000 unless told. */
  readonly timeoutMs?: number
}

export interface RunResult {
  /** 128 + signal number where a signal ended it, as a shell reports it. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const SIGKILL_CODE = 137

/** Runs `argv` to its end. Never rejects for an exit code: that is the caller's to judge. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [program = '', ...args] = argv
  const timeoutMs = options.timeoutMs ?? 60_000
  return new Promise((resolve, reject) => {
    // a group of its own, so that a time-out also ends what nsenter and shells forked
    const child = spawn(program, args, {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.env && { env: options.env }),
      ...(options.cwd && { cwd: options.cwd }),
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    const timer = setTimeout(() => {
      stderr.push(Buffer.from(`\n${argv.join(' ')}: still running after ${timeoutMs} ms, killed\n`))
      if (child.pid) process.kill(-child.pid, 'SIGKILL')
    }, timeoutMs)
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.once('error', (error) => {
      clearTimeout(timer)
      reject(new Error(`cannot run ${program}: ${error.message}`, { cause: error }))
    })
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      resolve({
        code: code ?? (signal === 'SIGKILL' ? SIGKILL_CODE : 128),
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      })
    })
    child.stdin.on('error', () => {}) // a program that does not read its input is no failure
    child.stdin.end(options.input)
  })
}

/** Runs `argv` and rejects, with what it printed, unless it ends with 0. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(argv, options)
  if (result.code !== 0) {
    throw new Error(`${argv.join(' ')}: exit code ${result.code}: ${(result.stderr || result.stdout).trim()}`)
  }
  return result.stdout
}

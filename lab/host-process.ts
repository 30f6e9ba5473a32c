/** A program that runs inside a lab host, next to the host's others: the engine or `swarmd`. */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { waitForApi } from './engine-api.ts'
import { childrenOf, isAlive, type ProcessId } from './processes.ts'

export interface StartOptions {
  readonly title: string
  /** The first process of the host's pid namespace, as the machine numbers it. */
  readonly initPid: number
  readonly argv: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Gets what the program writes, appended. */
  readonly logFile: string
  /** Started means: `GET /_ping` here answers. */
  readonly socketPath: string
  readonly readyMs: number
  /** Called when the program ends after it was ready, at whatever hand. Only while this process lives. */
  readonly onExit: (how: string) => void
}

/** The start of a command line that runs inside the host whose first process is `initPid`. */
export const inHost = (initPid: number): string[] => [
  'nsenter',
  `--target=${initPid}`,
  '--mount',
  '--uts',
  '--ipc',
  '--net',
  '--pid',
  '--',
]

/**
 * Starts the program so that it outlives this process, and resolves with its pid on the machine once it answers.
 * @throws if it ends, or does not answer in time (it is then killed); the message holds the tail of its log.
 */
export async function startInHost(options: StartOptions): Promise<ProcessId> {
  const log = openSync(options.logFile, 'a')
  const [program = '', ...args] = [...inHost(options.initPid), ...options.argv]
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log], env: options.env, cwd: '/' })
  closeSync(log)
  const failed = new AbortController()
  let ready = false
  const describe = (code: number | null, by: NodeJS.Signals | null) => (by ? `was ended by ${by}` : `exit code ${code}`)
  child.once('error', (error) => failed.abort(error))
  child.once('exit', (code, by) => {
    if (ready) options.onExit(describe(code, by))
    else failed.abort(new Error(`${options.title} did not start: ${describe(code, by)}`))
  })
  const timer = setTimeout(
    () => failed.abort(new Error(`${options.title} gave no answer on ${options.socketPath} in ${options.readyMs} ms`)),
    options.readyMs,
  )
  try {
    await waitForApi(options.socketPath, failed.signal)
    const [id] = childrenOf(child.pid ?? 0) // nsenter forks: a pid namespace is entered by a child
    if (!isAlive(id)) throw new Error(`${options.title} ended as it had just answered`)
    ready = true
    child.unref()
    return id
  } catch (error) {
    if (child.pid) {
      for (const { pid } of childrenOf(child.pid)) process.kill(pid, 'SIGKILL')
      child.kill('SIGKILL')
    }
    throw new Error(`${error instanceof Error ? error.message : error}\n${tail(options.logFile)}`, { cause: error })
  } finally {
    clearTimeout(timer)
  }
}

export function tail(file: string, lines = 15): string {
  if (!existsSync(file)) return `(no ${file})`
  const text = readFileSync(file, 'utf8').trimEnd()
  return `--- the end of ${file}\n${text.split('\n').slice(-lines).join('\n')}`
}

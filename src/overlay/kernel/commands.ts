// Runs the kernel's tools: `ip`, `bridge`, `nft`, `sysctl`, in the host's or the fabric's namespace. Never blocks the event loop.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Clock } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import type { Batch, Step } from './plan.ts'

export interface CommandResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** A tool that hangs (a kernel lock held by a device that is being removed) must not stop the data plane for good. */
const TIMEOUT_MS = 30_000

const SCRIPT = ['-f', '-']

export interface Namespaces {
  /** Name of the fabric's, in /run/netns. */
  readonly fabric: string
  /** Path of the host's; empty: this process's own. */
  readonly host: string
}

export class Commands {
  readonly #namespaces: Namespaces
  readonly #clock: Clock | undefined
  #spare: ChildProcess | undefined
  #keepsSpare = false

  /** @param clock for who keeps a spare (`keepSpare`) */
  constructor(namespaces: Namespaces, clock?: Clock) {
    this.#namespaces = namespaces
    this.#clock = clock
  }

  /**
   * From now on an `nft` waits in the fabric's namespace for the next script: to start one costs a large process such as this
   * more than the script itself. Call it again when the namespace is another one.
   */
  keepSpare(): void {
    this.dropSpare()
    this.#keepsSpare = this.#clock !== undefined
    this.#prepare()
  }

  dropSpare(): void {
    this.#keepsSpare = false
    // It reads nothing, and ends.
    this.#spare?.stdin?.end()
    this.#spare = undefined
  }

  /** Runs a script of `nft` in the fabric's namespace. */
  async script(text: string): Promise<CommandResult> {
    const spare = this.#spare
    const clock = this.#clock
    if (!spare || !clock) return this.fabric('nft', SCRIPT, text)
    this.#spare = undefined
    const timer = clock.setTimer(TIMEOUT_MS, () => spare.kill('SIGTERM'))
    try {
      return await finished(spare, 'nft', text)
    } finally {
      timer.cancel()
      // Off the way of who waits for this one.
      clock.setTimer(0, () => this.#prepare())
    }
  }

  #prepare(): void {
    if (!this.#keepsSpare || this.#spare) return
    const spare = start('nsenter', [`--net=${this.fabricPath}`, 'nft', ...SCRIPT], true)
    this.#spare = spare
    const forget = (): void => {
      if (this.#spare === spare) this.#spare = undefined
    }
    spare.on('error', forget)
    spare.on('exit', forget)
  }

  get fabricPath(): string {
    return `/run/netns/${this.#namespaces.fabric}`
  }

  /** In the host's namespace. */
  host(command: string, args: readonly string[], input?: string): Promise<CommandResult> {
    const { host } = this.#namespaces
    return host === '' ? run(command, args, input) : run('nsenter', [`--net=${host}`, command, ...args], input)
  }

  /** In the fabric's. */
  fabric(command: string, args: readonly string[], input?: string): Promise<CommandResult> {
    return command === 'ip' || command === 'bridge'
      ? run(command, ['-n', this.#namespaces.fabric, ...args], input)
      : run('nsenter', [`--net=${this.fabricPath}`, command, ...args], input)
  }

  /** Goes on after a line that fails; answers what the tools said of those. */
  async steps(steps: readonly Step[]): Promise<readonly string[]> {
    const problems: string[] = []
    for (const step of steps) {
      const results = await Promise.all(step.map((batch) => this.#batch(batch)))
      for (const result of results) if (result.status !== 0) problems.push(problemOf(result))
    }
    return problems
  }

  #batch({ tool, inHost, lines }: Batch): Promise<CommandResult> {
    const args = [...(tool === 'ip6' ? ['-6'] : []), '-force', '-batch', '-']
    const program = tool === 'bridge' ? 'bridge' : 'ip'
    const input = `${lines.join('\n')}\n`
    return inHost ? this.host(program, args, input) : this.fabric(program, args, input)
  }
}

/** @throws {CodedError} KERNEL_REFUSED with what the tool said. */
export function succeed(result: CommandResult, what: string): string {
  if (result.status !== 0) throw new CodedError('KERNEL_REFUSED', `${what}: ${problemOf(result)}`)
  return result.stdout
}

const PROBLEM_LENGTH = 1000

function problemOf({ stderr, status }: CommandResult): string {
  const text = stderr.trim()
  return text === '' ? `status ${status}` : text.slice(0, PROBLEM_LENGTH)
}

/** Rejects only where the program can't be started. */
function run(command: string, args: readonly string[], input?: string): Promise<CommandResult> {
  return finished(start(command, args, input !== undefined, TIMEOUT_MS), command, input)
}

function start(command: string, args: readonly string[], reads: boolean, timeout?: number): ChildProcess {
  return spawn(command, args, { stdio: [reads ? 'pipe' : 'ignore', 'pipe', 'pipe'], timeout })
}

function finished(child: ChildProcess, command: string, input?: string): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk))
    child.on('error', (cause) =>
      reject(new CodedError('TOOL_MISSING', `cannot run ${command}: ${cause.message}`, { cause })),
    )
    child.on('close', (code) => {
      resolve({ status: code ?? -1, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() })
    })
    // A tool that ends before it has read everything says why by its status.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

/** How the demo speaks: steps with what was seen and how long it took, commands as a person would type them, a table. */
import type { LabHost } from './lab-host.ts'

const COMMAND_MS = 120_000
const SETTLE_MS = 60_000
const POLL_MS = 50

interface Row {
  readonly what: string
  readonly seen: string
  readonly seconds: string
}

const rows: Row[] = []

export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** @throws unless `condition` holds, which ends the demo. */
export function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(what)
}

/** Runs a step, and puts what it saw and how long it took into the table. */
export async function step<T>(
  what: string,
  run: () => Promise<{ readonly seen: string; readonly value: T }>,
): Promise<T> {
  say(`\n# ${what}`)
  const start = performance.now()
  const { seen, value } = await run()
  rows.push({ what, seen, seconds: ((performance.now() - start) / 1000).toFixed(1) })
  say(`  ${seen}`)
  return value
}

export interface Command {
  readonly env?: Readonly<Record<string, string>>
  /** What of its output is shown. Default: none. */
  readonly show?: (line: string) => boolean
  /** Default: 0. */
  readonly exitCode?: number
}

/** Runs swarmctl on a host, as a person there would, and shows it. Resolves with all that it printed to stdout. */
export async function swarmctl(host: LabHost, args: readonly string[], command: Command = {}): Promise<string> {
  const { env = {}, show = () => false, exitCode = 0 } = command
  const settings = Object.entries(env).map(([name, value]) => `${name}=${/\s/.test(value) ? `'${value}'` : value} `)
  const words = args.map((arg) =>
    arg.startsWith('SWMTKN') ? `${arg.slice(0, 16)}…` : /[\s{]/.test(arg) ? `'${arg}'` : arg,
  )
  const shown = `${settings.join('')}swarmctl ${words.join(' ')}`
  say(`  ${host.name}$ ${shown}`)
  const { code, stdout, stderr } = await host.swarmctl(args, { env, timeoutMs: COMMAND_MS })
  for (const line of `${stdout}${stderr}`.trimEnd().split('\n')) if (show(line)) say(`  ${line}`)
  if (code !== exitCode) throw new Error(`${shown} ended with ${code}:\n${stderr}${stdout}`)
  return stdout.trim()
}

/** Waits for a fact. An error in it is a "not yet", and the last one is told if the fact never comes. */
export async function until(what: string, fact: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + SETTLE_MS
  for (let last = ''; ; ) {
    try {
      if (await fact()) return
    } catch (error) {
      last = error instanceof Error ? `: ${error.message}` : ''
    }
    if (performance.now() > deadline) throw new Error(`waited ${SETTLE_MS / 1000} s in vain: ${what}${last}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** What all steps saw; nothing before the first. */
export function table(): string {
  if (rows.length === 0) return ''
  const widths = [Math.max(...rows.map((row) => row.what.length)), Math.max(...rows.map((row) => row.seen.length))]
  const line = (what: string, seen: string, seconds: string) =>
    `${what.padEnd(widths[0] ?? 0)}  ${seen.padEnd(widths[1] ?? 0)}  ${seconds.padStart(7)}`
  return [line('WHAT', 'SEEN', 'SECONDS'), ...rows.map((row) => line(row.what, row.seen, row.seconds))].join('\n')
}

// Starts a prober in each network namespace that there is something to try from, a few at a time, and gathers what they say.

import { spawn } from 'node:child_process'
import type { ProbeAnswer, ProbeResult } from '../../api/network-check.ts'
import { CodedError } from '../../lib/errors.ts'
import { type ProbePlanInput, type ProbeSpace, planProbes } from './probe-plan.ts'

const PARALLEL = 4
/** A probe of many silent nodes takes this long and no longer. */
const ENDED_AFTER_MS = 60_000

/** @param program swarmd-net's main file, whose `probe` command reads targets and prints results as JSON */
export async function runProbes(program: string, input: ProbePlanInput, signal: AbortSignal): Promise<ProbeAnswer> {
  const waiting = [...planProbes(input)]
  const results: ProbeResult[] = []
  const worker = async () => {
    for (let space = waiting.shift(); space && !signal.aborted; space = waiting.shift())
      results.push(...(await runIn(program, space, signal)))
  }
  await Promise.all(Array.from({ length: PARALLEL }, worker))
  return { results }
}

/** Empty where the namespace is gone, as its container is: nothing was tried then. */
function runIn(
  program: string,
  { namespace, targets }: ProbeSpace,
  signal: AbortSignal,
): Promise<readonly ProbeResult[]> {
  const enter = namespace === '' ? [] : ['nsenter', `--net=${namespace}`]
  const [command = '', ...args] = [...enter, process.execPath, program, 'probe']
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'], signal, timeout: ENDED_AFTER_MS })
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.on('error', (cause) => reject(new CodedError('PROBE_FAILED', cause.message, { cause })))
    child.on('close', (code) => {
      resolve(code === 0 ? (JSON.parse(Buffer.concat(chunks).toString()) as ProbeResult[]) : [])
    })
    child.stdin.on('error', () => {}) // its exit code says it
    child.stdin.end(JSON.stringify(targets))
  })
}

/** Runs the load generator, which is a process of its own, and judges what it reports. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must } from '../lab/run.ts'
import type { LoadPlan, LoadResult } from './load-generator.ts'

const program = join(fileURLToPath(new URL('.', import.meta.url)), 'load-generator.js')
const TIMEOUT_MS = 120_000

/** @throws if an answer was a refusal: a daemon is not measured by how fast it says no. */
export async function load(plan: LoadPlan): Promise<LoadResult> {
  const output = await must([process.execPath, program], { input: JSON.stringify(plan), timeoutMs: TIMEOUT_MS })
  const result = JSON.parse(output) as LoadResult
  if (result.firstError !== undefined) {
    throw new Error(`${plan.socketPath}: ${JSON.stringify(result.statuses)}: ${result.firstError}`)
  }
  return result
}

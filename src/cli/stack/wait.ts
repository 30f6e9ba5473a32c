// Follows all services of a deployment at once until each has converged and stayed so for its monitor period. One line a
// service; the end tells which could not be brought to what the file says.

import { isDeepStrictEqual } from 'node:util'
import type { ServiceSpec } from '../../api/spec.ts'
import { sleep } from '../../lib/clock.ts'
import type { NodeJson, ServiceJson, TaskJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import { PROGRAM } from '../help.ts'
import { ProgressDisplay } from '../output/progress-display.ts'
import { type ProgressTracker, progressTracker } from '../service/progress.ts'
import { formatDuration } from '../units.ts'
import { PatientReader, stackFilters } from './stack-objects.ts'

const POLL_MS = 200
const DEFAULT_MONITOR_MS = 5_000

export interface Deployed {
  readonly id: string
  readonly name: string
  /** The spec that it had; one that has it still has nothing to prove, and need not stay converged for its monitor period. */
  readonly before: ServiceSpec | undefined
}

export interface WaitOptions {
  readonly quiet: boolean
  /** 0: as long as it takes. */
  readonly timeoutMs: number
}

/**
 * Returns when all have converged, or when Ctrl-C says not to wait.
 * @throws {CliError} naming each service that was paused, rolled back or removed, or is not there in time.
 */
export async function waitForServices(
  context: Context,
  stack: string,
  deployed: readonly Deployed[],
  { quiet, timeoutMs }: WaitOptions,
): Promise<void> {
  const display = quiet ? undefined : new ProgressDisplay(context.stdout)
  const client = await context.client()
  const interrupted = context.interrupted()
  const startMs = context.clock.nowMs()
  const reader = new PatientReader(context.clock)
  const waits = deployed.map((service) => new ServiceWait(service))
  for (;;) {
    const reading = await reader.read(() => readStack(client, stack))
    if (reading) {
      const { services, tasks, activeNodes } = reading
      for (const wait of waits.filter(({ outcome }) => outcome === undefined)) {
        const own = tasks.filter(({ ServiceID }) => ServiceID === wait.id)
        wait.read(services.get(wait.id), own, activeNodes, context.clock.nowMs())
        display?.update({ id: wait.name, action: wait.line })
      }
    }
    const open = waits.filter(({ outcome }) => outcome === undefined)
    if (open.length === 0) break
    if (timeoutMs > 0 && context.clock.nowMs() - startMs >= timeoutMs) {
      const late = open.map(({ name, line }) => `  ${name}: ${line}`)
      throw new CliError(
        [...failures(waits), `not converged after ${formatDuration(timeoutMs * 1e6)}:`, ...late].join('\n'),
      )
    }
    await sleep(context.clock, POLL_MS, interrupted)
    if (interrupted.aborted) {
      display?.message('Operation continuing in background.')
      display?.message(`Use \`${PROGRAM} stack ps ${stack}\` to check progress.`)
      return
    }
  }
  const failed = failures(waits)
  if (failed.length > 0) throw new CliError(failed.join('\n'))
}

interface StackReading {
  readonly services: ReadonlyMap<string, ServiceJson>
  /** Those of the services' present specs. */
  readonly tasks: readonly TaskJson[]
  readonly activeNodes: ReadonlySet<string>
}

async function readStack(client: ApiClient, stack: string): Promise<StackReading> {
  const services = await client.json<ServiceJson[]>('GET', '/services', { filters: stackFilters(stack) })
  const tasks = await client.json<TaskJson[]>('GET', '/tasks', {
    filters: stackFilters(stack, { '_up-to-date': { true: true } }),
  })
  const nodes = await client.json<NodeJson[]>('GET', '/nodes')
  return {
    services: new Map(services.map((service) => [service.ID, service])),
    tasks,
    activeNodes: new Set(nodes.filter(({ Status }) => Status?.State !== 'down').map(({ ID }) => ID)),
  }
}

const failures = (waits: readonly ServiceWait[]) =>
  waits.flatMap(({ name, outcome }) => (outcome?.kind === 'failed' ? [`${name}: ${outcome.reason}`] : []))

type Outcome = { readonly kind: 'converged' } | { readonly kind: 'failed'; readonly reason: string }

/** One service on its way. */
class ServiceWait {
  readonly id: string
  readonly name: string
  readonly #before: ServiceSpec | undefined
  #tracker: ProgressTracker | undefined
  #convergedAtMs: number | undefined
  #isRollingBack = false
  /** What began the rollback: its end does not say. */
  #trouble = ''
  #problem = ''
  #count = ''
  outcome: Outcome | undefined
  line = 'waiting'

  constructor({ id, name, before }: Deployed) {
    this.id = id
    this.name = name
    this.#before = before
  }

  read(
    service: ServiceJson | undefined,
    tasks: readonly TaskJson[],
    activeNodes: ReadonlySet<string>,
    nowMs: number,
  ): void {
    if (service?.UpdateStatus?.State === 'rollback_started') {
      this.#trouble = `${service.UpdateStatus.Message ?? ''}${problem(tasks) || this.#problem}`
    }
    const reason = service ? failure(service, this.#trouble) : 'service was removed'
    if (!service || reason !== undefined) {
      this.outcome = { kind: 'failed', reason: reason ?? '' }
      this.line = reason ?? ''
      return
    }
    const { State: state } = service.UpdateStatus ?? {}
    this.#isRollingBack = state === 'rollback_started'
    this.#tracker ??= progressTracker(service)
    if (!this.#tracker) {
      this.outcome = { kind: 'failed', reason: 'unrecognized service mode' }
      return
    }
    const step = this.#tracker.next({ service, tasks, activeNodes, rollback: this.#isRollingBack })
    const counts = step.lines.filter(({ id }) => id === 'overall progress' || id === 'job progress').at(-1)
    if (counts) this.#count = counts.action.trim()
    if (!step.converged) {
      this.#convergedAtMs = undefined
      this.#problem = problem(tasks) || this.#problem
      this.line = `${this.#count}${problem(tasks)}`
      return
    }
    this.#convergedAtMs ??= nowMs
    const monitorMs = (service.Spec.UpdateConfig?.Monitor ?? 0) / 1e6 || DEFAULT_MONITOR_MS
    const isChanged = !isDeepStrictEqual(service.Spec, this.#before)
    const needsProof = isChanged && !service.JobStatus && state !== 'completed'
    if (state === 'updating' || this.#isRollingBack) {
      this.line = `${this.#count}, ${this.#isRollingBack ? 'rolling back' : 'updating'}`
      return
    }
    if (needsProof && nowMs - this.#convergedAtMs < monitorMs) {
      this.line = `${this.#count}, verifying that tasks are stable`
      return
    }
    this.outcome = { kind: 'converged' }
    this.line = `${this.#count}, ${service.JobStatus ? 'job complete' : 'converged'}`
  }
}

/** Why the service will not come to what it was told, if it will not. */
function failure({ UpdateStatus }: ServiceJson, trouble: string): string | undefined {
  const { State: state, Message: message = '' } = UpdateStatus ?? {}
  if (state === 'paused') return `service update paused: ${message}`
  if (state === 'rollback_paused') return `service rollback paused: ${message}`
  return state === 'rollback_completed' ? `service rolled back: ${trouble || message}` : undefined
}

/** What the task that changed last says is wrong. */
function problem(tasks: readonly TaskJson[]): string {
  const latest = tasks
    .filter(({ Status }) => Status.Err)
    .sort((a, b) => ((a.Status.Timestamp ?? '') < (b.Status.Timestamp ?? '') ? 1 : -1))[0]
  return latest?.Status.Err ? ` - ${latest.Status.Err.replaceAll('\n', ' ')}` : ''
}

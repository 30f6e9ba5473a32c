// Follows a service until it has converged and stayed so for its monitor period, as `service create`, `update`, `scale`
// and `rollback` do unless they are told to detach.

import { sleep } from '../../lib/clock.ts'
import type { NodeJson, ServiceJson, TaskJson } from '../api-types.ts'
import { CliError, type Context } from '../command.ts'
import { PROGRAM } from '../help.ts'
import { ProgressDisplay } from '../output/progress-display.ts'
import { progressTracker } from './progress.ts'

const POLL_MS = 200
const DEFAULT_MONITOR_MS = 5_000

export interface WaitOptions {
  readonly quiet: boolean
  /** The user asked for a rollback: reaching it is success. */
  readonly rollbackWanted?: boolean
}

/**
 * Returns when the service has converged, or when Ctrl-C says not to wait for it.
 * @throws {CliError} when its update or rollback is paused, or when it was rolled back and nobody asked for that (where
 * docker ends with 0: scripts could not tell).
 */
export async function waitForService(context: Context, serviceId: string, options: WaitOptions): Promise<void> {
  const { quiet, rollbackWanted = false } = options
  const display = quiet ? undefined : new ProgressDisplay(context.stdout)
  const client = await context.client()
  const interrupted = context.interrupted()
  let tracker: ReturnType<typeof progressTracker>
  let convergedAtMs: number | undefined
  let rollback = false
  let rolledBack: string | undefined
  let reason = ''
  for (;;) {
    const service = await client.json<ServiceJson>('GET', `/services/${encodeURIComponent(serviceId)}`)
    tracker ??= progressTracker(service)
    if (!tracker) throw new CliError('unrecognized service mode')
    const { State: state, Message: message = '' } = service.UpdateStatus ?? {}
    if (state === 'paused') throw new CliError(`service update paused: ${message}`)
    if (state === 'rollback_paused') throw new CliError(`service rollback paused: ${message}`)
    if (state === 'updating') rollback = false
    if (state === 'completed' && convergedAtMs === undefined) return
    if (state === 'rollback_started') {
      if (!rollback && message !== '') display?.update({ id: 'rollback', action: message })
      reason = message
      rollback = true
    }
    if (state === 'rollback_completed') {
      // Where new tasks start first, the old ones have never been away: all is as it was at once.
      if (convergedAtMs === undefined || rollback) rolledBack = message
      rollback = true
    }
    const monitorMs = (service.Spec.UpdateConfig?.Monitor ?? 0) / 1e6 || DEFAULT_MONITOR_MS
    if (convergedAtMs !== undefined && context.clock.nowMs() - convergedAtMs >= monitorMs) {
      display?.update({ id: 'verify', action: `Service ${serviceId} converged` })
      if (rolledBack === undefined) return
      display?.message(rolledBack, 'rollback')
      if (rollbackWanted) return
      throw new CliError(`service update rolled back: ${reason || rolledBack}`)
    }
    const tasks = await client.json<TaskJson[]>('GET', '/tasks', {
      filters: { service: { [service.ID]: true }, '_up-to-date': { true: true } },
    })
    const nodes = await client.json<NodeJson[]>('GET', '/nodes')
    const activeNodes = new Set(nodes.filter((node) => node.Status?.State !== 'down').map((node) => node.ID))
    const step = tracker.next({ service, tasks, activeNodes, rollback })
    for (const line of step.lines) display?.update(line)
    if (step.converged) {
      if (service.JobStatus) return void display?.message('job complete')
      convergedAtMs ??= context.clock.nowMs()
      const leftMs = monitorMs - (context.clock.nowMs() - convergedAtMs)
      if (leftMs >= 0) {
        const seconds = Math.trunc(leftMs / 1000) + 1
        display?.update({ id: 'verify', action: `Waiting ${seconds} seconds to verify that tasks are stable...` })
      }
    } else {
      if (convergedAtMs !== undefined) display?.update({ id: 'verify', action: 'Detected task failure' })
      convergedAtMs = undefined
    }
    await sleep(context.clock, POLL_MS, interrupted)
    if (interrupted.aborted) {
      if (!step.converged) {
        display?.message('Operation continuing in background.')
        display?.message(`Use \`${PROGRAM} service ps ${serviceId}\` to check progress.`)
      }
      return
    }
  }
}

// What belongs to a stack in the cluster: everything with its label.

import { STACK_LABEL } from '../../api/stack-plan.ts'
import type { Clock } from '../../lib/clock.ts'
import type { NetworkJson, SecretJson, ServiceJson, TaskJson } from '../api-types.ts'
import { type ApiClient, ConnectionError, DaemonError } from '../client.ts'
import { CliError } from '../command.ts'
import type { Filters } from '../flags.ts'
import { quote } from '../strconv.ts'

/** @throws {CliError} for a name of blanks and quotes only. */
export function checkStackName(name: string): void {
  if (/^[\s"']*$/u.test(name)) throw new CliError(`invalid stack name: ${quote(name)}`)
}

/** The stack's label, beside the filters that the user gave. */
export function stackFilters(stack: string, filters: Filters = {}): Filters {
  return { ...filters, label: { ...filters.label, [`${STACK_LABEL}=${stack}`]: true } }
}

export const stackServices = (client: ApiClient, stack: string) =>
  client.json<ServiceJson[]>('GET', '/services', { filters: stackFilters(stack) })

/** The engine lists networks of its own beside the cluster's: only what has the label is the stack's. */
export async function stackNetworks(client: ApiClient, stack: string): Promise<readonly NetworkJson[]> {
  const networks = await client.json<NetworkJson[]>('GET', '/networks', { filters: stackFilters(stack) })
  return networks.filter(({ Labels }) => Labels?.[STACK_LABEL] === stack)
}

export const stackSecrets = (client: ApiClient, stack: string) =>
  client.json<SecretJson[]>('GET', '/secrets', { filters: stackFilters(stack) })

export const stackConfigs = (client: ApiClient, stack: string) =>
  client.json<SecretJson[]>('GET', '/configs', { filters: stackFilters(stack) })

export const stackTasks = (client: ApiClient, stack: string) =>
  client.json<TaskJson[]>('GET', '/tasks', { filters: stackFilters(stack) })

/** Nothing where the daemon has no such object. */
export async function orUndefined<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof DaemonError && error.status === 404) return undefined
    throw error
  }
}

const PATIENCE_MS = 15_000

/**
 * Reads what a wait looks at. While the managers choose a leader, or this one starts again, there is no answer: for a
 * while that is undefined, and no end of the wait.
 */
export class PatientReader {
  readonly #clock: Clock
  #silentSinceMs: number | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async read<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      const answer = await work()
      this.#silentSinceMs = undefined
      return answer
    } catch (error) {
      const passes = error instanceof ConnectionError || (error instanceof DaemonError && error.status >= 500)
      const nowMs = this.#clock.nowMs()
      this.#silentSinceMs ??= nowMs
      if (!passes || nowMs - this.#silentSinceMs > PATIENCE_MS) throw error
      return undefined
    }
  }
}

// What belongs to a stack in the cluster: everything with its label.

import type { NetworkJson, SecretJson, ServiceJson, TaskJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError } from '../command.ts'
import { STACK_LABEL } from '../compose/names.ts'
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

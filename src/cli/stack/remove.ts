// `stack rm`: services, secrets, configs, networks; then, unless told to detach, until the tasks are gone, so that the
// same stack can be deployed again at once.

import { sleep } from '../../lib/clock.ts'
import type { NodeJson, ServiceJson } from '../api-types.ts'
import { type ApiClient, DaemonError } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import type { Flags } from '../flags.ts'
import { ProgressDisplay } from '../output/progress-display.ts'
import {
  checkStackName,
  PatientReader,
  stackConfigs,
  stackNetworks,
  stackSecrets,
  stackServices,
  stackTasks,
} from './stack-objects.ts'

const POLL_MS = 200

export async function removeStacks(context: Context, flags: Flags, stacks: readonly string[]): Promise<void> {
  for (const stack of stacks) checkStackName(stack)
  if (flags.on('volumes') && flags.on('detach')) {
    throw new CliError('--volumes waits until the tasks are gone: leave out --detach')
  }
  const client = await context.client()
  const errors: string[] = []
  for (const stack of stacks) {
    const isComplete = await removeStack(context, client, stack, !flags.on('detach'))
    const isEmpty = !flags.on('volumes') || (await removeVolumes(context, client, stack))
    if (!isComplete || !isEmpty) {
      errors.push(`failed to remove some resources from stack: ${stack}`)
    }
  }
  if (errors.length > 0) throw new CliError(errors.join('\n'))
}

export interface Removal {
  readonly kind: 'service' | 'secret' | 'config' | 'network'
  readonly id: string
  readonly name: string
}

/** False where something could not be removed; what it was has been printed. */
async function removeStack(context: Context, client: ApiClient, stack: string, wait: boolean): Promise<boolean> {
  const services = await stackServices(client, stack)
  const networks = (await stackNetworks(client, stack)).map(
    ({ Id, Name }): Removal => ({ kind: 'network', id: Id, name: Name }),
  )
  const payload = (kind: 'secret' | 'config') => (object: { ID: string; Spec: { Name?: string } }) => ({
    kind,
    id: object.ID,
    name: object.Spec.Name ?? '',
  })
  const secrets = (await stackSecrets(client, stack)).map(payload('secret'))
  const configs = (await stackConfigs(client, stack)).map(payload('config'))
  if (services.length + networks.length + secrets.length + configs.length === 0) {
    context.stderr.write(`Nothing found in stack: ${stack}\n`)
    return true
  }
  let isComplete = await removeServices(context, client, services)
  isComplete = (await removeEach(context, client, [...secrets, ...configs])) && isComplete
  const isFinal = !wait
  const held = await removeNetworks(context, client, networks, isFinal)
  if (wait) {
    await waitForTasks(context, client, stack)
    return (await removeNetworks(context, client, held, true)).length === 0 && isComplete
  }
  return held.length === 0 && isComplete
}

const VOLUME_IN_USE = /volume is in use/
/** A container is gone a moment after its task has ended. */
const VOLUMES_WAIT_MS = 10_000

/** Of every node. False where one is still there. */
async function removeVolumes(context: Context, client: ApiClient, stack: string): Promise<boolean> {
  const path = `/swarmd/stacks/${encodeURIComponent(stack)}/volumes`
  const deadlineMs = context.clock.nowMs() + VOLUMES_WAIT_MS
  for (;;) {
    const volumes = await client.json<readonly { Node: string; Name: string; Error?: string }[]>('DELETE', path)
    for (const { Node, Name, Error: problem } of volumes) {
      if (problem === undefined) context.stdout.write(`Removing volume ${Name} on ${Node}\n`)
    }
    const left = volumes.filter(({ Error: problem }) => problem !== undefined)
    const mayGo = left.every(({ Error: problem = '' }) => VOLUME_IN_USE.test(problem))
    if (left.length > 0 && mayGo && context.clock.nowMs() < deadlineMs) {
      await sleep(context.clock, POLL_MS)
      continue
    }
    for (const { Node, Name, Error: problem } of left) {
      context.stderr.write(`Failed to remove volume ${Name} on ${Node}: ${problem}\n`)
    }
    return left.length === 0
  }
}

/** False where one could not be removed. */
export async function removeServices(
  context: Context,
  client: ApiClient,
  services: readonly ServiceJson[],
): Promise<boolean> {
  const sorted = services
    .map(({ ID, Spec }): Removal => ({ kind: 'service', id: ID, name: Spec.Name ?? '' }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  return await removeEach(context, client, sorted)
}

/** False where one could not be removed; why has been printed. */
export async function removeEach(context: Context, client: ApiClient, objects: readonly Removal[]): Promise<boolean> {
  let isComplete = true
  for (const object of objects) {
    context.stdout.write(`Removing ${object.kind} ${object.name}\n`)
    const error = await tryToRemove(client, object)
    if (error === undefined) continue
    report(context, object, error)
    isComplete = false
  }
  return isComplete
}

/** Those that could not be removed. A network may be held by tasks that are still stopping: the first time that is no error. */
async function removeNetworks(
  context: Context,
  client: ApiClient,
  networks: readonly Removal[],
  isFinal: boolean,
): Promise<readonly Removal[]> {
  const held: Removal[] = []
  for (const network of networks) {
    const error = await tryToRemove(client, network)
    if (error !== undefined) held.push(network)
    if (error === undefined || isFinal) context.stdout.write(`Removing network ${network.name}\n`)
    if (error !== undefined && isFinal) report(context, network, error)
  }
  return held
}

const report = (context: Context, { kind, id }: Removal, error: string) =>
  void context.stderr.write(`Failed to remove ${kind} ${id}: ${error}\n`)

/** The daemon's words, if it refuses. What is gone already is removed. */
export async function tryToRemove(client: ApiClient, { kind, id }: Removal): Promise<string | undefined> {
  try {
    await client.text('DELETE', `/${kind}s/${encodeURIComponent(id)}`)
    return undefined
  } catch (error) {
    if (!(error instanceof DaemonError)) throw error
    return error.status === 404 ? undefined : error.message
  }
}

/** Until no task of the stack is left that could still run; nodes that are down cannot say, and are not waited for. */
async function waitForTasks(context: Context, client: ApiClient, stack: string): Promise<void> {
  const interrupted = context.interrupted()
  const reader = new PatientReader(context.clock)
  // Somebody who looks on sees why it takes a while; scripts get Docker's lines.
  const display = context.stdout.isTTY ? new ProgressDisplay(context.stdout) : undefined
  let isShown = false
  while (!interrupted.aborted) {
    const left = await reader.read(() => tasksLeft(client, stack))
    if (left === 0) {
      if (isShown) display?.update({ id: 'tasks', action: 'all stopped' })
      return
    }
    if (left !== undefined) {
      display?.update({ id: 'tasks', action: `${left} to stop` })
      isShown = true
    }
    await sleep(context.clock, POLL_MS, interrupted)
  }
}

async function tasksLeft(client: ApiClient, stack: string): Promise<number> {
  const tasks = (await stackTasks(client, stack)).filter(({ Status }) => !hasEnded(Status.State))
  if (tasks.length === 0) return 0
  const nodes = await client.json<NodeJson[]>('GET', '/nodes')
  const down = new Set(nodes.filter(({ Status }) => Status?.State === 'down').map(({ ID }) => ID))
  return tasks.filter(({ NodeID }) => !down.has(NodeID ?? '')).length
}

const hasEnded = (state: string) => ['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned'].includes(state)

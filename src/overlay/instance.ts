// Several nodes may share one host's network namespace (a laboratory, a test beside a real node). Each has a number, which names its
// links, tables, ports and network driver. A number is held by an abstract unix socket, which exists once in a network
// namespace and goes with its last holder; what a node leaves in the kernel stays its own by a note of its state directory.

import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { CodedError } from '../lib/errors.ts'
import { fabricConfig } from './kernel/fabric-config.ts'

export const INSTANCES_MAX = 62
const NOTES = '/run/swarmctl-net'

/** The socket that only one process in a host's network namespace can have. */
export function lockPath(instance: number): string {
  return `\0swarmctl-net-${instance}`
}

/** The socket that only one process on a state directory can have. */
export function stateLockPath(stateDirectory: string): string {
  const name = createHash('sha256').update(resolve(stateDirectory)).digest('hex').slice(0, 32)
  return `\0swarmctl-net-of-${name}`
}

/** Name of the engine's network driver. */
export function driverName(instance: number): string {
  return instance === 0 ? 'swarmctl' : `swarmctl${instance}`
}

/**
 * The numbers that this node may try, best first: the one that it had, then those that nobody else has left something behind for.
 */
export async function candidates(stateDirectory: string): Promise<readonly number[]> {
  const own: number[] = []
  const free: number[] = []
  for (let instance = 0; instance < INSTANCES_MAX; instance++) {
    const owner = await noteOf(instance)
    if (owner === stateDirectory) own.push(instance)
    else if (owner === undefined || !(await isInUse(instance))) free.push(instance)
  }
  return [...own, ...free]
}

/** @throws system errors */
export async function take(instance: number, stateDirectory: string): Promise<void> {
  await mkdir(NOTES, { recursive: true, mode: 0o755 })
  await writeFile(join(NOTES, String(instance)), `${stateDirectory}\n`)
}

/** The number that the node of this state directory had last; undefined: none. */
export async function instanceOf(stateDirectory: string): Promise<number | undefined> {
  for (let instance = 0; instance < INSTANCES_MAX; instance++) {
    if ((await noteOf(instance)) === stateDirectory) return instance
  }
  return undefined
}

export function noFreeInstance(): CodedError {
  return new CodedError('NO_INSTANCE', `${INSTANCES_MAX} nodes share this network namespace already`)
}

async function noteOf(instance: number): Promise<string | undefined> {
  const note = await readFile(join(NOTES, String(instance)), 'utf8').catch(() => undefined)
  return note?.trim()
}

async function isInUse(instance: number): Promise<boolean> {
  const { namespace } = fabricConfig({ instance, dataPathPort: 0 })
  return stat(`/run/netns/${namespace}`).then(
    () => true,
    () => false,
  )
}

export async function forgetInstance(instance: number): Promise<void> {
  await rm(join(NOTES, String(instance)), { force: true })
}

/** What a lab is called, where it lies and what its parts are called: all derived from its name and its directory. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export type HostRole = 'manager' | 'worker'

export interface HostPlan {
  readonly name: string
  readonly role: HostRole
  readonly number: number
  readonly address: string
  readonly netns: string
}

export const DEFAULT_LAB_NAME = 'lab'
export const SUBNET_PREFIX_LENGTH = 24
/** sun_path holds 108 bytes, the last one is NUL. */
export const SOCKET_PATH_BYTES_MAX = 107
export const HOSTS_MAX = 99

/** This project's folder, found from the compiled file wherever that was put. */
export const projectRoot: string = (() => {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!isProject(folder)) {
    if (folder === dirname(folder)) throw new Error(`no package.json of swarmctl above ${import.meta.url}`)
    folder = dirname(folder)
  }
  return folder
})()

function isProject(folder: string): boolean {
  const file = join(folder, 'package.json')
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'swarmctl'
}

export function checkLabName(name: string): void {
  if (!/^[a-z][a-z0-9]{0,15}$/.test(name)) {
    throw new Error(`"${name}" cannot name a lab: 1 to 16 of a-z and 0-9, a letter first`)
  }
}

/** `.lab` in the project for the default name, `.lab-NAME` for another. */
export function defaultLabDir(name: string): string {
  return join(projectRoot, name === DEFAULT_LAB_NAME ? '.lab' : `.lab-${name}`)
}

/** 10.77.N of the lab's /24. Labs share no link, so this only keeps their addresses apart for people. */
export function subnetOf(name: string): string {
  if (name === DEFAULT_LAB_NAME) return '10.77.0'
  return `10.77.${1 + ((createHash('sha256').update(name).digest()[0] ?? 0) % 254)}`
}

export function planHosts(name: string, managers: number, workers: number): HostPlan[] {
  const subnet = subnetOf(name)
  return Array.from({ length: managers + workers }, (_, index) => {
    const number = index + 1
    return {
      name: `n${number}`,
      role: index < managers ? 'manager' : 'worker',
      number,
      address: `${subnet}.${10 + number}`,
      netns: `${name}-n${number}`,
    }
  })
}

export const switchNetns = (name: string): string => `${name}-sw`
export const clientNetns = (name: string): string => `${name}-client`
export const clientAddress = (name: string): string => `${subnetOf(name)}.200`
/** Whether a network namespace of this machine is one of this lab's, also of a lab with more hosts than now. */
export const isNetnsOf = (name: string, netns: string): boolean =>
  netns.startsWith(`${name}-`) && /^(sw|client|n\d{1,2})$/.test(netns.slice(name.length + 1))

/** The paths of one host. All lie on the machine's disk, seen alike from inside and outside of the host. */
export interface HostPaths {
  readonly dir: string
  readonly engineSocket: string
  readonly engineData: string
  readonly engineLog: string
  readonly engineConfig: string
  readonly swarmdSocket: string
  readonly swarmdData: string
  readonly swarmdLog: string
  readonly initLog: string
}

export function hostPaths(labDir: string, hostName: string): HostPaths {
  const dir = join(labDir, hostName)
  return {
    dir,
    engineSocket: join(dir, 'docker.sock'),
    engineData: join(dir, 'engine'),
    engineLog: join(dir, 'engine.log'),
    engineConfig: join(dir, 'daemon.json'),
    swarmdSocket: join(dir, 'swarmd.sock'),
    swarmdData: join(dir, 'swarmd'),
    swarmdLog: join(dir, 'swarmd.log'),
    initLog: join(dir, 'init.log'),
  }
}

/**
 * What is known of a lab on disk: `hosts.json` in its directory, for people and programs, and the registration below
 * /run that keeps two labs of one name apart. Written before each thing that it names is made, so that `down` finds
 * what an interrupted `up` left.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { HostRole } from './layout.ts'
import type { ProcessId } from './processes.ts'

export interface SwarmdOptions {
  /** The program; `dist/swarmd.mjs` unless told. Another build goes here. */
  readonly program?: string
  /** More flags, after the lab's own. */
  readonly args?: readonly string[]
  /** More environment. */
  readonly env?: Readonly<Record<string, string>>
}

export interface HostRecord {
  readonly name: string
  readonly role: HostRole
  readonly address: string
  /** As `ip netns exec` takes it. */
  readonly netns: string
  readonly engineSocket: string
  /** Where the engine of another Debian release lies unpacked; absent: the machine's own. */
  readonly engineRoot?: string
  readonly swarmdSocket: string
  readonly pids: {
    /** The first process of the host; null while the host has no power. */
    readonly init: number | null
    readonly engine: number | null
    readonly swarmd: number | null
  }
  /** When each of `pids` started, in clock ticks since the machine's boot: a pid alone may name another by now. */
  readonly startTicks: { readonly init: number | null; readonly engine: number | null; readonly swarmd: number | null }
  /** How `swarmd` was last started; null if it never was. */
  readonly swarmd: SwarmdOptions | null
}

export interface LabRecord {
  readonly format: 1
  readonly name: string
  readonly subnet: string
  readonly managers: number
  readonly workers: number
  readonly liveRestore: boolean
  readonly engineArgs: readonly string[]
  readonly client: { readonly netns: string; readonly address: string }
  readonly hosts: readonly HostRecord[]
}

export type ProcessName = 'init' | 'engine' | 'swarmd'

const FILE = 'hosts.json'
const REGISTRY = '/run/swarmctl-labs'

export const stateFile = (labDir: string): string => join(labDir, FILE)

export function readState(labDir: string): LabRecord | undefined {
  if (!existsSync(stateFile(labDir))) return undefined
  try {
    const record = JSON.parse(readFileSync(stateFile(labDir), 'utf8')) as LabRecord
    return record.format === 1 ? record : undefined
  } catch {
    return undefined
  }
}

export function writeState(labDir: string, record: LabRecord): void {
  const fresh = `${stateFile(labDir)}.${process.pid}`
  writeFileSync(fresh, `${JSON.stringify(record, null, 2)}\n`)
  renameSync(fresh, stateFile(labDir))
}

/** Notes that `host`'s process is now `id`, or that there is none. */
export function recordProcess(labDir: string, host: string, name: ProcessName, id: ProcessId | undefined): void {
  amendHost(labDir, host, (entry) => ({
    ...entry,
    pids: { ...entry.pids, [name]: id?.pid ?? null },
    startTicks: { ...entry.startTicks, [name]: id?.startTicks ?? null },
  }))
}

export function recordSwarmdOptions(labDir: string, host: string, swarmd: SwarmdOptions): void {
  amendHost(labDir, host, (entry) => ({ ...entry, swarmd }))
}

function amendHost(labDir: string, host: string, amend: (entry: HostRecord) => HostRecord): void {
  const record = readState(labDir)
  if (!record) return // the lab is being taken down
  writeState(labDir, { ...record, hosts: record.hosts.map((entry) => (entry.name === host ? amend(entry) : entry)) })
}

export function recordedProcess(labDir: string, host: string, name: ProcessName): ProcessId | undefined {
  const entry = readState(labDir)?.hosts.find((candidate) => candidate.name === host)
  const pid = entry?.pids[name]
  const startTicks = entry?.startTicks[name]
  return pid && startTicks ? { pid, startTicks } : undefined
}

/** The directory that a lab of this name was last brought up in. */
export function registeredDir(labName: string): string | undefined {
  const file = join(REGISTRY, labName)
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined
}

/** Names of the labs that were brought up on this machine and not yet taken down. */
export function registeredNames(): string[] {
  return existsSync(REGISTRY) ? readdirSync(REGISTRY) : []
}

export function registerDir(labName: string, labDir: string): void {
  mkdirSync(REGISTRY, { recursive: true })
  writeFileSync(join(REGISTRY, labName), `${labDir}\n`)
}

export function unregister(labName: string): void {
  rmSync(join(REGISTRY, labName), { force: true })
  if (existsSync(REGISTRY) && readdirSync(REGISTRY).length === 0) rmdirSync(REGISTRY)
}

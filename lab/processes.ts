/**
 * The machine's processes as /proc shows them. A pid alone names nothing for long, so a process that the lab
 * remembers is a pid and its start time, and no signal goes to a pid whose start time differs.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

export interface ProcessId {
  readonly pid: number
  /** Field 22 of /proc/PID/stat, in clock ticks since boot. */
  readonly startTicks: number
}

interface Stat extends ProcessId {
  readonly state: string
  readonly parentPid: number
}

/** The process that has `pid` now, unless there is none or only its zombie. */
export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid)
  return stat && stat.state !== 'Z' && stat.state !== 'X' ? { pid, startTicks: stat.startTicks } : undefined
}

export function isAlive(id: ProcessId | undefined): id is ProcessId {
  return id !== undefined && identify(id.pid)?.startTicks === id.startTicks
}

/** Sends `signal` unless the process is gone. Answers whether it was there. */
export function signal(id: ProcessId | undefined, name: NodeJS.Signals): boolean {
  if (!isAlive(id)) return false
  try {
    return process.kill(id.pid, name)
  } catch {
    return false // it went between the look and the signal
  }
}

/**
 * Resolves to false if one of `ids` still runs after `timeoutMs`. With `reaped`, a zombie counts as running: its pid
 * is taken, and a daemon that finds its own stale pid file believes that it runs already.
 */
export async function waitGone(
  ids: readonly ProcessId[],
  timeoutMs: number,
  options: { reaped?: boolean } = {},
): Promise<boolean> {
  const there = options.reaped ? (id: ProcessId) => readStat(id.pid)?.startTicks === id.startTicks : isAlive
  for (let waitedMs = 0; ids.some(there); waitedMs += 5) {
    if (waitedMs >= timeoutMs) return false
    await delay(5)
  }
  return true
}

/** Lets a stopped process go on, and the nsenter that it runs under: nsenter stops itself when its child is stopped. */
export function resume(id: ProcessId | undefined): boolean {
  const parentPid = isAlive(id) ? readStat(id.pid)?.parentPid : undefined
  if (parentPid === undefined) return false
  if (parentPid > 1) signal(identify(parentPid), 'SIGCONT')
  return signal(id, 'SIGCONT')
}

export function childrenOf(parentPid: number): ProcessId[] {
  return allStats().filter((stat) => stat.parentPid === parentPid)
}

/** Every process whose network namespace is the one that `netnsInode` names. */
export function processesInNetns(netnsInode: number): ProcessId[] {
  return allStats().filter((stat) => {
    try {
      return readlinkSync(`/proc/${stat.pid}/ns/net`) === `net:[${netnsInode}]`
    } catch {
      return false
    }
  })
}

function allStats(): Stat[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readStat(Number(name)))
    .filter((stat) => stat !== undefined)
}

function readStat(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // the name in parentheses may itself hold spaces and parentheses
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return { pid, state: fields[0] ?? 'X', parentPid: Number(fields[1]), startTicks: Number(fields[19]) }
  } catch {
    return undefined
  }
}

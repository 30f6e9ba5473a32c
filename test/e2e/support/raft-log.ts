/** What the managers' own logs tell of consensus: elections that a client need not notice. */
import { readFileSync } from 'node:fs'
import type { LabHost } from '../../../lab/lab-host.ts'

interface LogLine {
  readonly msg: string
  readonly term?: number
  readonly [field: string]: unknown
}

/** Where each host's log ends now; `linesSince` and `electionsSince` look from there on. */
export type LogMark = ReadonlyMap<string, number>

export function markLogs(hosts: readonly LabHost[]): LogMark {
  return new Map(hosts.map((host) => [host.name, readFileSync(host.paths.swarmdLog).length]))
}

export function linesSince(mark: LogMark, host: LabHost, msg: string): readonly LogLine[] {
  const text = readFileSync(host.paths.swarmdLog).subarray(mark.get(host.name)).toString()
  return text
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as LogLine)
    .filter((line) => line.msg === msg)
}

/** The terms that some host began to lead in. */
export function electionsSince(mark: LogMark, hosts: readonly LabHost[]): readonly number[] {
  const terms = hosts.flatMap((host) => linesSince(mark, host, 'leading the cluster').map(({ term }) => term ?? 0))
  return [...new Set(terms)].toSorted((a, b) => a - b)
}

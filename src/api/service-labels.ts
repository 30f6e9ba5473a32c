// Labels of services that managers and the data plane keep to. Docker's API has no field for them, and labels pass through every client
// and compose file. Read with what is wrong taken for absent; `serviceLabelProblem` says what is wrong, at the API.

import { containerLabelProblem } from './container-labels.ts'
import { DEPENDS_ON_LABEL, dependsOnProblem } from './depends-on.ts'
import { durationMs } from './duration-text.ts'
import { publishProblem } from './publish-addresses.ts'
import type { Labels } from './spec.ts'
import { staticAddressProblem } from './static-addresses.ts'

/** How long a task that is to stop may finish its connections: a duration as Go writes it (`2s`, `1m30s`); `0s`: not at all. */
export const DRAIN_LABEL = 'io.swarmctl.drain'
/** `client`: connections of one client address go to one task; `none`. */
export const AFFINITY_LABEL = 'io.swarmctl.affinity'
/** `true`, `false`, or published ports (`8080,5353/udp`) at which a node with tasks of the service gives them all that enters. */
export const PREFER_LOCAL_LABEL = 'io.swarmctl.prefer-local'

/** How long a new task of an update may take to run before the update counts as failed, as a duration; `0s`: as long as it likes. */
export const PROGRESS_DEADLINE_LABEL = 'io.swarmctl.update.progress-deadline'

/** How long a slot whose tasks keep failing waits for its next start at most, as a duration; `0s`: Docker's fixed delay. */
export const RESTART_MAX_DELAY_LABEL = 'io.swarmctl.restart.max-delay'

/** When a node asks the registry for the image of a task: `always`, `missing` (not where it has it), `never`. */
export const PULL_POLICY_LABEL = 'io.swarmctl.pull-policy'

export type PullPolicy = 'always' | 'missing' | 'never'

const DEFAULT_DRAIN_MS = 2_000
const DEFAULT_RESTART_MAX_DELAY_MS = 300_000
const MAX_DRAIN_MS = 3_600_000
interface LocalPort {
  readonly published: number
  /** undefined: of every protocol */
  readonly protocol: string | undefined
}

function localPorts(text: string): readonly LocalPort[] | undefined {
  const ports = text.split(',').map((part): LocalPort | undefined => {
    const match = /^\s*(\d{1,5})(?:\/(tcp|udp|sctp))?\s*$/.exec(part)
    const published = Number(match?.[1] ?? 0)
    return match && published >= 1 && published <= 65_535 ? { published, protocol: match[2] } : undefined
  })
  return ports.every((port) => port !== undefined) ? ports : undefined
}

/** How long the connections of a task of this service may take to end. */
export function drainTimeMs(labels: Labels | undefined): number {
  const given = labels?.[DRAIN_LABEL]
  const wanted = given === undefined ? undefined : durationMs(given)
  return wanted === undefined ? DEFAULT_DRAIN_MS : Math.min(wanted, MAX_DRAIN_MS)
}

/** undefined: a new task of an update may take as long as it likes. */
export function progressDeadlineMs(labels: Labels | undefined): number | undefined {
  const given = labels?.[PROGRESS_DEADLINE_LABEL]
  return (given === undefined ? undefined : durationMs(given)) || undefined
}

/** The longest wait between the starts of a task that keeps failing; the restart policy's own delay may be longer. */
export function restartMaxDelayMs(labels: Labels | undefined): number {
  const given = labels?.[RESTART_MAX_DELAY_LABEL]
  return (given === undefined ? undefined : durationMs(given)) ?? DEFAULT_RESTART_MAX_DELAY_MS
}

export function pullPolicy(labels: Labels | undefined): PullPolicy {
  const given = labels?.[PULL_POLICY_LABEL]
  return given === 'missing' || given === 'never' ? given : 'always'
}

export function hasClientAffinity(labels: Labels | undefined): boolean {
  return labels?.[AFFINITY_LABEL] === 'client'
}

export function prefersLocal(
  labels: Labels | undefined,
  port: { readonly protocol: string; readonly published: number },
) {
  const given = labels?.[PREFER_LOCAL_LABEL] ?? 'false'
  if (given === 'true' || given === 'false') return given === 'true'
  return (localPorts(given) ?? []).some(
    ({ published, protocol = port.protocol }) => published === port.published && protocol === port.protocol,
  )
}

/** What is wrong with the first of these labels that can't be understood; undefined: nothing. */
export function serviceLabelProblem(labels: Labels | undefined): string | undefined {
  for (const [name, value] of Object.entries(labels ?? {})) {
    const found = labelProblem(name, value)
    if (found) return `label ${name}: ${found}`
  }
  return undefined
}

function labelProblem(name: string, value: string): string | undefined {
  const quoted = JSON.stringify(value)
  switch (name) {
    case DRAIN_LABEL: {
      const drainMs = durationMs(value)
      if (drainMs === undefined) return `invalid duration ${quoted}: write it like 500ms, 2s or 1m30s`
      return drainMs > MAX_DRAIN_MS ? `${quoted} is longer than 1h` : undefined
    }
    case PROGRESS_DEADLINE_LABEL:
    case RESTART_MAX_DELAY_LABEL:
      return durationMs(value) === undefined ? `invalid duration ${quoted}: write it like 90s, 5m or 1m30s` : undefined
    case AFFINITY_LABEL:
      return value === 'client' || value === 'none' ? undefined : `invalid value ${quoted}: must be client or none`
    case PREFER_LOCAL_LABEL:
      if (value === 'true' || value === 'false' || localPorts(value)) return undefined
      return `invalid value ${quoted}: must be true, false or published ports such as 8080,5353/udp`
    case DEPENDS_ON_LABEL:
      return dependsOnProblem(value)
    case PULL_POLICY_LABEL:
      if (value === 'always' || value === 'missing' || value === 'never') return undefined
      return `invalid value ${quoted}: must be always, missing or never`
    default:
      return publishProblem(name, value) ?? staticAddressProblem(name, value) ?? containerLabelProblem(name, value)
  }
}

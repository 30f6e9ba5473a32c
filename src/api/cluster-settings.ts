// Settings of the whole cluster that Docker's spec has no field for. They are labels of the cluster, since labels pass through every
// client that reads, changes and writes the spec. One table: names, accepted values, and what holds where a label is absent.

import type { Labels, SwarmSpec } from './spec.ts'

export const CLUSTER_SETTING_PREFIX = 'io.swarmctl.'

/** Which Docker API a service that binds /var/run/docker.sock gets: swarmd's, or the engine's own. */
export const TASK_SOCKET_LABEL = 'io.swarmctl.task-docker-socket'

export interface ClusterSetting {
  readonly label: string
  readonly summary: string
  /** What may be given, in words. */
  readonly accepted: string
  readonly byDefault: string
  /** Values to complete on a command line. */
  readonly examples: readonly string[]
  accepts(value: string): boolean
}

function oneOf(...values: readonly string[]): Pick<ClusterSetting, 'accepted' | 'examples' | 'accepts'> {
  return { accepted: values.join(' or '), examples: values, accepts: (value) => values.includes(value) }
}

export const CLUSTER_SETTINGS: readonly ClusterSetting[] = [
  {
    label: TASK_SOCKET_LABEL,
    summary: 'whose Docker API a service gets that binds /var/run/docker.sock',
    byDefault: 'swarmd',
    ...oneOf('swarmd', 'engine'),
  },
]

/** What is wrong with the first of these labels that is a setting, or means to be one; undefined: nothing. */
export function clusterSettingProblem(labels: Labels | undefined): string | undefined {
  for (const [label, value] of Object.entries(labels ?? {})) {
    if (!label.startsWith(CLUSTER_SETTING_PREFIX)) continue
    const setting = CLUSTER_SETTINGS.find((known) => known.label === label)
    if (setting === undefined) {
      const known = CLUSTER_SETTINGS.map((one) => one.label).join(', ')
      return `label ${label}: no such setting of the cluster: ${known} are known`
    }
    if (!setting.accepts(value)) {
      return `label ${label}: invalid value ${JSON.stringify(value)}: must be ${setting.accepted}`
    }
  }
  return undefined
}

export type TaskSocketKind = 'swarmd' | 'engine'

export function taskSocketOf(spec: SwarmSpec | undefined): TaskSocketKind {
  return spec?.Labels?.[TASK_SOCKET_LABEL] === 'engine' ? 'engine' : 'swarmd'
}

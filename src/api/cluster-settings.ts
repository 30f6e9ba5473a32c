// Settings of the whole cluster that Docker's spec has no field for. They are labels of the cluster, since labels pass through every
// client that reads, changes and writes the spec. One table: names, accepted values, and what holds where a label is absent.

import { formatCidr, overlaps, parseCidr } from '../lib/cidr.ts'
import { DEFAULT_INGRESS_SUBNET, INGRESS_PREFIX_MAX, NODE_SUBNETS } from './defaults.ts'
import { durationMs } from './duration-text.ts'
import type { Labels, SwarmSpec } from './spec.ts'

export const CLUSTER_SETTING_PREFIX = 'io.swarmctl.'

/** Which Docker API a service that binds /var/run/docker.sock gets: swarmd's, or the engine's own. */
export const TASK_SOCKET_LABEL = 'io.swarmctl.task-docker-socket'

/** What `swarm init` makes the ingress network of. */
export const INGRESS_SUBNET_LABEL = 'io.swarmctl.ingress-subnet'

/** Images that nothing uses and stopped containers are removed after this time; `off`. */
export const CLEAN_UP_LABEL = 'io.swarmctl.clean-up'
/** Whether a node that is short of disk removes them earlier. */
export const CLEAN_UP_ON_PRESSURE_LABEL = 'io.swarmctl.clean-up.on-pressure'

/** Whether services may have what reaches beyond their containers: privileged, devices, namespaces of the host and the like. */
export const HOST_ACCESS_LABEL = 'io.swarmctl.host-access'

/** Whether tasks are moved onto a node that joins or returns. */
export const REBALANCE_LABEL = 'io.swarmctl.rebalance'
/** How long such a node has to be there before. */
export const REBALANCE_AFTER_LABEL = 'io.swarmctl.rebalance.after'
/** How many tasks rebalancing moves at one time, in the whole cluster. */
export const REBALANCE_AT_ONCE_LABEL = 'io.swarmctl.rebalance.at-once'

export interface ClusterSetting {
  readonly label: string
  readonly summary: string
  /** What may be given, in words. */
  readonly accepted: string
  readonly byDefault: string
  /** Values to complete on a command line. */
  readonly examples: readonly string[]
  /** It is taken by `swarm init` only; what to do later instead. */
  readonly later?: string
  accepts(value: string): boolean
}

function oneOf(...values: readonly string[]): Pick<ClusterSetting, 'accepted' | 'examples' | 'accepts'> {
  return { accepted: values.join(' or '), examples: values, accepts: (value) => values.includes(value) }
}

const MIN_CLEAN_UP_MS = 60_000

export const MAX_REBALANCE_AT_ONCE = 100
const REBALANCE_AFTER_MS = 30_000

export const CLUSTER_SETTINGS: readonly ClusterSetting[] = [
  {
    label: REBALANCE_LABEL,
    summary: 'whether tasks are moved onto a node that joins or returns',
    byDefault: 'off',
    ...oneOf('off', 'on-join'),
  },
  {
    label: REBALANCE_AFTER_LABEL,
    summary: 'how long such a node has to be ready before',
    byDefault: '30s',
    accepted: 'a duration such as 10s or 5m',
    examples: ['10s', '30s', '5m'],
    accepts: (value) => durationMs(value) !== undefined,
  },
  {
    label: REBALANCE_AT_ONCE_LABEL,
    summary: 'how many tasks rebalancing moves at one time',
    byDefault: '1',
    accepted: `a number from 1 to ${MAX_REBALANCE_AT_ONCE}`,
    examples: ['1', '2', '5'],
    accepts: (value) => atOnceOf(value) !== undefined,
  },
  {
    label: TASK_SOCKET_LABEL,
    summary: 'whose Docker API a service gets that binds /var/run/docker.sock',
    byDefault: 'swarmd',
    ...oneOf('swarmd', 'engine'),
  },
  {
    label: HOST_ACCESS_LABEL,
    summary: 'whether services may be privileged, have devices of the node, or share its namespaces',
    byDefault: 'refuse',
    ...oneOf('refuse', 'allow'),
  },
  {
    label: CLEAN_UP_LABEL,
    summary: 'when nodes remove images that nothing uses any more, and stopped containers that are not the swarm’s',
    byDefault: 'off',
    accepted: 'off, or how long they have not been used, of at least 1m (as 24h)',
    examples: ['off', '24h', '168h'],
    accepts: (value) => value === 'off' || (durationMs(value) ?? 0) >= MIN_CLEAN_UP_MS,
  },
  {
    label: CLEAN_UP_ON_PRESSURE_LABEL,
    summary: 'whether a node that is short of disk removes them once they were not used for 10 minutes',
    byDefault: 'false',
    ...oneOf('true', 'false'),
  },
  {
    label: INGRESS_SUBNET_LABEL,
    summary: 'the subnet of the ingress network, of which each node has a block',
    byDefault: `${DEFAULT_INGRESS_SUBNET}, or another one that the first node has no route into`,
    accepted: `an IPv4 subnet of /8 to /${INGRESS_PREFIX_MAX} of private or shared addresses (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 198.18.0.0/15) outside of ${NODE_SUBNETS}, as ${DEFAULT_INGRESS_SUBNET}`,
    examples: [DEFAULT_INGRESS_SUBNET, '172.31.0.0/16'],
    later:
      'remove the network with `swarmctl network rm ingress`, and make it anew with `swarmctl network create -d overlay --ingress --subnet SUBNET ingress`',
    accepts: isIngressSubnet,
  },
]

const INGRESS_SPACE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '198.18.0.0/15']

function isIngressSubnet(value: string): boolean {
  const cidr = parseCidr(value)
  const own = parseCidr(NODE_SUBNETS)
  if (cidr?.family !== 4 || !own || formatCidr(cidr) !== value || cidr.prefix > INGRESS_PREFIX_MAX) return false
  const space = INGRESS_SPACE.map(parseCidr).find((one) => one && overlaps(one, cidr))
  return space !== undefined && space.prefix <= cidr.prefix && !overlaps(own, cidr)
}

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

/** Why a running cluster's settings can't become these; undefined: they can. */
export function clusterSettingChangeProblem(before: Labels | undefined, after: Labels | undefined): string | undefined {
  const changed = CLUSTER_SETTINGS.find(({ label, later }) => later !== undefined && before?.[label] !== after?.[label])
  return changed && `label ${changed.label}: it is taken by swarm init only: ${changed.later}`
}

export type TaskSocketKind = 'swarmd' | 'engine'

export function taskSocketOf(spec: SwarmSpec | undefined): TaskSocketKind {
  return spec?.Labels?.[TASK_SOCKET_LABEL] === 'engine' ? 'engine' : 'swarmd'
}

export function allowsHostAccess(spec: SwarmSpec | undefined): boolean {
  return spec?.Labels?.[HOST_ACCESS_LABEL] === 'allow'
}

/** undefined: none was given. */
export function ingressSubnetOf(spec: SwarmSpec | undefined): string | undefined {
  return spec?.Labels?.[INGRESS_SUBNET_LABEL]
}

/** What nodes remove by themselves. */
export interface CleanUpSettings {
  /** How long something was not used; undefined: nothing is removed for its age. */
  readonly afterMs: number | undefined
  readonly onPressure: boolean
}

export function cleanUpOf(spec: SwarmSpec | undefined): CleanUpSettings {
  const after = spec?.Labels?.[CLEAN_UP_LABEL]
  return {
    afterMs: after === undefined || after === 'off' ? undefined : durationMs(after),
    onPressure: spec?.Labels?.[CLEAN_UP_ON_PRESSURE_LABEL] === 'true',
  }
}

function atOnceOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,3}$/.test(text)) return undefined
  const atOnce = Number(text)
  return atOnce >= 1 && atOnce <= MAX_REBALANCE_AT_ONCE ? atOnce : undefined
}

export interface RebalanceSettings {
  readonly onJoin: boolean
  readonly afterMs: number
  readonly atOnce: number
}

export function rebalanceSettings(spec: SwarmSpec | undefined): RebalanceSettings {
  const labels = spec?.Labels
  return {
    onJoin: labels?.[REBALANCE_LABEL] === 'on-join',
    afterMs: durationMs(labels?.[REBALANCE_AFTER_LABEL] ?? '') ?? REBALANCE_AFTER_MS,
    atOnce: atOnceOf(labels?.[REBALANCE_AT_ONCE_LABEL]) ?? 1,
  }
}

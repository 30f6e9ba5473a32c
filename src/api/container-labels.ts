// What a container can have and Swarm's specs have no field for: labels of the service under io.swarmctl.container., which every
// client carries through when it reads, changes and writes a spec back. One table: names, accepted values, what each is to the engine,
// and which give power over the host and so need the cluster's leave (io.swarmctl.host-access).

import {
  blkio,
  bytes,
  deviceRequests,
  devices,
  type EngineFields,
  integer,
  isUnconfined,
  LIST,
  PAIRS,
  pairs,
  SIZE,
  securityOptions,
  texts,
} from './container-label-values.ts'
import type { Labels } from './spec.ts'

export const CONTAINER_LABEL_PREFIX = 'io.swarmctl.container.'

export interface ContainerOption {
  /** Without the prefix. */
  readonly name: string
  readonly summary: string
  /** What may be given, in words. */
  readonly accepted: string
  /** undefined: the value can't be understood */
  fields(value: string): EngineFields | undefined
  /** The value reaches beyond the container. */
  hasPower(value: string): boolean
}

const never = () => false
const always = () => true
const isHost = (value: string) => value === 'host'

function host(name: string, value: unknown): EngineFields | undefined {
  return value === undefined ? undefined : { host: { [name]: value } }
}

const FLAG = 'true or false'

function flag(value: string): boolean | undefined {
  return value === 'true' ? true : value === 'false' ? false : undefined
}

/** A text as its own value, which has to be of a form. */
function word(field: string, form: RegExp): (value: string) => EngineFields | undefined {
  return (value) => host(field, form.test(value) ? value : undefined)
}

const MAC = /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/i
const PERIOD = 'a number of microseconds'

export const CONTAINER_OPTIONS: readonly ContainerOption[] = [
  {
    name: 'annotations',
    summary: 'annotations of the container, for its runtime',
    accepted: PAIRS,
    fields: (value) => host('Annotations', pairs(value)),
    // runtimes give devices and more by annotations of their own
    hasPower: (value) => Object.keys(pairs(value) ?? {}).some((name) => /^(?:cdi\.k8s\.io\/|run\.oci\.)/.test(name)),
  },
  {
    name: 'blkio',
    summary: 'weights and rates of block devices',
    accepted: 'a JSON object with the keys of blkio_config',
    fields: blkio,
    hasPower: never,
  },
  {
    name: 'cgroup',
    summary: 'the cgroup namespace: the container’s own or the host’s',
    accepted: 'private or host',
    fields: word('CgroupnsMode', /^(?:private|host)$/),
    hasPower: isHost,
  },
  {
    name: 'cgroup-parent',
    summary: 'the cgroup that the container’s own is made in',
    accepted: 'a path or a slice',
    fields: word('CgroupParent', /^\S+$/),
    hasPower: always,
  },
  {
    name: 'cpu-count',
    summary: 'processors (Windows)',
    accepted: 'a number',
    fields: (value) => host('CpuCount', integer(value, 0, 4096)),
    hasPower: never,
  },
  {
    name: 'cpu-percent',
    summary: 'a part of all processors (Windows)',
    accepted: '0 to 100',
    fields: (value) => host('CpuPercent', integer(value, 0, 100)),
    hasPower: never,
  },
  {
    name: 'cpu-period',
    summary: 'the period of cpu-quota',
    accepted: PERIOD,
    fields: (value) => host('CpuPeriod', integer(value, 0, 1_000_000)),
    hasPower: never,
  },
  {
    name: 'cpu-quota',
    summary: 'time on processors in each period',
    accepted: PERIOD,
    fields: (value) => host('CpuQuota', integer(value, -1, 1e12)),
    hasPower: never,
  },
  {
    name: 'cpu-rt-period',
    summary: 'the period of cpu-rt-runtime',
    accepted: PERIOD,
    fields: (value) => host('CpuRealtimePeriod', integer(value, 0, 1e12)),
    hasPower: never,
  },
  {
    name: 'cpu-rt-runtime',
    summary: 'time of the realtime scheduler in each period',
    accepted: PERIOD,
    fields: (value) => host('CpuRealtimeRuntime', integer(value, 0, 1e12)),
    hasPower: never,
  },
  {
    name: 'cpu-shares',
    summary: 'weight against other containers of the node',
    accepted: '0, or 2 to 262144',
    fields: (value) => host('CpuShares', integer(value, 0, 262_144)),
    hasPower: never,
  },
  {
    name: 'cpuset',
    summary: 'the processors that the container may use',
    accepted: 'numbers and ranges, as 0-2,5',
    fields: word('CpusetCpus', /^\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*$/),
    hasPower: never,
  },
  {
    name: 'device-cgroup-rules',
    summary: 'rules of the cgroup for devices',
    accepted: `rules such as "c 13:* rwm", ${LIST}`,
    fields: (value) => {
      const rules = texts(value)
      return host(
        'DeviceCgroupRules',
        rules?.every((rule) => /^[acb] (?:\d+|\*):(?:\d+|\*) [rwm]{1,3}$/.test(rule)) ? rules : undefined,
      )
    },
    hasPower: always,
  },
  {
    name: 'device-requests',
    summary: 'devices that a driver gives, such as GPUs',
    accepted: 'a JSON list of the engine’s DeviceRequest objects',
    fields: (value) => host('DeviceRequests', deviceRequests(value)),
    // a CDI device may be anything that the node's administrator described; a driver's own are what it is there for
    hasPower: (value) => (deviceRequests(value) ?? []).some(({ Driver }) => Driver === 'cdi'),
  },
  {
    name: 'devices',
    summary: 'devices of the node',
    accepted: `/dev/NAME[:/PATH/IN/CONTAINER][:rwm] or CDI names, ${LIST}`,
    fields: devices,
    hasPower: always,
  },
  {
    name: 'domainname',
    summary: 'the domain of the container’s host name',
    accepted: 'a domain',
    fields: (value) =>
      /^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$/.test(value) ? { config: { Domainname: value } } : undefined,
    hasPower: never,
  },
  {
    name: 'ipc',
    summary: 'the IPC namespace',
    accepted: 'private, shareable, none or host',
    fields: word('IpcMode', /^(?:private|shareable|none|host)$/),
    hasPower: isHost,
  },
  {
    name: 'mac-address',
    summary: 'the MAC address on the node’s bridge',
    accepted: 'an address such as 02:42:ac:11:65:43',
    fields: (value) => (MAC.test(value) ? { config: { MacAddress: value } } : undefined),
    hasPower: never,
  },
  {
    name: 'mem-swappiness',
    summary: 'how readily memory is swapped out',
    accepted: '0 to 100',
    fields: (value) => host('MemorySwappiness', integer(value, 0, 100)),
    hasPower: never,
  },
  {
    name: 'memswap-limit',
    summary: 'memory and swap together, where memory is limited',
    accepted: `${SIZE}, or -1 for no limit`,
    fields: (value) => host('MemorySwap', value === '-1' ? -1 : bytes(value)),
    hasPower: never,
  },
  {
    name: 'oom-kill-disable',
    summary: 'the kernel does not kill the container for its memory',
    accepted: FLAG,
    fields: (value) => host('OomKillDisable', flag(value)),
    hasPower: (value) => value === 'true',
  },
  {
    name: 'pid',
    summary: 'the PID namespace',
    accepted: 'host',
    fields: word('PidMode', /^host$/),
    hasPower: always,
  },
  {
    name: 'privileged',
    summary: 'all powers of the node',
    accepted: FLAG,
    fields: (value) => host('Privileged', flag(value)),
    hasPower: (value) => value === 'true',
  },
  {
    name: 'runtime',
    summary: 'the OCI runtime, one that the engine of the node knows',
    accepted: 'a name',
    fields: word('Runtime', /^[a-zA-Z0-9][a-zA-Z0-9._-]*$/),
    hasPower: never,
  },
  {
    name: 'security-opt',
    summary: 'options of the kernel’s security modules',
    accepted: `no-new-privileges, apparmor=…, seccomp=…, label=…, systempaths=…, ${LIST}`,
    fields: securityOptions,
    hasPower: (value) => (texts(value) ?? []).some(isUnconfined),
  },
  {
    name: 'shm-size',
    summary: 'the size of /dev/shm',
    accepted: SIZE,
    fields: (value) => host('ShmSize', bytes(value) || undefined),
    hasPower: never,
  },
  {
    name: 'storage-opt',
    summary: 'options of the storage driver',
    accepted: PAIRS,
    fields: (value) => host('StorageOpt', pairs(value)),
    hasPower: never,
  },
  {
    name: 'tmpfs',
    summary: 'tmpfs mounts with options of the kernel',
    accepted: `PATH=OPTIONS: ${PAIRS}`,
    fields: (value) => {
      const mounts = pairs(value)
      return host('Tmpfs', mounts && Object.keys(mounts).every((path) => path.startsWith('/')) ? mounts : undefined)
    },
    hasPower: never,
  },
  {
    name: 'userns',
    summary: 'the user namespace, where the engine maps users',
    accepted: 'host',
    fields: word('UsernsMode', /^host$/),
    hasPower: always,
  },
  {
    name: 'uts',
    summary: 'the UTS namespace',
    accepted: 'host',
    fields: word('UTSMode', /^host$/),
    hasPower: always,
  },
]

export const containerLabel = (name: string): string => `${CONTAINER_LABEL_PREFIX}${name}`

const BY_LABEL: ReadonlyMap<string, ContainerOption> = new Map(
  CONTAINER_OPTIONS.map((option) => [containerLabel(option.name), option]),
)

/** What is wrong with a label of this prefix; undefined: nothing, or it is none of ours. */
export function containerLabelProblem(label: string, value: string): string | undefined {
  if (!label.startsWith(CONTAINER_LABEL_PREFIX)) return undefined
  const option = BY_LABEL.get(label)
  if (!option) {
    return `no such option of containers: ${CONTAINER_OPTIONS.map(({ name }) => name).join(', ')} are known`
  }
  if (option.fields(value) !== undefined) return undefined
  return `invalid value ${JSON.stringify(value)}: must be ${option.accepted}`
}

/** The first of these labels that reaches beyond the container. */
export function powerfulLabel(
  labels: Labels | undefined,
): { readonly label: string; readonly summary: string } | undefined {
  for (const [label, value] of Object.entries(labels ?? {})) {
    const option = BY_LABEL.get(label)
    if (option?.hasPower(value)) return { label, summary: option.summary }
  }
  return undefined
}

/** What the labels set in the body of POST /containers/create; what can't be understood is taken for absent. */
export function engineFields(labels: Labels | undefined): Required<EngineFields> {
  const config: Record<string, unknown> = {}
  const hostFields: Record<string, unknown> = {}
  for (const label of Object.keys(labels ?? {}).sort()) {
    const fields = BY_LABEL.get(label)?.fields(labels![label]!)
    Object.assign(config, fields?.config)
    for (const [name, value] of Object.entries(fields?.host ?? {})) {
      const earlier = hostFields[name]
      hostFields[name] = Array.isArray(earlier) && Array.isArray(value) ? [...earlier, ...value] : value
    }
  }
  return { config, host: hostFields }
}

/** Whether both ask for the same containers: tasks of one need not be replaced for the other. */
export function sameContainerOptions(a: Labels | undefined, b: Labels | undefined): boolean {
  const own = (labels: Labels | undefined) =>
    JSON.stringify(
      Object.entries(labels ?? {})
        .filter(([label]) => label.startsWith(CONTAINER_LABEL_PREFIX))
        .sort(([x], [y]) => (x < y ? -1 : 1)),
    )
  return own(a) === own(b)
}

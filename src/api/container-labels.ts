// What a container can have and Swarm's specs have no field for: labels of the service under io.swarmctl.container., which every
// client carries through when it reads, changes and writes a spec back. One table: names, accepted values, what each is to the engine,
// and which give power over the host and so need the cluster's leave (io.swarmctl.host-access).

import type { Labels } from './spec.ts'

export const CONTAINER_LABEL_PREFIX = 'io.swarmctl.container.'

/** Fields of the body of POST /containers/create that a label sets: of its top, and of its HostConfig. */
export interface EngineFields {
  readonly config?: Readonly<Record<string, unknown>>
  readonly host?: Readonly<Record<string, unknown>>
}

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

function integer(value: string, least: number, most: number): number | undefined {
  const number = /^-?\d{1,15}$/.test(value) ? Number(value) : Number.NaN
  return number >= least && number <= most ? number : undefined
}

const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }
const SIZE = 'a size, as 64m or 1g'

function bytes(value: string): number | undefined {
  const [, number, unit = ''] = /^(\d{1,15}(?:\.\d{1,6})?)([kmgtb]?)(?:i?b)?$/i.exec(value.trim()) ?? []
  return number === undefined ? undefined : Math.trunc(Number(number) * UNITS[unit.toLowerCase()]!)
}

const LIST = 'separated by commas, or a JSON list'

function json(value: string): unknown {
  try {
    return JSON.parse(value) as unknown
  } catch {
    return undefined
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function texts(value: string): readonly string[] | undefined {
  const items = value.startsWith('[') ? json(value) : value.split(',').map((item) => item.trim())
  return Array.isArray(items) && items.length > 0 && items.every(isText) ? items : undefined
}

const PAIRS = 'NAME=VALUE separated by commas, or a JSON object of texts'

function pairs(value: string): Readonly<Record<string, string>> | undefined {
  if (value.startsWith('{')) {
    const object = json(value)
    if (!isObject(object)) return undefined
    return Object.values(object).every((item) => typeof item === 'string')
      ? (object as Record<string, string>)
      : undefined
  }
  const items = value.split(',').map((item) => /^\s*([^=\s]+)=(.*)$/s.exec(item))
  if (items.some((match) => match === null)) return undefined
  return Object.fromEntries(items.map((match) => [match![1]!, match![2]!]))
}

/** A text as its own value, which has to be of a form. */
function word(field: string, form: RegExp): (value: string) => EngineFields | undefined {
  return (value) => host(field, form.test(value) ? value : undefined)
}

// ---- devices ----

const CDI = /^[a-zA-Z0-9][a-zA-Z0-9._-]*\/[a-zA-Z0-9._-]+=[^\s,]+$/
const DEVICE = /^(\/[^:\s]+)(?::(\/[^:\s]+))?(?::([rwm]{1,3}))?$/

function devices(value: string): EngineFields | undefined {
  const names = texts(value)
  if (!names) return undefined
  const cdi = names.filter((name) => CDI.test(name))
  const paths = names.filter((name) => !CDI.test(name)).map((name) => DEVICE.exec(name))
  if (paths.some((match) => match === null)) return undefined
  return {
    host: {
      ...(paths.length > 0 && {
        Devices: paths.map((match) => ({
          PathOnHost: match![1],
          PathInContainer: match![2] ?? match![1],
          CgroupPermissions: match![3] ?? 'rwm',
        })),
      }),
      ...(cdi.length > 0 && { DeviceRequests: [{ Driver: 'cdi', DeviceIDs: cdi }] }),
    },
  }
}

interface DeviceRequest {
  readonly Driver?: string
  readonly Count?: number
  readonly DeviceIDs?: readonly string[]
  readonly Capabilities?: readonly (readonly string[])[]
  readonly Options?: Readonly<Record<string, string>>
}

const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every(isText)

/** Docker's own DeviceRequest objects. */
function deviceRequests(value: string): readonly DeviceRequest[] | undefined {
  const list = json(value)
  if (!Array.isArray(list) || list.length === 0) return undefined
  const isRequest = (item: unknown): item is DeviceRequest =>
    isObject(item) &&
    Object.keys(item).every((key) => ['Driver', 'Count', 'DeviceIDs', 'Capabilities', 'Options'].includes(key)) &&
    ['string', 'undefined'].includes(typeof item.Driver) &&
    (item.Count === undefined || (Number.isInteger(item.Count) && Number(item.Count) >= -1)) &&
    (item.DeviceIDs === undefined || isTexts(item.DeviceIDs)) &&
    (item.Capabilities === undefined || (Array.isArray(item.Capabilities) && item.Capabilities.every(isTexts))) &&
    (item.Options === undefined || isObject(item.Options))
  return list.every(isRequest) ? list : undefined
}

// ---- block devices ----

const BLKIO: Readonly<Record<string, string>> = {
  weight: 'BlkioWeight',
  weight_device: 'BlkioWeightDevice',
  device_read_bps: 'BlkioDeviceReadBps',
  device_read_iops: 'BlkioDeviceReadIOps',
  device_write_bps: 'BlkioDeviceWriteBps',
  device_write_iops: 'BlkioDeviceWriteIOps',
}

/** An object with the keys of Compose's blkio_config. */
function blkio(value: string): EngineFields | undefined {
  const object = json(value)
  if (!isObject(object) || Object.keys(object).some((key) => !Object.hasOwn(BLKIO, key))) return undefined
  const fields: Record<string, unknown> = {}
  for (const [key, item] of Object.entries(object)) {
    if (key === 'weight') {
      if (!isWeight(item)) return undefined
      fields[BLKIO[key]!] = item
      continue
    }
    const amount = key === 'weight_device' ? 'weight' : 'rate'
    if (
      !Array.isArray(item) ||
      !item.every((one) => isObject(one) && isText(one.path) && Number.isInteger(one[amount]))
    ) {
      return undefined
    }
    fields[BLKIO[key]!] = item.map((one: Readonly<Record<string, unknown>>) => ({
      Path: one.path,
      [amount === 'weight' ? 'Weight' : 'Rate']: one[amount],
    }))
  }
  return { host: fields }
}

const isWeight = (value: unknown) =>
  value === 0 || (Number.isInteger(value) && Number(value) >= 10 && Number(value) <= 1000)

// ---- security ----

const SECURITY_OPTION =
  /^(?:no-new-privileges(?:[:=](?:true|false))?|(?:label|apparmor|seccomp|systempaths|writable-cgroups)[:=].+)$/s

/** What takes away protection: confinement that is switched off, or rules that a user wrote. */
function isUnconfined(option: string): boolean {
  const normal = option.replace(/^([a-z-]+):/, '$1=')
  return (
    /=(?:unconfined|disable)$/.test(normal) ||
    (normal.startsWith('seccomp=') && normal !== 'seccomp=builtin') ||
    normal === 'writable-cgroups=true' ||
    normal.startsWith('label=')
  )
}

function securityOptions(value: string): EngineFields | undefined {
  const options = texts(value)
  return options?.every((option) => SECURITY_OPTION.test(option)) ? { host: { SecurityOpt: options } } : undefined
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

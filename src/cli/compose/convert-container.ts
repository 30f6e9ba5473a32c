// What a compose file says of a container that Swarm's API has no field for → labels of the service, which the cluster
// keeps to (api/container-labels.ts, api/depends-on.ts).

import { readFileSync } from 'node:fs'
import { containerLabel, containerLabelProblem } from '../../api/container-labels.ts'
import { DEPENDS_ON_LABEL, type DependencyCondition, dependsOnText } from '../../api/depends-on.ts'
import type { Labels, MountSpec } from '../../api/spec.ts'
import { errorMessage } from '../../lib/errors.ts'
import { quote, ValueError } from '../strconv.ts'
import { parseBytes, parseDuration } from '../units.ts'
import { compact, located } from './fields.ts'
import type { DependencyModel, DeviceRequestModel, Dictionary, ServiceModel, Texts } from './model.ts'
import { scopedName } from './names.ts'
import { ComposeError } from './node.ts'

/**
 * @param names services of the file: what is not required and not there is not waited for
 * @throws {ComposeError | ValueError}
 */
export function extraLabels(stack: string, service: ServiceModel, names: { has(name: string): boolean }): Labels {
  const values = compact<Record<string, string>>(containerValues(service) as Record<string, string>)
  const labels: Record<string, string> = {}
  for (const [name, value] of Object.entries(values)) {
    const key = KEYS[name] ?? name.replaceAll('-', '_')
    const label = containerLabel(name)
    const problem = containerLabelProblem(label, value)
    if (problem) throw new ComposeError(service.keyAt.get(key) ?? service.at, `${key}: ${problem}`)
    labels[label] = value
  }
  const needed = [...(service.depends_on ?? [])]
    .filter(([name]) => names.has(name))
    .map(([name, { condition }]) => ({ service: scopedName(stack, name), condition: CONDITIONS[condition] }))
  return needed.length === 0 ? labels : { ...labels, [DEPENDS_ON_LABEL]: dependsOnText(needed) }
}

/** Keys of the file that are not their label's name. */
const KEYS: Readonly<Record<string, string>> = {
  blkio: 'blkio_config',
  'device-requests': 'gpus',
  userns: 'userns_mode',
}

const CONDITIONS: Readonly<Record<DependencyModel['condition'], DependencyCondition>> = {
  service_started: 'started',
  service_healthy: 'healthy',
  service_completed_successfully: 'completed',
}

function containerValues(service: ServiceModel): Readonly<Record<string, string | undefined>> {
  return {
    annotations: pairs(service.annotations),
    blkio: service.blkio_config && JSON.stringify(service.blkio_config),
    cgroup: service.cgroup ?? service.cgroupns_mode,
    'cgroup-parent': service.cgroup_parent,
    'cpu-count': numberText(service.cpu_count),
    'cpu-percent': numberText(service.cpu_percent),
    'cpu-period': microseconds(service, 'cpu_period'),
    'cpu-quota': microseconds(service, 'cpu_quota'),
    'cpu-rt-period': microseconds(service, 'cpu_rt_period'),
    'cpu-rt-runtime': microseconds(service, 'cpu_rt_runtime'),
    'cpu-shares': numberText(service.cpu_shares),
    cpuset: service.cpuset,
    'device-cgroup-rules': list(service.device_cgroup_rules),
    'device-requests': deviceRequests([
      ...(service.gpus ?? []).map((request) => ({ capabilities: ['gpu'], ...request })),
      ...(service.deploy?.resources?.reservations?.devices ?? []),
    ]),
    devices: list(service.devices),
    domainname: service.domainname,
    ipc: namespace(service, 'ipc', ['private', 'shareable', 'none', 'host']),
    'mac-address': service.mac_address,
    'mem-swappiness': numberText(service.mem_swappiness),
    'memswap-limit': swap(service),
    'oom-kill-disable': service.oom_kill_disable ? 'true' : undefined,
    pid: namespace(service, 'pid', ['host']),
    privileged: service.privileged ? 'true' : undefined,
    runtime: service.runtime,
    'security-opt': list(service.security_opt?.map((option) => securityOption(option, service))),
    'shm-size': shmSize(service),
    'storage-opt': pairs(service.storage_opt),
    tmpfs: pairs(kernelTmpfs(service)),
    userns: namespace(service, 'userns_mode', ['host']),
    uts: namespace(service, 'uts', ['host']),
  }
}

const numberText = (value: number | undefined) => (value === undefined ? undefined : String(value))

/** As people write it, unless that would be read otherwise. */
function list(items: Texts | undefined): string | undefined {
  if (!items?.length) return undefined
  const isPlain = items.every((item) => item === item.trim() && item !== '' && !/^\[|,/.test(item))
  return isPlain ? items.join(',') : JSON.stringify(items)
}

const pairs = (values: Dictionary | undefined): string | undefined =>
  values?.size ? JSON.stringify(Object.fromEntries(values)) : undefined

/** Runs `read`, and puts the place of the key before what it says is wrong. */
function atKey<T>(service: ServiceModel, key: string, read: () => T): T {
  return located({ at: service.keyAt.get(key) ?? service.at }, read)
}

/** A number is microseconds already. */
function microseconds(
  service: ServiceModel,
  key: 'cpu_period' | 'cpu_quota' | 'cpu_rt_period' | 'cpu_rt_runtime',
): string | undefined {
  const text = service[key]
  if (text === undefined || /^-?[0-9]+$/.test(text)) return text
  return String(Math.trunc(atKey(service, key, () => parseDuration(text)) / 1000))
}

/** Another container's namespace can't be had: it may run on another node. */
function namespace(
  service: ServiceModel,
  key: 'ipc' | 'pid' | 'userns_mode' | 'uts',
  known: Texts,
): string | undefined {
  const value = service[key]
  if (value === undefined || value === '') return undefined
  if (/^(?:service|container):/.test(value)) {
    throw new ComposeError(
      service.keyAt.get(key) ?? service.at,
      `${key}: ${quote(value)} cannot be: tasks of services may run on different nodes`,
    )
  }
  if (known.includes(value)) return value
  throw new ComposeError(
    service.keyAt.get(key) ?? service.at,
    `${key}: invalid value ${quote(value)}: must be ${known.join(' or ')}`,
  )
}

function swap(service: ServiceModel): string | undefined {
  const { memswap_limit: limit } = service
  if (limit === undefined || limit === '0') return undefined
  return limit === '-1' ? limit : String(atKey(service, 'memswap_limit', () => parseBytes(limit)))
}

function shmSize(service: ServiceModel): string | undefined {
  const { shm_size: size } = service
  return size === undefined ? undefined : String(atKey(service, 'shm_size', () => parseBytes(size)))
}

/** A profile is a file here, and its content there. */
function securityOption(option: string, service: ServiceModel): string {
  const [, path] = /^seccomp[:=](.+)$/s.exec(option) ?? []
  if (path === undefined || path === 'unconfined' || path === 'builtin' || path.startsWith('{')) return option
  const at = service.keyAt.get('security_opt') ?? service.at
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new ComposeError(at, `security_opt: opening seccomp profile (${path}) failed: ${errorMessage(error)}`)
  }
  try {
    return `seccomp=${JSON.stringify(JSON.parse(text))}`
  } catch (error) {
    throw new ComposeError(at, `security_opt: seccomp profile (${path}) is no JSON: ${errorMessage(error)}`)
  }
}

function deviceRequests(requests: readonly DeviceRequestModel[]): string | undefined {
  if (requests.length === 0) return undefined
  return JSON.stringify(
    requests.map(({ capabilities, count, device_ids, driver, options, at }) => {
      if (count !== undefined && device_ids) {
        throw new ComposeError(at, 'devices: only one of count and device_ids can be set')
      }
      if (count !== undefined && count !== 'all' && !/^[0-9]+$/.test(count)) {
        throw new ComposeError(at, `devices: invalid count ${quote(count)}: must be a number or all`)
      }
      const wanted = count === 'all' || (count === undefined && !device_ids) ? -1 : count && Number(count)
      return compact({
        Driver: driver,
        Count: wanted,
        DeviceIDs: device_ids,
        Capabilities: [capabilities ?? ['gpu']],
        Options: options && Object.fromEntries(options),
      })
    }),
  )
}

// ---- tmpfs ----

const isMountOption = (option: string) => /^(?:size=.+|mode=[0-7]+)$/.test(option)

function splitTmpfs(text: string): { readonly target: string; readonly options: readonly string[] } {
  const at = text.indexOf(':')
  const target = at < 0 ? text : text.slice(0, at)
  if (!target.startsWith('/')) throw new ValueError(`tmpfs: invalid path ${quote(target)}: must be absolute`)
  return { target, options: at < 0 ? [] : text.slice(at + 1).split(',') }
}

/** Those that a mount of Swarm's can say. */
export function tmpfsMounts(service: ServiceModel): readonly MountSpec[] {
  return atKey(service, 'tmpfs', () => mountsOf(service.tmpfs ?? []))
}

function mountsOf(tmpfs: Texts): readonly MountSpec[] {
  return tmpfs
    .map(splitTmpfs)
    .filter(({ options }) => options.every(isMountOption))
    .map(({ target, options }) => {
      const value = (name: string) => options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1)
      const [size, mode] = [value('size'), value('mode')]
      const set = compact({
        SizeBytes: size === undefined ? undefined : parseBytes(size),
        Mode: mode === undefined ? undefined : Number.parseInt(mode, 8),
      })
      return { Type: 'tmpfs' as const, Target: target, ...(Object.keys(set).length > 0 ? { TmpfsOptions: set } : {}) }
    })
}

/** Those with options that only the kernel knows. */
function kernelTmpfs({ tmpfs = [] }: ServiceModel): Dictionary {
  const others = tmpfs.map(splitTmpfs).filter(({ options }) => !options.every(isMountOption))
  return new Map(others.map(({ target, options }) => [target, options.join(',')]))
}

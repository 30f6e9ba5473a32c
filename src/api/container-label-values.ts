// How values of the labels in container-labels.ts are read: undefined is what can't be understood.

/** Fields of the body of POST /containers/create that a label sets: of its top, and of its HostConfig. */
export interface EngineFields {
  readonly config?: Readonly<Record<string, unknown>>
  readonly host?: Readonly<Record<string, unknown>>
}

export function integer(value: string, least: number, most: number): number | undefined {
  const number = /^-?\d{1,15}$/.test(value) ? Number(value) : Number.NaN
  return number >= least && number <= most ? number : undefined
}

const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }
export const SIZE = 'a size, as 64m or 1g'

export function bytes(value: string): number | undefined {
  const [, number, unit = ''] = /^(\d{1,15}(?:\.\d{1,6})?)([kmgtb]?)(?:i?b)?$/i.exec(value.trim()) ?? []
  return number === undefined ? undefined : Math.trunc(Number(number) * UNITS[unit.toLowerCase()]!)
}

export const LIST = 'separated by commas, or a JSON list'

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

export function texts(value: string): readonly string[] | undefined {
  const items = value.startsWith('[') ? json(value) : value.split(',').map((item) => item.trim())
  return Array.isArray(items) && items.length > 0 && items.every(isText) ? items : undefined
}

export const PAIRS = 'NAME=VALUE separated by commas, or a JSON object of texts'

export function pairs(value: string): Readonly<Record<string, string>> | undefined {
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

// ---- devices ----

const CDI = /^[a-zA-Z0-9][a-zA-Z0-9._-]*\/[a-zA-Z0-9._-]+=[^\s,]+$/
const DEVICE = /^(\/[^:\s]+)(?::(\/[^:\s]+))?(?::([rwm]{1,3}))?$/

export function devices(value: string): EngineFields | undefined {
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
export function deviceRequests(value: string): readonly DeviceRequest[] | undefined {
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
export function blkio(value: string): EngineFields | undefined {
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
export function isUnconfined(option: string): boolean {
  const normal = option.replace(/^([a-z-]+):/, '$1=')
  return (
    /=(?:unconfined|disable)$/.test(normal) ||
    (normal.startsWith('seccomp=') && normal !== 'seccomp=builtin') ||
    normal === 'writable-cgroups=true' ||
    normal.startsWith('label=')
  )
}

export function securityOptions(value: string): EngineFields | undefined {
  const options = texts(value)
  return options?.every((option) => SECURITY_OPTION.test(option)) ? { host: { SecurityOpt: options } } : undefined
}

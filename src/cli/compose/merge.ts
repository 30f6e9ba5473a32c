// Several compose files → one, by Docker's rules: what a later file says of a service replaces single values, adds to
// lists and mappings; ports, volumes, secrets and configs replace those of the same published port, target or source.
// An empty value (false, 0, '') replaces nothing.

import type {
  ComposeModel,
  FileReferenceModel,
  LoggingModel,
  PortModel,
  ServiceModel,
  ServiceNetworkModel,
  VolumeMountModel,
} from './model.ts'

export function mergeModels(models: readonly ComposeModel[]): ComposeModel {
  const [first, ...rest] = models
  return rest.reduce((base, over) => mergeTwo(base, over), first!)
}

function mergeTwo(base: ComposeModel, over: ComposeModel): ComposeModel {
  const services = new Map(base.services)
  for (const [name, service] of over.services) {
    const earlier = services.get(name)
    services.set(name, earlier ? mergeService(earlier, service) : service)
  }
  return {
    ...base,
    services,
    networks: new Map([...base.networks, ...over.networks]),
    volumes: new Map([...base.volumes, ...over.volumes]),
    secrets: new Map([...base.secrets, ...over.secrets]),
    configs: new Map([...base.configs, ...over.configs]),
  }
}

type Merger = (base: unknown, over: unknown) => unknown

const replace: Merger = (base, over) => (Array.isArray(over) && over.length === 0 ? base : over)

function byKey<T>(key: (item: T) => string | number): Merger {
  return (base, over) => {
    const items = new Map([...(base as readonly T[]), ...(over as readonly T[])].map((item) => [key(item), item]))
    return [...items].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, item]) => item)
  }
}

/** What is merged by a rule of its own; numbers among them are those that 0 replaces. */
const SPECIAL: Readonly<Record<string, Merger>> = {
  command: replace,
  entrypoint: replace,
  replicas: replace,
  parallelism: replace,
  retries: replace,
  max_attempts: replace,
  at: replace,
  ports: byKey<PortModel>(({ published }) => published ?? 0),
  volumes: byKey<VolumeMountModel>(({ target }) => target ?? ''),
  secrets: byKey<FileReferenceModel>(({ source }) => source ?? ''),
  configs: byKey<FileReferenceModel>(({ source }) => source ?? ''),
  logging: (base, over) => mergeLogging(base as LoggingModel, over as LoggingModel),
  networks: (base, over) => mergeNetworks(base as Networks, over as Networks),
  ulimits: (base, over) => new Map([...(base as Map<string, unknown>), ...(over as Map<string, unknown>)]),
}

function mergeService(base: ServiceModel, over: ServiceModel): ServiceModel {
  return mergeValues(base, over) as ServiceModel
}

function mergeValues(base: unknown, over: unknown): unknown {
  if (isEmpty(over)) return base
  if (base === undefined || base === null) return over
  if (Array.isArray(base) && Array.isArray(over)) return [...base, ...over]
  if (base instanceof Map && over instanceof Map) {
    const merged = new Map(base)
    for (const [key, value] of over) merged.set(key, merged.has(key) ? mergeValues(merged.get(key), value) : value)
    return merged
  }
  if (typeof base !== 'object' || typeof over !== 'object') return over
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over as object)) {
    const special = SPECIAL[key]
    const earlier = merged[key]
    merged[key] = special && earlier !== undefined ? special(earlier, value) : mergeValues(earlier, value)
  }
  return merged
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === false) return true
  return value instanceof Map ? value.size === 0 : Array.isArray(value) && value.length === 0
}

/** Options are merged where the driver stays the same. */
function mergeLogging(base: LoggingModel, over: LoggingModel): LoggingModel {
  if (base.driver && over.driver && base.driver !== over.driver) return over
  const driver = over.driver || base.driver
  const options = mergeValues(base.options, over.options) as LoggingModel['options']
  return { ...(driver ? { driver } : {}), ...(options ? { options } : {}) }
}

type Networks = ReadonlyMap<string, ServiceNetworkModel | null>

/** Aliases are those of the later file. */
function mergeNetworks(base: Networks, over: Networks): Networks {
  const merged = new Map(base)
  for (const [name, network] of over) {
    const earlier = merged.get(name)
    if (!network) merged.set(name, earlier ?? null)
    else if (!earlier) merged.set(name, network)
    else {
      const { aliases: _, ...rest } = earlier
      merged.set(name, {
        ...rest,
        ...(network.aliases ? { aliases: network.aliases } : {}),
        ...(network.ipv4_address ? { ipv4_address: network.ipv4_address } : {}),
        ...(network.ipv6_address ? { ipv6_address: network.ipv6_address } : {}),
      })
    }
  }
  return merged
}

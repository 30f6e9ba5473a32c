// The values of service flags: text → piece of a spec. Each is pure, and is both the check of its flag and what builds
// the spec.

import { isIP, SocketAddress } from 'node:net'
import { resolve } from 'node:path'
import { split as splitWords } from 'shlex'
import type {
  ConfigReference,
  ContainerSpec,
  GenericResource,
  Labels,
  NetworkAttachmentConfig,
  Placement,
  Privileges,
  SecretReference,
} from '../../api/spec.ts'
import { staticAddressLabel } from '../../api/static-addresses.ts'
import { formatAddress, parseAddress } from '../../lib/cidr.ts'
import { parseCsvRecord } from '../csv.ts'
import { cut, parseInt64, parseUint, quote, ValueError } from '../strconv.ts'

const READ_FOR_ALL = 0o444
const LONG_SYNTAX = /\w+=\w+(,\w+=\w+)*/

interface FileReference {
  readonly name: string
  readonly file: { readonly Name: string; readonly UID: string; readonly GID: string; readonly Mode: number }
}

/** "name" or "source=,target=,uid=,gid=,mode=", of --secret and --config. */
function parseFileReference(text: string, kind: 'secret' | 'config'): FileReference {
  const fields = parseCsvRecord(text)
  let name = ''
  let file = { Name: '', UID: '0', GID: '0', Mode: READ_FOR_ALL }
  if (fields.length === 1 && !fields[0]!.includes('=')) return { name: fields[0]!, file: { ...file, Name: fields[0]! } }
  for (const field of fields) {
    const { before: key, after: value, found } = cut(field, '=')
    if (!found || key === '') throw new ValueError(`invalid field '${field}' must be a key=value pair`)
    switch (key.toLowerCase()) {
      case 'source':
      case 'src':
        name = value
        break
      case 'target':
        file = { ...file, Name: value }
        break
      case 'uid':
        file = { ...file, UID: value }
        break
      case 'gid':
        file = { ...file, GID: value }
        break
      case 'mode':
        file = { ...file, Mode: parseMode(value) }
        break
      default:
        throw new ValueError(
          kind === 'secret' ? `invalid field in secret request: ${key}` : `invalid field in config request: ${key}`,
        )
    }
  }
  if (name === '') throw new ValueError('source is required')
  return { name, file: file.Name === '' ? { ...file, Name: name } : file }
}

function parseMode(text: string): number {
  try {
    return parseUint(text, 0, 32)
  } catch (error) {
    throw new ValueError(`invalid mode specified: ${error instanceof ValueError ? error.message : String(error)}`)
  }
}

/** Without its id, which only the daemon knows. @throws {ValueError} */
export function parseSecret(text: string): SecretReference {
  const { name, file } = parseFileReference(text, 'secret')
  return { File: file, SecretName: name }
}

/** As `parseSecret`. @throws {ValueError} */
export function parseConfig(text: string): ConfigReference {
  const { name, file } = parseFileReference(text, 'config')
  return { File: file, ConfigName: name }
}

/** "name" or "name=,alias=,driver-opt=k=v". @throws {ValueError} */
export function parseNetwork(text: string): NetworkAttachmentConfig {
  if (!LONG_SYNTAX.test(text)) return { Target: text }
  let target = ''
  const aliases: string[] = []
  const options: Record<string, string> = {}
  for (const field of parseCsvRecord(text)) {
    const { before, after, found } = cut(field.toLowerCase(), '=')
    if (!found || before === '') throw new ValueError(`invalid field ${field}`)
    const key = before.trim()
    const value = after.trim()
    switch (key) {
      case 'name':
        target = value
        break
      case 'alias':
        aliases.push(value)
        break
      case 'driver-opt': {
        const option = cut(value, '=')
        if (!option.found || option.before === '')
          throw new ValueError('invalid key value pair format in driver options')
        options[option.before.trim()] = option.after.trim()
        break
      }
      case 'ip':
      case 'ip6':
        break // networkLabels
      case 'mac-address':
      case 'link-local-ip':
      case 'gw-priority':
        break // settings of `docker run --network`: a service has no place for them
      default:
        throw new ValueError(`invalid field key ${key}`)
    }
  }
  if (target === '') throw new ValueError('network name/id is not specified')
  return {
    Target: target,
    ...(aliases.length > 0 ? { Aliases: aliases } : {}),
    ...(Object.keys(options).length > 0 ? { DriverOpts: options } : {}),
  }
}

/**
 * The service's own address on each network that a value of --network gives one.
 * @throws {ValueError} for what is no address
 */
export function networkLabels(values: readonly string[], names: { networkName(name: string): string }): Labels {
  const labels: Record<string, string> = {}
  for (const text of values.filter((value) => LONG_SYNTAX.test(value))) {
    const fields = parseCsvRecord(text).map((field) => cut(field.toLowerCase(), '='))
    const addresses = fields.flatMap(({ before, after }) => {
      const key = before.trim()
      if (key !== 'ip' && key !== 'ip6') return []
      const address = parseAddress(after.trim())
      if (address?.family !== (key === 'ip' ? 4 : 6)) {
        throw new ValueError(`invalid ${key === 'ip' ? 'IPv4' : 'IPv6'} address: ${after.trim()}`)
      }
      return [formatAddress(address)]
    })
    const target = parseNetwork(text).Target ?? ''
    if (addresses.length > 0) labels[staticAddressLabel(names.networkName(target))] = addresses.join(',')
  }
  return labels
}

/** "spread=node.labels.zone". @throws {ValueError} */
export function parsePlacementPreference(text: string): NonNullable<Placement['Preferences']>[number] {
  const { before: strategy, after: argument, found } = cut(text, '=')
  if (!found || strategy === '') throw new ValueError('placement preference must be of the format "<strategy>=<arg>"')
  if (strategy !== 'spread') {
    throw new ValueError(`unsupported placement preference ${strategy} (only spread is supported)`)
  }
  return { Spread: { SpreadDescriptor: argument } }
}

/** "config://name", "file://path", "registry://key", or '' for none. @throws {ValueError} */
export function parseCredentialSpec(text: string): NonNullable<Privileges['CredentialSpec']> {
  const empty = { Config: '', File: '', Registry: '' }
  if (text === '') return empty
  const value = cut(text, '://').after
  if (text.startsWith('config://')) return { ...empty, Config: value }
  if (text.startsWith('file://')) return { ...empty, File: value }
  if (text.startsWith('registry://')) return { ...empty, Registry: value }
  throw new ValueError('invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"')
}

/** Words as a shell would split them. @throws {ValueError} */
export function parseWords(text: string): string[] {
  try {
    return splitWords(text)
  } catch {
    throw new ValueError('EOF found when expecting closing quote')
  }
}

/** "host:ip", "host=ip" or "host:[ip]" → "host:ip". @throws {ValueError} */
export function normalizeExtraHost(text: string): string {
  const byEquals = cut(text, '=')
  const { before: name, after, found } = byEquals.found ? byEquals : cut(text, ':')
  if (!found || name === '' || name.includes(':')) throw new ValueError(`bad format for add-host: ${quote(text)}`)
  const address = /^\[.+\]$/.test(after) ? after.slice(1, -1) : after
  if (address !== 'host-gateway' && isIP(address) === 0) {
    throw new ValueError(`invalid IP address in add-host: ${quote(address)}`)
  }
  return `${name}:${address}`
}

/** "host:ip" → "ip host", the form of /etc/hosts that specs carry. */
export function swarmHost(extraHost: string): string {
  const { before: name, after: address } = cut(extraHost, ':')
  return `${address} ${name}`
}

/** An address in its canonical form. @throws {ValueError} */
export function normalizeIp(text: string): string {
  const address = text.trim()
  const family = isIP(address)
  if (family === 0) throw new ValueError(`IP address is not correctly formatted: ${text}`)
  return new SocketAddress({ address, family: family === 4 ? 'ipv4' : 'ipv6' }).address
}

/** A search domain, or "." for none. @throws {ValueError} */
export function normalizeDnsSearch(text: string): string {
  const domain = text.replace(/^ +| +$/g, '')
  if (domain === '.') return domain
  const label = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?'
  const match = new RegExp(`^(${label}(?:\\.${label})*)\\.?\\s*$`).exec(domain)
  if (!/[a-zA-Z]/.test(domain) || !match || match[1]!.length >= 255) {
    throw new ValueError(`${domain} is not a valid domain`)
  }
  return match[1]!
}

const ULIMITS = new Set(
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(' '),
)

/** "nofile=1024:2048". @throws {ValueError} */
export function parseUlimit(text: string): { readonly Name: string; readonly Soft: number; readonly Hard: number } {
  const { before: name, after: value, found } = cut(text, '=')
  if (!found) throw new ValueError(`invalid ulimit argument: ${text}`)
  if (!ULIMITS.has(name)) throw new ValueError(`invalid ulimit type: ${name}`)
  const parts = value.split(':')
  if (parts.length > 2) {
    throw new ValueError(`too many limit value arguments - ${value}, can only have up to two, \`soft[:hard]\``)
  }
  const hard = parts[1] === undefined ? undefined : parseInt64(parts[1])
  const soft = parseInt64(parts[0]!)
  const limit = hard ?? soft
  if (limit !== -1 && soft === -1) {
    throw new ValueError(
      `ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: ${limit}`,
    )
  }
  if (limit !== -1 && soft > limit) {
    throw new ValueError(`ulimit soft limit must be less than or equal to hard limit: ${soft} > ${limit}`)
  }
  return { Name: name, Soft: soft, Hard: limit }
}

/** @throws {ValueError} */
export function checkGenericResource(text: string): string {
  if (text.includes('=')) return text
  throw new ValueError(`invalid generic-resource format \`${text}\` expected \`name=value\``)
}

/** Counted resources only: "gpu=2". @throws {ValueError} for named ones, which a service cannot ask for. */
export function parseGenericResources(list: readonly string[]): GenericResource[] {
  return list.map((text) => {
    const { before: kind, after: value } = cut(text, '=')
    if (kind.trim() === '' || value.trim() === '') {
      throw new ValueError(
        `invalid generic resource specification: incorrect term ${text}, missing '=' or malformed expression`,
      )
    }
    if (!/^-?\d+$/.test(value)) {
      throw new ValueError(
        `invalid generic-resource request \`${kind}=${value}\`, Named Generic Resources is not supported for service create or update`,
      )
    }
    if (Number(value) < 0)
      throw new ValueError(`invalid generic resource specification: cannot ask for negative resource ${kind}`)
    return { DiscreteResourceSpec: { Kind: kind, Value: Number(value) } }
  })
}

/** "net_admin" → "CAP_NET_ADMIN"; ALL and RESET stay. */
export function normalizeCapability(text: string): string {
  const name = text.trim().toUpperCase()
  return name === 'ALL' || name === 'RESET' || name.startsWith('CAP_') ? name : `CAP_${name}`
}

const sortedSet = (names: Iterable<string>) => [...new Set(names)].sort()

/** What a new service adds and drops: adding wins over dropping, ALL over the rest. */
export function effectiveCapabilities(
  add: readonly string[],
  drop: readonly string[],
): Pick<ContainerSpec, 'CapabilityAdd' | 'CapabilityDrop'> {
  const only = (names: readonly string[]) => (names.includes('ALL') ? ['ALL'] : names)
  const added = only(add.map(normalizeCapability))
  const dropped = only(drop.map(normalizeCapability)).filter((name) => !added.includes(name))
  const list = (names: readonly string[]) => sortedSet(names.filter((name) => name !== 'RESET'))
  return {
    ...(list(added).length > 0 ? { CapabilityAdd: list(added) } : {}),
    ...(list(dropped).length > 0 ? { CapabilityDrop: list(dropped) } : {}),
  }
}

/**
 * What an existing service adds and drops after --cap-add and --cap-drop: a capability moves one step at a time (from
 * dropped to neither, from neither to added), and RESET empties a list first.
 */
export function updatedCapabilities(
  container: ContainerSpec,
  add: readonly string[],
  drop: readonly string[],
): Pick<ContainerSpec, 'CapabilityAdd' | 'CapabilityDrop'> {
  const toAdd = new Set(add.map(normalizeCapability))
  const toDrop = new Set(drop.map(normalizeCapability))
  const added = new Set(toAdd.delete('RESET') ? [] : (container.CapabilityAdd ?? []).map(normalizeCapability))
  const dropped = new Set(toDrop.delete('RESET') ? [] : (container.CapabilityDrop ?? []).map(normalizeCapability))
  for (const name of toDrop) if (!toAdd.has(name) && !added.delete(name)) dropped.add(name)
  for (const name of toAdd) if (!dropped.delete(name)) added.add(name)
  const list = (names: ReadonlySet<string>) => (names.has('ALL') ? ['ALL'] : sortedSet(names))
  return {
    ...(added.size > 0 ? { CapabilityAdd: list(added) } : {}),
    ...(dropped.size > 0 ? { CapabilityDrop: list(dropped) } : {}),
  }
}

/** A relative source of a mount as an absolute path; a volume's name stays. */
export function absoluteSource(source: string): string {
  return source.startsWith('.') ? resolve(source) : source
}

/**
 * The lines of an --env-file: "KEY=value" as they are, "KEY" with its value from the environment, and not at all
 * where it has none there. @throws {ValueError} naming the file.
 */
export function parseEnvFile(
  name: string,
  content: Buffer,
  environment: Readonly<Record<string, string | undefined>>,
): string[] {
  const invalid = (message: string) => new ValueError(`invalid env file (${name}): ${message}`)
  const lines: string[] = []
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let text: string
  try {
    text = decoder.decode(content)
  } catch {
    throw invalid('invalid utf8 bytes')
  }
  for (const raw of text.split('\n')) {
    const line = raw.replace(/\r$/, '').trimStart()
    if (line === '' || line.startsWith('#')) continue
    const { before: key, found } = cut(line, '=')
    if (key === '') throw invalid(`no variable name on line '${line}'`)
    if (/[ \t]/.test(key)) throw invalid(`variable '${key}' contains whitespaces`)
    if (found) lines.push(line)
    else if (environment[key] !== undefined) lines.push(`${key}=${environment[key]}`)
  }
  return lines
}

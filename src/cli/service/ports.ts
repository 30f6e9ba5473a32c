// --publish: "127.0.0.1:8080:80/tcp" or "published=8080,target=80,protocol=tcp,mode=ingress,host-ip=127.0.0.1". Docker's spec has no
// place for an address: it is a label of the service (api/publish-addresses.ts).

import { addressProblem, isEveryAddress, publishLabel } from '../../api/publish-addresses.ts'
import type { Labels, PortConfig } from '../../api/spec.ts'
import { parseAddress, parseCidr } from '../../lib/cidr.ts'
import { parseCsvRecord } from '../csv.ts'
import { cut, ValueError } from '../strconv.ts'

export interface Publication {
  readonly port: PortConfig
  /** Addresses, subnets or interfaces of nodes; none: every address. */
  readonly addresses: readonly string[]
}

/** One value may publish a range of ports. @throws {ValueError} with Docker's text. */
export function parsePorts(text: string): PortConfig[] {
  return parsePublications(text).map(({ port }) => port)
}

/** As `parsePorts`, with the addresses that the ports are for. */
export function parsePublications(text: string): Publication[] {
  return /\w+=\w+(,\w+=\w+)*/.test(text) ? [parseLong(text)] : parseShort(text)
}

/** Ports as a spec has them: one that is published on several addresses, one by one, is one port. */
export function portsOf(publications: readonly Publication[]): PortConfig[] {
  const all = publications.map(({ port }) => port)
  return all.filter((port, at) => {
    const first = all.findIndex((other) => samePort(other, port))
    return first === at || publications[at]?.addresses.length === 0 || publications[first]?.addresses.length === 0
  })
}

/** Where a port is published by one without addresses, too, it is open on all. */
export function publishLabels(publications: readonly Publication[]): Labels {
  const byLabel = new Map<string, readonly string[]>()
  for (const { port, addresses } of publications) {
    const label = labelOf(port)
    const before = byLabel.get(label)
    const isEverywhere = addresses.length === 0 || before?.length === 0
    byLabel.set(label, isEverywhere ? [] : [...new Set([...(before ?? []), ...addresses])])
  }
  return Object.fromEntries([...byLabel].flatMap(([label, all]) => (all.length > 0 ? [[label, all.join(',')]] : [])))
}

export function labelOf({ Protocol: protocol = 'tcp', PublishedPort: published = 0 }: PortConfig): string {
  return publishLabel({ protocol, published })
}

function parseLong(text: string): Publication {
  let port: PortConfig = {}
  const hostIps: string[] = []
  for (const field of parseCsvRecord(text)) {
    const { before: key, after: value, found } = cut(field.toLowerCase(), '=')
    if (!found || key === '') throw new ValueError(`invalid field: ${field}`)
    switch (key) {
      case 'protocol':
        if (value !== 'tcp' && value !== 'udp' && value !== 'sctp') {
          throw new ValueError(`invalid protocol value '${value}'`)
        }
        port = { ...port, Protocol: value }
        break
      case 'mode':
        if (value !== 'ingress' && value !== 'host') {
          throw new ValueError(`invalid publish mode value (${value}): must be either 'ingress' or 'host'`)
        }
        port = { ...port, PublishMode: value }
        break
      case 'target':
        port = { ...port, TargetPort: portNumber(value, 'target') }
        break
      case 'published':
        port = { ...port, PublishedPort: portNumber(value, 'published') }
        break
      case 'host-ip':
      case 'host_ip':
        // names of interfaces have two cases
        hostIps.push(cut(field, '=').after.replace(/^\[(.*)\]$/, '$1'))
        break
      default:
        throw new ValueError(`invalid field key: ${key}`)
    }
  }
  if (!port.TargetPort) throw new ValueError("missing mandatory field 'target'")
  const whole = { ...port, PublishMode: port.PublishMode ?? 'ingress', Protocol: port.Protocol ?? 'tcp' } as const
  return { port: whole, addresses: hostAddresses(hostIps, whole) }
}

/** @throws {ValueError} for what no port can be published on */
export function hostAddresses(hostIps: readonly string[], port: PortConfig): readonly string[] {
  if (hostIps.some(isEveryAddress)) return []
  for (const address of hostIps) {
    const problem = addressProblem(address)
    if (problem !== undefined) throw new ValueError(`invalid host IP: ${problem}`)
  }
  if (hostIps.length > 0 && !port.PublishedPort) {
    throw new ValueError(`a port that is published on ${hostIps.join(', ')} needs a published port`)
  }
  return hostIps
}

function portNumber(text: string, which: string): number {
  const wrong = (reason: string) =>
    new ValueError(`invalid ${which} port (${text}): value must be an integer: ${reason}`)
  if (!/^\d+$/.test(text)) throw wrong('invalid syntax')
  if (Number(text) > 65535) throw wrong('value out of range')
  return Number(text)
}

function parseShort(text: string): Publication[] {
  const { address, host, container } = splitAddress(text)
  const [number = '', protocolText = ''] = container.split('/')
  const protocol = (protocolText || 'tcp').toLowerCase()
  const hostIp = address.replace(/^\[(.*)\]$/, '$1')
  if (address !== '' && !parseAddress(hostIp) && !parseCidr(hostIp)) {
    throw new ValueError(`invalid IP address: ${address}`)
  }
  if (number === '') throw new ValueError(`no port specified: ${text}<empty>`)
  const target = range(number, `invalid containerPort: ${number}`)
  const published = host === '' ? undefined : range(host, `invalid hostPort: ${host}`)
  const size = target.end - target.start
  if (published && published.end - published.start !== size && size !== 0) {
    throw new ValueError(`invalid ranges specified for container and host Ports: ${number} and ${host}`)
  }
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp') {
    throw new ValueError(`invalid proto: ${protocolText}`)
  }
  const count = Math.max(size, published ? published.end - published.start : 0)
  return Array.from({ length: count + 1 }, (_, i) => {
    const port: PortConfig = {
      Protocol: protocol,
      TargetPort: size === 0 ? target.start : target.start + i,
      ...(published && published.start + i > 0 ? { PublishedPort: published.start + i } : {}),
      PublishMode: 'ingress',
    }
    return { port, addresses: hostAddresses(address === '' ? [] : [hostIp], port) }
  })
}

function splitAddress(text: string): { address: string; host: string; container: string } {
  const parts = text.split(':')
  const container = parts.at(-1)!
  return { address: parts.slice(0, -2).join(':'), host: parts.length > 1 ? parts.at(-2)! : '', container }
}

function range(text: string, error: string): { start: number; end: number } {
  const [first = '', last = first, ...more] = text.split('-')
  const valid = (part: string) => /^\d+$/.test(part) && Number(part) <= 65535
  if (more.length > 0 || !valid(first) || !valid(last) || Number(last) < Number(first)) throw new ValueError(error)
  return { start: Number(first), end: Number(last) }
}

function samePort(a: PortConfig, b: PortConfig): boolean {
  return sameTarget(a, b) && (a.PublishedPort ?? 0) === (b.PublishedPort ?? 0)
}

const orDefault = (port: PortConfig) => ({
  protocol: port.Protocol || 'tcp',
  mode: port.PublishMode || 'ingress',
})

/** --publish-rm names a target port, its protocol and its mode; the published port does not count. */
export function sameTarget(a: PortConfig, b: PortConfig): boolean {
  const [left, right] = [orDefault(a), orDefault(b)]
  return left.protocol === right.protocol && left.mode === right.mode && a.TargetPort === b.TargetPort
}

/** "8080:80/tcp/ingress": what makes two ports the same one, and their order in a spec. */
export function portKey(port: PortConfig): string {
  return `${port.PublishedPort ?? 0}:${port.TargetPort ?? 0}/${port.Protocol ?? ''}/${port.PublishMode ?? ''}`
}

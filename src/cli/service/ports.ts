// --publish: "8080:80/tcp" or "published=8080,target=80,protocol=tcp,mode=ingress".

import { isIP } from 'node:net'
import type { PortConfig } from '../../api/spec.ts'
import { parseCsvRecord } from '../csv.ts'
import { cut, ValueError } from '../strconv.ts'

/** One value may publish a range of ports. @throws {ValueError} with Docker's text. */
export function parsePorts(text: string): PortConfig[] {
  return /\w+=\w+(,\w+=\w+)*/.test(text) ? [parseLong(text)] : parseShort(text)
}

function parseLong(text: string): PortConfig {
  let port: PortConfig = {}
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
      default:
        throw new ValueError(`invalid field key: ${key}`)
    }
  }
  if (!port.TargetPort) throw new ValueError("missing mandatory field 'target'")
  return { ...port, PublishMode: port.PublishMode ?? 'ingress', Protocol: port.Protocol ?? 'tcp' }
}

function portNumber(text: string, which: string): number {
  const wrong = (reason: string) =>
    new ValueError(`invalid ${which} port (${text}): value must be an integer: ${reason}`)
  if (!/^\d+$/.test(text)) throw wrong('invalid syntax')
  if (Number(text) > 65535) throw wrong('value out of range')
  return Number(text)
}

function parseShort(text: string): PortConfig[] {
  const { address, host, container } = splitAddress(text)
  const [number = '', protocolText = ''] = container.split('/')
  const protocol = (protocolText || 'tcp').toLowerCase()
  if (address !== '' && isIP(address.replace(/^\[(.*)\]$/, '$1')) === 0) {
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
  if (address !== '') throw new ValueError('hostip is not supported')
  const count = Math.max(size, published ? published.end - published.start : 0)
  return Array.from({ length: count + 1 }, (_, i) => ({
    Protocol: protocol,
    TargetPort: size === 0 ? target.start : target.start + i,
    ...(published && published.start + i > 0 ? { PublishedPort: published.start + i } : {}),
    PublishMode: 'ingress',
  }))
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

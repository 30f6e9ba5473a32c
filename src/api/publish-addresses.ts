// On which addresses of a node a published port is open: a label of the service for each such port, since Docker's API has no field.
// A node serves the port on those of the addresses that it has, and nowhere where it has none.

import { containsAddress, formatAddress, parseAddress, parseCidr } from '../lib/cidr.ts'
import type { Labels, PortConfig } from './spec.ts'

/** Followed by the published port and its protocol: `io.swarmctl.publish.8080/tcp`. */
export const PUBLISH_LABEL_PREFIX = 'io.swarmctl.publish.'

/** From this level on managers and workers know these labels, and static-addresses.ts's: older ones would have the port open everywhere. */
export const PUBLISH_ADDRESS_FEATURE_LEVEL = 4

export interface PublishedNumber {
  readonly protocol: string
  readonly published: number
}

/** An address that a node has, and on which of its links. */
export interface NodeAddress {
  readonly device: string
  readonly address: string
}

const MAX_ADDRESSES = 20
const INTERFACE = /^[a-zA-Z][a-zA-Z0-9_.-]{0,14}$/
const LINK_LOCAL = parseCidr('fe80::/10')!
const LOOPBACK = parseCidr('127.0.0.0/8')!

export function publishLabel({ protocol, published }: PublishedNumber): string {
  return `${PUBLISH_LABEL_PREFIX}${published}/${protocol}`
}

/** What stands on either side of a comma; what can't be understood is some address that no node has. Empty: every address. */
export function publishAddresses(labels: Labels | undefined, port: PublishedNumber): readonly string[] {
  return labels?.[publishLabel(port)]?.split(',').map((part) => part.trim()) ?? []
}

/** Of a port of a spec or of an endpoint. */
export function addressesOfPort(labels: Labels | undefined, port: PortConfig): readonly string[] {
  const { Protocol: protocol = 'tcp', PublishedPort: published = 0 } = port
  return published === 0 ? [] : publishAddresses(labels, { protocol, published })
}

/** The port that a label of this prefix is of; undefined: it names none. */
export function portOfPublishLabel(label: string): PublishedNumber | undefined {
  const [, number = '', protocol = ''] =
    /^(\d{1,5})\/(tcp|udp|sctp)$/.exec(label.slice(PUBLISH_LABEL_PREFIX.length)) ?? []
  const published = Number(number)
  return protocol !== '' && published >= 1 && published <= 65_535 && String(published) === number
    ? { published, protocol }
    : undefined
}

/** What is wrong with a label of this prefix; undefined: nothing, or it is none of ours. */
export function publishProblem(label: string, value: string): string | undefined {
  if (!label.startsWith(PUBLISH_LABEL_PREFIX)) return undefined
  if (!portOfPublishLabel(label)) {
    return `it must end with a published port and its protocol, as ${PUBLISH_LABEL_PREFIX}8080/tcp`
  }
  const parts = value.split(',').map((part) => part.trim())
  if (parts.length > MAX_ADDRESSES) return `${parts.length} addresses are too many: ${MAX_ADDRESSES} at most`
  for (const part of parts) {
    const problem = addressProblem(part)
    if (problem !== undefined) return problem
  }
  if (!parts.every(isLoopback6)) return undefined
  return '::1 alone can’t be: the kernel has no way from there to a container; 127.0.0.1 can be'
}

/** No node serves a port there: the kernel has no way from it to a container. Clients fall back to 127.0.0.1 at once. */
export function isLoopback6(text: string): boolean {
  const address = parseAddress(text)
  return address?.family === 6 && address.value === 1n
}

/** Of one address, subnet or interface that a port is to be published on. */
export function addressProblem(text: string): string | undefined {
  const quoted = JSON.stringify(text)
  if (isEveryAddress(text)) return `${quoted} is every address: leave the label away`
  const address = parseAddress(text)
  if (address) {
    if (containsAddress(LINK_LOCAL, address)) return `${quoted} is on every link: name an interface, or another address`
    return undefined
  }
  if (parseCidr(text) || (INTERFACE.test(text) && text !== 'localhost')) return undefined
  return `invalid value ${quoted}: must be addresses, subnets or interfaces of nodes, separated by commas, as 127.0.0.1 or 10.1.0.0/16`
}

/** As most people write that they mean no address in particular. */
export function isEveryAddress(text: string): boolean {
  const address = parseAddress(text)
  return address?.value === 0n
}

/** The addresses of a node among those that are asked for, each once, in the order of the node's. */
export function addressesHere(wanted: readonly string[], here: readonly NodeAddress[]): readonly string[] {
  const found = here.flatMap(({ device, address }) => {
    const own = parseAddress(address)
    if (!own || containsAddress(LINK_LOCAL, own) || isLoopback6(address)) return []
    const isWanted = wanted.some((text) => {
      const cidr = parseCidr(text)
      if (cidr) return containsAddress(cidr, own)
      const one = parseAddress(text)
      return one ? one.family === own.family && one.value === own.value : text === device
    })
    return isWanted ? [formatAddress(own)] : []
  })
  // The kernel takes all of them for its own, and shows the first.
  const loopback = wanted.flatMap((text) => {
    const one = parseAddress(text)
    return one && containsAddress(LOOPBACK, one) ? [formatAddress(one)] : []
  })
  return [...new Set([...found, ...loopback])]
}

/** Whether host-mode ports, which stand in containers, are open on the same addresses. */
export function sameHostAddresses(
  ports: readonly PortConfig[] | undefined,
  a: Labels | undefined,
  b: Labels | undefined,
): boolean {
  const text = (labels: Labels | undefined, port: PortConfig) => addressesOfPort(labels, port).toSorted().join()
  return (ports ?? []).every((port) => port.PublishMode !== 'host' || text(a, port) === text(b, port))
}

/** `127.0.0.1:8080`, `[fd00::1]:8080`; '' is every address: `*:8080`. */
export function addressAndPort(address: string, port: number | string): string {
  if (address === '') return `*:${port}`
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** `127.0.0.1:8080->80/tcp`, one text an address; `*:8080->80/tcp`. */
export function publishedTexts(port: PortConfig, labels: Labels | undefined): readonly string[] {
  const { PublishedPort: published = 0, TargetPort: target = 0, Protocol: protocol = '' } = port
  const addresses = addressesOfPort(labels, port)
  return (addresses.length > 0 ? addresses : ['']).map(
    (address) => `${addressAndPort(address, published)}->${target}/${protocol}`,
  )
}

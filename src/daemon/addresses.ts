// Which addresses a node listens on and tells others: Docker's rules, and Docker's words where they can't decide.

import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { CodedError } from '../lib/errors.ts'

export const DEFAULT_LISTEN_ADDRESS = '0.0.0.0:2377'
const DEFAULT_PORT = 2377

export interface InterfaceAddress {
  readonly interface: string
  readonly address: string
  readonly family: 4 | 6
}

export interface NodeAddresses {
  /** host:port */
  readonly listen: string
  /** host:port; what other nodes dial */
  readonly advertise: string
  /** IP; empty: the advertised one */
  readonly dataPath: string
}

/** Interfaces that engines make for containers are no way to reach this machine. */
const CONTAINER_INTERFACE = /^(docker|br-|veth|vx|fab|cni|flannel|virbr)/

function invalid(message: string): CodedError {
  return new CodedError('INVALID_ADDRESS', message)
}

/** This machine's addresses but loopback, link-local and container bridges. */
export function machineAddresses(): readonly InterfaceAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter((entry) => !entry.internal && !entry.address.startsWith('fe80:'))
      .map((entry) => ({
        interface: name,
        address: entry.address,
        family: entry.family === 'IPv6' ? (6 as const) : (4 as const),
      })),
  )
}

export function joinHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function splitHostPort(text: string, defaultPort: number): { readonly host: string; readonly port: number } {
  if (isIP(text)) return { host: text, port: defaultPort }
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*))(?::(\d+))?$/.exec(text)
  const port = match?.[3] === undefined ? defaultPort : Number(match[3])
  const host = match?.[1] ?? match?.[2] ?? ''
  if (!match || port < 1 || port > 65535) throw invalid(`invalid address ${text}: expected ip|interface[:port]`)
  return { host, port }
}

/**
 * A manager to join, as `host:port`: Docker's default port where none is given.
 * @throws {CodedError} INVALID_ADDRESS
 */
export function remoteAddress(text: string): string {
  const match = /^(?:tcp:\/\/)?(.+?)\/?$/.exec(text)
  try {
    const { host, port } = splitHostPort(match?.[1] ?? '', DEFAULT_PORT)
    if (host) return joinHostPort(host, port)
  } catch {
    // refused below, in words that fit an address of another machine
  }
  throw invalid(`invalid remoteAddr "${text}": expected host[:port]`)
}

/** The one address of an interface; IPv4 first. */
function addressOfInterface(name: string, addresses: readonly InterfaceAddress[], what: string): string {
  const own = addresses.filter((entry) => entry.interface === name)
  const candidates = own.some((entry) => entry.family === 4) ? own.filter((entry) => entry.family === 4) : own
  const [first, second] = candidates
  if (!first) throw invalid(`could not find local IP address: interface ${name} has no address (${what})`)
  if (second) {
    throw invalid(
      `interface ${name} has more than one IPv4 address (${first.address} and ${second.address}): name one of them as ${what}`,
    )
  }
  return first.address
}

/** An IP stays, an interface becomes its address, anything else is refused. */
function resolveHost(host: string, addresses: readonly InterfaceAddress[], what: string): string {
  if (isIP(host)) return host
  if (addresses.some((entry) => entry.interface === host)) return addressOfInterface(host, addresses, what)
  throw invalid(`${what} must be a valid IP address or network interface: "${host}" is neither`)
}

/** The address of a machine that has only one. */
function onlyAddress(addresses: readonly InterfaceAddress[]): string {
  const usable = addresses.filter((entry) => !CONTAINER_INTERFACE.test(entry.interface))
  const candidates = usable.some((entry) => entry.family === 4) ? usable.filter((entry) => entry.family === 4) : usable
  const [first, second] = candidates
  if (!first) {
    throw invalid(
      'could not choose an IP address to advertise since this system has no address but loopback - specify one with --advertise-addr',
    )
  }
  if (!second) return first.address
  const places =
    first.interface === second.interface
      ? `on interface ${first.interface} (${first.address} and ${second.address})`
      : `on different interfaces (${first.address} on ${first.interface} and ${second.address} on ${second.interface})`
  throw invalid(
    `could not choose an IP address to advertise since this system has multiple addresses ${places} - specify one with --advertise-addr`,
  )
}

/**
 * @param asked as in `docker swarm init`: '' where not given
 * @throws {CodedError} INVALID_ADDRESS with Docker's text
 */
export function chooseAddresses(
  asked: { readonly listen: string; readonly advertise: string; readonly dataPath: string },
  defaultAdvertise: string,
  addresses: readonly InterfaceAddress[],
): NodeAddresses {
  const listen = splitHostPort(asked.listen || DEFAULT_LISTEN_ADDRESS, DEFAULT_PORT)
  const listenHost = resolveHost(listen.host || '0.0.0.0', addresses, 'listen address')
  const wildcard = listenHost === '0.0.0.0' || listenHost === '::'
  const wanted = asked.advertise || (wildcard ? defaultAdvertise : '')
  const advertise = splitHostPort(wanted, listen.port)
  const advertiseHost = advertise.host
    ? resolveHost(advertise.host, addresses, 'advertise address')
    : wildcard
      ? onlyAddress(addresses)
      : listenHost
  if (advertiseHost === '0.0.0.0' || advertiseHost === '::') {
    throw invalid('advertise address must be a non-zero IP address or network interface (with optional port number)')
  }
  const dataPath = asked.dataPath ? resolveHost(asked.dataPath, addresses, 'data path address') : ''
  return {
    listen: joinHostPort(listenHost, listen.port),
    advertise: joinHostPort(advertiseHost, advertise.port),
    dataPath,
  }
}

/** How this machine itself reaches what listens on an address. */
export function localAddress(listenAddress: string): string {
  const host = hostOf(listenAddress)
  const local = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return joinHostPort(local, portOf(listenAddress))
}

export function hostOf(address: string): string {
  return splitHostPort(address, DEFAULT_PORT).host
}

export function portOf(address: string): number {
  return splitHostPort(address, DEFAULT_PORT).port
}

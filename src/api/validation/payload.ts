// Limits of what secrets, configs, networks and the cluster's settings may carry, with Swarm's texts.

import { isIP } from 'node:net'
import { MINIMUM_CERTIFICATE_EXPIRY_NS } from '../defaults.ts'
import type { ConfigSpec, NetworkSpec, SecretSpec, SwarmSpec } from '../spec.ts'
import { validateDnsName, validateFileName } from './names.ts'
import { invalidArgument, managerRefusal, refusal } from './refusal.ts'

export const MAX_SECRET_BYTES = 500 * 1024
export const MAX_CONFIG_BYTES = 1000 * 1024

function sizeOf(data: string | undefined): number {
  return data === undefined ? 0 : Buffer.byteLength(data, 'base64')
}

export function validateSecretSpec(spec: SecretSpec): void {
  validateFileName(spec.Name)
  if (spec.Driver !== undefined) {
    if (!spec.Driver.Name) throw invalidArgument('secret driver must have a name')
    throw managerRefusal(
      'UNIMPLEMENTED',
      `secret driver "${spec.Driver.Name}" is not available: swarmd has no secret drivers`,
    )
  }
  const size = sizeOf(spec.Data)
  if (size < 1 || size >= MAX_SECRET_BYTES) {
    throw invalidArgument(`secret data must be larger than 0 and less than ${MAX_SECRET_BYTES} bytes`)
  }
}

export function validateConfigSpec(spec: ConfigSpec): void {
  validateFileName(spec.Name)
  const size = sizeOf(spec.Data)
  if (size < 1 || size >= MAX_CONFIG_BYTES) {
    throw invalidArgument(`config data must be larger than 0 and less than ${MAX_CONFIG_BYTES} bytes`)
  }
}

interface Subnet {
  readonly family: 4 | 6
  readonly base: bigint
  readonly prefix: number
}

function addressBits(address: string, family: 4 | 6): bigint {
  if (family === 4) return address.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n)
  const [head = '', tail] = address.toLowerCase().split('::')
  const groups = (text: string) =>
    text === ''
      ? []
      : text.split(':').flatMap((group) => {
          if (!group.includes('.')) return [BigInt(`0x${group}`)]
          const bits = addressBits(group, 4)
          return [bits >> 16n, bits & 0xffffn]
        })
  const front = groups(head)
  const back = tail === undefined ? [] : groups(tail)
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0n), ...back]
  return all.reduce((sum, group) => (sum << 16n) | group, 0n)
}

function familyOf(address: string): 4 | 6 | undefined {
  const family = isIP(address)
  return family === 4 || family === 6 ? family : undefined
}

function parseSubnet(cidr: string): Subnet | undefined {
  const [address = '', prefix = '', ...rest] = cidr.split('/')
  const family = familyOf(address)
  const width = family === 6 ? 128 : 32
  if (family === undefined || rest.length > 0 || !/^\d{1,3}$/.test(prefix) || Number(prefix) > width) return undefined
  return { family, base: addressBits(address, family), prefix: Number(prefix) }
}

function contains(subnet: Subnet, address: string): boolean {
  const family = familyOf(address)
  if (family !== subnet.family) return false
  const shift = BigInt((family === 6 ? 128 : 32) - subnet.prefix)
  return addressBits(address, family) >> shift === subnet.base >> shift
}

const PREDEFINED = new Set(['bridge', 'host', 'none', 'default'])

export function validateNetworkSpec(spec: NetworkSpec): void {
  if (PREDEFINED.has(spec.Name ?? '')) {
    throw managerRefusal('PERMISSION_DENIED', `${spec.Name} is a pre-defined network and cannot be created`)
  }
  if (spec.Attachable && spec.Ingress) throw invalidArgument('ingress network cannot be attachable')
  validateDnsName(spec.Name)
  for (const { Subnet: cidr = '', IPRange: range, Gateway: gateway } of spec.IPAMOptions?.Configs ?? []) {
    const subnet = parseSubnet(cidr)
    if (subnet === undefined) throw invalidArgument(`ipam configuration: invalid subnet ${cidr}`)
    if (range) {
      if (parseSubnet(range) === undefined) throw invalidArgument(`ipam configuration: invalid range ${range}`)
      if (!contains(subnet, range.split('/')[0] ?? '')) {
        throw invalidArgument(`ipam configuration: subnet ${cidr} does not contain range ${range}`)
      }
    }
    if (gateway) {
      if (familyOf(gateway) === undefined) throw invalidArgument(`ipam configuration: invalid gateway ${gateway}`)
      if (!contains(subnet, gateway)) {
        throw invalidArgument(`ipam configuration: subnet ${cidr} does not contain gateway ${gateway}`)
      }
    }
  }
}

/** `spec` has its defaults filled in. */
export function validateSwarmSpec(spec: SwarmSpec): void {
  if (spec.Name !== 'default') throw refusal('swarm spec must be named "default"')
  if ((spec.CAConfig?.NodeCertExpiry ?? 0) < MINIMUM_CERTIFICATE_EXPIRY_NS) {
    throw invalidArgument('minimum certificate expiry time is: 1h0m0s')
  }
  if ((spec.Dispatcher?.HeartbeatPeriod ?? 0) < 0) {
    throw invalidArgument('heartbeat time period cannot be a negative duration')
  }
  const { ExternalCAs, SigningCACert, SigningCAKey } = spec.CAConfig ?? {}
  if (ExternalCAs?.length || SigningCACert || SigningCAKey) {
    throw managerRefusal(
      'UNIMPLEMENTED',
      'swarmd signs with its own CA: external CAs and given signing certificates are not supported',
    )
  }
  if (spec.EncryptionConfig?.AutoLockManagers) {
    throw managerRefusal(
      'UNIMPLEMENTED',
      'autolock is not supported by this version of swarmd: leave AutoLockManagers off',
    )
  }
}

/** @param port 0: the default */
export function validateInit(port: number, pools: readonly string[], subnetSize: number): void {
  if (port !== 0 && (port < 1024 || port > 49_151)) {
    throw refusal(`Datapath port number is not in valid range (1024-49151) : ${port}`)
  }
  if (subnetSize !== 0 && (subnetSize > 29 || subnetSize < 1)) {
    throw refusal(`subnet size is out of range: ${subnetSize}`)
  }
  for (const pool of pools) {
    const subnet = parseSubnet(pool)
    if (subnet === undefined) throw refusal(`invalid base pool ${pool}: invalid CIDR address: ${pool}`)
    if (subnetSize !== 0 && subnetSize < subnet.prefix) {
      throw refusal(`invalid CIDR: ${pool}: the pool is smaller than one subnet of size /${subnetSize}`)
    }
  }
}

export function validateJoin(remoteAddresses: readonly string[], token: string): void {
  if (remoteAddresses.length === 0) throw refusal('at least 1 RemoteAddr is required to join')
  for (const address of remoteAddresses) {
    if (address === '') throw refusal('invalid remoteAddr "": invalid empty address')
  }
  if (!/^SWMTKN-1-[0-9a-z]+-[0-9a-z]+$/.test(token)) throw refusal('invalid join token')
}

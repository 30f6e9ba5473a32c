// Limits of what secrets, configs, networks and the cluster's settings may carry, with Swarm's texts.

import { containsAddress, containsCidr, overlaps, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { clusterSettingProblem } from '../cluster-settings.ts'
import { MINIMUM_CERTIFICATE_EXPIRY_NS } from '../defaults.ts'
import type { ConfigSpec, IpamConfig, NetworkSpec, SecretSpec, SwarmSpec } from '../spec.ts'
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
    if (sizeOf(spec.Data) > 0) throw invalidArgument(`secret data must be empty: driver ${spec.Driver.Name} gives it`)
    return
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

const PREDEFINED = new Set(['bridge', 'host', 'none', 'default'])

export function validateNetworkSpec(spec: NetworkSpec): void {
  if (PREDEFINED.has(spec.Name ?? '')) {
    throw managerRefusal('PERMISSION_DENIED', `${spec.Name} is a pre-defined network and cannot be created`)
  }
  if (spec.Attachable && spec.Ingress) throw invalidArgument('ingress network cannot be attachable')
  validateDnsName(spec.Name)
  const configs = spec.IPAMOptions?.Configs ?? []
  for (const config of configs) validateIpamConfig(config)
  const subnets = configs.map((config) => parseCidr(config.Subnet ?? ''))
  for (const [at, subnet] of subnets.entries()) {
    if (subnet && subnets.slice(0, at).some((other) => other && overlaps(other, subnet))) {
      throw invalidArgument('ipam configuration: multiple overlapping subnet configuration is not supported')
    }
  }
  validateOverlayOptions(spec.DriverConfiguration?.Options ?? {})
}

function validateIpamConfig(config: IpamConfig): void {
  const { Subnet: cidr = '', IPRange: range, Gateway: gateway, AuxiliaryAddresses: auxiliary = {} } = config
  const subnet = parseCidr(cidr)
  if (subnet === undefined) throw invalidArgument(`ipam configuration: invalid subnet ${cidr}`)
  if (range) {
    const inner = parseCidr(range)
    if (inner === undefined) throw invalidArgument(`ipam configuration: invalid range ${range}`)
    if (!containsCidr(subnet, inner)) {
      throw invalidArgument(`ipam configuration: subnet ${cidr} does not contain range ${range}`)
    }
  }
  const addresses = [
    ...(gateway ? [['gateway', gateway]] : []),
    ...Object.values(auxiliary).map((ip) => ['aux-address', ip]),
  ]
  for (const [what = '', text = ''] of addresses) {
    const address = parseAddress(text)
    if (address === undefined) throw invalidArgument(`ipam configuration: invalid ${what} ${text}`)
    if (!containsAddress(subnet, address)) {
      throw invalidArgument(`ipam configuration: subnet ${cidr} does not contain ${what} ${text}`)
    }
  }
}

export const VXLAN_IDS_OPTION = 'com.docker.network.driver.overlay.vxlanid_list'
export const MTU_OPTION = 'com.docker.network.driver.mtu'
export const ENCRYPTED_OPTION = 'encrypted'
const MAX_VNI = 2 ** 24 - 1
/** The least that IPv4 works with. */
const MIN_MTU = 68
const MAX_MTU = 65_535

/** libnetwork's texts. It takes options that it does not know without a word; they are refused here. */
function validateOverlayOptions(options: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(options)) {
    if (name === VXLAN_IDS_OPTION) {
      for (const id of value.split(',')) {
        if (!/^\d{1,8}$/.test(id) || Number(id) < 1 || Number(id) > MAX_VNI) {
          throw invalidArgument(`invalid vxlan id value ${JSON.stringify(id)} passed`)
        }
      }
    } else if (name === MTU_OPTION) {
      if (!/^[+-]?\d+$/.test(value)) {
        throw invalidArgument(
          `failed to parse ${value}: strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`,
        )
      }
      if (Number(value) !== 0 && (Number(value) < MIN_MTU || Number(value) > MAX_MTU)) {
        throw invalidArgument(`invalid MTU value: ${Number(value)}`)
      }
    } else if (name !== ENCRYPTED_OPTION) {
      throw invalidArgument(
        `unknown option ${JSON.stringify(name)} for an overlay network: ${ENCRYPTED_OPTION}, ${MTU_OPTION} and ${VXLAN_IDS_OPTION} are known`,
      )
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
  const setting = clusterSettingProblem(spec.Labels)
  if (setting !== undefined) throw invalidArgument(setting)
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
    const subnet = parseCidr(pool)
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

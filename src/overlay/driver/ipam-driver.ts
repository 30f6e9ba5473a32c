// Docker's remote IPAM driver: the cluster decides addresses, so the engine's wishes are repeated and nothing is ever refused as
// taken. Only two kinds of address are found here: those of containers that merely go out, from this node's own pool, and
// those of plain containers on attachable networks, for which the cluster is asked.

import { type Cidr, containsAddress, formatAddress, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { CodedError } from '../../lib/errors.ts'
import { NETWORK_ID_KEY } from '../driver-options.ts'
import { EGRESS_GATEWAY, EGRESS_SUBNET } from '../kernel/fabric-config.ts'
import type { EngineState } from './engine-state.ts'
import { type Answer, type Method, record, text } from './network-driver.ts'

export interface IpamHost {
  readonly engine: EngineState
  /** An address of the cluster for a plain container. @throws {CodedError} for the user */
  readonly requestAddress: (pool: { readonly networkId: string; readonly subnet: string }) => Promise<string>
  readonly releaseAddress: (place: { readonly networkId: string; readonly address: string }) => void
}

const GATEWAY_REQUEST = 'com.docker.network.gateway'
const LOCAL_SPACE = 'swarmctl_local'
const GLOBAL_SPACE = 'swarmctl_global'

export function ipamDriverMethods(host: IpamHost): Readonly<Record<string, Method>> {
  return {
    'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: false, RequiresRequestReplay: false }),
    'IpamDriver.GetDefaultAddressSpaces': () => ({
      LocalDefaultAddressSpace: LOCAL_SPACE,
      GlobalDefaultAddressSpace: GLOBAL_SPACE,
    }),
    'IpamDriver.RequestPool': (request) => requestPool(request),
    'IpamDriver.ReleasePool': () => ({}),
    'IpamDriver.RequestAddress': (request) => requestAddress(host, request),
    'IpamDriver.ReleaseAddress': (request) => releaseAddress(host, request),
  }
}

/** The pool's id says all there is to know of it, so that nothing has to be remembered. */
function requestPool(request: Answer): Answer {
  const pool = text(request.Pool)
  if (!parseCidr(pool)) throw new CodedError('INVALID_POOL', 'a subnet must be given')
  const networkId = text(record(request.Options)[NETWORK_ID_KEY])
  return { PoolID: `${networkId}@${pool}`, Pool: pool, Data: {} }
}

async function requestAddress(host: IpamHost, request: Answer): Promise<Answer> {
  const { networkId, subnet, text: subnetText } = poolOf(request)
  const wished = text(request.Address)
  const isGateway = text(record(request.Options).RequestAddressType) === GATEWAY_REQUEST
  if (wished) return answer(wished, subnet)
  if (isGateway) return answer(formatAddress({ family: subnet.family, value: subnet.base + 1n }), subnet)
  if (subnetText === EGRESS_SUBNET) return answer(await allocateEgress(host.engine, subnet), subnet)
  return answer(await host.requestAddress({ networkId, subnet: subnetText }), subnet)
}

/** Also of addresses that no pool has given: those that the network driver found. */
async function releaseAddress(host: IpamHost, request: Answer): Promise<Answer> {
  const address = text(request.Address)
  const { networkId, subnet } = poolParts(request)
  if (subnet !== EGRESS_SUBNET) host.releaseAddress({ networkId, address })
  else if (host.engine.egress.delete(address)) await host.engine.save()
  return {}
}

/** The next free address after the one that was given out last, so that none is soon used again. */
async function allocateEgress(engine: EngineState, subnet: Cidr): Promise<string> {
  const first = subnet.base + 1n
  const count = 2n ** BigInt(32 - subnet.prefix) - 2n
  if (BigInt(engine.egress.size) >= count - 1n) {
    throw new CodedError('EGRESS_FULL', `no address is left in ${EGRESS_SUBNET} for containers on this node`)
  }
  const last = parseAddress([...engine.egress].at(-1) ?? EGRESS_GATEWAY)
  let value = last && containsAddress(subnet, last) ? last.value : first
  for (;;) {
    value = first + ((value - first + 1n) % count)
    const address = formatAddress({ family: 4, value })
    if (address === EGRESS_GATEWAY || engine.egress.has(address)) continue
    engine.egress.add(address)
    await engine.save()
    return address
  }
}

interface Pool {
  readonly networkId: string
  readonly subnet: Cidr
  readonly text: string
}

function poolParts(request: Answer): { readonly networkId: string; readonly subnet: string } {
  const [networkId = '', subnet = ''] = text(request.PoolID).split('@')
  return { networkId, subnet }
}

function poolOf(request: Answer): Pool {
  const { networkId, subnet: subnetText } = poolParts(request)
  const subnet = parseCidr(subnetText)
  if (!subnet) throw new CodedError('INVALID_POOL', `no pool has the id "${text(request.PoolID)}"`)
  return { networkId, subnet, text: subnetText }
}

function answer(address: string, subnet: Cidr): Answer {
  return { Address: `${address}/${subnet.prefix}`, Data: {} }
}

// Docker's remote IPAM driver: the cluster decides addresses, so the engine's wishes are repeated and nothing is ever refused as
// taken. Only addresses of containers that merely go out are found here, in this node's own pool.

import { type Cidr, containsAddress, formatAddress, parseAddress, parseCidr } from '../../lib/cidr.ts'
import { CodedError } from '../../lib/errors.ts'
import { NETWORK_ID_KEY } from '../driver-options.ts'
import { EGRESS_GATEWAY, EGRESS_SUBNET } from '../kernel/fabric-config.ts'
import type { EngineState } from './engine-state.ts'
import { type Answer, type Method, record, text } from './network-driver.ts'

const GATEWAY_REQUEST = 'com.docker.network.gateway'
const LOCAL_SPACE = 'swarmctl_local'
const GLOBAL_SPACE = 'swarmctl_global'

export function ipamDriverMethods(engine: EngineState): Readonly<Record<string, Method>> {
  return {
    'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: false, RequiresRequestReplay: false }),
    'IpamDriver.GetDefaultAddressSpaces': () => ({
      LocalDefaultAddressSpace: LOCAL_SPACE,
      GlobalDefaultAddressSpace: GLOBAL_SPACE,
    }),
    'IpamDriver.RequestPool': (request) => requestPool(request),
    'IpamDriver.ReleasePool': () => ({}),
    'IpamDriver.RequestAddress': (request) => requestAddress(engine, request),
    'IpamDriver.ReleaseAddress': (request) => releaseAddress(engine, request),
  }
}

/** The pool's id says all there is to know of it, so that nothing has to be remembered. */
function requestPool(request: Answer): Answer {
  const pool = text(request.Pool)
  if (!parseCidr(pool)) throw new CodedError('INVALID_POOL', 'a subnet must be given')
  const networkId = text(record(request.Options)[NETWORK_ID_KEY])
  return { PoolID: `${networkId}@${pool}`, Pool: pool, Data: {} }
}

async function requestAddress(engine: EngineState, request: Answer): Promise<Answer> {
  const { subnet, text: subnetText } = poolOf(request)
  const wished = text(request.Address)
  const isGateway = text(record(request.Options).RequestAddressType) === GATEWAY_REQUEST
  if (wished) return answer(wished, subnet)
  if (isGateway) return answer(formatAddress({ family: subnet.family, value: subnet.base + 1n }), subnet)
  if (subnetText === EGRESS_SUBNET) return answer(await allocateEgress(engine, subnet), subnet)
  throw new CodedError(
    'NO_ADDRESS',
    'the cluster gives the addresses of this network: make the container through the API of swarmd, not of the engine',
  )
}

async function releaseAddress(engine: EngineState, request: Answer): Promise<Answer> {
  if (subnetOf(request) === EGRESS_SUBNET && engine.egress.delete(text(request.Address))) await engine.save()
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
  readonly subnet: Cidr
  readonly text: string
}

function subnetOf(request: Answer): string {
  return text(request.PoolID).split('@')[1] ?? ''
}

function poolOf(request: Answer): Pool {
  const subnetText = subnetOf(request)
  const subnet = parseCidr(subnetText)
  if (!subnet) throw new CodedError('INVALID_POOL', `no pool has the id "${text(request.PoolID)}"`)
  return { subnet, text: subnetText }
}

function answer(address: string, subnet: Cidr): Answer {
  return { Address: `${address}/${subnet.prefix}`, Data: {} }
}

// Does an address lie in a subnet: for --gateway, --ip-range and --aux-address.

import { BlockList, isIP } from 'node:net'

/** False also for an address of the other family. `subnet` is a valid CIDR. */
export function cidrContains(subnet: string, address: string): boolean {
  const [ip = '', prefix = ''] = subnet.split('/')
  const family = isIP(ip) === 4 ? 'ipv4' : 'ipv6'
  if (isIP(address) !== isIP(ip)) return false
  const block = new BlockList()
  block.addSubnet(ip, Number(prefix), family)
  return block.check(address, family)
}

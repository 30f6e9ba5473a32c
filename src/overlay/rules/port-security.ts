// What one local end point may send, that it may reach itself by its service's virtual address, and who its gateway is.

import type { OverlayNetwork } from '../../api/data-plane.ts'
import { formatAddress, type IpAddress, parseAddress } from '../../lib/cidr.ts'
import { EGRESS_NETWORK_ID, type LocalAttachment } from '../desired-state.ts'
import { attachmentMac, bridgeMac, fabricPort, gatewayIpv6 } from '../kernel/fabric-config.ts'
import { GATEWAY_MACS } from './balanced-replies.ts'
import { elementFragment, type Fragment, type SetElement } from './fragment.ts'

export function portSecurityFragment(local: LocalAttachment, network: OverlayNetwork | undefined): Fragment {
  const port = `"${fabricPort(local.endpointId)}"`
  const mac = local.mac === '' ? attachmentMac(local) : local.mac.toLowerCase()
  const given = local.addresses.flatMap((text) => parseAddress(text.split('/')[0] ?? '') ?? [])
  const gateway = local.networkId === EGRESS_NETWORK_ID || network?.ingress === true
  const derived = gateway
    ? given.filter(({ family }) => family === 4).map((one) => gatewayIpv6(formatAddress(one)))
    : []
  const addresses = unique([...given.map(formatAddress), ...derived])
  const elements: SetElement[] = []
  for (const address of addresses) {
    const text = formatAddress(address)
    const { family } = address
    elements.push({ table: 'bridge', set: `ports${family}`, key: `${port} . ${mac} . ${text}`, value: '' })
    elements.push({ table: 'fabric', set: `hairpin${family}`, key: `${text} . ${text}`, value: '' })
    if (family === 6) elements.push(target(port, address))
  }
  if (network && !gateway) {
    elements.push({ table: 'balanced', set: GATEWAY_MACS, key: port, value: bridgeMac(network) })
  }
  const linkLocal = linkLocalOf(mac)
  elements.push(
    { table: 'bridge', set: 'ports6', key: `${port} . ${mac} . ${formatAddress(linkLocal)}`, value: '' },
    target(port, linkLocal),
  )
  return elementFragment(elements)
}

function unique(texts: readonly string[]): readonly IpAddress[] {
  return [...new Set(texts)].flatMap((text) => parseAddress(text) ?? [])
}

/** A payload has no type: nft takes its value as a number. */
function target(port: string, { value }: IpAddress): SetElement {
  return { table: 'bridge', set: 'targets6', key: `${port} . 0x${value.toString(16).padStart(32, '0')}`, value: '' }
}

/** The address that the kernel gives a device by its MAC (RFC 4291, modified EUI-64). */
function linkLocalOf(mac: string): IpAddress {
  const bytes = mac.split(':').map((byte) => Number.parseInt(byte, 16))
  const [first = 0, second = 0, third = 0, ...rest] = bytes
  const identifier = [first ^ 2, second, third, 0xff, 0xfe, ...rest]
  const value = identifier.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
  return { family: 6, value: (0xfe80n << 112n) | value }
}

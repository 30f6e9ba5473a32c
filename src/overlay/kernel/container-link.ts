// The far end of a container's link: the engine took it into the container's namespace (the sandbox) and renamed it. What is to be
// done there later: another MTU, and a new link where the old one was lost with the fabric or by a foreign hand.

import { access } from 'node:fs/promises'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { LocalAttachment } from '../desired-state.ts'
import { type Commands, succeed } from './commands.ts'
import { attachmentMac, containerPort } from './fabric-config.ts'

/** What an interface of a container has, as the engine gave it. */
export interface Placement {
  /** With prefix length. */
  readonly addresses: readonly string[]
  /** Next hops of the default routes; none where the network has no way out. */
  readonly gateways: readonly string[]
}

interface RawLink {
  readonly ifname: string
  readonly address?: string
  readonly mtu: number
}

/** Never throws: a container that can't be reached keeps its MTU, and larger packets of it are cut or lost. */
export async function setContainerMtu(
  commands: Commands,
  local: LocalAttachment,
  mtu: number,
  log: Log,
): Promise<void> {
  const { endpointId, sandbox = '' } = local
  if (!(await exists(sandbox))) return
  try {
    const link = (await linksOf(commands, sandbox)).find(({ address }) => address === macOf(local))
    if (!link || link.mtu === mtu) return
    await inside(commands, sandbox, [`link set ${link.ifname} mtu ${mtu}`])
    log.info({ endpointId, before: link.mtu, after: mtu }, "a container's link follows the MTU of its network")
  } catch (error) {
    log.warn({ endpointId, mtu, reason: errorMessage(error) }, "a container's link keeps its MTU")
  }
}

/** Whether there is a container that could have its link again. */
export function hasSandbox({ sandbox = '' }: LocalAttachment): Promise<boolean> {
  return exists(sandbox)
}

/**
 * Takes the container's end, which stands in the host's namespace, into the container, under the first name that is free there.
 * @throws {CodedError} KERNEL_REFUSED
 */
export async function plugIn(commands: Commands, local: LocalAttachment, placement: Placement): Promise<void> {
  const { endpointId, sandbox = '' } = local
  const links = await linksOf(commands, sandbox)
  const stale = links.filter(({ address }) => address === macOf(local)).map(({ ifname }) => ifname)
  const taken = new Set(links.map(({ ifname }) => ifname).filter((name) => !stale.includes(name)))
  let number = 0
  while (taken.has(`eth${number}`)) number++
  const name = `eth${number}`
  const device = containerPort(endpointId)
  const moved = await commands.host('ip', ['link', 'set', device, 'netns', sandbox])
  succeed(moved, "cannot move a container's link")
  await inside(commands, sandbox, [
    ...stale.map((link) => `link del ${link}`),
    `link set ${device} name ${name} address ${macOf(local)}`,
  ])
  if (placement.addresses.some((address) => address.includes(':'))) {
    // Engines switch IPv6 off in a container, but for the links that have such an address.
    const setting = `net.ipv6.conf.${name}.disable_ipv6=0`
    succeed(await commands.host('nsenter', [`--net=${sandbox}`, 'sysctl', '-qw', setting]), 'cannot use IPv6')
  }
  await inside(commands, sandbox, [
    ...placement.addresses.map((address) => `addr add ${address} dev ${name}${address.includes(':') ? ' nodad' : ''}`),
    `link set ${name} up`,
    ...placement.gateways.map(
      (via) => `route replace ${via.includes(':') ? '::/0' : 'default'} via ${via} dev ${name}`,
    ),
  ])
}

async function linksOf(commands: Commands, sandbox: string): Promise<readonly RawLink[]> {
  const listing = await commands.host('nsenter', [`--net=${sandbox}`, 'ip', '-j', 'link', 'show'])
  return JSON.parse(succeed(listing, "cannot read a container's links")) as readonly RawLink[]
}

async function inside(commands: Commands, sandbox: string, lines: readonly string[]): Promise<void> {
  const batch = await commands.host('nsenter', [`--net=${sandbox}`, 'ip', '-batch', '-'], `${lines.join('\n')}\n`)
  succeed(batch, "cannot change a container's link")
}

function macOf(local: LocalAttachment): string {
  return (local.mac || attachmentMac(local)).toLowerCase()
}

function exists(path: string): Promise<boolean> {
  return path === ''
    ? Promise.resolve(false)
    : access(path).then(
        () => true,
        () => false,
      )
}

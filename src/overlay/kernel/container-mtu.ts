// The far end of a container's link: the engine has taken it into the container's namespace and renamed it, but a smaller MTU of the
// network concerns it too. Known by its MAC.

import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import type { LocalAttachment } from '../desired-state.ts'
import { type Commands, succeed } from './commands.ts'
import { attachmentMac } from './fabric-config.ts'

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
  const { endpointId, sandbox } = local
  if (!sandbox) return
  try {
    const inside = (args: readonly string[]) => commands.host('nsenter', [`--net=${sandbox}`, 'ip', ...args])
    const listing = succeed(await inside(['-j', 'link', 'show']), "cannot read a container's links")
    const mac = (local.mac || attachmentMac(local)).toLowerCase()
    const link = (JSON.parse(listing) as readonly RawLink[]).find(({ address }) => address === mac)
    if (!link || link.mtu === mtu) return
    succeed(await inside(['link', 'set', link.ifname, 'mtu', String(mtu)]), 'cannot set the MTU')
    log.info({ endpointId, before: link.mtu, after: mtu }, "a container's link follows the MTU of its network")
  } catch (error) {
    log.warn({ endpointId, mtu, reason: errorMessage(error) }, "a container's link keeps its MTU")
  }
}

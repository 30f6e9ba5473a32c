// What stands of the data plane in the host's own namespace: one veth to the fabric, and leave for it in firewalls that forward
// nothing by themselves.

import { CodedError } from '../../lib/errors.ts'
import { type Commands, succeed } from './commands.ts'
import { type FabricConfig, LINK_PREFIX, LINK_PREFIX_V6 } from './fabric-config.ts'

interface RawLink {
  readonly ifname: string
  readonly flags: readonly string[]
  readonly linkinfo?: { readonly info_kind?: string }
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[]
}

/** Also where its making was interrupted before it had an address. */
function isOurs({ linkinfo, addr_info }: RawLink, address: string): boolean {
  const addresses = addr_info.map(({ local }) => local).filter((local) => !local.startsWith('fe80:'))
  return linkinfo?.info_kind === 'veth' && (addresses.length === 0 || addresses.includes(address))
}

export class HostLink {
  readonly #commands: Commands
  readonly #config: FabricConfig

  constructor(commands: Commands, config: FabricConfig) {
    this.#commands = commands
    this.#config = config
  }

  /**
   * What was missing and is there now. The fabric's end is the plan's, but made here.
   * @param ipv6 the host uses it
   * @throws {CodedError} LINK_TAKEN where another link has the name
   */
  async ensure(ipv6: boolean): Promise<readonly string[]> {
    const { hostLink, fabricLink, namespace, hostLinkAddress, hostLinkAddressV6 } = this.#config
    const wanted = [`${hostLinkAddress}/${LINK_PREFIX}`, ...(ipv6 ? [`${hostLinkAddressV6}/${LINK_PREFIX_V6}`] : [])]
    const [host, fabric] = await Promise.all([
      this.#commands.host('ip', ['-j', '-d', 'addr', 'show', 'dev', hostLink]),
      this.#commands.fabric('ip', ['link', 'show', 'dev', fabricLink]),
    ])
    const link = host.status === 0 ? (JSON.parse(host.stdout) as readonly RawLink[])[0] : undefined
    if (link && !isOurs(link, hostLinkAddress)) {
      throw new CodedError('LINK_TAKEN', `the host has a link named ${hostLink} that is not the data plane's`)
    }
    const whole = link !== undefined && fabric.status === 0
    const addresses = whole ? link.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`) : []
    const missing = wanted.filter((address) => !addresses.includes(address))
    const up = whole && link.flags.includes('UP')
    if (whole && up && missing.length === 0) return []
    const lines = [
      // One end without the other is of another namespace: of a fabric that is gone.
      ...(link && !whole ? [`link del ${hostLink}`] : []),
      ...(whole ? [] : [`link add ${hostLink} type veth peer name ${fabricLink} netns ${namespace}`]),
      ...missing.map((address) => `addr replace ${address} dev ${hostLink}${address.includes(':') ? ' nodad' : ''}`),
      `link set ${hostLink} up`,
    ]
    if (!whole && fabric.status === 0) await this.#commands.fabric('ip', ['link', 'del', fabricLink])
    succeed(
      await this.#commands.host('ip', ['-batch', '-'], `${lines.join('\n')}\n`),
      'cannot make the link to the fabric',
    )
    return [`link ${hostLink}`, ...missing]
  }

  /**
   * Docker and ufw leave FORWARD at DROP, which no rule of another table can override: two rules in their own. Checked at
   * each audit, since they load theirs anew. No error where there is no iptables: then nobody has set that policy by it.
   */
  async openFirewalls(): Promise<readonly string[]> {
    const { hostLink } = this.#config
    const opened = await Promise.all(
      ['iptables', 'ip6tables'].map(async (tool): Promise<readonly string[]> => {
        const listing = await this.#commands.host(tool, ['-w', '5', '-S', 'FORWARD']).catch(() => undefined)
        if (listing?.status !== 0) return []
        const wanted = ['-i', '-o'].map((way) => ['FORWARD', way, hostLink, '-j', 'ACCEPT'])
        const missing = wanted.filter((rule) => !listing.stdout.includes(`-A ${rule.join(' ')}\n`))
        for (const rule of missing) await this.#commands.host(tool, ['-w', '5', '-I', ...rule])
        return missing.map((rule) => `${tool} ${rule.join(' ')}`)
      }),
    )
    return opened.flat()
  }

  /** Takes everything of `ensure` and `openFirewalls` away. */
  async remove(): Promise<void> {
    const { hostLink } = this.#config
    await this.#commands.host('ip', ['link', 'del', hostLink])
    for (const tool of ['iptables', 'ip6tables']) {
      for (const way of ['-i', '-o']) {
        await this.#commands
          .host(tool, ['-w', '5', '-D', 'FORWARD', way, hostLink, '-j', 'ACCEPT'])
          .catch(() => undefined)
      }
    }
  }
}

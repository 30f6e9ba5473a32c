// Kernel settings of the fabric's namespace and of the host's. Forwarding comes last, once the rules stand: until then nothing
// passes.

import type { Log } from '../../lib/log.ts'
import { type Commands, succeed } from './commands.ts'
import type { FabricConfig } from './fabric-config.ts'

type Settings = Readonly<Record<string, string>>

/** Of new devices as well (`default`): set before any is made. */
const FABRIC_BASE: Settings = {
  'net.ipv4.conf.all.rp_filter': '0',
  'net.ipv4.conf.default.rp_filter': '0',
  'net.ipv4.conf.all.send_redirects': '0',
  'net.ipv4.conf.default.send_redirects': '0',
  'net.ipv4.conf.all.accept_redirects': '0',
  'net.ipv4.conf.default.accept_redirects': '0',
  'net.ipv6.conf.all.disable_ipv6': '0',
  'net.ipv6.conf.default.disable_ipv6': '0',
  'net.ipv6.conf.all.accept_redirects': '0',
  'net.ipv6.conf.default.accept_redirects': '0',
  'net.ipv6.conf.all.accept_ra': '0',
  'net.ipv6.conf.default.accept_ra': '0',
  'net.ipv6.conf.default.accept_dad': '0',
  // No link-local addresses: every end of every link is named by the plan.
  'net.ipv6.conf.default.addr_gen_mode': '1',
}

/**
 * Bridged packets pass no rules but those of bridges: all others would track each connection between two containers (see
 * ../rules/balanced-replies.ts). They are there where somebody has use for br_netfilter, as the engine has, and then on.
 */
const FABRIC_BRIDGE: Settings = {
  'net.bridge.bridge-nf-call-iptables': '0',
  'net.bridge.bridge-nf-call-ip6tables': '0',
  'net.bridge.bridge-nf-call-arptables': '0',
}

/**
 * A balanced connection's packet that conntrack takes for out of its window would go on untranslated, and be answered by a reset.
 * What is over is forgotten after half a minute: each connection of each container has its place in the table.
 */
const FABRIC_CONNECTIONS: Settings = {
  'net.netfilter.nf_conntrack_tcp_be_liberal': '1',
  'net.netfilter.nf_conntrack_tcp_timeout_time_wait': '30',
}

type Place = 'host' | 'fabric'

const HOST_FORWARDING_V4 = 'net.ipv4.ip_forward'
const HOST_FORWARDING_V6 = 'net.ipv6.conf.all.forwarding'
/** IPv6 may be off in the kernel, or switched off for the host. */
const IPV6_OFF = 'net.ipv6.conf.all.disable_ipv6'

const FABRIC_FORWARDING: Settings = {
  'net.ipv6.conf.all.forwarding': '1',
  'net.ipv4.ip_forward': '1',
}

function hostSettings({ hostLink }: FabricConfig): Settings {
  return {
    // A published port answers on 127.0.0.1 too; of this device only.
    [`net.ipv4.conf.${hostLink}.route_localnet`]: '1',
    [`net.ipv4.conf.${hostLink}.rp_filter`]: '1',
    [`net.ipv6.conf.${hostLink}.accept_ra`]: '0',
    'net.ipv4.ip_forward': '1',
  }
}

export class KernelSettings {
  readonly #commands: Commands
  readonly #config: FabricConfig
  readonly #log: Log
  #seen: Record<Place, Map<string, string>> = { host: new Map(), fabric: new Map() }
  #warned = ''

  constructor(commands: Commands, config: FabricConfig, log: Log) {
    this.#commands = commands
    this.#config = config
    this.#log = log
  }

  /** Reads what there is: the other methods go by that. */
  async look(): Promise<void> {
    const [host, fabric] = await Promise.all([
      this.#read('host', [...Object.keys(hostSettings(this.#config)), HOST_FORWARDING_V6, IPV6_OFF]),
      this.#read(
        'fabric',
        Object.keys({ ...FABRIC_BASE, ...FABRIC_BRIDGE, ...FABRIC_CONNECTIONS, ...FABRIC_FORWARDING }),
      ),
    ])
    this.#seen = { host, fabric }
  }

  /** Whether the host uses IPv6. */
  get hostIpv6(): boolean {
    return this.#seen.host.get(IPV6_OFF) === '0'
  }

  /** What was otherwise than it has to be and is mended. Everything but forwarding in the fabric. */
  async fabric(): Promise<readonly string[]> {
    return this.#set('fabric', { ...FABRIC_BASE, ...FABRIC_CONNECTIONS })
  }

  /** Once the rules stand: what passes, and what passes without them. */
  forwarding(): Promise<readonly string[]> {
    const bridge = Object.entries(FABRIC_BRIDGE).filter(([name]) => this.#seen.fabric.has(name))
    return this.#set('fabric', { ...Object.fromEntries(bridge), ...FABRIC_FORWARDING })
  }

  async host(): Promise<readonly string[]> {
    if (this.#seen.host.get(HOST_FORWARDING_V4) === '0') await this.#forwardNothingElse('iptables')
    const changed = await this.#set('host', hostSettings(this.#config))
    return [...changed, ...(await this.#hostIpv6Forwarding())]
  }

  /**
   * A host that forwarded nothing must not become everybody's router. The engine sets this policy when it is the first to
   * switch forwarding on, and only then.
   */
  async #forwardNothingElse(tool: 'iptables' | 'ip6tables'): Promise<void> {
    const result = await this.#commands.host(tool, ['-w', '5', '-P', 'FORWARD', 'DROP']).catch(() => undefined)
    if (result?.status === 0) this.#log.info({ tool }, 'the host forwards for the data plane only')
  }

  /** A host that forwards IPv6 stops to listen to routers, unless told to go on. */
  async #hostIpv6Forwarding(): Promise<readonly string[]> {
    if (this.#seen.host.get(HOST_FORWARDING_V6) !== '0' || !this.hostIpv6) return []
    const all = await this.#commands.host('sysctl', ['-a', '-r', '^net\\.ipv6\\.conf\\..*\\.accept_ra$'])
    const listening = parseSettings(all.stdout)
    const kept = [...listening].filter(([name, value]) => value === '1' && !name.includes(`.${this.#config.hostLink}.`))
    for (const [name, value] of kept) this.#seen.host.set(name, value)
    await this.#forwardNothingElse('ip6tables')
    return this.#set('host', { ...Object.fromEntries(kept.map(([name]) => [name, '2'])), [HOST_FORWARDING_V6]: '1' })
  }

  async #set(where: Place, wanted: Settings): Promise<readonly string[]> {
    const values = this.#seen[where]
    const missing = Object.keys(wanted).filter((name) => !values.has(name))
    if (missing.length > 0 && this.#warned !== missing.join()) {
      this.#warned = missing.join()
      this.#log.warn({ settings: missing, where }, 'the kernel lacks settings of the data plane')
    }
    const wrong = Object.entries(wanted).filter(([name, value]) => values.has(name) && values.get(name) !== value)
    if (wrong.length === 0) return []
    const args = ['-qw', ...wrong.map(([name, value]) => `${name}=${value}`)]
    succeed(await this.#commands[where]('sysctl', args), 'cannot change kernel settings')
    for (const [name, value] of wrong) values.set(name, value)
    return wrong.map(([name, value]) => `${name}=${value}`)
  }

  async #read(where: Place, names: readonly string[]): Promise<Map<string, string>> {
    return parseSettings((await this.#commands[where]('sysctl', ['-e', ...names])).stdout)
  }
}

function parseSettings(text: string): Map<string, string> {
  return new Map(
    text.split('\n').flatMap((line): [string, string][] => {
      const [name, value] = line.split('=')
      return name && value !== undefined ? [[name.trim(), value.trim()]] : []
    }),
  )
}

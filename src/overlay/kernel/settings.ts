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

/** Bridged packets pass the rules too: replies of virtual addresses come bridged. */
const FABRIC_BRIDGE: Settings = {
  'net.bridge.bridge-nf-call-iptables': '1',
  'net.bridge.bridge-nf-call-ip6tables': '1',
  'net.bridge.bridge-nf-call-arptables': '0',
}

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
  #warned = ''

  constructor(commands: Commands, config: FabricConfig, log: Log) {
    this.#commands = commands
    this.#config = config
    this.#log = log
  }

  /** Whether the host uses IPv6. */
  async hostIpv6(): Promise<boolean> {
    const value = (await this.#read('host', [IPV6_OFF])).get(IPV6_OFF)
    return value === '0'
  }

  /** What was otherwise than it has to be and is mended. Everything but forwarding in the fabric. */
  async fabric(): Promise<readonly string[]> {
    return this.#set('fabric', { ...FABRIC_BASE, ...FABRIC_BRIDGE })
  }

  async forwarding(): Promise<readonly string[]> {
    return this.#set('fabric', FABRIC_FORWARDING)
  }

  async host(): Promise<readonly string[]> {
    const changed = await this.#set('host', hostSettings(this.#config))
    return [...changed, ...(await this.#hostIpv6Forwarding())]
  }

  /** A host that forwards IPv6 stops to listen to routers, unless told to go on. */
  async #hostIpv6Forwarding(): Promise<readonly string[]> {
    const forwarding = 'net.ipv6.conf.all.forwarding'
    const values = await this.#read('host', [forwarding, IPV6_OFF])
    if (values.get(forwarding) !== '0' || values.get(IPV6_OFF) !== '0') return []
    const all = await this.#commands.host('sysctl', ['-a', '-r', '^net\\.ipv6\\.conf\\..*\\.accept_ra$'])
    const listening = parseSettings(all.stdout)
    const kept = [...listening].filter(([name, value]) => value === '1' && !name.includes(`.${this.#config.hostLink}.`))
    return this.#set('host', { ...Object.fromEntries(kept.map(([name]) => [name, '2'])), [forwarding]: '1' })
  }

  async #set(where: 'host' | 'fabric', wanted: Settings): Promise<readonly string[]> {
    const values = await this.#read(where, Object.keys(wanted))
    const bridgeMissing = Object.keys(wanted).some((name) => name.startsWith('net.bridge.') && !values.has(name))
    if (bridgeMissing) {
      await this.#commands.host('modprobe', ['br_netfilter']).catch(() => undefined)
      for (const [name, value] of await this.#read(where, Object.keys(FABRIC_BRIDGE))) values.set(name, value)
    }
    const missing = Object.keys(wanted).filter((name) => !values.has(name))
    if (missing.length > 0 && this.#warned !== missing.join()) {
      this.#warned = missing.join()
      this.#log.warn({ settings: missing, where }, 'the kernel lacks settings of the data plane')
    }
    const wrong = Object.entries(wanted).filter(([name, value]) => values.has(name) && values.get(name) !== value)
    if (wrong.length === 0) return []
    const args = ['-qw', ...wrong.map(([name, value]) => `${name}=${value}`)]
    succeed(await this.#commands[where]('sysctl', args), 'cannot change kernel settings')
    return wrong.map(([name, value]) => `${name}=${value}`)
  }

  async #read(where: 'host' | 'fabric', names: readonly string[]): Promise<Map<string, string>> {
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

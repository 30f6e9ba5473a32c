// What the plan knows in the kernel, in the smallest parts that come and go alone: a link, an address, a tunnel's entry. Each has a
// key (what there can be only one of) and the command lines that make and remove it. Two entries are equal if their lines are.

/** What a link is made as: a difference means to make it anew. */
export type LinkMake =
  | { readonly kind: 'bridge'; readonly mac: string }
  | {
      readonly kind: 'vxlan'
      readonly vni: number
      readonly local: string
      readonly port: number
      /** Answers ARP and neighbour solicitations from its own neighbour entries. */
      readonly proxy: boolean
      /** Empty: the kernel's choice. */
      readonly mac: string
    }
  /** Made with its peer, which a container takes: can't be made anew for a container that runs. */
  | { readonly kind: 'container-port'; readonly peer: string }

export interface BridgePort {
  readonly hairpin: boolean
  readonly isolated: boolean
}

export type KernelEntry =
  | { readonly kind: 'link'; readonly device: string; readonly make: LinkMake }
  /** What can be changed of a link. */
  | {
      readonly kind: 'device'
      readonly device: string
      /** 0: as it is */
      readonly mtu: number
      readonly master: string
      readonly port: BridgePort | undefined
      readonly up: boolean
    }
  /** With prefix length */
  | { readonly kind: 'address'; readonly device: string; readonly address: string }
  /** Where a tunnel sends what is for `mac`. `port` 0: the device's own. */
  | {
      readonly kind: 'tunnel-fdb'
      readonly device: string
      readonly mac: string
      readonly target: string
      readonly port: number
    }
  /** Behind which port of its bridge a MAC is. */
  | { readonly kind: 'bridge-fdb'; readonly bridge: string; readonly mac: string; readonly device: string }
  | { readonly kind: 'neighbour'; readonly device: string; readonly address: string; readonly mac: string }
  /** Empty `via` and `device`: unreachable. `table` 254 is the main one. */
  | {
      readonly kind: 'route'
      readonly family: 4 | 6
      readonly table: number
      readonly destination: string
      readonly via: string
      readonly device: string
    }
  | {
      readonly kind: 'rule'
      readonly family: 4 | 6
      readonly priority: number
      readonly mark: number
      readonly mask: number
      readonly table: number
    }

export type EntryMap = ReadonlyMap<string, KernelEntry>

export const MAIN_TABLE = 254

export function entryKey(entry: KernelEntry): string {
  switch (entry.kind) {
    case 'link':
      return `link ${entry.device}`
    case 'device':
      return `device ${entry.device}`
    case 'address':
      return `address ${entry.device} ${entry.address}`
    case 'tunnel-fdb':
      return `tunnel-fdb ${entry.device} ${entry.mac}`
    case 'bridge-fdb':
      return `bridge-fdb ${entry.bridge} ${entry.mac}`
    case 'neighbour':
      return `neighbour ${entry.device} ${entry.address}`
    case 'route':
      return `route ${entry.family} ${entry.table} ${entry.destination}`
    case 'rule':
      return `rule ${entry.family} ${entry.priority}`
  }
}

/** The link that an entry goes with when it is removed; empty: none. */
export function entryDevice(entry: KernelEntry): string {
  return entry.kind === 'rule' ? '' : entry.device
}

/** Of no use to a kernel without IPv6. */
export function isIpv6(entry: KernelEntry): boolean {
  switch (entry.kind) {
    case 'route':
    case 'rule':
      return entry.family === 6
    case 'address':
    case 'neighbour':
      return entry.address.includes(':')
    case 'link':
    case 'device':
    case 'tunnel-fdb':
    case 'bridge-fdb':
      return false
  }
}

/** For people, and for comparison. */
export function describeEntry(entry: KernelEntry): string {
  if (entry.kind === 'link') return `link ${entry.device} ${makeText(entry.make)}`
  return `${entry.kind === 'rule' ? `-${entry.family} ` : ''}${addLines(entry).join('; ')}`
}

export function sameEntry(a: KernelEntry, b: KernelEntry): boolean {
  return describeEntry(a) === describeEntry(b)
}

function makeText(make: LinkMake): string {
  switch (make.kind) {
    case 'bridge':
      return `type bridge address ${make.mac}`
    case 'vxlan':
      return `type vxlan id ${make.vni} local ${make.local} dstport ${make.port}${make.proxy ? ' proxy' : ''} ${make.mac}`
    case 'container-port':
      return 'type veth'
  }
}

/** Lines for the entry's tool (`toolOf`) in the fabric's namespace; links: linkLine. */
export function addLines(entry: KernelEntry): readonly string[] {
  switch (entry.kind) {
    case 'link':
      return []
    case 'device':
      return deviceLines(entry)
    case 'address':
      return [`addr replace ${entry.address} dev ${entry.device}${entry.address.includes(':') ? ' nodad' : ''}`]
    case 'tunnel-fdb': {
      const port = entry.port === 0 ? '' : ` port ${entry.port}`
      return [`fdb replace ${entry.mac} dev ${entry.device} dst ${entry.target}${port} self permanent`]
    }
    case 'bridge-fdb':
      return [`fdb replace ${entry.mac} dev ${entry.device} master static`]
    case 'neighbour':
      return [`neigh replace ${entry.address} lladdr ${entry.mac} dev ${entry.device} nud permanent`]
    case 'route':
      return [`route replace ${routeText(entry)}`]
    case 'rule':
      return [`rule add ${ruleText(entry)}`]
  }
}

/** Lines that remove it, for the same tool. */
export function removeLines(entry: KernelEntry): readonly string[] {
  switch (entry.kind) {
    case 'link':
      return [`link del ${entry.device}`]
    case 'device':
      return []
    case 'address':
      return [`addr del ${entry.address} dev ${entry.device}`]
    case 'tunnel-fdb':
      return [`fdb del ${entry.mac} dev ${entry.device} self`]
    case 'bridge-fdb':
      return [`fdb del ${entry.mac} dev ${entry.device} master`]
    case 'neighbour':
      return [`neigh del ${entry.address} dev ${entry.device}`]
    case 'route':
      return [`route del ${routeText(entry)}`]
    case 'rule':
      return [`rule del ${ruleText(entry)}`]
  }
}

/** `ip6` is `ip -6`, which rules without addresses need. */
export type Tool = 'ip' | 'ip6' | 'bridge'

export function toolOf(entry: KernelEntry): Tool {
  if (entry.kind === 'tunnel-fdb' || entry.kind === 'bridge-fdb') return 'bridge'
  return entry.kind === 'rule' && entry.family === 6 ? 'ip6' : 'ip'
}

/** Makes a link, in the fabric's or (`inHost`: tunnels and containers' links begin there) the host's namespace. */
export function linkLine(
  device: string,
  make: LinkMake,
  mtu: number,
  namespace: string,
): { readonly inHost: boolean; readonly line: string } {
  switch (make.kind) {
    case 'bridge':
      // Without an MTU: one that is set later stays, but one that it is made with changes with its ports.
      return {
        inHost: false,
        line: `link add ${device} address ${make.mac} type bridge forward_delay 0 mcast_snooping 0`,
      }
    case 'vxlan': {
      const mac = make.mac === '' ? '' : ` address ${make.mac}`
      const tunnel = `id ${make.vni} local ${make.local} dstport ${make.port} nolearning${make.proxy ? ' proxy' : ''}`
      return { inHost: true, line: `link add ${device} mtu ${mtu}${mac} netns ${namespace} type vxlan ${tunnel}` }
    }
    case 'container-port':
      return {
        inHost: true,
        line: `link add ${make.peer} mtu ${mtu} type veth peer name ${device} netns ${namespace} mtu ${mtu}`,
      }
  }
}

function deviceLines({ device, mtu, master, port, up }: Extract<KernelEntry, { kind: 'device' }>): readonly string[] {
  const onOff = (flag: boolean) => (flag ? 'on' : 'off')
  const mtuText = mtu === 0 ? '' : ` mtu ${mtu}`
  const lines: string[] = []
  if (mtuText !== '' || master !== '')
    lines.push(`link set ${device}${mtuText}${master === '' ? '' : ` master ${master}`}`)
  if (port) {
    // Multicast goes on: neighbour discovery is multicast. No tunnel has a default destination, so none leaves the node.
    const flags = `hairpin ${onOff(port.hairpin)} isolated ${onOff(port.isolated)} learning off flood off mcast_flood on`
    lines.push(`link set ${device} type bridge_slave ${flags}`)
  }
  lines.push(`link set ${device} ${up ? 'up' : 'down'}`)
  return lines
}

function routeText({ family, table, destination, via, device }: Extract<KernelEntry, { kind: 'route' }>): string {
  const where = table === MAIN_TABLE ? '' : ` table ${table}`
  // The tool takes the family from the address.
  const to = family === 6 && destination === 'default' ? '::/0' : destination
  if (device === '') return `unreachable ${to}${where}`
  return `${to}${via === '' ? '' : ` via ${via}`} dev ${device}${via === '' ? '' : ' onlink'}${where}`
}

function ruleText({ priority, mark, mask, table }: Extract<KernelEntry, { kind: 'rule' }>): string {
  const number = (value: number) => `0x${value.toString(16)}`
  return `pref ${priority} fwmark ${number(mark)}/${number(mask)} lookup ${table === MAIN_TABLE ? 'main' : table}`
}

// What `ip -j` and `bridge -j` tell of the fabric's namespace, as entries. What the kernel makes itself (routes of connected
// networks, link-local addresses, a port's own MAC) is none of them.

import { CodedError } from '../../lib/errors.ts'
import { atOnce, type Steps } from '../../lib/slices.ts'
import { type EntryMap, entryKey, type KernelEntry, type LinkMake, MAIN_TABLE } from './entry.ts'
import { BRIDGE_LINK_LOCAL, containerPort, FABRIC_PORT_PREFIX } from './fabric-config.ts'

/** The texts of the commands that OBSERVE_COMMANDS names, in its order. */
export type ObservedTexts = readonly string[]

/** Arguments of the commands whose output `observedEntries` takes. */
export const OBSERVE_COMMANDS: readonly { readonly tool: 'ip' | 'bridge'; readonly args: readonly string[] }[] = [
  { tool: 'ip', args: ['-j', '-d', 'link', 'show'] },
  { tool: 'ip', args: ['-j', 'addr', 'show'] },
  { tool: 'bridge', args: ['-j', 'fdb', 'show'] },
  { tool: 'ip', args: ['-j', 'neigh', 'show', 'nud', 'permanent'] },
  { tool: 'ip', args: ['-j', '-4', 'route', 'show', 'table', 'all'] },
  { tool: 'ip', args: ['-j', '-6', 'route', 'show', 'table', 'all'] },
  { tool: 'ip', args: ['-j', '-4', 'rule', 'show'] },
  { tool: 'ip', args: ['-j', '-6', 'rule', 'show'] },
]

/** @throws {CodedError} KERNEL_UNREADABLE where a text is not JSON. */
export function observedEntries(texts: ObservedTexts): EntryMap {
  return atOnce(observedEntrySteps(texts))
}

/** As `observedEntries`. */
export function* observedEntrySteps(texts: ObservedTexts): Steps<EntryMap> {
  const [links = '', addresses = '', fdb = '', neighbours = '', routes4 = '', routes6 = '', rules4 = '', rules6 = ''] =
    texts
  const entries = new Map<string, KernelEntry>()
  yield* collect(entries, links, linkEntries)
  yield* collect(entries, addresses, addressEntries)
  yield* collect(entries, fdb, fdbEntries)
  yield* collect(entries, neighbours, neighbourEntries)
  yield* collect(entries, routes4, (raw: RawRoute) => routeEntries(raw, 4))
  yield* collect(entries, routes6, (raw: RawRoute) => routeEntries(raw, 6))
  yield* collect(entries, rules4, (raw: RawRule) => ruleEntries(raw, 4))
  yield* collect(entries, rules6, (raw: RawRule) => ruleEntries(raw, 6))
  return entries
}

const STEP_RECORDS = 100

function* collect<T>(
  into: Map<string, KernelEntry>,
  text: string,
  entriesOf: (raw: T) => readonly KernelEntry[],
): Steps<void> {
  yield
  let count = 0
  for (const raw of parse<T>(text)) {
    for (const entry of entriesOf(raw)) into.set(entryKey(entry), entry)
    if (++count % STEP_RECORDS === 0) yield
  }
}

interface RawLink {
  readonly ifname: string
  readonly flags: readonly string[]
  readonly mtu: number
  readonly master?: string
  readonly address?: string
  readonly linkinfo?: {
    readonly info_kind?: string
    readonly info_data?: {
      readonly id?: number
      readonly local?: string
      readonly local6?: string
      readonly port?: number
      readonly proxy?: boolean
    }
    readonly info_slave_kind?: string
    readonly info_slave_data?: {
      readonly hairpin?: boolean
      readonly isolated?: boolean
      readonly learning?: boolean
      readonly flood?: boolean
      readonly mcast_flood?: boolean
    }
  }
}

interface RawAddresses {
  readonly ifname: string
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[]
}

interface RawFdb {
  readonly mac: string
  readonly ifname: string
  readonly dst?: string
  readonly port?: number
  readonly flags: readonly string[]
  readonly master?: string
  readonly state: string
}

interface RawNeighbour {
  readonly dst: string
  readonly dev: string
  readonly lladdr?: string
}

interface RawRoute {
  readonly type?: string
  readonly dst: string
  readonly gateway?: string
  readonly dev?: string
  readonly table?: string
  readonly protocol?: string
}

interface RawRule {
  readonly priority: number
  readonly fwmark?: string
  readonly fwmask?: string
  readonly table?: string
}

function parse<T>(text: string): readonly T[] {
  if (text.trim() === '') return []
  try {
    const value: unknown = JSON.parse(text)
    if (Array.isArray(value)) return (value as readonly T[]).filter((one) => Object.keys(one as object).length > 0)
  } catch (error) {
    throw new CodedError('KERNEL_UNREADABLE', 'the kernel tools answered what is no JSON', { cause: error })
  }
  throw new CodedError('KERNEL_UNREADABLE', 'the kernel tools answered no list')
}

function linkEntries(raw: RawLink): readonly KernelEntry[] {
  const make = linkMake(raw)
  const slave = raw.linkinfo?.info_slave_kind === 'bridge' ? raw.linkinfo.info_slave_data : undefined
  const odd = slave && (slave.learning !== false || slave.flood !== false || slave.mcast_flood !== true)
  const device: KernelEntry = {
    kind: 'device',
    device: raw.ifname,
    mtu: keepsMtu(raw) ? 0 : raw.mtu,
    master: raw.master ?? '',
    port: slave && !odd ? { hairpin: slave.hairpin === true, isolated: slave.isolated === true } : undefined,
    up: raw.flags.includes('UP'),
  }
  return make ? [{ kind: 'link', device: raw.ifname, make }, device] : [device]
}

/** The plan leaves the MTU of the loopback and of the link to the host as they are. */
function keepsMtu({ ifname, linkinfo }: RawLink): boolean {
  return ifname === 'lo' || (linkinfo?.info_kind === 'veth' && !ifname.startsWith(FABRIC_PORT_PREFIX))
}

/** Undefined for links that the plan does not make: the loopback, the link to the host. */
function linkMake({ ifname, address = '', linkinfo }: RawLink): LinkMake | undefined {
  const data = linkinfo?.info_data
  switch (linkinfo?.info_kind ?? '') {
    case 'bridge':
      return { kind: 'bridge', mac: address }
    case 'vxlan':
      return {
        kind: 'vxlan',
        vni: data?.id ?? 0,
        local: data?.local ?? data?.local6 ?? '',
        port: data?.port ?? 0,
        proxy: data?.proxy === true,
        // An overlay's tunnel has any MAC: only those of the gateway network are told apart by it.
        mac: data?.proxy === true ? '' : address,
      }
    case 'veth':
      return ifname.startsWith(FABRIC_PORT_PREFIX)
        ? { kind: 'container-port', peer: containerPort(ifname.slice(FABRIC_PORT_PREFIX.length)) }
        : undefined
    default:
      return undefined
  }
}

function addressEntries({ ifname, addr_info }: RawAddresses): readonly KernelEntry[] {
  return addr_info
    .filter(({ scope, local }) => scope === 'global' || local === BRIDGE_LINK_LOCAL)
    .map(({ local, prefixlen }) => ({ kind: 'address', device: ifname, address: `${local}/${prefixlen}` }))
}

function fdbEntries({ mac, ifname, dst, port, flags, master, state }: RawFdb): readonly KernelEntry[] {
  if (flags.includes('self') && dst !== undefined) {
    return [{ kind: 'tunnel-fdb', device: ifname, mac, target: dst, port: port ?? 0 }]
  }
  // `permanent` are the MACs of the ports themselves.
  return master !== undefined && state === 'static' ? [{ kind: 'bridge-fdb', bridge: master, mac, device: ifname }] : []
}

function neighbourEntries({ dst, dev, lladdr }: RawNeighbour): readonly KernelEntry[] {
  return lladdr === undefined ? [] : [{ kind: 'neighbour', device: dev, address: dst, mac: lladdr }]
}

const OTHERS_ROUTES = new Set(['kernel', 'ra', 'redirect'])

function routeEntries(raw: RawRoute, family: 4 | 6): readonly KernelEntry[] {
  const { type = 'unicast', dst, gateway = '', dev = '', table, protocol = '' } = raw
  if (OTHERS_ROUTES.has(protocol) || table === 'local') return []
  const number = table === undefined || table === 'main' ? MAIN_TABLE : Number(table)
  const unreachable = type === 'unreachable'
  if (Number.isNaN(number) || (type !== 'unicast' && !unreachable)) return []
  const [via, device] = unreachable ? ['', ''] : [gateway, dev]
  return [{ kind: 'route', family, table: number, destination: dst, via, device }]
}

/** The kernel's own three have no mark. */
function ruleEntries({ priority, fwmark, fwmask, table }: RawRule, family: 4 | 6): readonly KernelEntry[] {
  if (fwmark === undefined) return []
  const mask = fwmask === undefined ? 0xffffffff : Number(fwmask)
  const number = table === 'main' ? MAIN_TABLE : Number(table)
  return [{ kind: 'rule', family, priority, mark: Number(fwmark), mask, table: number }]
}

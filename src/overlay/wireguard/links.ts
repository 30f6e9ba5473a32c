// What `ip` knows of the tunnels: addresses, MTUs and routes of the devices, and the black hole behind them. Routes go with
// their device, so that a tunnel that dies leaves its addresses to the hole.

import { type FabricConfig, WIREGUARD_SUBNET, wireguardDevice } from '../kernel/fabric-config.ts'
import type { Command } from './command.ts'
import type { Tunnels } from './plan.ts'

export interface ObservedLinks {
  readonly hole: boolean
  readonly devices: ReadonlyMap<string, ObservedLink>
  /** Peer's address inside → device; of this node's devices only */
  readonly routes: ReadonlyMap<string, string>
}

export interface ObservedLink {
  readonly mtu: number
  readonly up: boolean
  /** With their prefix lengths */
  readonly addresses: readonly string[]
}

/** Routes of one destination are told apart by it: nodes of one machine each have a hole of their own. */
const holeMetric = (instance: number) => 50_000 + instance

export async function observeLinks(command: Command, config: Pick<FabricConfig, 'instance'>): Promise<ObservedLinks> {
  const own = [wireguardDevice(config, 'a'), wireguardDevice(config, 'b')]
  const [links, routes] = await Promise.all([
    command(['ip', '-j', 'address', 'show']),
    command(['ip', '-j', '-4', 'route', 'show', 'root', WIREGUARD_SUBNET]),
  ])
  return {
    devices: new Map(
      readJson<LinkJson>(links.stdout)
        .filter(({ ifname }) => own.includes(ifname))
        .map(({ ifname, mtu, flags, addr_info }) => {
          const addresses = addr_info.filter(({ family }) => family === 'inet')
          return [
            ifname,
            {
              mtu,
              up: flags.includes('UP'),
              addresses: addresses.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
            },
          ]
        }),
    ),
    hole: readJson<RouteJson>(routes.stdout).some(
      ({ type, dst, metric }) =>
        type === 'blackhole' && dst === WIREGUARD_SUBNET && metric === holeMetric(config.instance),
    ),
    routes: new Map(
      readJson<RouteJson>(routes.stdout)
        .filter(({ dev }) => dev !== undefined && own.includes(dev))
        .map(({ dst, dev = '' }) => [dst, dev]),
    ),
  }
}

export function holeCommand(config: Pick<FabricConfig, 'instance'>, verb: 'replace' | 'delete'): string {
  return `route ${verb} blackhole ${WIREGUARD_SUBNET} metric ${holeMetric(config.instance)}`
}

/** For `ip -batch`, in order. */
export function linkCommands(tunnels: Tunnels, observed: ObservedLinks): readonly string[] {
  const commands: string[] = []
  const address = `${tunnels.address}/32`
  for (const { name, mtu } of tunnels.devices) {
    const link = observed.devices.get(name)
    if (link?.mtu !== mtu || !link.up) commands.push(`link set ${name} mtu ${mtu} up`)
    for (const other of link?.addresses ?? [])
      if (other !== address) commands.push(`address delete ${other} dev ${name}`)
    if (!link?.addresses.includes(address)) commands.push(`address replace ${address} dev ${name}`)
  }
  // Without `src`: the kernel takes such routes away with any device that has that address.
  for (const [to, device] of tunnels.routes)
    if (observed.routes.get(to) !== device) commands.push(`route replace ${to} dev ${device}`)
  for (const [to, device] of observed.routes)
    if (!tunnels.routes.has(to)) commands.push(`route delete ${to} dev ${device}`)
  return commands
}

interface LinkJson {
  readonly ifname: string
  readonly mtu: number
  readonly flags: readonly string[]
  readonly addr_info: readonly { readonly family: string; readonly local: string; readonly prefixlen: number }[]
}

interface RouteJson {
  readonly type?: string
  readonly dst: string
  readonly dev?: string
  readonly metric?: number
}

function readJson<T>(text: string): readonly T[] {
  return text.trim() === '' ? [] : (JSON.parse(text) as T[])
}

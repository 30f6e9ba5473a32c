/**
 * Nodes, containers and clients as network namespaces, wired with plain `ip` commands as a node's data plane wires them: what the
 * rules are tested in, without engine and without the program that makes links.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import {
  endpointMac,
  type OverlayEndpoint,
  type OverlayNetwork,
  type OverlayService,
} from '../../../src/api/data-plane.ts'
import { DesiredStore, type LocalAttachment } from '../../../src/overlay/desired-state.ts'
import {
  bridgeMac,
  bridgeName,
  containerPort,
  type FabricConfig,
  fabricConfig,
  fabricPort,
  GATEWAY_BRIDGE,
  GATEWAY_TUNNEL,
  type GatewayBlock,
  gatewayBlock,
  gatewayIpv6,
  MARK_MASK,
  peerMark,
  routingTable,
  tunnelName,
} from '../../../src/overlay/kernel/fabric-config.ts'
import { noteKnown } from '../../../src/overlay/rules/balanced-replies.ts'
import { type RuleChange, RuleSet } from '../../../src/overlay/rules/rule-set.ts'
import { flowDeletions, flowListings } from '../../../src/overlay/rules/stale-flows.ts'
import type { AgentRequest } from './net-agent.ts'

const PORT = 4789
export const CONTROL_PORT = 2377
const MTU = 1450

export const ingress: OverlayNetwork = {
  id: 'ingress',
  name: 'ingress',
  vni: 4096,
  subnets: [{ subnet: '100.64.0.0/11', gateway: '100.64.0.1' }],
  internal: false,
  encrypted: false,
  attachable: false,
  ingress: true,
  mtu: 0,
}

export function overlayNetwork(id: string, vni: number, octet: number, internal = false): OverlayNetwork {
  return {
    ...ingress,
    id,
    name: id,
    vni,
    subnets: [
      { subnet: `10.0.${octet}.0/24`, gateway: `10.0.${octet}.1` },
      { subnet: `fd00:${octet}::/64`, gateway: `fd00:${octet}::1` },
    ],
    ingress: false,
    internal,
  }
}

export function endpoint(
  fields: Partial<OverlayEndpoint> & Pick<OverlayEndpoint, 'taskId' | 'networkId' | 'addresses'>,
): OverlayEndpoint {
  return {
    nodeNumber: 1,
    serviceId: '',
    serviceName: '',
    slot: 1,
    name: fields.taskId,
    hostname: fields.taskId,
    aliases: [],
    serving: true,
    encrypted: false,
    ...fields,
  }
}

export function service(
  fields: Partial<OverlayService> & Pick<OverlayService, 'serviceId' | 'networkId'>,
): OverlayService {
  return { name: fields.serviceId, aliases: [], virtualIps: [], ports: [], affinity: false, ...fields }
}

export function run(command: string, args: readonly string[], input = ''): string {
  return execFileSync(command, args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], timeout: 30_000 })
}

/** A namespace, and in it a program that serves and asks. */
export class Place {
  readonly namespace: string
  #agent: ChildProcess | undefined
  #requests = 0
  readonly #waiting = new Map<number, (answer: string) => void>()

  constructor(namespace: string) {
    this.namespace = namespace
    run('ip', ['netns', 'add', namespace])
    this.ip('link set lo up')
  }

  /** Lines of `ip`, those that begin with `-6` for that family. */
  ip(...lines: readonly string[]): void {
    const six = lines.filter((line) => line.startsWith('-6 ')).map((line) => line.slice(3))
    const rest = lines.filter((line) => !line.startsWith('-6 '))
    run('ip', ['-n', this.namespace, '-batch', '-'], `${rest.join('\n')}\n`)
    if (six.length > 0) run('ip', ['-6', '-n', this.namespace, '-batch', '-'], `${six.join('\n')}\n`)
  }

  bridge(...lines: readonly string[]): void {
    run('bridge', ['-n', this.namespace, '-batch', '-'], `${lines.join('\n')}\n`)
  }

  exec(command: string, ...args: readonly string[]): string {
    return run('ip', ['netns', 'exec', this.namespace, command, ...args])
  }

  /** Status and all that was printed. */
  attempt(command: string, ...args: readonly string[]): { readonly status: number | null; readonly output: string } {
    const result = spawnSync('ip', ['netns', 'exec', this.namespace, command, ...args], {
      encoding: 'utf8',
      timeout: 30_000,
    })
    return { status: result.status, output: `${result.stdout}${result.stderr}` }
  }

  /** An IPv4 packet with this payload. */
  sendRaw(address: string, protocol: number, payload: Uint8Array): void {
    const args = ['netns', 'exec', this.namespace, 'socat', '-u', '-', `IP4-SENDTO:${address}:${protocol}`]
    execFileSync('ip', args, { input: payload, timeout: 10_000 })
  }

  nft(script: string): void {
    if (script !== '') run('nsenter', [`--net=/run/netns/${this.namespace}`, 'nft', '-f', '-'], script)
  }

  request(request: AgentRequest): Promise<string> {
    this.#agent ??= this.#start()
    const id = ++this.#requests
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve)
      this.#agent?.stdin?.write(`${JSON.stringify({ id, ...request })}\n`)
    })
  }

  ask(host: string, port: number, more: Partial<Extract<AgentRequest, { op: 'ask' }>> = {}): Promise<string> {
    return this.request({ op: 'ask', protocol: 'tcp', host, port, ...more })
  }

  /** Names of those who answered, in the order of asking. */
  async answerers(
    host: string,
    port: number,
    times: number,
    protocol: 'tcp' | 'udp' = 'tcp',
  ): Promise<readonly string[]> {
    const names: string[] = []
    for (let at = 0; at < times; at++) names.push((await this.ask(host, port, { protocol })).split(' ')[0] ?? '')
    return names
  }

  #start(): ChildProcess {
    const program = join(import.meta.dirname, 'net-agent.js')
    const agent = spawn('ip', ['netns', 'exec', this.namespace, process.execPath, program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const lines = createInterface({ input: agent.stdout })
    lines.on('line', (line) => {
      const { id, answer } = JSON.parse(line) as { id: number; answer: string }
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    })
    return agent
  }

  close(): void {
    this.#agent?.stdin?.end()
    this.#agent?.kill('SIGKILL')
    spawnSync('ip', ['netns', 'del', this.namespace])
  }
}

const SYSCTLS = [
  'net.ipv4.conf.all.rp_filter=0',
  'net.ipv4.conf.default.rp_filter=0',
  'net.ipv4.conf.all.send_redirects=0',
  'net.ipv4.conf.default.send_redirects=0',
  'net.ipv6.conf.all.accept_dad=0',
  'net.ipv6.conf.default.accept_dad=0',
  'net.bridge.bridge-nf-call-iptables=0',
  'net.bridge.bridge-nf-call-ip6tables=0',
  'net.ipv6.conf.all.forwarding=1',
  'net.ipv4.ip_forward=1',
]

/** A host with its fabric. */
export class PlainNode {
  readonly number: number
  readonly address: string
  readonly addressV6: string
  readonly host: Place
  readonly fabric: Place
  readonly config: FabricConfig
  readonly rules: RuleSet
  readonly store = new DesiredStore()
  readonly locals: LocalAttachment[] = []
  readonly block: GatewayBlock

  constructor(prefix: string, number: number, controlPorts: readonly number[] = [CONTROL_PORT]) {
    this.number = number
    this.address = `10.78.0.${number}`
    this.addressV6 = `fd78::${number}`
    this.host = new Place(`${prefix}h${number}`)
    this.fabric = new Place(`${prefix}f${number}`)
    this.config = fabricConfig({ dataPathPort: PORT, namespace: this.fabric.namespace })
    this.rules = new RuleSet({ config: this.config, controlPorts })
    const block = gatewayBlock(ingress, number)
    if (!block) throw new Error('no block')
    this.block = block
  }

  /** Links of the fabric; `numbers`: of all nodes. */
  wire(numbers: readonly number[], networks: readonly OverlayNetwork[]): void {
    const { config, block, host, fabric } = this
    fabric.exec('sysctl', '-qw', ...SYSCTLS)
    host.exec(
      'sysctl',
      '-qw',
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
      'net.ipv6.conf.default.accept_dad=0',
    )
    host.ip(
      `link add ${config.hostLink} type veth peer name ${config.fabricLink} netns ${fabric.namespace}`,
      `addr add ${config.hostLinkAddress}/30 dev ${config.hostLink}`,
      `addr add ${config.hostLinkAddressV6}/126 dev ${config.hostLink} nodad`,
      `link set ${config.hostLink} up`,
      `link add ${GATEWAY_TUNNEL} mtu ${MTU} netns ${fabric.namespace} address ${block.mac} type vxlan id 4096 local ${this.address} dstport ${PORT} nolearning`,
    )
    host.exec('sysctl', '-qw', `net.ipv4.conf.${config.hostLink}.route_localnet=1`)
    fabric.ip(
      `addr add ${config.dnsAddress}/32 dev lo`,
      `addr add ${config.fabricLinkAddress}/30 dev ${config.fabricLink}`,
      `addr add ${config.fabricLinkAddressV6}/126 dev ${config.fabricLink} nodad`,
      `link set ${config.fabricLink} up`,
      `route add default via ${config.hostLinkAddress}`,
      `route add default via ${config.hostLinkAddressV6}`,
      `link add ${GATEWAY_BRIDGE} mtu ${MTU} address ${block.mac} type bridge forward_delay 0 mcast_snooping 0`,
      `addr add ${block.address}/${block.prefix} dev ${GATEWAY_BRIDGE}`,
      `addr add ${block.addressV6}/${block.prefixV6} dev ${GATEWAY_BRIDGE} nodad`,
      `link set ${GATEWAY_BRIDGE} up`,
      `addr add ${block.address}/32 dev ${GATEWAY_TUNNEL}`,
      `addr add ${block.addressV6}/128 dev ${GATEWAY_TUNNEL} nodad`,
      `link set ${GATEWAY_TUNNEL} up`,
    )
    for (const number of numbers) if (number !== this.number) this.#meet(number)
    for (const network of networks) this.#wireNetwork(network)
  }

  #meet(number: number): void {
    const peer = gatewayBlock(ingress, number)
    if (!peer) throw new Error('no block')
    const table = routingTable(number)
    this.fabric.bridge(`fdb replace ${peer.mac} dev ${GATEWAY_TUNNEL} dst 10.78.0.${number} self permanent`)
    const mark = `fwmark ${peerMark(number)}/${MARK_MASK} lookup ${table} pref ${table}`
    this.fabric.ip(
      `neigh replace ${peer.address} lladdr ${peer.mac} dev ${GATEWAY_TUNNEL} nud permanent`,
      `neigh replace ${peer.addressV6} lladdr ${peer.mac} dev ${GATEWAY_TUNNEL} nud permanent`,
      `route add ${peer.subnet} via ${peer.address} dev ${GATEWAY_TUNNEL} onlink`,
      `route add default via ${peer.address} dev ${GATEWAY_TUNNEL} onlink table ${table}`,
      `-6 route add ${peer.subnetV6} via ${peer.addressV6} dev ${GATEWAY_TUNNEL} onlink`,
      `-6 route add default via ${peer.addressV6} dev ${GATEWAY_TUNNEL} onlink table ${table}`,
      `rule add ${mark}`,
      `-6 rule add ${mark}`,
    )
  }

  #wireNetwork(network: OverlayNetwork): void {
    const [bridge, tunnel] = [bridgeName(network), tunnelName(network)]
    this.host.ip(
      `link add ${tunnel} mtu ${MTU} netns ${this.fabric.namespace} type vxlan id ${network.vni} local ${this.address} dstport ${PORT} nolearning proxy`,
    )
    this.fabric.ip(
      `link add ${bridge} mtu ${MTU} address ${bridgeMac(network)} type bridge forward_delay 0 mcast_snooping 0`,
      ...network.subnets.map(({ subnet, gateway }) => `addr add ${gateway}/${subnet.split('/')[1]} dev ${bridge}`),
      `link set ${tunnel} master ${bridge}`,
      // Multicast reaches the tunnel, which answers neighbour solicitations itself.
      `link set ${tunnel} type bridge_slave learning off flood off mcast_flood on`,
      `link set ${bridge} up`,
      `link set ${tunnel} up`,
    )
  }

  /** Where a task on another node, or a virtual address, is. */
  know(network: OverlayNetwork, addresses: readonly string[], node: number | undefined): void {
    const tunnel = tunnelName(network)
    const mac = node === undefined ? bridgeMac(network) : endpointMac(addresses)
    if (node !== undefined) {
      this.fabric.bridge(
        `fdb replace ${mac} dev ${tunnel} dst 10.78.0.${node} self permanent`,
        `fdb replace ${mac} dev ${tunnel} master static`,
      )
    }
    this.fabric.ip(...addresses.map((address) => `neigh replace ${address} lladdr ${mac} dev ${tunnel} nud permanent`))
  }

  /** A container's interface on a network. On the gateway network it has the default routes. */
  attach(place: Place, network: OverlayNetwork, addresses: readonly string[], device: string): LocalAttachment {
    const serial = String(this.locals.length + 1).padStart(11, '0')
    const endpointId = `${serial}${'f'.repeat(53)}`
    const local: LocalAttachment = {
      endpointId,
      engineNetworkId: 'e'.repeat(64),
      networkId: network.id,
      mac: endpointMac(addresses),
      addresses,
    }
    const [inner, outer] = [containerPort(endpointId), fabricPort(endpointId)]
    this.host.ip(`link add ${inner} mtu ${MTU} type veth peer name ${outer} netns ${this.fabric.namespace} mtu ${MTU}`)
    const mode = network.ingress ? 'isolated on' : 'hairpin on'
    this.fabric.ip(
      `link set ${outer} master ${bridgeName(network)}`,
      `link set ${outer} type bridge_slave learning off flood off mcast_flood on ${mode}`,
      `link set ${outer} up`,
    )
    this.fabric.bridge(`fdb replace ${local.mac} dev ${outer} master static`)
    this.host.ip(`link set ${inner} netns ${place.namespace} name ${device}`)
    const lengths = network.ingress ? [this.block.prefix, this.block.prefixV6] : [24, 64]
    const all = network.ingress ? [...addresses, ...addresses.map(gatewayIpv6)] : addresses
    place.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0', `net.ipv6.conf.${device}.accept_dad=0`)
    place.ip(
      `link set ${device} address ${local.mac}`,
      ...all.map((address) => `addr add ${address}/${address.includes(':') ? lengths[1] : lengths[0]} dev ${device}`),
      `link set ${device} up`,
      ...(network.ingress
        ? [`route add default via ${this.block.address}`, `-6 route add default via ${this.block.addressV6}`]
        : []),
    )
    this.locals.push(local)
    return local
  }

  /** Loads everything. */
  load(): void {
    this.run(this.rules.full(this.store.state, this.locals))
  }

  run(change: RuleChange): void {
    this.host.nft(change.host)
    this.fabric.nft(change.fabric)
    if (change.flows.length === 0) return
    const listing = flowListings(change.flows)
      .map((args) => this.fabric.attempt('conntrack', ...args).output)
      .join('\n')
    for (const flow of change.flows) {
      if (flow.kind === 'others') this.fabric.nft(noteKnown(listing, new Set(flow.virtualIps)))
    }
    for (const { place, args } of flowDeletions(change.flows, listing)) {
      ;(place === 'host' ? this.host : this.fabric).attempt('conntrack', ...args)
    }
  }

  close(): void {
    this.fabric.close()
    this.host.close()
  }
}

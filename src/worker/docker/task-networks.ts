// Which networks of the engine a task's container stands on, with which addresses, and where it asks for names: decided from
// the task and what the cluster says of its networks. The container's own files (resolv.conf, hosts) are made here as well.

import type { Attachment, Network, Task } from '../../api/objects.ts'
import type { PortConfig } from '../../api/spec.ts'
import { blockBits } from '../../lib/address-block.ts'
import { type Cidr, formatAddress, formatCidr, parseAddress, parseCidr, widthOf } from '../../lib/cidr.ts'
import { CodedError } from '../../lib/errors.ts'
import type { DataPlaneFacts } from '../../overlay/client.ts'
import { EGRESS_NETWORK_ID, type HostModePort } from '../../overlay/desired-state.ts'
import {
  EGRESS_NETWORK_NAME,
  ENDPOINT_DNS_KEY,
  ENDPOINT_PORTS_KEY,
  ENDPOINT_SIBLINGS_KEY,
  NETWORK_GATEWAY_KEY,
  NETWORK_ID_KEY,
  NETWORK_VNI_KEY,
  PORTS_NETWORK_ID,
  PORTS_NETWORK_NAME,
  portsOption,
  upstreamsOption,
} from '../../overlay/driver-options.ts'
import { type TaskOrder, taskFailed } from '../executor.ts'

/** An engine network as it is to be. */
export interface LocalNetwork {
  /** Of the cluster's network, or one of the node's own. */
  readonly id: string
  readonly name: string
  /** undefined: the engine's `bridge`, with addresses of its own choice. */
  readonly driver: string | undefined
  readonly subnets: readonly { readonly subnet: string; readonly gateway: string }[]
  readonly options: Readonly<Record<string, string>>
}

/** The engine's EndpointSettings of one network. */
export interface EndpointSettings {
  readonly IPAMConfig?: { readonly IPv4Address?: string; readonly IPv6Address?: string }
  readonly Aliases?: readonly string[]
  readonly DriverOpts?: Readonly<Record<string, string>>
}

export interface ContainerNetworks {
  /** Those that have to be there, and be held, while the container lives. */
  readonly networks: readonly LocalNetwork[]
  /** By name of the engine's network; the first is the one that the container is created with. */
  readonly endpoints: readonly (readonly [name: string, settings: EndpointSettings])[]
  readonly nameServer: string
  /** Of its own host name: in /etc/hosts. */
  readonly addresses: readonly string[]
  /** Host-mode ports that are published by the data plane, and not by the engine. */
  readonly ports: readonly HostModePort[]
}

const PREDEFINED: ReadonlySet<string> = new Set(['host', 'none', 'bridge'])

/** Names of the engine's own networks that the task asks for. */
export function predefinedNetworks(order: TaskOrder): readonly string[] {
  const targets = (order.task.spec.Networks ?? []).map(({ Target = '' }) => Target)
  return targets.filter((target) => PREDEFINED.has(target) && !order.networks.has(target))
}

/** What a container is to be connected with. */
export interface NetworkWishes {
  readonly attachments: readonly Attachment[]
  /** By id; those of the attachments at least. */
  readonly networks: ReadonlyMap<string, Network>
  /** Networks of the engine's own that it is on as well. */
  readonly others: readonly string[]
  readonly publishesOnHost: boolean
  /** Its host-mode ports, for containers on the ingress network; the engine's bridge publishes for others. */
  readonly ports?: readonly HostModePort[]
  /** Its own (`--dns`). */
  readonly nameServers: readonly string[]
}

/**
 * undefined: the task is on no network of the cluster, and stands on its node's bridge as any container.
 * @throws {CodedError} as `networksFor`
 */
export function containerNetworks(
  order: TaskOrder,
  facts: DataPlaneFacts,
  ports: readonly HostModePort[] = [],
): ContainerNetworks | undefined {
  const { task, networks } = order
  if (task.attachments.length === 0) return undefined
  return networksFor(
    {
      attachments: task.attachments,
      networks,
      others: predefinedNetworks(order),
      publishesOnHost: hostPorts(task).length > 0,
      ports,
      nameServers: task.spec.ContainerSpec?.DNSConfig?.Nameservers ?? [],
    },
    facts,
  )
}

/** @throws {CodedError} TASK_FAILED; NETWORK_NOT_ASSIGNED (retryable) while a network is not known to this node yet */
export function networksFor(wishes: NetworkWishes, facts: DataPlaneFacts): ContainerNetworks {
  const { others } = wishes
  if (others.includes('host')) {
    throw taskFailed(
      'conflicting options: container sharing network namespace with another container or host cannot be connected to any other network',
    )
  }
  if (others.includes('none')) {
    throw taskFailed(
      'container cannot be connected to multiple networks with one of the networks in private (none) mode',
    )
  }
  const places = wishes.attachments.map((attachment) => {
    const network = wishes.networks.get(attachment.networkId)
    if (!network) {
      throw new CodedError('NETWORK_NOT_ASSIGNED', `network ${attachment.networkId} is not known to this node yet`, {
        retryable: true,
      })
    }
    return placeOf(network, attachment, facts)
  })
  const onIngress = places.some(({ network }) => network.spec.Ingress)
  const isInternal = places.every(({ network }) => network.spec.Internal)
  const ports = onIngress ? (wishes.ports ?? []) : []
  const publishes = !isInternal && !onIngress && wishes.publishesOnHost
  const hasOther = others.length > 0
  const egress = !onIngress && !isInternal && !publishes && !hasOther
  const driverOptions = nameServerOption(wishes.nameServers)
  const own = [...(egress ? [egressNetwork(facts)] : []), ...(publishes && !hasOther ? [PORTS_NETWORK] : [])]
  const ownSettings = own.map(({ name, driver }) => [name, driver ? driverOptions : {}] as const)
  const overlays = places.filter(({ network }) => !network.spec.Ingress)
  const shown = overlays.length > 0 ? overlays : places
  return {
    networks: [...places.map(({ local }) => local), ...own],
    endpoints: [
      ...[...overlays, ...places.filter(({ network }) => network.spec.Ingress)].map(
        ({ network, local, settings }) =>
          [local.name, { ...settings, ...withPorts(driverOptions, network.spec.Ingress ? ports : []) }] as const,
      ),
      ...ownSettings,
      ...others.map((name) => [name, {}] as const),
    ],
    nameServer: onIngress || egress ? facts.dnsAddress : (places[0]?.local.subnets[0]?.gateway ?? facts.dnsAddress),
    addresses: shown.flatMap(({ addresses }) => addresses),
    ports,
  }
}

/** For engines that take the links of a container's networks after the last of them: the driver makes them side by side then. */
export function withSiblings({ endpoints, networks }: ContainerNetworks): ContainerNetworks['endpoints'] {
  const ours = new Set(networks.flatMap(({ name, driver }) => (driver === undefined ? [] : [name])))
  const count = endpoints.filter(([name]) => ours.has(name)).length
  if (count < 2) return endpoints
  const DriverOpts = { [ENDPOINT_SIBLINGS_KEY]: String(count) }
  return endpoints.map(([name, settings]) =>
    ours.has(name) ? [name, { ...settings, DriverOpts: { ...settings.DriverOpts, ...DriverOpts } }] : [name, settings],
  )
}

function withPorts(options: EndpointSettings, ports: readonly HostModePort[]): EndpointSettings {
  if (ports.length === 0) return options
  return { DriverOpts: { ...options.DriverOpts, [ENDPOINT_PORTS_KEY]: portsOption(ports) } }
}

/** Where host-mode ports of containers on cluster networks arrive: a bridge of the engine, which can publish. */
const PORTS_NETWORK: LocalNetwork = {
  id: PORTS_NETWORK_ID,
  name: PORTS_NETWORK_NAME,
  driver: undefined,
  subnets: [],
  options: { 'com.docker.network.bridge.enable_icc': 'false' },
}

/** Host-mode ports as asked for; published 0: any that is free. */
export function hostPorts({ endpoint }: Pick<Task, 'endpoint'>): readonly PortConfig[] {
  const ports = endpoint?.ports ?? endpoint?.spec.Ports ?? []
  return ports.filter(({ PublishMode, TargetPort }) => PublishMode === 'host' && TargetPort)
}

interface Place {
  readonly network: Network
  readonly local: LocalNetwork
  readonly settings: EndpointSettings
  readonly addresses: readonly string[]
}

function placeOf(network: Network, attachment: Attachment, facts: DataPlaneFacts): Place {
  const addresses = attachment.addresses.map((address) => address.split('/')[0] ?? '')
  const v4 = addresses.find((address) => !address.includes(':'))
  const v6 = addresses.find((address) => address.includes(':'))
  if (v4 === undefined && v6 === undefined) {
    throw taskFailed(`no address was given on network ${network.spec.Name ?? network.id}`)
  }
  return {
    network,
    addresses,
    local: network.spec.Ingress ? ingressPart(network, v4 ?? '', facts) : overlayPart(network, facts),
    settings: {
      IPAMConfig: { ...(v4 && { IPv4Address: v4 }), ...(v6 && { IPv6Address: v6 }) },
      ...(attachment.aliases.length > 0 && { Aliases: attachment.aliases }),
    },
  }
}

/** The engine's network for one of the cluster's, the ingress network excepted. */
function overlayPart(network: Network, { driver }: DataPlaneFacts): LocalNetwork {
  return {
    id: network.id,
    name: network.spec.Name ?? '',
    driver,
    subnets: (network.allocated?.subnets ?? []).map(({ subnet, gateway }) => ({ subnet, gateway })),
    options: { [NETWORK_ID_KEY]: network.id, [NETWORK_VNI_KEY]: String(network.allocated?.vni ?? 0) },
  }
}

/** Only this node's block is on-link: the others' are behind its gateway. */
function ingressPart(network: Network, address: string, facts: DataPlaneFacts): LocalNetwork {
  const part = overlayPart(network, facts)
  const cidr = part.subnets.map(({ subnet }) => parseCidr(subnet)).find((one): one is Cidr => one?.family === 4)
  const own = parseAddress(address)
  if (!cidr || !own) throw taskFailed(`no IPv4 address on the ingress network ${network.spec.Name ?? network.id}`)
  const bits = blockBits(cidr)
  const base = (own.value >> BigInt(bits)) << BigInt(bits)
  const subnet = formatCidr({ family: 4, base, prefix: widthOf(4) - bits })
  const gateway = formatAddress({ family: 4, value: base + 1n })
  return { ...part, subnets: [{ subnet, gateway }], options: { ...part.options, [NETWORK_GATEWAY_KEY]: 'true' } }
}

/** For those that go out but publish nothing; the driver gives the addresses. */
function egressNetwork({ driver, egressSubnet, egressGateway }: DataPlaneFacts): LocalNetwork {
  return {
    id: EGRESS_NETWORK_ID,
    name: EGRESS_NETWORK_NAME,
    driver,
    subnets: [{ subnet: egressSubnet, gateway: egressGateway }],
    options: { [NETWORK_ID_KEY]: EGRESS_NETWORK_ID, [NETWORK_VNI_KEY]: '0', [NETWORK_GATEWAY_KEY]: 'true' },
  }
}

function nameServerOption(servers: readonly string[]): EndpointSettings {
  return servers.length > 0 ? { DriverOpts: { [ENDPOINT_DNS_KEY]: upstreamsOption(servers) } } : {}
}

export interface ResolverWishes {
  readonly search: readonly string[]
  readonly options: readonly string[]
}

/** As the engine writes it for user-defined networks: the node's search domains and options where none are asked for. */
export function resolvConf(nameServer: string, wishes: ResolverWishes, hostFile: string): string {
  const wanted = (words: readonly string[], keyword: string) => (words.length > 0 ? words : lastLine(hostFile, keyword))
  const search = wanted(wishes.search, 'search').filter((domain) => domain !== '.')
  const options = wanted(wishes.options, 'options')
  const own = wishes.options.length > 0 ? options : options.filter((option) => !option.startsWith('ndots:'))
  const ndots = own.some((option) => option.startsWith('ndots:')) ? [] : ['ndots:0']
  const lines = [
    `nameserver ${nameServer}`,
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(own.length + ndots.length > 0 ? [`options ${[...own, ...ndots].join(' ')}`] : []),
  ]
  return `${lines.join('\n')}\n`
}

function lastLine(file: string, keyword: string): readonly string[] {
  const lines = file.split('\n').map((line) => line.trim().split(/\s+/))
  return lines.findLast(([first]) => first === keyword)?.slice(1) ?? []
}

const HOSTS = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
ff00::0	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

/**
 * The engine would name all of a container's addresses after it, the one for its way out among them, and a program that looks
 * its own name up to tell it to others might tell that one.
 * @param extra `name:address`, as in HostConfig.ExtraHosts
 */
export function hostsFile(extra: readonly string[], addresses: readonly string[], hostname: string): string {
  const [short = ''] = hostname.split('.')
  const names = short === hostname ? hostname : `${hostname} ${short}`
  const lines = extra.map((entry) => {
    const colon = entry.indexOf(':')
    return `${entry.slice(colon + 1)}\t${entry.slice(0, colon)}\n`
  })
  return `${HOSTS}${lines.join('')}${addresses.map((address) => `${address}\t${names}\n`).join('')}`
}

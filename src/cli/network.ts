// `swarmctl network …`

import { isIP } from 'node:net'
import type { NetworkJson } from './api-types.ts'
import { cidrContains } from './cidr.ts'
import { compareVersions, DaemonError } from './client.ts'
import { CliError, type Command, type Context } from './command.ts'
import { parseCsvRecord } from './csv.ts'
import {
  type Flags,
  filterFlag,
  formatFlag,
  inspectFormatFlag,
  keyValues,
  labelType,
  mapType,
  quietFlag,
  switchType,
  textsType,
  textType,
} from './flags.ts'
import { printTime } from './format/value.ts'
import { compareNatural } from './natural-order.ts'
import { networkAttachCommands } from './network-attach.ts'
import { check } from './network-check.ts'
import { inspect } from './output/inspect.ts'
import { joinLabels, renderListing, row } from './output/listing.ts'
import { networkShape } from './shapes/swarm.ts'

async function list(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const networks = await client.json<NetworkJson[]>('GET', '/networks', { filters: flags.filters() })
  networks.sort((a, b) => compareNatural(a.Name, b.Name))
  const quiet = flags.on('quiet')
  const full = flags.on('no-trunc')
  context.stdout.write(
    renderListing({
      format: flags.text('format') || (quiet ? '' : (context.config.networksFormat ?? '')),
      quiet,
      table: '{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}',
      raw: 'network_id: {{.ID}}\\nname: {{.Name}}\\ndriver: {{.Driver}}\\nscope: {{.Scope}}\\n',
      quietRaw: 'network_id: {{.ID}}',
      headers: {
        ID: 'NETWORK ID',
        Name: 'NAME',
        Driver: 'DRIVER',
        Scope: 'SCOPE',
        IPv4: 'IPV4',
        IPv6: 'IPV6',
        Internal: 'INTERNAL',
        Labels: 'LABELS',
        CreatedAt: 'CREATED AT',
      },
      rows: networks.map((network) =>
        row(
          '*network.networkContext',
          {
            ID: full ? network.Id : network.Id.slice(0, 12),
            Name: network.Name,
            Driver: network.Driver,
            Scope: network.Scope,
            IPv4: String(network.EnableIPv4 ?? false),
            IPv6: String(network.EnableIPv6 ?? false),
            Internal: String(network.Internal ?? false),
            Labels: joinLabels(network.Labels),
            CreatedAt: printTime(network.Created ?? '0001-01-01T00:00:00Z'),
          },
          { Label: (name) => network.Labels?.[name] ?? '' },
        ),
      ),
    }),
  )
}

interface IpamConfig {
  Subnet: string
  IPRange?: string
  Gateway?: string
  AuxiliaryAddresses?: Record<string, string>
}

/** Subnets with the ranges, gateways and auxiliary addresses that lie in them. @throws {CliError} for one that lies in none. */
export function ipamConfigs(flags: Flags): IpamConfig[] {
  const split = (name: string) => flags.list(name).flatMap((text) => (text === '' ? [] : parseCsvRecord(text)))
  const subnets = split('subnet')
  const ranges = split('ip-range')
  const gateways = split('gateway')
  if (subnets.length < ranges.length || subnets.length < gateways.length) {
    throw new CliError('every ip-range or gateway must have a corresponding subnet')
  }
  const configs: IpamConfig[] = []
  for (const subnet of subnets) {
    if (configs.some((other) => contains(subnet, other.Subnet) || contains(other.Subnet, subnet))) {
      throw new CliError('multiple overlapping subnet configuration is not supported')
    }
    configs.push({ Subnet: subnet })
  }
  const place = (address: string, what: string, set: (config: IpamConfig) => void) => {
    const config = configs.find((candidate) => contains(candidate.Subnet, address))
    if (!config) throw new CliError(`no matching subnet for ${what} ${address}`)
    set(config)
  }
  for (const range of ranges) {
    place(range, 'range', (config) => {
      if (config.IPRange)
        throw new CliError(
          `cannot configure multiple ranges (${range}, ${config.IPRange}) on the same subnet (${config.Subnet})`,
        )
      config.IPRange = range
    })
  }
  for (const gateway of gateways) {
    place(gateway, 'gateway', (config) => {
      if (config.Gateway)
        throw new CliError(
          `cannot configure multiple gateways (${gateway}, ${config.Gateway}) for the same subnet (${config.Subnet})`,
        )
      config.Gateway = gateway
    })
  }
  for (const [name, address] of Object.entries(keyValues(flags.list('aux-address')))) {
    place(address, 'aux-address', (config) => {
      config.AuxiliaryAddresses = { ...config.AuxiliaryAddresses, [name]: address }
    })
  }
  return configs
}

function contains(subnet: string, address: string): boolean {
  const [ip = '', prefix = ''] = subnet.split('/')
  if (isIP(ip) === 0 || !/^\d+$/.test(prefix) || Number(prefix) > (isIP(ip) === 4 ? 32 : 128)) {
    throw new CliError(`invalid subnet: invalid CIDR address: ${subnet}`)
  }
  return cidrContains(subnet, address.split('/')[0]!)
}

async function create(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const ipam = ipamConfigs(flags)
  const client = await context.client()
  const configFrom = flags.text('config-from')
  const body = {
    Name: operands[0],
    Driver: flags.changed('driver') ? flags.text('driver') : 'bridge',
    Scope: flags.text('scope'),
    ...(flags.changed('ipv4') ? { EnableIPv4: flags.on('ipv4') } : {}),
    ...(flags.changed('ipv6') ? { EnableIPv6: flags.on('ipv6') } : {}),
    IPAM: {
      Driver: flags.maybe('ipam-driver') ?? 'default',
      Options: keyValues(flags.list('ipam-opt')),
      Config: ipam,
    },
    Internal: flags.on('internal'),
    Attachable: flags.on('attachable'),
    Ingress: flags.on('ingress'),
    ConfigOnly: flags.on('config-only'),
    ConfigFrom: configFrom === '' ? null : { Network: configFrom },
    Options: keyValues(flags.list('opt')),
    Labels: keyValues(flags.list('label')),
    // later daemons always check
    ...(compareVersions(await client.version(), '1.44') < 0 ? { CheckDuplicate: true } : {}),
  }
  const answer = await client.json<{ Id: string; Warning?: string }>('POST', '/networks/create', { body })
  // Docker's client keeps it to itself.
  if (answer.Warning) context.stderr.write(`WARNING: ${answer.Warning}\n`)
  context.stdout.write(`${answer.Id}\n`)
}

const INGRESS_WARNING =
  'WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks will be impaired.\n'

async function remove(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const errors: string[] = []
  for (const name of operands) {
    const path = `/networks/${encodeURIComponent(name)}`
    try {
      const network = await client.json<NetworkJson>('GET', path).catch((error: unknown) => {
        if (error instanceof DaemonError) return undefined
        throw error
      })
      if (network?.Ingress) context.stderr.write(INGRESS_WARNING)
      await client.text('DELETE', path)
      context.stdout.write(`${name}\n`)
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      if (flags.on('force') && error instanceof DaemonError && error.status === 404) continue
      errors.push(error.message)
    }
  }
  if (errors.length > 0) throw new CliError(`${errors.join('\n')}\nexit status 1`)
}

const ownCommands: readonly Command[] = [
  {
    name: 'check',
    usage: '[OPTIONS] [NETWORK]',
    summary: 'Try whether nodes reach each other on overlay networks',
    examples: '  swarmctl network check\n  swarmctl network check --format json my_net',
    flags: [formatFlag],
    operands: { min: 0, max: 1 },
    completeOperand: 'network',
    run: check,
  },
  {
    name: 'create',
    usage: '[OPTIONS] NETWORK',
    summary: 'Create a network',
    examples:
      '  swarmctl network create -d overlay --attachable my_net\n  swarmctl network create -d overlay --subnet 10.10.0.0/16 my_net',
    flags: [
      { name: 'attachable', type: switchType, help: 'Enable manual container attachment' },
      {
        name: 'aux-address',
        type: mapType,
        help: 'Auxiliary IPv4 or IPv6 addresses used by Network driver',
        shownDefault: 'map[]',
      },
      { name: 'config-from', type: textType, help: 'The network from which to copy the configuration' },
      { name: 'config-only', type: switchType, help: 'Create a configuration only network' },
      {
        name: 'driver',
        short: 'd',
        type: textType,
        help: 'Driver to manage the Network',
        shownDefault: '"bridge"',
        complete: ['overlay', 'bridge', 'macvlan', 'ipvlan', 'host'],
      },
      { name: 'gateway', type: textsType, help: 'IPv4 or IPv6 Gateway for the master subnet' },
      { name: 'ingress', type: switchType, help: 'Create swarm routing-mesh network' },
      { name: 'internal', type: switchType, help: 'Restrict external access to the network' },
      { name: 'ip-range', type: textsType, help: 'Allocate container ip from a sub-range' },
      { name: 'ipam-driver', type: textType, help: 'IP Address Management Driver', shownDefault: '"default"' },
      { name: 'ipam-opt', type: mapType, help: 'Set IPAM driver specific options', shownDefault: 'map[]' },
      { name: 'ipv4', type: switchType, help: 'Enable or disable IPv4 address assignment', shownDefault: 'true' },
      { name: 'ipv6', type: switchType, help: 'Enable or disable IPv6 address assignment' },
      { name: 'label', type: labelType, help: 'Set metadata on a network' },
      { name: 'opt', short: 'o', type: mapType, help: 'Set driver specific options', shownDefault: 'map[]' },
      { name: 'scope', type: textType, help: "Control the network's scope", complete: ['local', 'swarm'] },
      { name: 'subnet', type: textsType, help: 'Subnet in CIDR format that represents a network segment' },
    ],
    operands: { min: 1, max: 1 },
    run: create,
  },
  {
    name: 'inspect',
    usage: '[OPTIONS] NETWORK [NETWORK...]',
    summary: 'Display detailed information on one or more networks',
    examples: `  swarmctl network inspect backend
  swarmctl network inspect --verbose backend    # with services and tasks`,
    flags: [
      inspectFormatFlag,
      { name: 'verbose', short: 'v', type: switchType, help: 'Verbose output for diagnostics' },
    ],
    operands: { min: 1, max: undefined },
    completeOperand: 'network',
    run: async (context, flags, operands) => {
      const client = await context.client()
      const query = flags.on('verbose') ? { verbose: 'true' } : {}
      await inspect(context, {
        refs: operands,
        format: flags.text('format'),
        shape: networkShape,
        layout: 'daemon',
        badFormatCode: 64,
        fetch: (ref) => client.text('GET', `/networks/${encodeURIComponent(ref)}`, { query }),
      })
    },
  },
  {
    name: 'ls',
    aliases: ['list'],
    usage: '[OPTIONS]',
    summary: 'List networks',
    examples: '  swarmctl network ls --filter driver=overlay',
    flags: [
      { ...filterFlag, help: 'Provide filter values (e.g. "driver=bridge")' },
      formatFlag,
      { name: 'no-trunc', type: switchType, help: 'Do not truncate the output' },
      quietFlag('Only display network IDs'),
    ],
    operands: { min: 0, max: 0 },
    run: list,
  },
  {
    name: 'rotate-keys',
    usage: '',
    summary: 'Change the keys of encrypted overlay networks, on all nodes and without loss',
    examples: '  swarmctl network rotate-keys',
    flags: [],
    operands: { min: 0, max: 0 },
    run: async (context) => {
      await (await context.client()).text('POST', '/swarmd/network-keys/rotate')
    },
  },
  {
    name: 'rm',
    aliases: ['remove'],
    usage: 'NETWORK [NETWORK...]',
    summary: 'Remove one or more networks',
    examples: '  swarmctl network rm frontend backend',
    flags: [{ name: 'force', short: 'f', type: switchType, help: 'Do not error if the network does not exist' }],
    operands: { min: 1, max: undefined },
    completeOperand: 'network',
    run: remove,
  },
]

export const networkCommands: readonly Command[] = [...ownCommands, ...networkAttachCommands].sort((a, b) =>
  a.name < b.name ? -1 : 1,
)

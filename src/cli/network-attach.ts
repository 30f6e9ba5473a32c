// `swarmctl network connect|disconnect|prune`: containers on networks, and networks that nobody uses.

import { createInterface } from 'node:readline'
import { CliError, type Command, type Context } from './command.ts'
import { parseCsvRecord } from './csv.ts'
import { type Flags, filterType, intType, listType, switchType, textsType, textType } from './flags.ts'

/** The values of a flag that takes several, separated by commas as well. */
function texts(flags: Flags, name: string): readonly string[] {
  return flags.list(name).flatMap((text) => (text === '' ? [] : parseCsvRecord(text)))
}

/** @throws {CliError} for an option without a value */
function driverOptions(values: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    values.map((option) => {
      const equals = option.indexOf('=')
      if (equals < 0) throw new CliError('invalid key/value pair format in driver options')
      return [option.slice(0, equals).trim(), option.slice(equals + 1).trim()]
    }),
  )
}

/** What the flags of `network connect` ask of the engine, without what they leave to it. */
function endpoint(flags: Flags): Readonly<Record<string, unknown>> {
  const given = (name: string, value: string | readonly string[]) => (value.length === 0 ? {} : { [name]: value })
  const addresses = {
    ...given('IPv4Address', flags.text('ip')),
    ...given('IPv6Address', flags.text('ip6')),
    ...given('LinkLocalIPs', texts(flags, 'link-local-ip')),
  }
  const options = driverOptions(texts(flags, 'driver-opt'))
  return {
    ...(Object.keys(addresses).length === 0 ? {} : { IPAMConfig: addresses }),
    ...given('Links', flags.list('link')),
    ...given('Aliases', texts(flags, 'alias')),
    ...(Object.keys(options).length === 0 ? {} : { DriverOpts: options }),
    ...(flags.changed('gw-priority') ? { GwPriority: flags.int('gw-priority') } : {}),
  }
}

async function connect(context: Context, flags: Flags, [network, container]: readonly string[]): Promise<void> {
  const body = { Container: container, EndpointConfig: endpoint(flags) }
  await (await context.client()).text('POST', `/networks/${encodeURIComponent(network!)}/connect`, { body })
}

async function disconnect(context: Context, flags: Flags, [network, container]: readonly string[]): Promise<void> {
  const body = { Container: container, Force: flags.on('force') }
  await (await context.client()).text('POST', `/networks/${encodeURIComponent(network!)}/disconnect`, { body })
}

async function isAgreed(context: Context): Promise<boolean> {
  context.stdout.write(
    'WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue? [y/N] ',
  )
  const lines = createInterface({ input: context.stdin })
  for await (const line of lines) return line.trim().toLowerCase() === 'y'
  return false
}

async function prune(context: Context, flags: Flags): Promise<void> {
  if (!flags.on('force') && !(await isAgreed(context))) throw new CliError('network prune has been cancelled')
  const client = await context.client()
  const { NetworksDeleted: names } = await client.json<{ readonly NetworksDeleted: readonly string[] | null }>(
    'POST',
    '/networks/prune',
    { filters: flags.filters() },
  )
  if (names && names.length > 0) context.stdout.write(`Deleted Networks:\n${names.join('\n')}\n\n`)
}

export const networkAttachCommands: readonly Command[] = [
  {
    name: 'connect',
    usage: '[OPTIONS] NETWORK CONTAINER',
    summary: 'Connect a container to a network',
    examples:
      '  swarmctl network connect my_net web\n  swarmctl network connect --alias db --ip 10.10.0.9 my_net postgres',
    flags: [
      { name: 'alias', type: textsType, help: 'Add network-scoped alias for the container' },
      { name: 'driver-opt', type: textsType, help: 'driver options for the network' },
      {
        name: 'gw-priority',
        type: intType,
        help: 'Highest gw-priority provides the default gateway. Accepts positive and negative values.',
        since: '1.48',
      },
      { name: 'ip', type: textType, help: 'IPv4 address (e.g., "172.30.100.104")' },
      { name: 'ip6', type: textType, help: 'IPv6 address (e.g., "2001:db8::33")' },
      { name: 'link', type: listType, help: 'Add link to another container' },
      { name: 'link-local-ip', type: textsType, help: 'Add a link-local address for the container' },
    ],
    operands: { min: 2, max: 2 },
    completeOperand: 'network',
    run: connect,
  },
  {
    name: 'disconnect',
    usage: '[OPTIONS] NETWORK CONTAINER',
    summary: 'Disconnect a container from a network',
    examples: '  swarmctl network disconnect backend debug',
    flags: [{ name: 'force', short: 'f', type: switchType, help: 'Force the container to disconnect from a network' }],
    operands: { min: 2, max: 2 },
    completeOperand: 'network',
    run: disconnect,
  },
  {
    name: 'prune',
    usage: '[OPTIONS]',
    summary: 'Remove all unused networks',
    examples: '  swarmctl network prune --filter until=24h',
    flags: [
      { name: 'filter', type: filterType, help: 'Provide filter values (e.g. "until=<timestamp>")' },
      { name: 'force', short: 'f', type: switchType, help: 'Do not prompt for confirmation' },
    ],
    operands: { min: 0, max: 0 },
    run: prune,
  },
]

// `swarmctl swarm …`

import type { InfoJson, NodeJson, SwarmJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError, type Command, type Context, type Flag } from '../command.ts'
import { type Flags, listType, quietFlag, switchType, textType, uint32Type, uintType } from '../flags.ts'
import { PROGRAM } from '../help.ts'
import { hiddenLine } from '../hidden-line.ts'
import { caCommand } from './ca.ts'
import {
  addressPoolType,
  changedSwarmSpec,
  EMPTY_SPEC,
  listenAddressType,
  parseListenAddress,
  specFlags,
} from './flags.ts'
import { snapshotsCommand } from './snapshots.ts'
import { updateSwarm } from './update-swarm.ts'

const AVAILABILITIES = ['active', 'pause', 'drain']

const joinFlags: readonly Flag[] = [
  {
    name: 'advertise-addr',
    type: textType,
    help: 'Advertised address (format: "<ip|interface>[:port]")',
  },
  {
    name: 'availability',
    type: textType,
    help: 'Availability of the node ("active", "pause", "drain")',
    shownDefault: '"active"',
    complete: AVAILABILITIES,
  },
  {
    name: 'data-path-addr',
    type: textType,
    help: 'Address or interface to use for data path traffic (format: "<ip|interface>")',
    since: '1.31',
  },
  {
    name: 'listen-addr',
    type: listenAddressType,
    help: 'Listen address (format: "<ip|interface>[:port]")',
    shownDefault: '0.0.0.0:2377',
  },
]

function availability(flags: Flags): string {
  if (!flags.changed('availability')) return ''
  const value = flags.text('availability').toLowerCase()
  if (AVAILABILITIES.includes(value)) return value
  throw new CliError(`invalid availability "${flags.text('availability')}", only active, pause and drain are supported`)
}

const listenAddress = (flags: Flags) => parseListenAddress(flags.maybe('listen-addr') ?? '0.0.0.0:2377')

async function init(context: Context, flags: Flags): Promise<void> {
  const body = {
    ListenAddr: listenAddress(flags),
    AdvertiseAddr: flags.text('advertise-addr'),
    DataPathAddr: flags.text('data-path-addr'),
    DataPathPort: flags.uint('data-path-port') ?? 0,
    ForceNewCluster: flags.on('force-new-cluster'),
    Spec: changedSwarmSpec(EMPTY_SPEC, flags, undefined),
    AutoLockManagers: flags.on('autolock'),
    Availability: availability(flags),
    DefaultAddrPool: flags.list('default-addr-pool').flatMap((text) => text.split(',').map((pool) => pool.trim())),
    SubnetSize: flags.uint('default-addr-pool-mask-length') ?? 24,
  }
  const from = flags.uint('from-snapshot')
  if (from !== undefined && !body.ForceNewCluster) throw new CliError('--from-snapshot is for --force-new-cluster')
  const query = { fromSnapshot: from === undefined ? undefined : String(from) }
  const client = await context.client()
  const nodeId = await client.json<string>('POST', '/swarm/init', { body, query }).catch((error: unknown) => {
    if (
      error instanceof CliError &&
      /could not choose an IP address to advertise|could not find the system's IP address/.test(error.message)
    ) {
      throw new CliError(`${error.message} - specify one with --advertise-addr`)
    }
    throw error
  })
  context.stdout.write(`Swarm initialized: current node (${nodeId}) is now a manager.\n\n`)
  await printJoinCommands(context, client, nodeId, ['worker'])
  context.stdout.write(
    `To add a manager to this swarm, run '${PROGRAM} swarm join-token manager' and follow the instructions.\n`,
  )
  if (flags.on('autolock')) await printUnlockKey(context, client)
}

async function printJoinCommands(
  context: Context,
  client: ApiClient,
  nodeId: string,
  roles: readonly ('worker' | 'manager')[],
): Promise<void> {
  const node = await client.json<NodeJson>('GET', `/nodes/${nodeId}`)
  const swarm = await client.json<SwarmJson>('GET', '/swarm')
  const address = node.ManagerStatus?.Addr
  if (address === undefined) return
  for (const role of roles) {
    const token = role === 'worker' ? swarm.JoinTokens.Worker : swarm.JoinTokens.Manager
    context.stdout.write(
      `To add a ${role} to this swarm, run the following command:\n\n    ${PROGRAM} swarm join --token ${token} ${address}\n\n`,
    )
  }
}

async function unlockKey(client: ApiClient): Promise<string> {
  try {
    return (await client.json<{ UnlockKey: string }>('GET', '/swarm/unlockkey')).UnlockKey
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    throw new CliError(`could not fetch unlock key: ${error.message}`)
  }
}

async function printUnlockKey(context: Context, client: ApiClient): Promise<void> {
  const key = await unlockKey(client)
  if (key === '') return
  context.stdout.write(
    `To unlock a swarm manager after it restarts, run the \`${PROGRAM} swarm unlock\`\ncommand and provide the following key:\n\n    ${key}\n\nRemember to store this key in a password manager, since without it you\nwill not be able to restart the manager.\n`,
  )
}

async function join(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const body = {
    ListenAddr: listenAddress(flags),
    AdvertiseAddr: flags.text('advertise-addr'),
    DataPathAddr: flags.text('data-path-addr'),
    RemoteAddrs: operands,
    JoinToken: flags.text('token'),
    Availability: availability(flags),
  }
  const client = await context.client()
  await client.text('POST', '/swarm/join', { body })
  const info = await client.json<InfoJson>('GET', '/info')
  context.stdout.write(`This node joined a swarm as a ${info.Swarm?.ControlAvailable ? 'manager' : 'worker'}.\n`)
}

async function joinToken(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const role = operands[0]
  if (role !== 'worker' && role !== 'manager') throw new CliError(`unknown role ${role}`)
  const client = await context.client()
  if (flags.on('rotate')) {
    await updateSwarm(client, (swarm) => swarm.Spec, {
      rotateWorkerToken: role === 'worker',
      rotateManagerToken: role === 'manager',
    })
    if (!flags.on('quiet')) context.stdout.write(`Successfully rotated ${role} join token.\n\n`)
  }
  if (flags.on('quiet')) {
    const { JoinTokens } = await client.json<SwarmJson>('GET', '/swarm')
    context.stdout.write(`${role === 'worker' ? JoinTokens.Worker : JoinTokens.Manager}\n`)
    return
  }
  // the swarm first: where there is none, its refusal is the one to show
  await client.json<SwarmJson>('GET', '/swarm')
  const info = await client.json<InfoJson>('GET', '/info')
  await printJoinCommands(context, client, info.Swarm?.NodeID ?? '', [role])
}

async function update(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const { before, after } = await updateSwarm(client, (swarm) =>
    changedSwarmSpec(swarm.Spec, flags, swarm.TLSInfo?.TrustRoot),
  )
  context.stdout.write('Swarm updated.\n')
  if (after.EncryptionConfig?.AutoLockManagers && !before.EncryptionConfig?.AutoLockManagers) {
    await printUnlockKey(context, client)
  }
}

async function unlock(context: Context): Promise<void> {
  const client = await context.client()
  const info = await client.json<InfoJson>('GET', '/info')
  const state = info.Swarm?.LocalNodeState
  if (state === 'inactive') throw new CliError('Error: This node is not part of a swarm')
  if (state === 'pending' || state === 'active' || state === 'error') throw new CliError('Error: swarm is not locked')
  const key = await hiddenLine(context, 'Enter unlock key: ')
  await client.text('POST', '/swarm/unlock', { body: { UnlockKey: key } })
}

async function showUnlockKey(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  if (flags.on('rotate')) {
    await updateSwarm(
      client,
      (swarm) => {
        if (swarm.Spec.EncryptionConfig?.AutoLockManagers) return swarm.Spec
        throw new CliError('cannot rotate because autolock is not turned on')
      },
      { rotateManagerUnlockKey: true },
    )
    if (!flags.on('quiet')) context.stdout.write('Successfully rotated manager unlock key.\n')
  }
  const key = await unlockKey(client)
  if (key === '') throw new CliError('no unlock key is set')
  if (flags.on('quiet')) context.stdout.write(`${key}\n`)
  else await printUnlockKey(context, client)
}

export const swarmCommands: readonly Command[] = [
  caCommand,
  {
    name: 'init',
    usage: '[OPTIONS]',
    summary: 'Initialize a swarm',
    examples: `  ${PROGRAM} swarm init --advertise-addr 192.168.99.121`,
    flags: [
      ...joinFlags,
      ...specFlags,
      {
        name: 'autolock',
        type: switchType,
        help: 'Enable manager autolocking (requiring an unlock key to start a stopped manager)',
      },
      {
        name: 'data-path-port',
        type: uint32Type,
        help: 'Port number to use for data path traffic (1024 - 49151). If no value is set or is set to 0, the default port (4789) is used.',
        since: '1.40',
      },
      {
        name: 'default-addr-pool',
        type: addressPoolType,
        help: 'default address pool in CIDR format',
        shownDefault: '[]',
        since: '1.39',
      },
      {
        name: 'default-addr-pool-mask-length',
        type: uint32Type,
        help: 'default address pool subnet mask length',
        shownDefault: '24',
        since: '1.39',
      },
      { name: 'force-new-cluster', type: switchType, help: 'Force create a new cluster from current state' },
      {
        name: 'from-snapshot',
        type: uintType,
        help: 'With --force-new-cluster: from an earlier state instead, see "swarm snapshots"',
      },
    ],
    operands: { min: 0, max: 0 },
    run: init,
  },
  {
    name: 'join',
    usage: '[OPTIONS] HOST:PORT',
    summary: 'Join a swarm as a node and/or manager',
    examples: '  swarmctl swarm join --token SWMTKN-1-2mk6i1g… 192.168.99.121:2377',
    flags: [...joinFlags, { name: 'token', type: textType, help: 'Token for entry into the swarm' }],
    operands: { min: 1, max: 1 },
    run: join,
  },
  {
    name: 'join-token',
    usage: '[OPTIONS] (worker|manager)',
    summary: 'Manage join tokens',
    examples: `  swarmctl swarm join-token worker             # what to run on the new machine
  swarmctl swarm join-token --rotate manager   # the old token ends`,
    flags: [quietFlag('Only display token'), { name: 'rotate', type: switchType, help: 'Rotate join token' }],
    operands: { min: 1, max: 1 },
    run: joinToken,
  },
  {
    name: 'leave',
    usage: '[OPTIONS]',
    summary: 'Leave the swarm',
    examples: `  swarmctl swarm leave
  swarmctl swarm leave --force    # on a manager`,
    flags: [
      { name: 'force', short: 'f', type: switchType, help: 'Force this node to leave the swarm, ignoring warnings' },
    ],
    operands: { min: 0, max: 0 },
    run: async (context, flags) => {
      const client = await context.client()
      await client.text('POST', '/swarm/leave', { query: flags.on('force') ? { force: '1' } : {} })
      context.stdout.write('Node left the swarm.\n')
    },
  },
  snapshotsCommand,
  {
    name: 'unlock',
    usage: '',
    summary: 'Unlock swarm',
    examples: `  ${PROGRAM} swarm unlock < unlock.key`,
    flags: [],
    operands: { min: 0, max: 0 },
    run: unlock,
  },
  {
    name: 'unlock-key',
    usage: '[OPTIONS]',
    summary: 'Manage the unlock key',
    examples: `  ${PROGRAM} swarm unlock-key -q\n  ${PROGRAM} swarm unlock-key --rotate`,
    flags: [quietFlag('Only display token'), { name: 'rotate', type: switchType, help: 'Rotate unlock key' }],
    operands: { min: 0, max: 0 },
    run: showUnlockKey,
  },
  {
    name: 'update',
    usage: '[OPTIONS]',
    summary: 'Update the swarm',
    examples: `  swarmctl swarm update --task-history-limit 3
  swarmctl swarm update --label-add io.swarmctl.rebalance=on-join`,
    flags: [
      ...specFlags,
      { name: 'label-rm', type: listType, help: 'Remove a label of the swarm' },
      { name: 'autolock', type: switchType, help: 'Change manager autolocking setting (true|false)' },
    ],
    operands: { min: 0, max: 0 },
    helpWithoutFlags: true,
    run: update,
  },
]

// `swarmctl node …`

import type { NodeSpec } from '../api/spec.ts'
import type { InfoJson, NodeJson, TaskJson } from './api-types.ts'
import { CliError, type Command, type Context } from './command.ts'
import {
  type Flags,
  filterFlag,
  formatFlag,
  inspectFormatFlag,
  keyValues,
  listType,
  prettyFlag,
  quietFlag,
  switchType,
  textType,
} from './flags.ts'
import { printValue } from './format/value.ts'
import { NameResolver } from './names.ts'
import { compareNatural } from './natural-order.ts'
import { reference } from './node-names.ts'
import { inspect } from './output/inspect.ts'
import { renderListing, row } from './output/listing.ts'
import { goTimeText, sortedPairs } from './output/pretty.ts'
import { capitalize } from './output/table.ts'
import { nodeRebalanceCommand } from './rebalance.ts'
import { nodeShape } from './shapes/swarm.ts'
import { refuseFormatAfterPretty, removeAll } from './shared.ts'
import { printTasks } from './task-list.ts'
import { bytesSize } from './units.ts'

const ROLES = ['worker', 'manager']
const AVAILABILITIES = ['active', 'pause', 'drain']

async function list(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const quiet = flags.on('quiet')
  const nodes = await client.json<NodeJson[]>('GET', '/nodes', { filters: flags.filters() })
  const info = nodes.length > 0 && !quiet ? await client.json<InfoJson>('GET', '/info') : {}
  nodes.sort((a, b) => compareNatural(a.Description?.Hostname ?? '', b.Description?.Hostname ?? ''))
  context.stdout.write(
    renderListing({
      format: flags.text('format') || (quiet ? '' : (context.config.nodesFormat ?? '')),
      quiet,
      table:
        '{{.ID}} {{if .Self}}*{{else}} {{ end }}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}',
      raw: 'node_id: {{.ID}}\\nhostname: {{.Hostname}}\\nstatus: {{.Status}}\\navailability: {{.Availability}}\\nmanager_status: {{.ManagerStatus}}\\n',
      quietRaw: 'node_id: {{.ID}}',
      headers: {
        ID: 'ID',
        Self: '',
        Hostname: 'HOSTNAME',
        Status: 'STATUS',
        Availability: 'AVAILABILITY',
        ManagerStatus: 'MANAGER STATUS',
        EngineVersion: 'ENGINE VERSION',
        TLSStatus: 'TLS STATUS',
      },
      rows: nodes.map((node) => nodeRow(node, info)),
    }),
  )
}

function nodeRow(node: NodeJson, info: InfoJson) {
  const reachability = node.ManagerStatus?.Leader ? 'Leader' : (node.ManagerStatus?.Reachability ?? '')
  return row('*node.nodeContext', {
    ID: node.ID,
    Self: node.ID === info.Swarm?.NodeID,
    Hostname: node.Description?.Hostname ?? '',
    Status: capitalize(node.Status?.State ?? ''),
    Availability: capitalize(node.Spec.Availability ?? ''),
    ManagerStatus: capitalize(reachability),
    TLSStatus: tlsStatus(node, info),
    EngineVersion: node.Description?.Engine?.EngineVersion ?? '',
  })
}

function tlsStatus(node: NodeJson, info: InfoJson): string {
  const wanted = info.Swarm?.Cluster?.TLSInfo
  const actual = node.Description?.TLSInfo
  if (!wanted?.TrustRoot || !actual?.TrustRoot) return 'Unknown'
  const same =
    wanted.TrustRoot === actual.TrustRoot &&
    wanted.CertIssuerSubject === actual.CertIssuerSubject &&
    wanted.CertIssuerPublicKey === actual.CertIssuerPublicKey
  return same ? 'Ready' : 'Needs Rotation'
}

async function inspectNodes(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const fetch = async (ref: string) => client.text('GET', `/nodes/${encodeURIComponent(await reference(client, ref))}`)
  const format = refuseFormatAfterPretty(flags)
  if (format === 'pretty') {
    for (const ref of operands) context.stdout.write(`${prettyNode(JSON.parse(await fetch(ref)) as NodeJson)}\n`)
    return
  }
  await inspect(context, { refs: operands, format, shape: nodeShape, layout: 'client', fetch })
}

function prettyNode(node: NodeJson): string {
  const description = node.Description ?? {}
  const labels = (title: string, values: Readonly<Record<string, string>> | null | undefined) =>
    Object.keys(values ?? {}).length === 0
      ? []
      : [title, ...sortedPairs(values).map(([key, value]) => ` - ${key}${value ? `=${value}` : ''}`)]
  const plugins = new Map<string, string[]>()
  for (const { Type = '', Name = '' } of description.Engine?.Plugins ?? []) {
    plugins.set(Type, [...(plugins.get(Type) ?? []), Name])
  }
  const manager = node.ManagerStatus
  const tls = description.TLSInfo
  const nanoCpus = description.Resources?.NanoCPUs ?? 0
  const memory = description.Resources?.MemoryBytes ?? 0
  return [
    `ID:\t\t\t${node.ID}`,
    ...(node.Spec.Name ? [`Name:\t\t\t${node.Spec.Name}`] : []),
    ...labels('Labels:', node.Spec.Labels),
    `Hostname:              \t${description.Hostname ?? ''}`,
    `Joined at:             \t${goTimeText(node.CreatedAt)}`,
    'Status:',
    ` State:\t\t\t${capitalize(node.Status?.State ?? '')}`,
    ...(node.Status?.Message ? [` Message:              \t${capitalize(node.Status.Message)}`] : []),
    ` Availability:         \t${capitalize(node.Spec.Availability ?? '')}`,
    ...(node.Status?.Addr ? [` Address:\t\t${node.Status.Addr}`] : []),
    ...(manager
      ? [
          'Manager Status:',
          ` Address:\t\t${manager.Addr ?? ''}`,
          ` Raft Status:\t\t${capitalize(manager.Reachability ?? '')}`,
          ` Leader:\t\t${manager.Leader ? 'Yes' : 'No'}`,
        ]
      : []),
    'Platform:',
    ` Operating System:\t${description.Platform?.OS ?? ''}`,
    ` Architecture:\t\t${description.Platform?.Architecture ?? ''}`,
    'Resources:',
    ` CPUs:\t\t\t${Math.trunc(nanoCpus / 1e9)}`,
    ` Memory:\t\t${memory === 0 ? '' : bytesSize(memory)}`,
    ...(plugins.size > 0
      ? [
          'Plugins:',
          ...[...plugins]
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([type, names]) => ` ${type}:\t\t${names.join(', ')}`),
        ]
      : []),
    `Engine Version:\t\t${description.Engine?.EngineVersion ?? ''}`,
    ...labels('Engine Labels:', description.Engine?.Labels),
    ...(tls?.TrustRoot || tls?.CertIssuerSubject || tls?.CertIssuerPublicKey
      ? [
          'TLS Info:',
          ' TrustRoot:',
          tls.TrustRoot ?? '',
          ` Issuer Subject:\t${tls.CertIssuerSubject ?? ''}`,
          ` Issuer Public Key:\t${tls.CertIssuerPublicKey ?? ''}`,
        ]
      : []),
  ].join('\n')
}

async function ps(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const refs = operands.length > 0 ? operands : ['self']
  const tasks: TaskJson[] = []
  const errors: string[] = []
  for (const ref of refs) {
    try {
      const node = await client.json<NodeJson>('GET', `/nodes/${encodeURIComponent(await reference(client, ref))}`)
      const filters = { ...flags.filters(), node: { ...flags.filters()?.node, [node.ID]: true as const } }
      tasks.push(...(await client.json<TaskJson[]>('GET', '/tasks', { filters })))
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      errors.push(error.message)
    }
  }
  if (errors.length === 0 || tasks.length > 0) {
    await printTasks(context, tasks, new NameResolver(client, !flags.on('no-resolve')), {
      format: flags.text('format'),
      quiet: flags.on('quiet'),
      truncate: !flags.on('no-trunc'),
    })
  }
  if (errors.length > 0) throw new CliError(errors.join('\n'))
}

/** Reads each node, changes its spec, and writes it back; `change` returns undefined where there is nothing to do. */
async function updateNodes(
  context: Context,
  refs: readonly string[],
  change: (node: NodeJson) => NodeSpec | undefined,
  done: (ref: string) => string,
): Promise<void> {
  const client = await context.client()
  for (const ref of refs) {
    const node = await client.json<NodeJson>('GET', `/nodes/${encodeURIComponent(ref)}`)
    const spec = change(node)
    if (!spec) continue
    await client.text('POST', `/nodes/${node.ID}/update`, {
      query: { version: printValue(node.Version?.Index ?? 0) },
      body: spec,
    })
    context.stdout.write(`${done(ref)}\n`)
  }
}

/** The node's spec with the flags' changes. @throws {CliError} for a label to remove that is not there. */
export function changedNodeSpec(spec: NodeSpec, flags: Flags): NodeSpec {
  const labels: Record<string, string> = { ...spec.Labels, ...keyValues(flags.list('label-add')) }
  for (const key of flags.list('label-rm')) {
    if (!(key in labels)) throw new CliError(`key ${key} doesn't exist in node's labels`)
    delete labels[key]
  }
  return {
    ...spec,
    ...(flags.changed('role') ? { Role: flags.text('role') as 'worker' | 'manager' } : {}),
    ...(flags.changed('availability')
      ? { Availability: flags.text('availability') as 'active' | 'pause' | 'drain' }
      : {}),
    Labels: labels,
  }
}

export const nodeCommands: readonly Command[] = [
  {
    name: 'demote',
    usage: 'NODE [NODE...]',
    summary: 'Demote one or more nodes from manager in the swarm',
    examples: '  swarmctl node demote worker-3',
    flags: [],
    operands: { min: 1, max: undefined },
    completeOperand: 'node',
    run: (context, _flags, operands) =>
      updateNodes(
        context,
        operands,
        (node) => {
          if (node.Spec.Role === 'manager') return { ...node.Spec, Role: 'worker' }
          context.stdout.write(`Node ${node.ID} is already a worker.\n`)
          return undefined
        },
        (ref) => `Manager ${ref} demoted in the swarm.`,
      ),
  },
  {
    name: 'inspect',
    usage: '[OPTIONS] self|NODE [NODE...]',
    summary: 'Display detailed information on one or more nodes',
    examples:
      '  swarmctl node inspect --pretty self\n  swarmctl node inspect --format "{{ .ManagerStatus.Leader }}" self',
    flags: [inspectFormatFlag, prettyFlag],
    operands: { min: 1, max: undefined },
    completeOperand: 'node',
    run: inspectNodes,
  },
  {
    name: 'ls',
    aliases: ['list'],
    usage: '[OPTIONS]',
    summary: 'List nodes in the swarm',
    examples: '  swarmctl node ls --filter role=manager\n  swarmctl node ls --format "{{.Hostname}} {{.Status}}"',
    flags: [filterFlag, formatFlag, quietFlag('Only display IDs')],
    operands: { min: 0, max: 0 },
    run: list,
  },
  {
    name: 'promote',
    usage: 'NODE [NODE...]',
    summary: 'Promote one or more nodes to manager in the swarm',
    examples: '  swarmctl node promote worker-1 worker-2',
    flags: [],
    operands: { min: 1, max: undefined },
    completeOperand: 'node',
    run: (context, _flags, operands) =>
      updateNodes(
        context,
        operands,
        (node) => {
          if (node.Spec.Role !== 'manager') return { ...node.Spec, Role: 'manager' }
          context.stdout.write(`Node ${node.ID} is already a manager.\n`)
          return undefined
        },
        (ref) => `Node ${ref} promoted to a manager in the swarm.`,
      ),
  },
  {
    name: 'ps',
    usage: '[OPTIONS] [NODE...]',
    summary: 'List tasks running on one or more nodes, defaults to current node',
    examples: `  swarmctl node ps
  swarmctl node ps --filter desired-state=running worker-1`,
    flags: [
      filterFlag,
      { name: 'format', type: textType, help: 'Pretty-print tasks using a Go template' },
      { name: 'no-resolve', type: switchType, help: 'Do not map IDs to Names' },
      { name: 'no-trunc', type: switchType, help: 'Do not truncate output' },
      quietFlag('Only display task IDs'),
    ],
    operands: { min: 0, max: undefined },
    completeOperand: 'node',
    run: ps,
  },
  nodeRebalanceCommand,
  {
    name: 'rm',
    aliases: ['remove'],
    usage: '[OPTIONS] NODE [NODE...]',
    summary: 'Remove one or more nodes from the swarm',
    examples: `  swarmctl node rm worker-3            # after "swarm leave" there
  swarmctl node rm --force worker-3    # one that will not come back`,
    flags: [{ name: 'force', short: 'f', type: switchType, help: 'Force remove a node from the swarm' }],
    operands: { min: 1, max: undefined },
    completeOperand: 'node',
    run: (context, flags, operands) => removeAll(context, operands, 'nodes', flags.on('force') ? { force: '1' } : {}),
  },
  {
    name: 'update',
    usage: '[OPTIONS] NODE',
    summary: 'Update a node',
    examples:
      '  swarmctl node update --availability drain worker1\n  swarmctl node update --label-add disk=ssd worker1',
    flags: [
      {
        name: 'availability',
        type: textType,
        help: 'Availability of the node ("active", "pause", "drain")',
        complete: AVAILABILITIES,
      },
      { name: 'label-add', type: listType, help: 'Add or update a node label ("key=value")' },
      { name: 'label-rm', type: listType, help: 'Remove a node label if exists' },
      { name: 'role', type: textType, help: 'Role of the node ("worker", "manager")', complete: ROLES },
    ],
    operands: { min: 1, max: 1 },
    completeOperand: 'node',
    run: (context, flags, operands) =>
      updateNodes(
        context,
        operands,
        (node) => changedNodeSpec(node.Spec, flags),
        (ref) => ref,
      ),
  },
]

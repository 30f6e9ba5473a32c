// `swarmctl ps`: containers of all nodes.

import { formatTime } from '../lib/clock.ts'
import { CLUSTER_VIEW, MISSING_HEADER, NODE_LABEL } from './cluster-view.ts'
import type { Command, Context } from './command.ts'
import { type Flags, filterFlag, formatFlag, intType, quietFlag, switchType } from './flags.ts'
import { renderListing, row } from './output/listing.ts'
import { ellipsis } from './output/table.ts'
import { humanDuration } from './units.ts'

interface ContainerJson {
  readonly Id: string
  readonly Names?: readonly string[] | null
  readonly Image?: string
  readonly ImageID?: string
  readonly Command?: string
  readonly Created?: number
  readonly State?: string
  readonly Status?: string
  readonly Labels?: Readonly<Record<string, string>> | null
  readonly Ports?: readonly PortJson[] | null
}

interface PortJson {
  readonly IP?: string
  readonly PrivatePort: number
  readonly PublicPort?: number
  readonly Type?: string
}

const SHORT_ID = 12
const COMMAND_WIDTH = 20

async function listContainers(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const limit = flags.on('latest') ? 1 : (flags.int('last') ?? -1)
  const filters = flags.filters()
  const response = await client.stream('GET', '/containers/json', {
    query: { all: flags.on('all') || limit > 0 ? '1' : undefined, limit: limit > 0 ? String(limit) : undefined },
    ...(filters ? { filters } : {}),
    headers: CLUSTER_VIEW,
  })
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const containers = JSON.parse(Buffer.concat(chunks).toString() || '[]') as readonly ContainerJson[]
  const isTruncated = !flags.on('no-trunc')
  context.stdout.write(
    renderListing({
      format: flags.text('format'),
      quiet: flags.on('quiet'),
      table: '{{.ID}}\t{{.Node}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}',
      headers: {
        ID: 'CONTAINER ID',
        Node: 'NODE',
        Image: 'IMAGE',
        Command: 'COMMAND',
        RunningFor: 'CREATED',
        CreatedAt: 'CREATED AT',
        State: 'STATE',
        Status: 'STATUS',
        Ports: 'PORTS',
        Names: 'NAMES',
        Labels: 'LABELS',
      },
      rows: containers.map((container) => containerRow(container, isTruncated, context.clock.wallMs())),
    }),
  )
  const missing = response.headers[MISSING_HEADER]
  if (typeof missing === 'string') context.stderr.write(`no answer from ${missing.split(',').join(', ')}\n`)
}

function containerRow(container: ContainerJson, isTruncated: boolean, nowMs: number) {
  const { Id, Names, Image = '', Command = '', Created = 0, State = '', Status = '', Labels, Ports } = container
  const createdMs = Created * 1000
  const labels = Object.entries(Labels ?? {})
  return row(
    '*container.Context',
    {
      ID: isTruncated ? Id.slice(0, SHORT_ID) : Id,
      Node: Labels?.[NODE_LABEL] ?? '',
      Image: isTruncated ? Image.replace(/@sha256:[0-9a-f]{64}$/, '') : Image,
      Command: JSON.stringify(isTruncated ? ellipsis(Command, COMMAND_WIDTH) : Command),
      RunningFor: `${humanDuration(nowMs - createdMs)} ago`,
      CreatedAt: formatTime(createdMs),
      State,
      Status,
      Ports: portsText(Ports ?? []),
      Names: (Names ?? []).map((name) => name.replace(/^\//, '')).join(','),
      Labels: labels.map(([name, value]) => `${name}=${value}`).join(','),
    },
    { Label: (name) => Labels?.[name] ?? '' },
  )
}

function portsText(ports: readonly PortJson[]): string {
  return ports
    .map(({ IP, PrivatePort, PublicPort, Type = 'tcp' }) =>
      PublicPort
        ? `${IP?.includes(':') ? `[${IP}]` : (IP ?? '')}:${PublicPort}->${PrivatePort}/${Type}`
        : `${PrivatePort}/${Type}`,
    )
    .join(', ')
}

export const psCommand: Command = {
  name: 'ps',
  usage: '[OPTIONS]',
  summary: 'List containers of all nodes',
  examples: `  swarmctl ps
  swarmctl ps -a --filter label=com.docker.swarm.service.name=web
  swarmctl ps --format '{{.Node}} {{.Names}}'`,
  flags: [
    { name: 'all', short: 'a', type: switchType, help: 'Show all containers (default shows just running)' },
    filterFlag,
    formatFlag,
    {
      name: 'last',
      short: 'n',
      type: intType,
      help: 'Show n last created containers (includes all states)',
      shownDefault: '-1',
    },
    { name: 'latest', short: 'l', type: switchType, help: 'Show the latest created container (includes all states)' },
    { name: 'no-trunc', type: switchType, help: "Don't truncate output" },
    quietFlag('Only display container IDs'),
  ],
  operands: { min: 0, max: 0 },
  run: listContainers,
}

// `swarmctl why`: what the managers decided about a task, a service or a node, what they wait for, and the way there.

import type { WhyEventJson, WhyJson, WhyPlacementJson } from '../api/why.ts'
import { parseTime } from '../lib/clock.ts'
import type { ServiceJson } from './api-types.ts'
import { type ApiClient, DaemonError } from './client.ts'
import { CliError, type Command, type Context } from './command.ts'
import { type Flags, formatFlag, textType, uintType } from './flags.ts'
import { encodeJson } from './format/json.ts'
import { compileFormat } from './format/render.ts'
import { TemplateError } from './format/template-error.ts'
import { GoStruct, type Value } from './format/value.ts'
import { PROGRAM } from './help.ts'
import { nodeNames, reference } from './node-names.ts'
import { alignColumns } from './output/table.ts'
import { fromJson } from './shapes/shape.ts'
import { closest } from './suggest.ts'
import { humanDuration } from './units.ts'

const COLUMNS = { minWidth: 0, padding: 2 }

async function run(context: Context, flags: Flags, [name = '']: readonly string[]): Promise<void> {
  const client = await context.client()
  const kind = flags.text('type')
  const of = kind === 'service' || kind === 'task' ? name : await reference(client, name)
  const query = { of, type: kind, limit: flags.text('limit') || undefined }
  let answer: WhyJson
  try {
    answer = await client.json<WhyJson>('GET', '/swarmd/why', { query })
  } catch (error) {
    if (error instanceof DaemonError && error.status === 404) throw await withSuggestion(client, name, error)
    throw error
  }
  const format = flags.text('format')
  context.stdout.write(format === '' ? text(answer, context.clock.wallMs()) : formatted(answer, format))
}

async function withSuggestion(client: ApiClient, name: string, error: DaemonError): Promise<CliError> {
  try {
    const services = await client.json<ServiceJson[]>('GET', '/services')
    const known = [...services.map(({ Spec }) => Spec.Name ?? ''), ...(await nodeNames(client))]
    const near = closest(name, [...new Set(known)])
    if (near.length === 0) return error
    return new CliError(`${error.message}\n\nDid you mean this?\n${near.map((one) => `\t${one}`).join('\n')}`)
  } catch (failure) {
    if (failure instanceof CliError) return error
    throw failure
  }
}

function formatted(answer: WhyJson, format: string): string {
  const fields = new Map<string, Value>(Object.entries(answer).map(([key, value]) => [key, fromJson(value)]))
  const value = new GoStruct('swarmctl.why', fields, { encode: () => encodeJson(fields) })
  try {
    return `${compileFormat(format === 'json' ? '{{json .}}' : format).render(value)}\n`
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error
    throw new CliError(`template parsing error: ${error.message}`)
  }
}

function text(answer: WhyJson, nowMs: number): string {
  const { Kind, Name, ID, Now, Because, Waits, Placement, History } = answer
  const lines = [`${Kind} ${Name}${Name === ID ? '' : ` (${ID})`}: ${readable(Now)}`]
  for (const one of Because) lines.push(`  - ${readable(one)}`)
  if (Waits.length > 0) lines.push('', 'Waits for:')
  for (const { For, Until } of Waits) lines.push(`  - ${For}: until ${readable(Until)}${left(Until, nowMs)}`)
  return [`${lines.join('\n')}\n`, nodes(Placement), history(History)].join('')
}

function left(until: string, nowMs: number): string {
  const leftMs = parseTime(until) - nowMs
  return leftMs > 0 ? ` (${humanDuration(leftMs).toLowerCase()} from now)` : ''
}

function nodes(placement: WhyPlacementJson | undefined): string {
  if (!placement || placement.Nodes === 0) return ''
  const rows = placement.Candidates.map(({ ID, Hostname, Reason, Detail, ServiceTasks, Tasks }) => {
    const why = Reason === '' ? 'would do' : `${Reason}${Detail ? `: ${Detail}` : ''}`
    return `  ${Hostname || ID}\t${ServiceTasks}/${Tasks}\t${why}\n`
  })
  const more = placement.Nodes - placement.Candidates.length
  const rest = more > 0 ? `  and ${more} more nodes\n` : ''
  return `\nNodes:\n${alignColumns(`  NODE\tTASKS\tWHY\n${rows.join('')}`, COLUMNS)}${rest}`
}

function history(events: readonly WhyEventJson[]): string {
  if (events.length === 0) return ''
  const rows = events.map(({ Time, By, Task, What }) => `  ${readable(Time)}\t${By}\t${Task}\t${readable(What)}\n`)
  return `\nHistory:\n${alignColumns(rows.join(''), COLUMNS)}`
}

/** Times without the digits that nobody reads. */
function readable(line: string): string {
  return line.replace(/(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z/g, '$1 $2Z')
}

export const whyCommand: Command = {
  name: 'why',
  usage: '[OPTIONS] TASK|SERVICE|NODE',
  summary: 'Explain the state of a task, a service or a node',
  examples: `  # Why does the service not have all its replicas?
  ${PROGRAM} why web

  # Its second slot: what failed, when it is tried again
  ${PROGRAM} why web.2

  # A task by the beginning of its id, as "${PROGRAM} service ps" shows it
  ${PROGRAM} why 4fj2k

  # Why does this node get no tasks?
  ${PROGRAM} why --type node worker-1

  # For a program
  ${PROGRAM} why --format '{{range .Because}}{{println .}}{{end}}' web`,
  flags: [
    { ...formatFlag, help: "Format output as JSON ('json') or using a Go template" },
    {
      name: 'limit',
      short: 'n',
      type: uintType,
      help: 'Show the last events of the history (at most 100)',
      shownDefault: '8',
    },
    {
      name: 'type',
      type: textType,
      help: 'Only look for a "task", a "service" or a "node" of that name',
      complete: ['task', 'service', 'node'],
    },
  ],
  operands: { min: 1, max: 1 },
  completeOperand: ['service', 'node'],
  run,
}

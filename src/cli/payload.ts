// `secret` and `config` are the same five commands over two kinds of object.

import { readFileSync } from 'node:fs'
import { parseTime } from '../lib/clock.ts'
import { errorCode, errorMessage } from '../lib/errors.ts'
import type { SecretJson } from './api-types.ts'
import { CliError, type Command, type Context } from './command.ts'
import {
  type Flags,
  filterFlag,
  formatFlag,
  inspectFormatFlag,
  keyValues,
  labelType,
  prettyFlag,
  quietFlag,
  textType,
} from './flags.ts'
import type { GoStruct } from './format/value.ts'
import { compareNatural } from './natural-order.ts'
import { inspect } from './output/inspect.ts'
import { joinLabels, type Listing, renderListing, row } from './output/listing.ts'
import type { StructShape } from './shapes/shape.ts'
import { refuseFormatAfterPretty, removeAll } from './shared.ts'
import { humanDuration } from './units.ts'

export interface PayloadKind {
  readonly kind: 'secret' | 'config'
  /** Swarm's limit; twice as much is read, so that the daemon is the one to refuse. */
  readonly maxBytes: number
  readonly shape: StructShape
  readonly listing: Pick<Listing, 'table' | 'headers'>
  pretty(object: SecretJson): string
  readonly defaultFormat: (context: Context) => string | undefined
}

const title = (kind: PayloadKind) => (kind.kind === 'secret' ? 'Secret' : 'Config')

async function list(kind: PayloadKind, context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const objects = await client.json<SecretJson[]>('GET', `/${kind.kind}s`, { filters: flags.filters() })
  objects.sort((a, b) => compareNatural(a.Spec.Name ?? '', b.Spec.Name ?? ''))
  const quiet = flags.on('quiet')
  context.stdout.write(
    renderListing({
      ...kind.listing,
      format: flags.text('format') || (quiet ? '' : (kind.defaultFormat(context) ?? '')),
      quiet,
      rows: objects.map((object) => payloadRow(kind, object, context.clock.wallMs())),
    }),
  )
}

function payloadRow(kind: PayloadKind, object: SecretJson, nowMs: number): GoStruct {
  const age = (time: string | undefined) => `${humanDuration(nowMs - parseTime(time ?? ''))} ago`
  return row(
    `*${kind.kind}.${kind.kind}Context`,
    {
      ID: object.ID,
      Name: object.Spec.Name ?? '',
      ...(kind.kind === 'secret' ? { Driver: object.Spec.Driver?.Name ?? '' } : {}),
      CreatedAt: age(object.CreatedAt),
      UpdatedAt: age(object.UpdatedAt),
      Labels: joinLabels(object.Spec.Labels),
    },
    { Label: (name) => object.Spec.Labels?.[name] ?? '' },
  )
}

async function inspectPayloads(
  kind: PayloadKind,
  context: Context,
  flags: Flags,
  refs: readonly string[],
): Promise<void> {
  const client = await context.client()
  const fetch = (ref: string) => client.text('GET', `/${kind.kind}s/${encodeURIComponent(ref)}`)
  const format = refuseFormatAfterPretty(flags)
  if (format === 'pretty') {
    for (const ref of refs) context.stdout.write(`${kind.pretty(JSON.parse(await fetch(ref)) as SecretJson)}\n`)
    return
  }
  await inspect(context, { refs, format, shape: kind.shape, layout: 'daemon', fetch })
}

/** The bytes of `file`, '-' being stdin. @throws {CliError} for one that is empty or cannot be read. */
async function readPayload(kind: PayloadKind, context: Context, file: string): Promise<Buffer> {
  const limit = 2 * kind.maxBytes
  const source = file === '-' ? 'STDIN' : file
  const data = file === '-' ? await readStdin(context, limit) : readFile(file, limit)
  if (data.length === 0) throw new CliError(`error reading from ${source}: data is empty`)
  return data
}

function readFile(file: string, limit: number): Buffer {
  try {
    return readFileSync(file).subarray(0, limit)
  } catch (error) {
    const code = errorCode(error)
    const reason =
      code === 'ENOENT'
        ? `open ${file}: no such file or directory`
        : code === 'EACCES'
          ? `open ${file}: permission denied`
          : code === 'EISDIR'
            ? `read ${file}: is a directory`
            : errorMessage(error)
    throw new CliError(`error reading from ${file}: ${reason}`)
  }
}

async function readStdin(context: Context, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of context.stdin) {
    const bytes = Buffer.from(chunk as Buffer)
    chunks.push(bytes)
    size += bytes.length
    if (size >= limit) break
  }
  return Buffer.concat(chunks).subarray(0, limit)
}

async function create(kind: PayloadKind, context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const [name = '', file] = operands
  const driver = kind.kind === 'secret' ? flags.text('driver') : ''
  const template = flags.text('template-driver')
  if (driver !== '' && file !== undefined) throw new CliError('When using secret driver secret data must be empty')
  if (driver === '' && file === undefined) throw new CliError('secret file is required')
  const data = file === undefined ? undefined : await readOrExplain(kind, context, file)
  const client = await context.client()
  const body = {
    Name: name,
    Labels: keyValues(flags.list('label')),
    ...(data ? { Data: data.toString('base64') } : {}),
    ...(driver === '' ? {} : { Driver: { Name: driver } }),
    ...(template === '' ? {} : { Templating: { Name: template } }),
  }
  const { ID } = await client.json<{ ID: string }>('POST', `/${kind.kind}s/create`, { body })
  context.stdout.write(`${ID}\n`)
}

async function readOrExplain(kind: PayloadKind, context: Context, file: string): Promise<Buffer> {
  try {
    return await readPayload(kind, context, file)
  } catch (error) {
    if (kind.kind === 'secret' || !(error instanceof CliError)) throw error
    throw new CliError(`Error reading content from "${file}": ${error.message}`)
  }
}

/** The commands of `swarmctl secret` or `swarmctl config`. */
export function payloadCommands(kind: PayloadKind): readonly Command[] {
  const upper = kind.kind.toUpperCase()
  return [
    {
      name: 'create',
      usage: kind.kind === 'secret' ? '[OPTIONS] SECRET [file|-]' : '[OPTIONS] CONFIG file|-',
      summary:
        kind.kind === 'secret'
          ? 'Create a secret from a file or STDIN as content'
          : 'Create a config from a file or STDIN',
      examples: `  swarmctl ${kind.kind} create my_${kind.kind} ./file\n  printf 'content' | swarmctl ${kind.kind} create my_${kind.kind} -`,
      flags: [
        ...(kind.kind === 'secret'
          ? [{ name: 'driver', short: 'd', type: textType, help: 'Secret driver', since: '1.31' }]
          : []),
        { name: 'label', short: 'l', type: labelType, help: `${title(kind)} labels` },
        { name: 'template-driver', type: textType, help: 'Template driver', since: '1.37', complete: ['golang'] },
      ],
      operands: kind.kind === 'secret' ? { min: 1, max: 2 } : { min: 2, max: 2 },
      run: (context, flags, operands) => create(kind, context, flags, operands),
    },
    {
      name: 'inspect',
      usage: `[OPTIONS] ${upper} [${upper}...]`,
      summary: `Display detailed information on one or more ${kind.kind}s`,
      examples: `  swarmctl ${kind.kind} inspect --pretty app_${kind.kind}`,
      flags: [inspectFormatFlag, prettyFlag],
      operands: { min: 1, max: undefined },
      completeOperand: kind.kind,
      run: (context, flags, operands) => inspectPayloads(kind, context, flags, operands),
    },
    {
      name: 'ls',
      aliases: ['list'],
      usage: '[OPTIONS]',
      summary: `List ${kind.kind}s`,
      examples: `  swarmctl ${kind.kind} ls --filter label=app=shop`,
      flags: [filterFlag, formatFlag, quietFlag('Only display IDs')],
      operands: { min: 0, max: 0 },
      run: (context, flags) => list(kind, context, flags),
    },
    {
      name: 'rm',
      aliases: ['remove'],
      usage: `${upper} [${upper}...]`,
      summary: `Remove one or more ${kind.kind}s`,
      examples: `  swarmctl ${kind.kind} rm app_${kind.kind}`,
      flags: [],
      operands: { min: 1, max: undefined },
      completeOperand: kind.kind,
      run: (context, _flags, operands) => removeAll(context, operands, `${kind.kind}s`),
    },
  ]
}

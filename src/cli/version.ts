// `swarmctl version`

import { VERSION } from '../lib/version.ts'
import { API_VERSION, ConnectionError } from './client.ts'
import { CliError, type Command, type Context } from './command.ts'
import { type Flags, inspectFormatFlag } from './flags.ts'
import { compileFormat } from './format/render.ts'
import { TemplateError } from './format/template-error.ts'
import { alignColumns } from './output/table.ts'
import { fromJson } from './shapes/shape.ts'

interface Component {
  readonly Name: string
  readonly Version: string
  readonly Details?: Readonly<Record<string, string>>
}

interface ServerVersion {
  readonly Platform?: { readonly Name?: string }
  readonly Components?: readonly Component[]
}

async function run(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  let server: ServerVersion | undefined
  let failure: CliError | undefined
  let apiVersion = API_VERSION
  try {
    apiVersion = await client.version()
    server = await client.json<ServerVersion>('GET', '/version')
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    failure = error
  }
  const info = {
    Client: {
      Version: VERSION,
      ApiVersion: apiVersion,
      DefaultAPIVersion: API_VERSION,
      NodeVersion: process.version,
      Os: process.platform,
      Arch: process.arch === 'x64' ? 'amd64' : process.arch,
      Context: context.contextName,
    },
    Server: server ?? null,
  }
  context.stdout.write(flags.changed('format') ? formatted(info, flags.text('format')) : page(info.Client, server))
  if (failure) throw failure instanceof ConnectionError ? failure : new CliError(failure.message)
}

function formatted(info: unknown, format: string): string {
  try {
    return `${compileFormat(format === 'json' ? '{{json .}}' : format).render(fromJson(info))}\n`
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error
    throw new CliError(`template parsing error: ${error.message}`, 64)
  }
}

function page(client: Readonly<Record<string, string>>, server: ServerVersion | undefined): string {
  const downgraded =
    client.ApiVersion === client.DefaultAPIVersion ? '' : ` (downgraded from ${client.DefaultAPIVersion})`
  const lines = [
    'Client:',
    ` Version:\t${client.Version}`,
    ` API version:\t${client.ApiVersion}${downgraded}`,
    ` Node version:\t${client.NodeVersion}`,
    ` OS/Arch:\t${client.Os}/${client.Arch}`,
    ` Context:\t${client.Context}`,
  ]
  if (server) {
    lines.push('', `Server:${server.Platform?.Name ? ` ${server.Platform.Name}` : ''}`)
    for (const component of server.Components ?? []) lines.push(` ${component.Name}:`, ...componentLines(component))
  }
  return `${alignColumns(lines.join('\n'), { minWidth: 20, padding: 1 })}\n`
}

function componentLines(component: Component): string[] {
  const details = component.Details ?? {}
  if (component.Name !== 'Engine') {
    return [
      `  Version:\t${component.Version}`,
      ...Object.keys(details)
        .sort((a, b) => (a < b ? -1 : 1))
        .map((key) => `  ${key}:\t${details[key]}`),
    ]
  }
  return [
    `  Version:\t${component.Version}`,
    `  API version:\t${details.ApiVersion} (minimum version ${details.MinAPIVersion})`,
    `  Go version:\t${details.GoVersion ?? ''}`,
    `  Git commit:\t${details.GitCommit ?? ''}`,
    `  Built:\t${buildDate(details.BuildTime ?? '')}`,
    `  OS/Arch:\t${details.Os}/${details.Arch}`,
    `  Experimental:\t${details.Experimental ?? 'false'}`,
  ]
}

/** "2026-05-07T21:09:36.000Z" → "Thu May  7 21:09:36 2026"; what is no time stays. */
function buildDate(text: string): string {
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d:\d\d:\d\d)/.exec(text)
  if (!match) return text
  const [, year = '', month = '', day = '', time = ''] = match
  return `${WEEKDAYS[weekday(Number(year), Number(month), Number(day))]} ${MONTHS[Number(month) - 1]} ${String(Number(day)).padStart(2)} ${time} ${year}`
}

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** 0 for a Sunday: Zeller's congruence. */
function weekday(year: number, month: number, day: number): number {
  const m = month < 3 ? month + 12 : month
  const y = month < 3 ? year - 1 : year
  const zeller =
    day + Math.floor((13 * (m + 1)) / 5) + y + Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400)
  return (zeller + 6) % 7
}

export const versionCommand: Command = {
  name: 'version',
  usage: '[OPTIONS]',
  summary: 'Show the version information',
  examples: `  swarmctl version
  swarmctl version --format '{{.Server.APIVersion}}'`,
  flags: [inspectFormatFlag],
  operands: { min: 0, max: 0 },
  run,
}

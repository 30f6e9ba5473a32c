// `swarmctl service …`

import { readFileSync } from 'node:fs'
import type { ServiceSpec } from '../../api/spec.ts'
import { errorCode, errorMessage } from '../../lib/errors.ts'
import type { NetworkJson, ServiceJson } from '../api-types.ts'
import { type ApiClient, DaemonError } from '../client.ts'
import { CliError, type Command, type Context } from '../command.ts'
import { registryAuth } from '../docker-config.ts'
import {
  type Flags,
  filterFlag,
  formatFlag,
  inspectFormatFlag,
  parsed,
  prettyFlag,
  quietFlag,
  switchType,
  textType,
} from '../flags.ts'
import { PROGRAM } from '../help.ts'
import { inspect } from '../output/inspect.ts'
import { serviceRebalanceCommand } from '../rebalance.ts'
import { serviceShape } from '../shapes/swarm.ts'
import { removeAll } from '../shared.ts'
import { cut, parseUint, ValueError } from '../strconv.ts'
import { createSpec } from './create-spec.ts'
import { createFlags, detachFlag, quietProgressFlag, updateCommandFlags } from './flags.ts'
import { resolveImage } from './image-digest.ts'
import { listServices, listTasks } from './listing.ts'
import { checkTail, logs } from './logs.ts'
import { prettyService } from './pretty.ts'
import { resolveNames } from './resolve.ts'
import { updateSpec } from './update-spec.ts'
import { parseEnvFile } from './values.ts'
import { waitForService } from './wait.ts'

const OPERANDS_ONE = { min: 1, max: 1 }
const OPERANDS_SOME = { min: 1, max: undefined }

function readEnvFiles(context: Context, flags: Flags): string[] {
  return flags.list('env-file').flatMap((name) => {
    try {
      return parseEnvFile(name, readFileSync(name), context.environment)
    } catch (error) {
      if (error instanceof ValueError) throw new CliError(error.message)
      if (errorCode(error) === 'ENOENT') throw new CliError(`open ${name}: no such file or directory`)
      throw new CliError(`open ${name}: ${errorMessage(error)}`)
    }
  })
}

/** What building a spec refuses is a user's mistake. */
function orExplain<T>(build: () => T): T {
  try {
    return build()
  } catch (error) {
    if (error instanceof ValueError) throw new CliError(error.message)
    throw error
  }
}

async function create(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const variables = readEnvFiles(context, flags)
  const client = await context.client()
  const resolved = await resolveNames(client, flags)
  const wanted = orExplain(() => createSpec(flags, operands, resolved, variables))
  const auth = flags.on('with-registry-auth')
    ? await registryAuth(context.config, context.environment, operands[0]!)
    : ''
  const { spec, warning } = await resolveImage(client, wanted, {
    query: !flags.on('no-resolve-image'),
    registryAuth: auth,
  })
  const answer = await client.json<{ ID: string; Warning?: string; Warnings?: string[] | null }>(
    'POST',
    '/services/create',
    { body: spec, headers: auth === '' ? {} : { 'X-Registry-Auth': auth } },
  )
  printWarnings(context, [...(answer.Warnings ?? []), ...(warning ? [warning] : [])])
  context.stdout.write(`${answer.ID}\n`)
  if (!flags.on('detach')) await waitForService(context, answer.ID, { quiet: flags.on('quiet') })
}

function printWarnings(context: Context, warnings: readonly string[]): void {
  for (const warning of warnings) context.stderr.write(`${warning}\n`)
}

const servicePath = (ref: string) => `/services/${encodeURIComponent(ref)}`

interface UpdateOptions {
  readonly auth?: string
  readonly registryAuthFrom?: 'spec'
  readonly rollback?: boolean
}

async function postUpdate(
  context: Context,
  client: ApiClient,
  service: ServiceJson,
  spec: ServiceSpec,
  options: UpdateOptions,
): Promise<string[]> {
  const answer = await client.json<{ Warnings?: string[] | null } | null>('POST', `/services/${service.ID}/update`, {
    query: {
      version: String(service.Version?.Index ?? 0),
      registryAuthFrom: options.registryAuthFrom,
      rollback: options.rollback ? 'previous' : undefined,
    },
    body: spec,
    headers: options.auth ? { 'X-Registry-Auth': options.auth } : {},
  })
  const warnings = answer?.Warnings ?? []
  printWarnings(context, warnings)
  return warnings
}

async function update(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const ref = operands[0]!
  const client = await context.client()
  const service = await client.json<ServiceJson>('GET', servicePath(ref))
  const rollback = flags.on('rollback')
  if (rollback && flags.names().some((name) => !['rollback', 'detach', 'quiet'].includes(name))) {
    throw new CliError('other flags may not be combined with --rollback')
  }
  const resolved = await resolveNames(client, flags)
  const changed = orExplain(() => updateSpec(service.Spec, flags, resolved))
  const image = changed.TaskTemplate?.ContainerSpec?.Image ?? ''
  const auth = flags.on('with-registry-auth') ? await registryAuth(context.config, context.environment, image) : ''
  const { spec, warning } = flags.changed('image')
    ? await resolveImage(client, changed, { query: !flags.on('no-resolve-image'), registryAuth: auth })
    : { spec: changed, warning: undefined }
  await postUpdate(context, client, service, spec, {
    rollback,
    ...(auth === '' ? { registryAuthFrom: 'spec' } : { auth }),
  })
  if (warning) printWarnings(context, [warning])
  context.stdout.write(`${ref}\n`)
  if (!flags.on('detach')) await waitForService(context, ref, { quiet: flags.on('quiet'), rollbackWanted: rollback })
}

async function rollback(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const ref = operands[0]!
  const client = await context.client()
  const service = await client.json<ServiceJson>('GET', servicePath(ref))
  await postUpdate(context, client, service, service.Spec, { rollback: true })
  context.stdout.write(`${ref}\n`)
  if (!flags.on('detach')) await waitForService(context, ref, { quiet: flags.on('quiet'), rollbackWanted: true })
}

async function scale(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const pairs = operands.map((operand) => {
    const { before: ref, after: count, found } = cut(operand, '=')
    if (found && ref !== '' && count !== '') return { ref, count }
    throw new CliError(
      `invalid scale specifier '${operand}'.\nSee '${context.commandPath} --help'.\n\nUsage:  ${context.commandPath} SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\nScale one or multiple replicated services`,
    )
  })
  const client = await context.client()
  const errors: string[] = []
  const scaled: string[] = []
  for (const { ref, count } of pairs) {
    try {
      const replicas = scaleCount(count)
      const service = await client.json<ServiceJson>('GET', servicePath(ref))
      await postUpdate(context, client, service, scaledSpec(service.Spec, replicas), {})
      context.stdout.write(`${ref} scaled to ${replicas}\n`)
      scaled.push(ref)
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      errors.push(`${ref}: ${error.message}`)
    }
  }
  if (!flags.on('detach')) {
    for (const ref of scaled) {
      try {
        await waitForService(context, ref, { quiet: false })
      } catch (error) {
        if (!(error instanceof CliError)) throw error
        errors.push(`${ref}: ${error.message}`)
      }
    }
  }
  if (errors.length > 0) throw new CliError(errors.join('\n'))
}

function scaleCount(text: string): number {
  try {
    return parseUint(text)
  } catch (error) {
    throw new CliError(`invalid replicas value ${text}: ${errorMessage(error)}`)
  }
}

function scaledSpec(spec: ServiceSpec, replicas: number): ServiceSpec {
  const mode = spec.Mode ?? {}
  if (mode.Replicated) return { ...spec, Mode: { ...mode, Replicated: { ...mode.Replicated, Replicas: replicas } } }
  if (mode.ReplicatedJob) {
    return { ...spec, Mode: { ...mode, ReplicatedJob: { ...mode.ReplicatedJob, TotalCompletions: replicas } } }
  }
  throw new CliError('scale can only be used with replicated or replicated-job mode')
}

async function inspectServices(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  if (flags.on('pretty') && flags.text('format') !== '') {
    throw new CliError('--format is incompatible with human friendly format')
  }
  const client = await context.client()
  const fetch = async (ref: string) => {
    try {
      return await client.text('GET', servicePath(ref), { query: { insertDefaults: 'true' } })
    } catch (error) {
      if (!(error instanceof DaemonError) || error.status !== 404) throw error
      throw new CliError(`Error: no such service: ${ref}`)
    }
  }
  const format = flags.on('pretty') ? 'pretty' : flags.text('format') || (context.config.serviceInspectFormat ?? '')
  if (format.startsWith('pretty') && format !== 'pretty') {
    throw new CliError('Cannot supply extra formatting options to the pretty template')
  }
  if (format !== 'pretty') {
    await inspect(context, { refs: operands, format, shape: serviceShape, layout: 'client', fetch })
    return
  }
  for (const ref of operands) {
    const service = JSON.parse(await fetch(ref)) as ServiceJson
    const names = await networkNames(client, service)
    context.stdout.write(`${prettyService(service, names, context.clock.wallMs())}\n`)
  }
}

async function networkNames(client: ApiClient, service: ServiceJson): Promise<Map<string, string>> {
  const names = new Map<string, string>()
  for (const { Target = '' } of service.Spec.TaskTemplate?.Networks ?? []) {
    try {
      const network = await client.json<NetworkJson>('GET', `/networks/${Target}`, { query: { scope: 'swarm' } })
      names.set(network.Id, network.Name)
    } catch (error) {
      // a network that is gone has no name to show
      if (!(error instanceof DaemonError)) throw error
    }
  }
  return names
}

export const logsCommand: Command = {
  name: 'logs',
  usage: '[OPTIONS] SERVICE|TASK',
  summary: 'Fetch the logs of a service or task',
  examples: `  swarmctl service logs -f --tail 20 web
  swarmctl service logs --since 10m --timestamps web.2`,
  flags: [
    { name: 'details', type: switchType, help: 'Show extra details provided to logs' },
    { name: 'follow', short: 'f', type: switchType, help: 'Follow log output' },
    { name: 'no-resolve', type: switchType, help: 'Do not map IDs to Names in output' },
    { name: 'no-task-ids', type: switchType, help: 'Do not include task IDs in output' },
    { name: 'no-trunc', type: switchType, help: 'Do not truncate output' },
    { name: 'raw', type: switchType, help: 'Do not neatly format logs' },
    {
      name: 'since',
      type: textType,
      help: 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    },
    {
      name: 'tail',
      short: 'n',
      type: parsed('string', checkTail),
      help: 'Number of lines to show from the end of the logs',
      shownDefault: '"all"',
    },
    { name: 'timestamps', short: 't', type: switchType, help: 'Show timestamps' },
  ],
  operands: OPERANDS_ONE,
  completeOperand: 'service',
  run: logs,
}

export const serviceCommands: readonly Command[] = [
  {
    name: 'create',
    usage: '[OPTIONS] IMAGE [COMMAND] [ARG...]',
    summary: 'Create a new service',
    examples: `  ${PROGRAM} service create --name web --replicas 3 -p 8080:80 nginx\n  ${PROGRAM} service create --mode global --mount type=bind,src=/,dst=/h busybox\n  ${PROGRAM} service create -p 127.0.0.1:8080:80 nginx\n  ${PROGRAM} service create --network name=net,ip=10.0.9.10 nginx`,
    flags: createFlags,
    operands: OPERANDS_SOME,
    stopAtOperand: true,
    run: create,
  },
  {
    name: 'inspect',
    usage: '[OPTIONS] SERVICE [SERVICE...]',
    summary: 'Display detailed information on one or more services',
    examples: `  swarmctl service inspect --pretty web
  swarmctl service inspect --format '{{json .Spec.Labels}}' web`,
    flags: [inspectFormatFlag, prettyFlag],
    operands: OPERANDS_SOME,
    completeOperand: 'service',
    run: inspectServices,
  },
  logsCommand,
  {
    name: 'ls',
    aliases: ['list'],
    usage: '[OPTIONS]',
    summary: 'List services',
    examples: `  swarmctl service ls --filter label=tier=front
  swarmctl service ls --format '{{.Name}} {{.Replicas}}'`,
    flags: [filterFlag, formatFlag, quietFlag('Only display IDs')],
    operands: { min: 0, max: 0 },
    run: listServices,
  },
  {
    name: 'ps',
    usage: '[OPTIONS] SERVICE [SERVICE...]',
    summary: 'List the tasks of one or more services',
    examples: `  swarmctl service ps web
  swarmctl service ps --no-trunc --filter desired-state=running web`,
    flags: [
      filterFlag,
      { name: 'format', type: textType, help: 'Pretty-print tasks using a Go template' },
      { name: 'no-resolve', type: switchType, help: 'Do not map IDs to Names' },
      { name: 'no-trunc', type: switchType, help: 'Do not truncate output' },
      quietFlag('Only display task IDs'),
    ],
    operands: OPERANDS_SOME,
    completeOperand: 'service',
    run: listTasks,
  },
  serviceRebalanceCommand,
  {
    name: 'rm',
    aliases: ['remove'],
    usage: 'SERVICE [SERVICE...]',
    summary: 'Remove one or more services',
    examples: '  swarmctl service rm web api',
    flags: [],
    operands: OPERANDS_SOME,
    completeOperand: 'service',
    run: (context, _flags, operands) => removeAll(context, operands, 'services'),
  },
  {
    name: 'rollback',
    usage: '[OPTIONS] SERVICE',
    summary: "Revert changes to a service's configuration",
    examples: '  swarmctl service rollback web',
    flags: [detachFlag, quietProgressFlag],
    operands: OPERANDS_ONE,
    completeOperand: 'service',
    run: rollback,
  },
  {
    name: 'scale',
    usage: 'SERVICE=REPLICAS [SERVICE=REPLICAS...]',
    summary: 'Scale one or multiple replicated services',
    examples: '  swarmctl service scale web=5 worker=2',
    flags: [detachFlag],
    operands: OPERANDS_SOME,
    completeOperand: 'service',
    run: scale,
  },
  {
    name: 'update',
    usage: '[OPTIONS] SERVICE',
    summary: 'Update a service',
    examples: `  ${PROGRAM} service update --image nginx:1.27 web\n  ${PROGRAM} service update --env-add KEY=value --publish-rm 8080 web`,
    flags: updateCommandFlags,
    operands: OPERANDS_ONE,
    completeOperand: 'service',
    run: update,
  },
]

// `service ls` and `service ps`.

import { addressAndPort, addressesOfPort } from '../../api/publish-addresses.ts'
import type { Labels, PortConfig } from '../../api/spec.ts'
import type { NodeJson, ServiceJson, TaskJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import type { Filters, Flags } from '../flags.ts'
import { NameResolver } from '../names.ts'
import { compareNatural } from '../natural-order.ts'
import { renderListing, row } from '../output/listing.ts'
import { displayImage } from '../reference.ts'
import { compareText } from '../strconv.ts'
import { printTasks } from '../task-list.ts'

export async function listServices(context: Context, flags: Flags): Promise<void> {
  const client = await context.client()
  const quiet = flags.on('quiet')
  const services = await client.json<ServiceJson[]>('GET', '/services', {
    filters: flags.filters(),
    query: { status: quiet ? undefined : 'true' },
  })
  await printServices(context, client, services, { format: flags.text('format'), quiet })
}

/** The table of services that `service ls` and `stack services` print. `format` is --format, '' without one. */
export async function printServices(
  context: Context,
  client: ApiClient,
  listed: readonly ServiceJson[],
  { format, quiet }: { readonly format: string; readonly quiet: boolean },
): Promise<void> {
  const services = quiet ? [...listed] : await withStatus(client, listed)
  services.sort((a, b) => compareNatural(a.Spec.Name ?? '', b.Spec.Name ?? ''))
  context.stdout.write(
    renderListing({
      format: format || (quiet ? '' : (context.config.servicesFormat ?? '')),
      quiet,
      table: '{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}',
      raw: 'id: {{.ID}}\\nname: {{.Name}}\\nmode: {{.Mode}}\\nreplicas: {{.Replicas}}\\nimage: {{.Image}}\\nports: {{.Ports}}\\n',
      quietRaw: 'id: {{.ID}}',
      headers: { ID: 'ID', Name: 'NAME', Mode: 'MODE', Replicas: 'REPLICAS', Image: 'IMAGE', Ports: 'PORTS' },
      rows: services.map((service) =>
        row('*service.serviceContext', {
          ID: service.ID.slice(0, 12),
          Name: service.Spec.Name ?? '',
          Mode: modeName(service),
          Replicas: replicas(service),
          Image: displayImage(service.Spec.TaskTemplate?.ContainerSpec?.Image ?? ''),
          Ports: ingressPorts(service.Endpoint?.Ports ?? [], service.Spec.Labels),
        }),
      ),
    }),
  )
}

/** Counts tasks for services that a daemon older than API 1.41 lists without their status. */
async function withStatus(client: ApiClient, services: readonly ServiceJson[]): Promise<ServiceJson[]> {
  const bare = services.filter(
    ({ ServiceStatus, Spec }) => !ServiceStatus && (Spec.Mode?.Replicated || Spec.Mode?.Global),
  )
  if (bare.length === 0) return [...services]
  const filters = { service: Object.fromEntries(bare.map(({ ID }) => [ID, true as const])) }
  const tasks = await client.json<TaskJson[]>('GET', '/tasks', { filters })
  const nodes = await client.json<NodeJson[]>('GET', '/nodes')
  const active = new Set(nodes.filter((node) => node.Status?.State !== 'down').map(({ ID }) => ID))
  return services.map((service) => {
    if (!bare.includes(service)) return service
    const own = tasks.filter(({ ServiceID }) => ServiceID === service.ID)
    const running = own.filter(({ Status, NodeID = '' }) => Status.State === 'running' && active.has(NodeID))
    const desired = own.filter(({ DesiredState }) => DesiredState !== 'shutdown')
    return { ...service, ServiceStatus: { RunningTasks: running.length, DesiredTasks: desired.length } }
  })
}

function modeName(service: ServiceJson): string {
  const mode = service.Spec.Mode ?? {}
  if (mode.Global) return 'global'
  if (mode.Replicated) return 'replicated'
  if (mode.ReplicatedJob) return 'replicated job'
  return mode.GlobalJob ? 'global job' : ''
}

function replicas(service: ServiceJson): string {
  const {
    RunningTasks: running = 0,
    DesiredTasks: desired = 0,
    CompletedTasks: completed = 0,
  } = service.ServiceStatus ?? {}
  const mode = service.Spec.Mode ?? {}
  const counts = `${running}/${desired}`
  if (mode.ReplicatedJob) return `${counts} (${completed}/${mode.ReplicatedJob.TotalCompletions ?? 0} completed)`
  if (mode.GlobalJob) return `${counts} (${completed}/${desired + completed} completed)`
  const max = service.Spec.TaskTemplate?.Placement?.MaxReplicas ?? 0
  return mode.Replicated && max > 0 ? `${counts} (max ${max} per node)` : counts
}

interface PortRange {
  /** '': every address. */
  readonly address: string
  readonly published: readonly [number, number]
  readonly target: readonly [number, number]
  readonly protocol: string
}

/**
 * "*:8080->80/tcp, *:90-92->90-92/udp": neighbours are joined where both sides go on, or the target stays one port. Of those that the
 * service's labels have published on some addresses: "127.0.0.1:8080->80/tcp".
 */
export function ingressPorts(ports: readonly PortConfig[], labels?: Labels): string {
  const sorted = ports
    .flatMap((port) => {
      const addresses = addressesOfPort(labels, port)
      return (addresses.length > 0 ? addresses : ['']).map((address) => ({
        address,
        protocol: port.Protocol ?? '',
        published: port.PublishedPort ?? 0,
        target: port.TargetPort ?? 0,
        mode: port.PublishMode,
      }))
    })
    .sort(
      (a, b) => compareText(a.protocol, b.protocol) || compareText(a.address, b.address) || a.published - b.published,
    )
  const ranges: PortRange[] = []
  for (const port of sorted) {
    if (port.mode !== 'ingress') continue
    const last = ranges.at(-1)
    if (last && continues(last, port)) {
      ranges[ranges.length - 1] = {
        ...last,
        published: [last.published[0], port.published],
        target: [last.target[0], port.target],
      }
    } else {
      ranges.push({
        address: port.address,
        protocol: port.protocol,
        published: [port.published, port.published],
        target: [port.target, port.target],
      })
    }
  }
  const span = ([from, to]: readonly [number, number]) => (to > from ? `${from}-${to}` : String(from))
  return ranges
    .filter(({ published }) => published[0] > 0)
    .map(({ address, published, target, protocol }) => {
      return `${addressAndPort(address, span(published))}->${span(target)}/${protocol}`
    })
    .join(', ')
}

function continues(
  range: PortRange,
  port: { readonly address: string; readonly protocol: string; readonly published: number; readonly target: number },
): boolean {
  if (port.protocol !== range.protocol || port.address !== range.address) return false
  // differences below zero count as far apart, as in Docker's unsigned arithmetic
  const near = (difference: number) => difference === 0 || difference === 1
  if (!near(port.published - range.published[1]) || !near(port.target - range.target[1])) return false
  const isRange = range.target[0] !== range.target[1]
  return !(isRange && port.target <= range.target[1])
}

export async function listTasks(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const { ids, missing } = await serviceIds(client, operands)
  if (ids.length === 0) throw new CliError(missing.join('\n'))
  const given = flags.filters() ?? {}
  const nodes = Object.keys(given.node ?? {})
  const self = nodes.includes('self') ? await ownNodeId(client) : undefined
  const filters: Filters = {
    ...given,
    ...(nodes.length > 0
      ? { node: Object.fromEntries(nodes.map((node) => [node === 'self' ? (self ?? node) : node, true as const])) }
      : {}),
    service: { ...given.service, ...Object.fromEntries(ids.map((id) => [id, true as const])) },
  }
  const tasks = await client.json<TaskJson[]>('GET', '/tasks', { filters })
  const quiet = flags.on('quiet')
  await printTasks(context, tasks, new NameResolver(client, !flags.on('no-resolve')), {
    format: flags.text('format'),
    quiet,
    truncate: !flags.on('no-trunc') && !quiet,
  })
  if (missing.length > 0) throw new CliError(missing.join('\n'))
}

async function ownNodeId(client: ApiClient): Promise<string | undefined> {
  const info = await client.json<{ Swarm?: { NodeID?: string } }>('GET', '/info')
  return info.Swarm?.NodeID
}

/** A reference is a full id, a name, or the beginning of one id. @throws {CliError} for a beginning of several. */
async function serviceIds(
  client: ApiClient,
  refs: readonly string[],
): Promise<{ readonly ids: readonly string[]; readonly missing: readonly string[] }> {
  const all = Object.fromEntries(refs.map((ref) => [ref, true as const]))
  const byId = await client.json<ServiceJson[]>('GET', '/services', { filters: { id: all } })
  const byName = await client.json<ServiceJson[]>('GET', '/services', { filters: { name: all } })
  const ids: string[] = []
  const missing: string[] = []
  for (const ref of refs) {
    const exact = byId.find(({ ID }) => ID === ref) ?? byName.find(({ Spec }) => Spec.Name === ref)
    const prefixed = exact ? [exact] : byId.filter(({ ID }) => ID.startsWith(ref))
    if (prefixed.length > 1) throw new CliError(`multiple services found with provided prefix: ${ref}`)
    if (prefixed[0]) ids.push(prefixed[0].ID)
    else missing.push(`no such service: ${ref}`)
  }
  return { ids, missing }
}

// `docker run --network`, `docker create` and `docker network connect` with networks of the cluster: the cluster gives the
// address, this node's engine its part of the network, and the request goes on to the engine with both in it.

import { CodedError, errorCode } from '../../lib/errors.ts'
import { randomName } from '../../manager/control/random-name.ts'
import type { Attached } from '../../worker/attachments.ts'
import type { EndpointSettings } from '../../worker/docker/task-networks.ts'
import { type Call, sendEmpty, sendJsonText, sendText } from './call.ts'
import type { PlaceAccess } from './cluster-access.ts'
import type { EngineAnswer } from './engine.ts'
import { asList, asObject, asText, type JsonObject, parseJson } from './engine-json.ts'
import { networkPartOf } from './network-parts.ts'
import { passThrough } from './pass-through.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

export function plainContainerRoutes(server: ServerContext): readonly Route[] {
  return [
    { place: 'node', method: 'POST', path: '/containers/create', handle: (call) => create(server, call) },
    { place: 'node', method: 'POST', path: '/networks/{id}/connect', handle: (call) => connect(server, call) },
    { place: 'node', method: 'POST', path: '/networks/{id}/disconnect', handle: (call) => disconnect(server, call) },
  ]
}

const NOT_USER_DEFINED: ReadonlySet<string> = new Set(['', 'default', 'bridge', 'host', 'none'])
const ENGINES_OWN: ReadonlySet<string> = new Set(['bridge', 'host', 'none'])
const NAME_ATTEMPTS = 5
const RESOLV_CONF = '/etc/resolv.conf'

function isUserDefined(mode: string): boolean {
  return !NOT_USER_DEFINED.has(mode) && !mode.startsWith('container:')
}

async function create(server: ServerContext, call: Call): Promise<void> {
  const places = server.cluster.places()
  const body = asObject(parseJson(call.body.toString('utf8')))
  const host = asObject(body.HostConfig)
  const mode = asText(host.NetworkMode)
  const endpoints = asObject(asObject(body.NetworkingConfig).EndpointsConfig)
  const asked = [...new Set([mode, ...Object.keys(endpoints)])].filter(isUserDefined)
  const found = places && !mode.startsWith('container:') ? await sorted(server, asked) : { cluster: [], own: [] }
  const given = asText(call.query.get('name'))
  const name = given || randomName(server.random, () => false)
  const hostname = asText(body.Hostname)
  const who = { containerName: name, hostname, endpoints }
  const granted = places ? await attachAll(places, found.cluster, who) : []
  if (places === undefined || granted.length === 0) {
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  await withPlaces(places, granted, async () => {
    const own = [...found.own, ...(ENGINES_OWN.has(mode) ? [mode] : [])]
    const networks = await places.hold(holderOf(granted), wishesOf(granted, { endpoints, host, own }))
    const settings = new Map(
      networks.endpoints.map(([network, ours]) => [network, merged(userSettings(granted, endpoints, network), ours)]),
    )
    const clusterName = granted.find(({ term }) => term === mode)?.attached.network.spec.Name
    const first = clusterName ?? (settings.has(mode) ? mode : (networks.endpoints[0]?.[0] ?? ''))
    const rewritten = {
      ...body,
      HostConfig: { ...(await withResolver(places, host, networks.nameServer)), NetworkMode: first },
      NetworkingConfig: { EndpointsConfig: { [first]: settings.get(first) ?? {} } },
    }
    const answer = await createNamed(server, call, { body: rewritten, name, isChosen: given === '' })
    const id = asText(asObject(parseJson(answer.body)).Id)
    for (const [network, value] of settings) {
      if (network === first || answer.status !== 201) continue
      const connected = await connectTo(server, network, { Container: id, EndpointConfig: value })
      if (connected.status === 200) continue
      await server.engine.get(await server.engine.versionedPath(41, `/containers/${id}?force=true&v=true`), 'DELETE')
      return passOn(call, connected)
    }
    return passOn(call, answer)
  })
}

/** It asks our resolver, and not the engine's, unless it brings a resolv.conf of its own. */
async function withResolver(places: PlaceAccess, host: JsonObject, nameServer: string): Promise<JsonObject> {
  const binds = asList(host.Binds).map((bind) => asText(bind).split(':')[1])
  const mounts = asList(host.Mounts).map((mount) => asText(asObject(mount).Target))
  const ours = { ...host, Dns: [nameServer] }
  if ([...binds, ...mounts].includes(RESOLV_CONF)) return ours
  const search = asList(host.DnsSearch).map(asText)
  const options = asList(host.DnsOptions).map(asText)
  const Source = await places.resolvConf(nameServer, { search, options })
  const mount = { Type: 'bind', Source, Target: RESOLV_CONF, ReadOnly: true }
  return { ...ours, Mounts: [...asList(host.Mounts), mount] }
}

/** A name that we chose may be taken. */
async function createNamed(
  server: ServerContext,
  call: Call,
  request: { readonly body: JsonObject; readonly name: string; readonly isChosen: boolean },
): Promise<EngineAnswer> {
  const path = await server.engine.versionedPath(call.version, '/containers/create')
  for (let attempt = 1, { name } = request; ; attempt++) {
    const query = new URLSearchParams(call.query)
    query.set('name', name)
    const answer = await server.engine.post(`${path}?${query.toString()}`, request.body)
    if (answer.status !== 409 || !request.isChosen || attempt === NAME_ATTEMPTS) return answer
    name = randomName(server.random, () => false) + server.random.below(1_000_000)
  }
}

async function connect(server: ServerContext, call: Call): Promise<void> {
  const places = server.cluster.places()
  const body = asObject(parseJson(call.body.toString('utf8')))
  const found = places ? await sorted(server, [call.id]) : { cluster: [], own: [] }
  const container = found.cluster.length > 0 ? await inspectContainer(server, asText(body.Container)) : undefined
  const endpoints = { [call.id]: body.EndpointConfig }
  const containerName = asText(container?.Name).replace(/^\//, '')
  const hostname = asText(asObject(container?.Config).Hostname)
  const who = { containerName, hostname, endpoints }
  const granted = places && container ? await attachAll(places, found.cluster, who) : []
  const [place] = granted
  if (places === undefined || place === undefined) {
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  await withPlaces(places, granted, async () => {
    // It has its way out already, or is to have none.
    const own = ['bridge']
    const networks = await places.hold(holderOf(granted), wishesOf(granted, { endpoints, host: {}, own }))
    const [network = '', ours = {}] = networks.endpoints[0] ?? []
    const EndpointConfig = merged(userSettings(granted, endpoints, network), ours)
    return passOn(call, await connectTo(server, network, { ...body, EndpointConfig }))
  })
}

async function disconnect(server: ServerContext, call: Call): Promise<void> {
  const local = (await localNetwork(server, call.id)) ?? {}
  const part = networkPartOf(local) ?? (local.Id === undefined ? await server.parts.find(call.id) : undefined)
  if (part === undefined) {
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  if (part.hidden) throw noSuchNetwork(call.id)
  const path = await server.engine.versionedPath(call.version, `/networks/${part.engineId}/disconnect`)
  passOn(call, await server.engine.post(path, asObject(parseJson(call.body.toString('utf8')))))
}

interface Granted {
  /** What the user called the network. */
  readonly term: string
  readonly attached: Attached
}

/** @returns the networks that may be the cluster's, as the user and as the cluster calls them, and the engine's own */
async function sorted(server: ServerContext, names: readonly string[]) {
  const cluster: { readonly term: string; readonly network: string }[] = []
  const own: string[] = []
  for (const term of names) {
    const local = await localNetwork(server, term)
    const part = local && networkPartOf(local)
    if (part?.hidden) throw noSuchNetwork(term)
    if (local === undefined || part !== undefined) cluster.push({ term, network: part?.clusterId ?? term })
    else own.push(term)
  }
  return { cluster, own }
}

/** All or none. Those that the cluster does not know are the engine's to miss. */
async function attachAll(
  places: PlaceAccess,
  networks: readonly { readonly term: string; readonly network: string }[],
  who: { readonly containerName: string; readonly hostname: string; readonly endpoints: JsonObject },
): Promise<readonly Granted[]> {
  const { containerName, hostname, endpoints } = who
  const granted: Granted[] = []
  try {
    for (const { term, network } of networks) {
      const settings = asObject(endpoints[term])
      const { IPv4Address, IPv6Address } = asObject(settings.IPAMConfig)
      const addresses = [asText(IPv4Address), asText(IPv6Address)].filter((address) => address !== '')
      const named = [...asList(settings.Aliases).map(asText), hostname]
      const aliases = [...new Set(named)].filter((alias) => alias !== '' && alias !== containerName)
      granted.push({ term, attached: await places.attach({ network, containerName, aliases, addresses }) })
    }
    return granted
  } catch (error) {
    for (const { attached } of granted) await places.detach(attached.attachmentId)
    if (errorCode(error) === 'NO_SUCH_OBJECT') return []
    throw error
  }
}

/** What `work` does with granted places; where it fails, or answers that it has, they are given back. */
async function withPlaces(
  places: PlaceAccess,
  granted: readonly Granted[],
  work: () => Promise<boolean>,
): Promise<void> {
  let isUsed = false
  try {
    isUsed = await work()
  } catch (error) {
    throw errorCode(error) === 'TASK_FAILED' && error instanceof Error
      ? new CodedError('FORBIDDEN', error.message, { cause: error })
      : error
  } finally {
    places.release(holderOf(granted))
    for (const { attached } of granted) {
      if (isUsed) places.settled(attached.attachmentId)
      else await places.detach(attached.attachmentId)
    }
  }
}

function holderOf(granted: readonly Granted[]): string {
  return granted.map(({ attached }) => attached.attachmentId).join()
}

function wishesOf(
  granted: readonly Granted[],
  {
    endpoints,
    host,
    own,
  }: { readonly endpoints: JsonObject; readonly host: JsonObject; readonly own: readonly string[] },
) {
  return {
    attachments: granted.map(({ term, attached }) => ({
      networkId: attached.network.id,
      addresses: attached.addresses,
      aliases: asList(asObject(endpoints[term]).Aliases).map(asText),
    })),
    networks: new Map(granted.map(({ attached }) => [attached.network.id, attached.network])),
    others: own,
    publishesOnHost: Object.keys(asObject(host.PortBindings)).length > 0 || host.PublishAllPorts === true,
    nameServers: asList(host.Dns).map(asText),
  }
}

/** What the user said of a network that the engine calls `network`. */
function userSettings(granted: readonly Granted[], endpoints: JsonObject, network: string): JsonObject {
  const term = granted.find(({ attached }) => attached.network.spec.Name === network)?.term ?? network
  return asObject(endpoints[term])
}

function merged(users: JsonObject, ours: EndpointSettings): JsonObject {
  return {
    ...users,
    ...ours,
    ...(ours.IPAMConfig && { IPAMConfig: { ...asObject(users.IPAMConfig), ...ours.IPAMConfig } }),
    ...(ours.DriverOpts && { DriverOpts: { ...asObject(users.DriverOpts), ...ours.DriverOpts } }),
  }
}

async function connectTo(server: ServerContext, network: string, body: JsonObject): Promise<EngineAnswer> {
  const path = await server.engine.versionedPath(51, `/networks/${encodeURIComponent(network)}/connect`)
  return server.engine.post(path, body)
}

/** @returns whether the engine has done it */
function passOn(call: Call, { status, body }: EngineAnswer): boolean {
  if (status === 201) sendJsonText(call, status, body.trim())
  else if (status === 200) sendEmpty(call, status)
  else sendText(call, status, 'application/json', body)
  return status < 300
}

async function localNetwork(server: ServerContext, term: string): Promise<JsonObject | undefined> {
  const path = await server.engine.versionedPath(41, `/networks/${encodeURIComponent(term)}`)
  const answer = await server.engine.get(path)
  return answer.status === 200 ? asObject(parseJson(answer.body)) : undefined
}

async function inspectContainer(server: ServerContext, term: string): Promise<JsonObject | undefined> {
  const path = await server.engine.versionedPath(41, `/containers/${encodeURIComponent(term)}/json`)
  const answer = await server.engine.get(path)
  return answer.status === 200 ? asObject(parseJson(answer.body)) : undefined
}

function noSuchNetwork(term: string): CodedError {
  return new CodedError('NO_SUCH_OBJECT', `network ${term} not found`, { details: { kind: 'network', input: term } })
}

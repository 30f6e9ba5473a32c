// /networks: the cluster's overlays and the engine's own networks under one roof. What a request means is settled here,
// on this node; only what concerns the cluster's objects goes to the leader.

import type { Network } from '../../api/objects.ts'
import { networkCreateDecoder } from '../../api/validation/object-decoders.ts'
import { managerRefusal } from '../../api/validation/refusal.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import { equalsOne, type Filters, parseFilters } from '../../manager/control/filters.ts'
import { findOptional } from '../../manager/control/lookup.ts'
import { type NetworkDetails, networkDetails } from '../../manager/control/network-details.ts'
import {
  createNetwork,
  listNetworks,
  NETWORK_FILTERS,
  nameTaken,
  networkSpecOf,
  networkWarnings,
  PRUNE_FILTERS,
  pruneNetworks,
  removeNetwork,
} from '../../manager/control/networks.ts'
import { encodeNetwork } from '../../manager/control/render.ts'
import { EGRESS_NETWORK_NAME, NETWORK_ID_KEY, PORTS_NETWORK_NAME } from '../../overlay/driver-options.ts'
import { versionText } from './api-version.ts'
import {
  booleanParameter,
  type Call,
  decodeJson,
  parameter,
  sendEmpty,
  sendJson,
  sendJsonText,
  sendText,
} from './call.ts'
import { asList, asObject, asText, type JsonObject, parseJson } from './engine-json.ts'
import { networkPartOf } from './network-parts.ts'
import { shownPart } from './network-view.ts'
import { type ManagerState, requireManager } from './node-state.ts'
import { passThrough } from './pass-through.ts'
import { parsePruneTime } from './prune-time.ts'
import type { Route } from './router.ts'
import { controlOf, type ServerContext } from './server-context.ts'

const PREDEFINED: ReadonlySet<string> = new Set(['host', 'none', 'bridge'])
const HIDDEN_NETWORKS: ReadonlySet<string> = new Set([EGRESS_NETWORK_NAME, PORTS_NETWORK_NAME])

/** This manager's state, caught up with what was acknowledged elsewhere; as it is where nobody leads just now. */
async function managerState(server: ServerContext): Promise<ManagerState | undefined> {
  if (server.cluster.state().kind !== 'manager') return undefined
  try {
    await server.cluster.readIndex()
  } catch (error) {
    if (errorCode(error) === undefined) throw error
  }
  const state = server.cluster.state()
  return state.kind === 'manager' ? state : undefined
}

export function networkRoutes(server: ServerContext): readonly Route[] {
  return [
    { place: 'node', method: 'GET', path: '/networks', handle: (call) => list(server, call) },
    { place: 'node', method: 'GET', path: '/networks/{id}', handle: (call) => inspect(server, call) },
    { place: 'node', method: 'POST', path: '/networks/prune', handle: (call) => prune(server, call) },
    { place: 'node', method: 'POST', path: '/networks/create', handle: (call) => create(server, call) },
    { place: 'node', method: 'DELETE', path: '/networks/{id}', handle: (call) => remove(server, call) },
  ]
}

/** A cluster network as this node sees it: with the containers that are attached to its part here. */
function merged(network: Network, local: JsonObject | undefined): string {
  const encoded = encodeNetwork(network)
  if (local === undefined) return encoded
  return JSON.stringify({ ...asObject(parseJson(encoded)), Containers: local.Containers ?? {} })
}

/** On a worker: what its engine has of the cluster's networks, which its own filters do not fit. */
async function partsHere(server: ServerContext, filters: Filters): Promise<readonly JsonObject[]> {
  const query = encodeURIComponent(JSON.stringify({ label: [NETWORK_ID_KEY] }))
  const answer = await server.engine.get(`${await server.engine.versionedPath(41, '/networks')}?filters=${query}`)
  const has = (name: string, text: string) => filters.get(name)?.some((value) => text.includes(value)) ?? true
  return asList(parseJson(answer.body)).flatMap((each) => {
    const local = asObject(each)
    const part = networkPartOf(local)
    const isAsked =
      part !== undefined &&
      !part.hidden &&
      !filters.has('label') &&
      !filters.has('dangling') &&
      has('name', part.name) &&
      has('id', part.clusterId) &&
      equalsOne(filters, 'driver', 'overlay') &&
      equalsOne(filters, 'scope', 'swarm') &&
      equalsOne(filters, 'type', 'custom')
    return isAsked ? [shownPart(local, part)] : []
  })
}

async function list(server: ServerContext, call: Call): Promise<void> {
  const filters = parseFilters(parameter(call, 'filters'), NETWORK_FILTERS)
  const answer = await server.engine.get(
    `${await server.engine.versionedPath(call.version, '/networks')}${call.search}`,
  )
  if (answer.status !== 200) {
    sendText(call, answer.status, 'application/json', answer.body)
    return
  }
  const state = await managerState(server)
  const cluster = state === undefined ? [] : listNetworks(state.view, filters)
  const local = asList(parseJson(answer.body)).map(asObject)
  // What belongs to the cluster is shown as the cluster's.
  const shown = [
    ...cluster.map(encodeNetwork),
    ...(state === undefined ? await partsHere(server, filters) : []).map((each) => JSON.stringify(each)),
    ...local.filter((each) => networkPartOf(each) === undefined).map((each) => JSON.stringify(each)),
  ]
  sendJsonText(call, 200, `[${shown.join(',')}]`)
}

async function localNetwork(server: ServerContext, term: string): Promise<JsonObject | undefined> {
  const path = await server.engine.versionedPath(41, `/networks/${encodeURIComponent(term)}`)
  const answer = await server.engine.get(path)
  return answer.status === 200 ? asObject(parseJson(answer.body)) : undefined
}

/** This node's part of a cluster network. */
async function partOf(server: ServerContext, clusterId: string): Promise<JsonObject | undefined> {
  const part = await server.parts.find(clusterId)
  return part === undefined || part.hidden ? undefined : localNetwork(server, part.engineId)
}

function ambiguous(term: string): CodedError {
  return new CodedError('AMBIGUOUS', `2 matches found based on name: network ${term} is ambiguous`)
}

interface Found {
  readonly cluster: Network | undefined
  readonly local: JsonObject | undefined
}

/** A full id wins over a name, a name over the beginning of an id; a name that both have is ambiguous. */
async function resolve(server: ServerContext, term: string, scope: string): Promise<Found> {
  const state = await managerState(server)
  const cluster = state === undefined || scope === 'local' ? undefined : findOptional(state.view, 'network', term)
  const found = scope === 'swarm' && state !== undefined ? undefined : await localNetwork(server, term)
  const part = found && networkPartOf(found)
  if (part !== undefined) {
    if (part.hidden) return { cluster, local: undefined }
    const owner = cluster ?? state?.view.get('network', part.clusterId)
    return owner !== undefined && owner.id !== part.clusterId
      ? { cluster: owner, local: undefined }
      : { cluster: owner, local: found }
  }
  if (cluster === undefined) return { cluster, local: found ?? (await partOf(server, term)) }
  const isClusters = found === undefined || cluster.id === term || (found.Id !== term && found.Name !== term)
  if (isClusters) return { cluster, local: await partOf(server, cluster.id) }
  if (found.Id !== term && cluster.spec.Name === term) throw ambiguous(term)
  return { cluster: undefined, local: found }
}

async function inspect(server: ServerContext, call: Call): Promise<void> {
  const { cluster, local } = await resolve(server, call.id, parameter(call, 'scope'))
  if (cluster !== undefined) {
    const state = await managerState(server)
    const verbose = booleanParameter(call, 'verbose')
    const details = state === undefined ? {} : networkDetails(state.view, cluster, verbose)
    const shown = { ...asObject(parseJson(merged(cluster, local))), ...withEndpoints(details, local) }
    sendJsonText(call, 200, JSON.stringify(shown))
    return
  }
  const part = local && networkPartOf(local)
  if (part !== undefined) sendJson(call, 200, shownPart(local ?? {}, part))
  else if (PREDEFINED.has(call.id) && parameter(call, 'scope') === 'swarm') {
    // Swarm has these as networks of its own, of which each node has one. Services name them, so the name is the id.
    sendJson(call, 200, { ...(await localNetwork(server, call.id)), Id: call.id, Scope: 'swarm', Containers: {} })
  } else if (HIDDEN_NETWORKS.has(call.id)) throw noSuchNetwork(call.id)
  else await passThrough(server.engine, call.request, call.response, call.body)
}

/** The store does not know the engines' ids of end points: those of this node's tasks are filled in. */
function withEndpoints(details: NetworkDetails, local: JsonObject | undefined): NetworkDetails {
  if (details.Services === undefined) return details
  const containers = Object.values(asObject(local?.Containers)).map(asObject)
  const ids = new Map(containers.map(({ Name, EndpointID }) => [asText(Name), asText(EndpointID)]))
  const services = Object.entries(details.Services).map(([name, service]) => {
    const Tasks = service.Tasks.map((task) => ({ ...task, EndpointID: ids.get(task.Name) ?? '' }))
    return [name, { ...service, Tasks }] as const
  })
  return { ...details, Services: Object.fromEntries(services) }
}

function noSuchNetwork(term: string): CodedError {
  return new CodedError('NO_SUCH_OBJECT', `network ${term} not found`, { details: { kind: 'network', input: term } })
}

async function create(server: ServerContext, call: Call): Promise<void> {
  const body = decodeJson(call, networkCreateDecoder)
  const ofCluster = body.Driver === 'overlay' || body.Ingress || body.Scope === 'swarm'
  if (!ofCluster) {
    const state = await managerState(server)
    if (state?.view.byName('network', body.Name) !== undefined) throw nameTaken(body.Name)
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  requireManager(server.cluster.state())
  if (body.Driver !== '' && body.Driver !== 'overlay') {
    throw managerRefusal(
      'UNIMPLEMENTED',
      `networks of scope swarm are of driver overlay: driver ${JSON.stringify(body.Driver)} is not supported with Scope "swarm"`,
    )
  }
  if (!call.forwarded) {
    const local = await localNetwork(server, body.Name)
    // A part of a network that was removed while this node was away gives way to the new one.
    const isOwn = local !== undefined && networkPartOf(local) === undefined
    if (isOwn && local.Name === body.Name) throw nameTaken(body.Name)
  }
  await server.onLeader(call, async (state) => {
    const Id = await createNetwork(controlOf(server, state, call), networkSpecOf(body))
    sendJson(call, 201, { Id, Warning: networkWarnings(state.view, Id).join('; ') })
  })
}

/** Names of the engine's own networks that went, on the way from the manager that has the client to the leader. */
const PRUNED_HERE = 'swarmd-pruned'

/** The query of a prune, for the engine: its parts of the cluster's networks are ours to remove. */
function engineOwnOnly(call: Call): string {
  const given = asObject(parseJson(parameter(call, 'filters')))
  const before = given['label!']
  const values = Array.isArray(before) ? before : Object.keys(asObject(before))
  const query = new URLSearchParams(call.query)
  query.set('filters', JSON.stringify({ ...given, 'label!': [...values, NETWORK_ID_KEY] }))
  return `?${query.toString()}`
}

/** The engine's own networks first: it refuses filters that it does not know, and nothing has happened then. */
async function prune(server: ServerContext, call: Call): Promise<void> {
  let own: readonly unknown[] = call.forwarded ? parameter(call, PRUNED_HERE).split(',').filter(Boolean) : []
  if (!call.forwarded) {
    const path = await server.engine.versionedPath(call.version, '/networks/prune')
    const answer = await server.engine.get(`${path}${engineOwnOnly(call)}`, 'POST')
    if (answer.status !== 200) {
      sendText(call, answer.status, 'application/json', answer.body)
      return
    }
    if (server.cluster.state().kind !== 'manager') {
      sendText(call, 200, 'application/json', answer.body)
      return
    }
    own = asList(asObject(parseJson(answer.body)).NetworksDeleted)
  }
  const filters = parseFilters(parameter(call, 'filters'), PRUNE_FILTERS)
  const [until] = filters.get('until') ?? []
  const options = { filters, untilMs: until === undefined ? undefined : parsePruneTime(until, server.clock.wallMs()) }
  const separator = call.search === '' ? '?' : '&'
  const forwarded = `${PRUNED_HERE}=${encodeURIComponent(own.map(String).join(','))}`
  await server.onLeader(
    call,
    async (leader) => {
      const pruned = [...(await pruneNetworks(controlOf(server, leader, call), options)), ...own]
      sendJson(call, 200, { NetworksDeleted: pruned.length === 0 ? null : pruned })
    },
    `/v${versionText(call.version)}/networks/prune${call.search}${separator}${forwarded}`,
  )
}

async function remove(server: ServerContext, call: Call): Promise<void> {
  const state = await managerState(server)
  // A forwarded request names the id in full: the leader's own engine has no say in it.
  const known = state?.view.get('network', call.id)
  const found = known === undefined ? await resolve(server, call.id, '') : undefined
  const id = (known ?? found?.cluster)?.id ?? call.removal.id
  if (id === undefined) {
    if (call.forwarded) throw managerRefusal('NOT_FOUND', `network ${call.id} not found`)
    if (found?.local !== undefined && networkPartOf(found.local) !== undefined) requireManager(server.cluster.state())
    if (HIDDEN_NETWORKS.has(call.id)) throw noSuchNetwork(call.id)
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  requireManager(server.cluster.state())
  await server.onLeader(
    call,
    async (leader) => {
      await removeNetwork(controlOf(server, leader, call), id)
      sendEmpty(call, 204)
    },
    `/v${versionText(call.version)}/networks/${id}`,
  )
}

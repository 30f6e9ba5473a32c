// /networks: the cluster's overlays and the engine's own networks under one roof. What a request means is settled here,
// on this node; only what concerns the cluster's objects goes to the leader.

import type { Network } from '../../api/objects.ts'
import { networkCreateDecoder } from '../../api/validation/object-decoders.ts'
import { managerRefusal } from '../../api/validation/refusal.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import { parseFilters } from '../../manager/control/filters.ts'
import { findOptional } from '../../manager/control/lookup.ts'
import { networkDetails } from '../../manager/control/network-details.ts'
import {
  createNetwork,
  listNetworks,
  NETWORK_FILTERS,
  nameTaken,
  networkSpecOf,
  PRUNE_FILTERS,
  pruneNetworks,
  removeNetwork,
} from '../../manager/control/networks.ts'
import { encodeNetwork } from '../../manager/control/render.ts'
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
import { type ManagerState, requireManager } from './node-state.ts'
import { passThrough } from './pass-through.ts'
import { parsePruneTime } from './prune-time.ts'
import type { Route } from './router.ts'
import { controlOf, type ServerContext } from './server-context.ts'

/** On an engine's network that is this node's part of a cluster network: the cluster network's id. */
export const CLUSTER_NETWORK_LABEL = 'io.swarmctl.network.id'

function clusterIdOf(local: JsonObject): string {
  return asText(asObject(local.Labels)[CLUSTER_NETWORK_LABEL])
}

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
  const parts = new Map(local.map((each) => [clusterIdOf(each), each]))
  // What belongs to the cluster is shown as the cluster's, or (on a worker) not at all, as Docker does.
  const own = local.filter((each) => clusterIdOf(each) === '').map((each) => JSON.stringify(each))
  sendJsonText(call, 200, `[${[...cluster.map((each) => merged(each, parts.get(each.id))), ...own].join(',')}]`)
}

async function localNetwork(server: ServerContext, term: string): Promise<JsonObject | undefined> {
  const path = await server.engine.versionedPath(41, `/networks/${encodeURIComponent(term)}`)
  const answer = await server.engine.get(path)
  return answer.status === 200 ? asObject(parseJson(answer.body)) : undefined
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
  const found = scope === 'swarm' ? undefined : await localNetwork(server, term)
  const clusterId = found === undefined ? '' : clusterIdOf(found)
  if (clusterId !== '') {
    const owner = cluster ?? state?.view.get('network', clusterId)
    return { cluster: owner, local: found }
  }
  if (found === undefined || cluster === undefined) return { cluster, local: found }
  if (cluster.id === term) return { cluster, local: undefined }
  if (found.Id === term) return { cluster: undefined, local: found }
  if (found.Name === term && cluster.spec.Name === term) throw ambiguous(term)
  return found.Name === term ? { cluster: undefined, local: found } : { cluster, local: undefined }
}

async function inspect(server: ServerContext, call: Call): Promise<void> {
  const { cluster, local } = await resolve(server, call.id, parameter(call, 'scope'))
  if (cluster === undefined) {
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  const state = await managerState(server)
  const details = state === undefined ? {} : networkDetails(state.view, cluster, booleanParameter(call, 'verbose'))
  sendJsonText(call, 200, JSON.stringify({ ...asObject(parseJson(merged(cluster, local))), ...details }))
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
    if (local !== undefined && local.Name === body.Name) throw nameTaken(body.Name)
  }
  await server.onLeader(call, async (state) => {
    sendJson(call, 201, { Id: await createNetwork(controlOf(server, state, call), networkSpecOf(body)), Warning: '' })
  })
}

/** Names of the engine's own networks that went, on the way from the manager that has the client to the leader. */
const PRUNED_HERE = 'swarmd-pruned'

/** The engine's own networks first: it refuses filters that it does not know, and nothing has happened then. */
async function prune(server: ServerContext, call: Call): Promise<void> {
  let own: readonly unknown[] = call.forwarded ? parameter(call, PRUNED_HERE).split(',').filter(Boolean) : []
  if (!call.forwarded) {
    if (server.cluster.state().kind !== 'manager') {
      await passThrough(server.engine, call.request, call.response, call.body)
      return
    }
    const path = await server.engine.versionedPath(call.version, '/networks/prune')
    const answer = await server.engine.get(`${path}${call.search}`, 'POST')
    if (answer.status !== 200) {
      sendText(call, answer.status, 'application/json', answer.body)
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
  const cluster = state?.view.get('network', call.id) ?? (await resolve(server, call.id, '')).cluster
  if (cluster === undefined) {
    if (call.forwarded) throw managerRefusal('NOT_FOUND', `network ${call.id} not found`)
    await passThrough(server.engine, call.request, call.response, call.body)
    return
  }
  requireManager(server.cluster.state())
  await server.onLeader(
    call,
    async (leader) => {
      await removeNetwork(controlOf(server, leader, call), cluster.id)
      sendEmpty(call, 204)
    },
    `/v${versionText(call.version)}/networks/${cluster.id}`,
  )
}

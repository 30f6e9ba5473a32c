// The engine's containers, shown with the networks of the cluster that they are on.

import { filterText, parseFilters } from '../../manager/control/filters.ts'
import { type Call, parameter, sendJson, sendText } from './call.ts'
import { asList, asObject, parseJson } from './engine-json.ts'
import { namesOf } from './network-names.ts'
import type { NetworkParts } from './network-parts.ts'
import { networkIdsOf, shownContainer } from './network-view.ts'
import type { Route } from './router.ts'
import type { ServerContext } from './server-context.ts'

export function containerRoutes(server: ServerContext): readonly Route[] {
  return [
    { place: 'node', method: 'GET', path: '/containers/json', handle: (call) => list(server, call) },
    { place: 'node', method: 'GET', path: '/containers/{id}/json', handle: (call) => inspect(server, call) },
  ]
}

async function list(server: ServerContext, call: Call): Promise<void> {
  const path = await server.engine.versionedPath(call.version, '/containers/json')
  const answer = await server.engine.get(`${path}${await engineSearch(server.parts, call)}`)
  const containers = answer.status === 200 ? asList(parseJson(answer.body)).map(asObject) : []
  const names = await namesOf(server, containers.flatMap(networkIdsOf))
  const shown = containers.map((container) => shownContainer(container, names))
  const isSame = shown.every((container, at) => container === containers[at])
  if (isSame) sendText(call, answer.status, 'application/json', answer.body)
  else sendJson(call, 200, shown)
}

async function inspect(server: ServerContext, call: Call): Promise<void> {
  const path = await server.engine.versionedPath(call.version, `/containers/${encodeURIComponent(call.id)}/json`)
  const answer = await server.engine.get(`${path}${call.search}`)
  const container = answer.status === 200 ? asObject(parseJson(answer.body)) : {}
  const shown = shownContainer(container, await namesOf(server, networkIdsOf(container)))
  // Numbers that are too large for JavaScript stay as they are where nothing else changes.
  if (shown === container) sendText(call, answer.status, 'application/json', answer.body)
  else sendJson(call, 200, shown)
}

/** The query of a request whose filter `network` may name networks by the cluster's ids, for the engine. */
export async function engineSearch(parts: NetworkParts, call: Call): Promise<string> {
  if (!/"network"/.test(parameter(call, 'filters'))) return call.search // and what can't be read is for the engine to refuse
  const given = parseFilters(parameter(call, 'filters'))
  const wanted = given.get('network')
  if (wanted === undefined) return call.search
  const values = await Promise.all(
    wanted.map(async (value) => (CLUSTER_ID.test(value) ? ((await parts.find(value))?.engineId ?? value) : value)),
  )
  const query = new URLSearchParams(call.query)
  query.set('filters', filterText(new Map([...given, ['network', values]])))
  return `?${query.toString()}`
}

const CLUSTER_ID = /^[0-9a-z]{25}$/

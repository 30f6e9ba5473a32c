// Listings of the cluster's view: what each node has of containers, images and volumes, in one answer. Every object has its node as
// the label io.swarmctl.node; what bears a name that others may have as well is named with its node, `node/name`.

import type { ServerResponse } from 'node:http'
import type { Node } from '../../api/objects.ts'
import type { StoreView } from '../../manager/store/types.ts'
import type { Target } from './api-version.ts'
import {
  type ClusterEngines,
  NODE_LABEL,
  type NodeAnswer,
  nameOf,
  nodeQuery,
  refusalOf,
  requireAnswer,
  tellMissing,
} from './cluster-engines.ts'
import { asList, asObject, asText, type JsonObject, parseJson } from './engine-json.ts'

/** An engine looks at every file of its containers and volumes. */
const MEASURED_MS = 60_000

const PATHS = ['/containers/json', '/images/json', '/volumes', '/system/df', '/info'] as const
export type ListingPath = (typeof PATHS)[number]

export function listingPath(method: string, path: string): ListingPath | undefined {
  return method === 'GET' ? PATHS.find((each) => each === path) : undefined
}

/** @param self the node that is asked: its objects keep their names */
export async function sendListing(
  engines: ClusterEngines,
  { view, self }: { readonly view: StoreView; readonly self: string },
  kind: ListingPath,
  target: Target,
  response: ServerResponse,
): Promise<void> {
  const { nodes, path } = nodeQuery(view, target)
  const answers = await engines.ask(nodes, path, kind === '/system/df' ? MEASURED_MS : undefined)
  requireAnswer(answers)
  tellMissing(response, answers)
  const refused = refusalOf(answers)
  response.writeHead(refused?.status ?? 200, { 'content-type': 'application/json' })
  response.end(refused?.body ?? JSON.stringify(listingOf(kind, answers.map(parsed), self, target)))
}

/** Bodies are large: each is parsed once, whatever is taken out of it. */
interface ParsedAnswer extends Pick<NodeAnswer, 'node' | 'status'> {
  readonly json: unknown
}

function parsed({ node, status, body }: NodeAnswer): ParsedAnswer {
  return { node, status, json: parseJson(body) }
}

function listingOf(kind: ListingPath, answers: readonly ParsedAnswer[], self: string, target: Target): unknown {
  switch (kind) {
    case '/containers/json': {
      const limit = Number(target.query.get('limit') ?? 0)
      const containers = itemsOf(answers, (each, node) => shownContainer(each, node, self))
      const sorted = containers.toSorted((a, b) => Number(b.Created) - Number(a.Created))
      return limit > 0 ? sorted.slice(0, limit) : sorted
    }
    case '/images/json':
      return itemsOf(answers, labelled).toSorted((a, b) => Number(b.Created) - Number(a.Created))
    case '/volumes':
      return {
        Volumes: itemsOf(answers, (each, node) => shownVolume(each, node, self), part('Volumes')),
        Warnings: joined(answers, 'Warnings'),
      }
    case '/system/df':
      return {
        LayersSize: sum(answers, 'LayersSize'),
        Images: itemsOf(answers, labelled, part('Images')),
        Containers: itemsOf(answers, (each, node) => shownContainer(each, node, self), part('Containers')),
        Volumes: itemsOf(answers, (each, node) => shownVolume(each, node, self), part('Volumes')),
        // Has no labels.
        BuildCache: itemsOf(answers, (each, node) => ({ ...each, Node: nameOf(node) }), part('BuildCache')),
        BuilderSize: sum(answers, 'BuilderSize'),
      }
    case '/info': {
      const own = answers.find(({ node, status }) => node.id === self && status === 200)
      const base = own ?? answers.find(({ status }) => status === 200)
      const totals = Object.fromEntries(COUNTS.map((name) => [name, sum(answers, name)]))
      return { ...asObject(base?.json), ...totals }
    }
  }
}

/** Of /info: what the machines have together. */
const COUNTS = [
  'Containers',
  'ContainersRunning',
  'ContainersPaused',
  'ContainersStopped',
  'Images',
  'NCPU',
  'MemTotal',
]

/** What the nodes that answered say, each list's items with their node. */
function itemsOf(
  answers: readonly ParsedAnswer[],
  item: (each: JsonObject, node: Node) => JsonObject,
  listOf: (body: unknown) => unknown = (body) => body,
): readonly JsonObject[] {
  return answers
    .filter(({ status }) => status === 200)
    .flatMap(({ node, json }) => asList(listOf(json)).map((each) => item(asObject(each), node)))
}

function part(name: string): (body: unknown) => unknown {
  return (body) => asObject(body)[name]
}

function sum(answers: readonly ParsedAnswer[], name: string): number {
  return answers.reduce((total, { json }) => total + (Number(part(name)(json)) || 0), 0)
}

function joined(answers: readonly ParsedAnswer[], name: string): readonly unknown[] | null {
  const all = answers.flatMap(({ json }) => asList(part(name)(json)))
  return all.length === 0 ? null : all
}

function labelled(object: JsonObject, node: Node): JsonObject {
  return { ...object, Labels: { ...asObject(object.Labels), [NODE_LABEL]: nameOf(node) } }
}

/** Containers of tasks have names of their own in the whole cluster; others are named with their node. */
function shownContainer(container: JsonObject, node: Node, self: string): JsonObject {
  const isTask = asObject(container.Labels)['com.docker.swarm.task.id'] !== undefined
  const names = asList(container.Names).map(asText)
  return {
    ...labelled(container, node),
    Names: isTask || node.id === self ? names : names.map((name) => `/${nameOf(node)}${name}`),
  }
}

/** Two nodes' volumes of one name are two volumes. */
function shownVolume(volume: JsonObject, node: Node, self: string): JsonObject {
  const name = asText(volume.Name)
  return { ...labelled(volume, node), Name: node.id === self ? name : `${nameOf(node)}/${name}` }
}

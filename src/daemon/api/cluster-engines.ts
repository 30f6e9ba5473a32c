// The Docker APIs of all nodes, as one that asks for the cluster's view has them: each over a connection that the node opens for it.

import type { ServerResponse } from 'node:http'
import type { Node } from '../../api/objects.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import { filterText, parseFilters } from '../../manager/control/filters.ts'
import { acceptedMinor, type Target } from './api-version.ts'
import type { ClusterAccess } from './cluster-access.ts'
import { Engine } from './engine.ts'

/** On a listing: hostnames of nodes that did not answer in time. */
export const MISSING_HEADER = 'X-Swarmd-Missing-Nodes'
/** On an object of a listing, and among the attributes of an event: the hostname of its node. */
export const NODE_LABEL = 'io.swarmctl.node'

const ANSWER_MS = 5_000

export interface NodeAnswer {
  readonly node: Node
  readonly engine: Engine
  /** 0: none in time */
  readonly status: number
  readonly body: string
}

export class ClusterEngines {
  readonly #cluster: ClusterAccess
  readonly #clock: Clock

  constructor(cluster: ClusterAccess, clock: Clock) {
    this.#cluster = cluster
    this.#clock = clock
  }

  of(node: Pick<Node, 'id' | 'description'>): Engine {
    const dial = () => this.#cluster.dialNode(node.id)
    return new Engine({ kind: 'dialed', name: `node ${nameOf(node)}`, dial }, this.#clock)
  }

  /** Every one of the nodes' answers to a GET, the path with its version. */
  async ask(nodes: readonly Node[], path: string, withinMs = ANSWER_MS): Promise<readonly NodeAnswer[]> {
    return await Promise.all(
      nodes.map(async (node) => {
        const engine = this.of(node)
        const over = new AbortController()
        try {
          const late = sleep(this.#clock, withinMs, over.signal).then(() => ({ status: 0, body: '' }))
          const { status, body } = await Promise.race([engine.get(path, 'GET', over.signal), late])
          return { node, engine, status, body }
        } catch {
          return { node, engine, status: 0, body: '' }
        } finally {
          over.abort()
        }
      }),
    )
  }
}

type Nodes = { list(kind: 'node'): readonly Node[] }

/** Those that can be asked. */
export function readyNodes(view: Nodes): readonly Node[] {
  return view.list('node').filter(({ status }) => status.state === 'ready')
}

export function nameOf({ id, description }: Pick<Node, 'id' | 'description'>): string {
  return description.Hostname ?? id
}

export function isNamed({ id, description, spec }: Node, name: string): boolean {
  return id === name || description.Hostname === name || spec.Name === name
}

/** Names the nodes that gave no answer, as in a URL: a node says itself what it is called. */
export function tellMissing(response: ServerResponse, answers: readonly NodeAnswer[]): void {
  const missing = answers.filter(({ status }) => status === 0).map(({ node }) => encodeURIComponent(nameOf(node)))
  if (missing.length > 0) response.setHeader(MISSING_HEADER, missing.join(','))
}

export interface NodeQuery {
  /** Whom the client's filter `label=io.swarmctl.node=NAME` leaves. */
  readonly nodes: readonly Node[]
  /** The path for each of them, with the version and without that filter, which is none of the engine's labels. */
  readonly path: string
}

/** @param over filters in place of the client's */
export function nodeQuery(
  view: Nodes,
  target: Target,
  over: Readonly<Record<string, readonly string[]>> = {},
  parameters: Readonly<Record<string, string>> = {},
): NodeQuery {
  const version = `/v1.${acceptedMinor(target.minor)}`
  const filters = new Map(parseFilters(target.query.get('filters') ?? ''))
  const labels = filters.get('label') ?? []
  const chosen = labels.flatMap((label) =>
    label.startsWith(`${NODE_LABEL}=`) ? [label.slice(NODE_LABEL.length + 1)] : [],
  )
  const nodes = readyNodes(view).filter((node) => chosen.every((name) => isNamed(node, name)))
  const isSame = chosen.length === 0 && Object.keys(over).length === 0 && Object.keys(parameters).length === 0
  if (isSame) return { nodes, path: `${version}${target.path}${target.search}` }
  filters.set(
    'label',
    labels.filter((label) => !label.startsWith(`${NODE_LABEL}=`)),
  )
  for (const [name, values] of Object.entries(over)) filters.set(name, values)
  const query = new URLSearchParams(target.query)
  query.set('filters', filterText(filters))
  for (const [name, value] of Object.entries(parameters)) query.set(name, value)
  return { nodes, path: `${version}${target.path}?${query.toString()}` }
}

/** @throws {CodedError} NODE_UNREACHABLE where not one of them has answered */
export function requireAnswer(answers: readonly NodeAnswer[]): void {
  if (answers.length === 0 || answers.some(({ status }) => status !== 0)) return
  const names = answers.map(({ node }) => nameOf(node)).join(', ')
  throw new CodedError('NODE_UNREACHABLE', `no answer from ${names}`, { retryable: true })
}

/** The first that refused: what one node refuses all would, such as a filter that nobody knows. */
export function refusalOf(answers: readonly NodeAnswer[]): NodeAnswer | undefined {
  return answers.some(({ status }) => status === 200) ? undefined : answers.find(({ status }) => status >= 400)
}

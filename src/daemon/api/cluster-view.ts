// One machine of the cluster is every machine: a client that asks for the cluster's view sees the containers of all nodes, and what it
// asks of one goes to the node that has it. Nothing is kept here but who has which exec.
//
// A client asks by the header `X-Swarmd-View: cluster` (the docker CLI sends it when its config.json has it under HttpHeaders), or by
// speaking to the socket cluster.sock beside swarmd's own. Everyone else sees this machine's containers, as with Docker.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Node, type Task, taskName } from '../../api/objects.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import type { StoreView } from '../../manager/store/types.ts'
import { acceptedMinor, parseTarget, type Target } from './api-version.ts'
import { readBody } from './call.ts'
import type { ClusterAccess } from './cluster-access.ts'
import { Engine } from './engine.ts'
import { asList, asObject, asText, type JsonObject, parseJson } from './engine-json.ts'
import { requireManager } from './node-state.ts'
import { passRaw, passThrough, passUpgrade } from './pass-through.ts'

export const VIEW_HEADER = 'x-swarmd-view'
/** On a listing: hostnames of nodes that did not answer in time. */
export const MISSING_HEADER = 'X-Swarmd-Missing-Nodes'
/** On a container of a listing: the hostname of its node. */
export const NODE_LABEL = 'io.swarmctl.node'

const VIEW_LINE = new RegExp(`^${VIEW_HEADER}:.*\\r\\n`, 'im')

const ANSWER_MS = 5_000
const EXECS_KEPT = 4096

const ACTIONS =
  'json|top|logs|changes|export|stats|resize|start|stop|restart|kill|update|rename|pause|unpause|attach|attach/ws|wait|archive|exec'
const ONE_CONTAINER = new RegExp(`^/containers/(?!(?:create|prune|json)$)(.+?)(?:/(${ACTIONS}))?$`)
const ONE_EXEC = /^\/exec\/([^/]+)\/(?:start|resize|json)$/

interface Place {
  readonly engine: Engine
  /** Of the container, on its node. */
  readonly id: string
}

export class ClusterView {
  readonly #cluster: ClusterAccess
  readonly #clock: Clock
  /** Node ids by exec, the oldest first. */
  readonly #execs = new Map<string, string>()

  constructor({ cluster, clock }: { readonly cluster: ClusterAccess; readonly clock: Clock }) {
    this.#cluster = cluster
    this.#clock = clock
  }

  /** Whether the cluster's view of this path differs from the machine's. */
  concerns(path: string): boolean {
    return path === '/containers/json' || ONE_CONTAINER.test(path) || ONE_EXEC.test(path)
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = parseTarget(request.url ?? '/')
    if (target.path === '/containers/json') return this.#list(target, response)
    const { engine, url, place } = await this.#find(target)
    if (request.method === 'POST' && target.path.endsWith('/exec') && place) {
      return this.#createExec(place.nodeId, engine, url, request, response)
    }
    asMachine(request, url)
    await passThrough(engine, request, response)
  }

  async upgrade(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    const { engine, url } = await this.#find(parseTarget(request.url ?? '/'))
    asMachine(request, url)
    await passUpgrade(engine, request, client, head)
  }

  /** @param rest of the request's first line and all behind it */
  async takeOver(target: Target, client: Duplex, rest: string): Promise<void> {
    const { engine, url } = await this.#find(target)
    await passRaw(engine, client, Buffer.from(`POST ${url}${rest.replace(VIEW_LINE, '')}`, 'latin1'))
  }

  // ---- where things are ----

  #engineOf(node: Pick<Node, 'id' | 'description'>): Engine {
    const name = `node ${node.description.Hostname ?? node.id}`
    const dial = () => this.#cluster.dialNode(node.id)
    return new Engine({ kind: 'dialed', name, dial }, this.#clock)
  }

  #nodes(view: StoreView): readonly Node[] {
    return view.list('node').filter(({ status }) => status.state === 'ready')
  }

  /** The engine that has what the path is about, and the path there. @throws {CodedError} NO_SUCH_OBJECT, AMBIGUOUS */
  async #find(
    target: Target,
  ): Promise<{ readonly engine: Engine; readonly url: string; readonly place?: { readonly nodeId: string } }> {
    const { view } = requireManager(this.#cluster.state())
    const version = `/v1.${acceptedMinor(target.minor)}`
    const exec = ONE_EXEC.exec(target.path)?.[1]
    if (exec !== undefined) {
      const nodeId = this.#execs.get(exec)
      const node = nodeId === undefined ? undefined : view.get('node', nodeId)
      const engine = node
        ? this.#engineOf(node)
        : (await this.#ask(view, `/exec/${encodeURIComponent(exec)}/json`, exec, 'exec instance')).engine
      return { engine, url: `${version}${target.path}${target.search}` }
    }
    const [, given = '', action] = ONE_CONTAINER.exec(target.path) ?? []
    const reference = decoded(given)
    const found = taskContainer(view, reference)
    const node = found && view.get('node', found.nodeId)
    const url = (id: string) =>
      `${version}/containers/${encodeURIComponent(id)}${action === undefined ? '' : `/${action}`}${target.search}`
    if (found && node) return { engine: this.#engineOf(node), url: url(found.containerId), place: { nodeId: node.id } }
    const { engine, id, nodeId } = await this.#container(view, reference)
    return { engine, url: url(id), place: { nodeId } }
  }

  /** A container that is no task's: `node/name`, or a name or id that one node knows. */
  async #container(view: StoreView, reference: string): Promise<Place & { readonly nodeId: string }> {
    const [, hostname, name] = /^([^/]+)\/(.+)$/.exec(reference) ?? []
    const node = hostname === undefined ? undefined : this.#nodes(view).find((each) => isNamed(each, hostname))
    if (node && name !== undefined) return { engine: this.#engineOf(node), id: name, nodeId: node.id }
    const { engine, nodeId } = await this.#ask(
      view,
      `/containers/${encodeURIComponent(reference)}/json`,
      reference,
      'container',
    )
    return { engine, id: reference, nodeId }
  }

  async #ask(view: StoreView, path: string, reference: string, what: string) {
    const answers = await this.#everywhere(view, path)
    const known = answers.filter(({ status }) => status === 200)
    if (known.length > 1) {
      const names = known.map(({ node }) => `${node.description.Hostname}/${reference}`).join(', ')
      throw new CodedError('AMBIGUOUS', `${what} ${reference} is on more than one node: say which (${names})`)
    }
    const [one] = known
    if (one) return { engine: one.engine, nodeId: one.node.id }
    const silent = answers.filter(({ status }) => status === 0).map(({ node }) => node.description.Hostname ?? node.id)
    const doubt = silent.length === 0 ? '' : ` (no answer from ${silent.join(', ')})`
    throw new CodedError('NO_SUCH_OBJECT', `No such ${what}: ${reference}${doubt}`)
  }

  /** Every ready node's answer to a GET; status 0 for one that gave none in time. */
  async #everywhere(view: StoreView, path: string) {
    return await Promise.all(
      this.#nodes(view).map(async (node) => {
        const engine = this.#engineOf(node)
        const answered = new AbortController()
        try {
          const late = sleep(this.#clock, ANSWER_MS, answered.signal).then(() => ({ status: 0, body: '' }))
          const { status, body } = await Promise.race([engine.get(path), late])
          return { node, engine, status, body }
        } catch {
          return { node, engine, status: 0, body: '' }
        } finally {
          answered.abort()
        }
      }),
    )
  }

  // ---- what is not passed on as it is ----

  async #list(target: Target, response: ServerResponse): Promise<void> {
    const { view, nodeId: self } = requireManager(this.#cluster.state())
    const answers = await this.#everywhere(view, `/v1.${acceptedMinor(target.minor)}${target.path}${target.search}`)
    const refusal = answers.find(({ status }) => status >= 400)
    const containers = answers
      .filter(({ status }) => status === 200)
      .flatMap(({ node, body }) => asList(parseJson(body)).map((each) => shown(asObject(each), node, node.id === self)))
    const limit = Number(target.query.get('limit') ?? 0)
    const sorted = containers.toSorted((a, b) => Number(b.Created) - Number(a.Created))
    const missing = answers.filter(({ status }) => status === 0).map(({ node }) => node.description.Hostname ?? node.id)
    if (missing.length > 0) response.setHeader(MISSING_HEADER, missing.join(','))
    // What one node refuses all would: a filter that nobody knows.
    const status = refusal && containers.length === 0 ? refusal.status : 200
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(status === 200 ? JSON.stringify(limit > 0 ? sorted.slice(0, limit) : sorted) : refusal?.body)
  }

  /** Its id is all that the client will name the exec by. */
  async #createExec(
    nodeId: string,
    engine: Engine,
    url: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const answer = await engine.post(url, parseJson((await readBody(request)).toString('utf8')))
    const id = asText(asObject(parseJson(answer.body)).Id)
    if (answer.status === 201 && id !== '') {
      this.#execs.set(id, nodeId)
      for (const oldest of this.#execs.keys()) {
        if (this.#execs.size <= EXECS_KEPT) break
        this.#execs.delete(oldest)
      }
    }
    response.writeHead(answer.status, { 'content-type': 'application/json' })
    response.end(answer.body)
  }
}

/** The node that has it is asked for its own. */
function asMachine(request: IncomingMessage, url: string): void {
  request.url = url
  delete request.headers[VIEW_HEADER]
  for (let at = request.rawHeaders.length - 2; at >= 0; at -= 2) {
    if (request.rawHeaders[at]?.toLowerCase() === VIEW_HEADER) request.rawHeaders.splice(at, 2)
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw refusal(`invalid URL escape in ${JSON.stringify(text)}`)
  }
}

function isNamed({ id, description, spec }: Node, name: string): boolean {
  return id === name || description.Hostname === name || spec.Name === name
}

/** Containers of tasks have names of their own in the whole cluster; others are named with their node. */
function shown(container: JsonObject, node: Node, isHere: boolean): JsonObject {
  const hostname = node.description.Hostname ?? node.id
  const labels = asObject(container.Labels)
  const isTask = labels['com.docker.swarm.task.id'] !== undefined
  const names = asList(container.Names).map(asText)
  return {
    ...container,
    Labels: { ...labels, [NODE_LABEL]: hostname },
    Names: isTask || isHere ? names : names.map((name) => `/${hostname}${name}`),
  }
}

/**
 * What a person may call a task's container: its id or the beginning of it, the task's id or name, `web.1`, or `web` where one task of
 * it runs. undefined: it is no task's.
 * @throws {CodedError} AMBIGUOUS; NO_SUCH_OBJECT where the task has no container
 */
export function taskContainer(
  view: StoreView,
  reference: string,
): { readonly nodeId: string; readonly containerId: string } | undefined {
  const task = findTask(view, reference)
  if (!task) return undefined
  const containerId = task.status.container?.ContainerID
  if (containerId === undefined || containerId === '') {
    throw new CodedError('NO_SUCH_OBJECT', `task ${taskName(task)} has no container (${task.status.state})`)
  }
  return { nodeId: task.nodeId, containerId }
}

function findTask(view: StoreView, reference: string): Task | undefined {
  if (reference === '') return undefined
  const exact = view.get('task', reference)
  if (exact) return exact
  const isHex = /^[0-9a-f]{4,64}$/.test(reference)
  const tasks = view.list('task')
  const byContainer = isHex ? tasks.filter(({ status }) => status.container?.ContainerID?.startsWith(reference)) : []
  if (byContainer.length > 0) return only(byContainer, reference)
  const named = tasks.find((task) => taskName(task) === reference)
  if (named) return named
  const [, serviceName = reference, slot] = /^(.+)\.(\d+)$/.exec(reference) ?? []
  const service =
    view.byName('service', serviceName) ?? view.byName('service', reference) ?? view.get('service', reference)
  if (!service) return undefined
  const running = view
    .tasksOfService(service.id)
    .filter((task) => task.status.state === 'running' && (slot === undefined || task.slot === Number(slot)))
  if (running.length === 0) {
    throw new CodedError('NO_SUCH_OBJECT', `no task of ${reference} is running`)
  }
  return only(running, reference)
}

function only(tasks: readonly Task[], reference: string): Task {
  const [first, ...others] = tasks
  if (first && others.length === 0) return first
  const names = tasks.slice(0, 8).map((task) => taskName(task))
  const more = tasks.length > names.length ? `, … (${tasks.length})` : ''
  throw new CodedError('AMBIGUOUS', `${reference} fits more than one task: ${names.join(', ')}${more}`)
}

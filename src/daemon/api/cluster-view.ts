// One machine of the cluster is every machine: a client that asks for the cluster's view sees the containers, images, volumes and events
// of all nodes, and what it asks of one goes to the node that has it. Nothing is kept here but who has which exec.
//
// A client asks by the header `X-Swarmd-View: cluster` (the docker CLI sends it when its config.json has it under HttpHeaders), or by
// speaking to the socket cluster.sock beside swarmd's own. Everyone else sees this machine's containers, as with Docker.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Task, taskName } from '../../api/objects.ts'
import { refusal } from '../../api/validation/refusal.ts'
import type { Clock } from '../../lib/clock.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import type { StoreView } from '../../manager/store/types.ts'
import { acceptedMinor, NEWEST_MINOR, parseTarget, type Target } from './api-version.ts'
import { readBody } from './call.ts'
import type { ClusterAccess } from './cluster-access.ts'
import { ClusterEngines, isNamed, nameOf, readyNodes } from './cluster-engines.ts'
import { streamClusterEvents } from './cluster-events.ts'
import { listingPath, sendListing } from './cluster-listings.ts'
import type { Engine } from './engine.ts'
import { asObject, asText, parseJson } from './engine-json.ts'
import type { EventHub } from './event-hub.ts'
import { type ManagerState, requireManager } from './node-state.ts'
import { passRaw, passThrough, passUpgrade } from './pass-through.ts'

export const VIEW_HEADER = 'x-swarmd-view'

const VIEW_LINE = new RegExp(`^${VIEW_HEADER}:.*\\r\\n`, 'im')

const EXECS_KEPT = 4096

const ACTIONS =
  'json|top|logs|changes|export|stats|resize|start|stop|restart|kill|update|rename|pause|unpause|attach|attach/ws|wait|archive|exec'
const ONE_CONTAINER = new RegExp(`^/containers/(?!(?:create|prune|json)$)(.+?)(?:/(${ACTIONS}))?$`)
const ONE_IMAGE = /^\/images\/(?!(?:create|get|json|load|prune|search)$)(.+?)(?:\/(json|history|get|tag|push))?$/
const ONE_VOLUME = /^\/volumes\/(?!(?:create|prune)$)(.+)$/
/** What is done with all of a machine's, and what a path does not say the machine of. */
const OF_ONE_MACHINE = /^\/(?:(?:containers|images|volumes|build)\/prune|commit)$/
/** Images as an archive, all of them of one machine. */
const SAVED = '/images/get'
const ONE_EXEC = /^\/exec\/([^/]+)\/(?:start|resize|json)$/

interface Place {
  readonly engine: Engine
  readonly nodeId: string
  /** What it is called on its node. */
  readonly reference: string
}

export interface ClusterViewOptions {
  readonly cluster: ClusterAccess
  readonly events: EventHub
  readonly clock: Clock
  /** Where this machine's own view is served, for those who are told to go there. */
  readonly ownSocket: () => string
}

export class ClusterView {
  readonly #options: ClusterViewOptions
  readonly #engines: ClusterEngines
  /** Node ids by exec, the oldest first. */
  readonly #execs = new Map<string, string>()

  constructor(options: ClusterViewOptions) {
    this.#options = options
    this.#engines = new ClusterEngines(options.cluster, options.clock)
  }

  /** Whether the cluster's view of this path differs from the machine's. */
  concerns(method: string, path: string): boolean {
    // Which state a machine is in, it says itself.
    if (path === '/info' && this.#options.cluster.state().kind !== 'manager') return false
    return (
      listingPath(method, path) !== undefined ||
      path === '/events' ||
      path === SAVED ||
      OF_ONE_MACHINE.test(path) ||
      [ONE_CONTAINER, ONE_IMAGE, ONE_VOLUME, ONE_EXEC].some((one) => one.test(path))
    )
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { cluster, clock, events: hub, ownSocket } = this.#options
    const target = parseTarget(request.url ?? '/')
    const state = requireManager(cluster.state())
    const listing = listingPath(request.method ?? 'GET', target.path)
    if (listing !== undefined)
      return sendListing(this.#engines, { view: state.view, self: state.nodeId }, listing, target, response)
    if (target.path === '/events') {
      const isManager = () => cluster.state().kind === 'manager'
      return streamClusterEvents({ engines: this.#engines, hub, clock, isManager }, state, target, response)
    }
    if (OF_ONE_MACHINE.test(target.path)) {
      throw new CodedError(
        'UNIMPLEMENTED',
        `${request.method} ${target.path} concerns one machine, and the view of the whole cluster was asked for: use that machine's own socket (docker -H ${ownSocket()} …, without the header X-Swarmd-View)`,
      )
    }
    const { engine, url, place } = await this.#find(target, request.method ?? 'GET')
    if (request.method === 'POST' && target.path.endsWith('/exec') && place) {
      return this.#createExec(place.nodeId, engine, url, request, response)
    }
    asMachine(request, url)
    await passThrough(engine, request, response)
  }

  async upgrade(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    const { engine, url } = await this.#find(parseTarget(request.url ?? '/'), request.method ?? 'GET')
    asMachine(request, url)
    await passUpgrade(engine, request, client, head)
  }

  /** @param rest of the request's first line and all behind it */
  async takeOver(target: Target, client: Duplex, rest: string): Promise<void> {
    const { engine, url } = await this.#find(target, 'POST')
    await passRaw(engine, client, Buffer.from(`POST ${url}${rest.replace(VIEW_LINE, '')}`, 'latin1'))
  }

  // ---- where things are ----

  /** The engine that has what the path is about, and the path there. @throws {CodedError} NO_SUCH_OBJECT, AMBIGUOUS */
  async #find(
    target: Target,
    method: string,
  ): Promise<{ readonly engine: Engine; readonly url: string; readonly place?: { readonly nodeId: string } }> {
    const state = requireManager(this.#options.cluster.state())
    const version = `/v1.${acceptedMinor(target.minor)}`
    const exec = ONE_EXEC.exec(target.path)?.[1]
    if (exec !== undefined) {
      const node = state.view.get('node', this.#execs.get(exec) ?? '')
      const engine = node
        ? this.#engines.of(node)
        : (
            await this.#ask(state, {
              what: 'exec instance',
              reference: exec,
              path: `/exec/${encodeURIComponent(exec)}/json`,
            })
          ).engine
      return { engine, url: `${version}${target.path}${target.search}` }
    }
    if (target.path === SAVED) {
      const [first = '', ...names] = target.query.getAll('names')
      const { engine, reference } = await this.#place(state, 'image', first, true)
      const query = new URLSearchParams([reference, ...names].map((name): [string, string] => ['names', name]))
      return { engine, url: `${version}${SAVED}?${query.toString()}` }
    }
    const [kind, match] = objectOf(target.path)
    const [, given = '', action] = match
    const { engine, nodeId, reference } = await this.#place(state, kind, decoded(given), method === 'GET')
    const suffix = action === undefined ? '' : `/${action}`
    const url = `${version}/${kind}s/${encodeURIComponent(reference)}${suffix}${target.search}`
    return { engine, url, place: { nodeId } }
  }

  /** `node/name`, or a name or id that one node knows; of an image also this machine's own, and to read it any that is the same. */
  async #place(state: ManagerState, kind: Kind, reference: string, isRead: boolean): Promise<Place> {
    const { view } = state
    const found = kind === 'container' ? taskContainer(view, reference) : undefined
    const owner = found && view.get('node', found.nodeId)
    if (found && owner) return { engine: this.#engines.of(owner), nodeId: owner.id, reference: found.containerId }
    const [, hostname = '', name = ''] = /^([^/]+)\/(.+)$/.exec(reference) ?? []
    const node = hostname === '' ? undefined : readyNodes(view).find((each) => isNamed(each, hostname))
    const there = node && { engine: this.#engines.of(node), nodeId: node.id, reference: name }
    // An image may well be called so.
    if (there && kind !== 'image') return there
    const question = {
      what: kind,
      reference,
      path: `/${kind}s/${encodeURIComponent(reference)}${kind === 'volume' ? '' : '/json'}`,
    }
    try {
      return { ...(await this.#ask(state, question, kind === 'image' ? { isRead } : undefined)), reference }
    } catch (error) {
      if (there && errorCode(error) === 'NO_SUCH_OBJECT') return there
      throw error
    }
  }

  /** @param image how one is chosen of several that have the image */
  async #ask(
    { view, nodeId: self }: ManagerState,
    { what, reference, path }: { readonly what: string; readonly reference: string; readonly path: string },
    image?: { readonly isRead: boolean },
  ): Promise<Pick<Place, 'engine' | 'nodeId'>> {
    const answers = await this.#engines.ask(readyNodes(view), `/v1.${NEWEST_MINOR}${path}`)
    const known = answers.filter(({ status }) => status === 200)
    const [first] = known
    const own = known.find(({ node }) => node.id === self)
    const isSame = new Set(known.map(({ body }) => asText(asObject(parseJson(body)).Id))).size === 1
    const one = image ? (own ?? (image.isRead && isSame ? first : undefined)) : undefined
    if (known.length > 1 && !one) {
      const names = known.map(({ node }) => `${nameOf(node)}/${reference}`).join(', ')
      throw new CodedError('AMBIGUOUS', `${what} ${reference} is on more than one node: say which (${names})`)
    }
    const chosen = one ?? first
    if (chosen) return { engine: chosen.engine, nodeId: chosen.node.id }
    const silent = answers.filter(({ status }) => status === 0).map(({ node }) => nameOf(node))
    const doubt = silent.length === 0 ? '' : ` (no answer from ${silent.join(', ')})`
    throw new CodedError('NO_SUCH_OBJECT', `No such ${what}: ${reference}${doubt}`)
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

type Kind = 'container' | 'image' | 'volume'

function objectOf(path: string): readonly [Kind, RegExpExecArray] {
  for (const [kind, pattern] of [
    ['container', ONE_CONTAINER],
    ['image', ONE_IMAGE],
    ['volume', ONE_VOLUME],
  ] as const) {
    const match = pattern.exec(path)
    if (match) return [kind, match]
  }
  throw refusal(`no object in ${path}`)
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

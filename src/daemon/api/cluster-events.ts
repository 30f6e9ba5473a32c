// `docker events` of all nodes: the cluster's events from this manager, and each node's own over a stream to it, with the node among
// the attributes. A node that comes is listened to from then on; one whose stream breaks is asked again from its last event on.

import type { ServerResponse } from 'node:http'
import type { Node } from '../../api/objects.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { encodeEvent, matchesEvent } from '../../manager/control/events.ts'
import { equalsOne, parseFilters } from '../../manager/control/filters.ts'
import type { StoreEvent } from '../../manager/store/types.ts'
import type { Target } from './api-version.ts'
import {
  type ClusterEngines,
  NODE_LABEL,
  nameOf,
  nodeQuery,
  refusalOf,
  requireAnswer,
  tellMissing,
} from './cluster-engines.ts'
import type { EventHub } from './event-hub.ts'
import { aborted, eventSpan, inOrder, MAX_BUFFERED_BYTES, opened, passLines, recorded, timeOf } from './events-route.ts'
import type { ManagerState } from './node-state.ts'

const AGAIN_MS = 1_000
/** Only what happens on the nodes: what the cluster tells is told once. */
const LOCAL = { scope: ['local'] } as const

export interface ClusterEventsContext {
  readonly engines: ClusterEngines
  readonly hub: EventHub
  readonly clock: Clock
  /** This node still knows the others. */
  readonly isManager: () => boolean
}

export async function streamClusterEvents(
  context: ClusterEventsContext,
  state: ManagerState,
  target: Target,
  response: ServerResponse,
): Promise<void> {
  const { engines, hub, clock } = context
  const filters = parseFilters(target.query.get('filters') ?? '')
  const span = eventSpan(target.query)
  hub.refresh()
  const nowMs = clock.wallMs()
  const isPast = span.untilMs !== undefined && span.untilMs < nowMs
  const asksNodes = equalsOne(filters, 'scope', 'local')
  // What was, of all nodes in one order, up to now; then what comes. Without `since` and `until` only to hear whether the engine takes
  // the filters.
  const until = isPast ? (target.query.get('until') ?? '') : unixTime(nowMs)
  const isWanted = span.sinceMs !== undefined || span.untilMs !== undefined
  const since = isWanted ? (target.query.get('since') ?? '') : until
  const past = nodeQuery(state.view, target, LOCAL, { since, until })
  const asked = isWanted ? past.nodes : past.nodes.filter(({ id }) => id === state.nodeId)
  const answers = asksNodes ? await engines.ask(asked, past.path) : []
  requireAnswer(answers)
  const refused = refusalOf(answers)
  if (isWanted) tellMissing(response, answers)
  response.writeHead(refused?.status ?? 200, { 'Content-Type': 'application/json' })
  if (refused) {
    response.end(refused.body)
    return
  }
  response.flushHeaders()
  const write = (line: string) => {
    if (response.writableLength > MAX_BUFFERED_BYTES) response.destroy()
    else if (!response.writableEnded) response.write(`${line}\n`)
  }
  const own = recorded(hub, filters, span).map((event) => encodeEvent(event).trimEnd())
  const theirs = answers
    .filter(({ status }) => status === 200)
    .flatMap(({ node, body }) => linesOf(body).map((line) => withNode(line, node)))
  for (const line of inOrder([...own, ...(isWanted ? theirs : [])])) write(line)
  if (!isPast && !response.destroyed) {
    const ended = new AbortController()
    response.on('close', () => ended.abort())
    const stop = hub.subscribe((event) => {
      if (matchesEvent(filters, event)) write(encodeEvent(event).trimEnd())
    })
    const nodes = new NodeStreams(context, { target, since: isWanted ? until : '', write, end: () => ended.abort() })
    const follow = () => nodes.follow(nodeQuery(state.view, target).nodes)
    const stopFollowing = asksNodes ? state.subscribe((events) => events.some(isNode) && follow()) : () => {}
    if (asksNodes) follow()
    try {
      if (span.untilMs === undefined) await aborted(ended.signal)
      else await sleep(clock, Math.max(0, span.untilMs - clock.wallMs()), ended.signal)
    } finally {
      stop()
      stopFollowing()
      nodes.close()
    }
  }
  response.end()
}

interface Following {
  readonly target: Target
  /** for the nodes that are there now; '' from when they are connected */
  readonly since: string
  readonly write: (line: string) => void
  readonly end: () => void
}

/** The streams to all nodes that can be asked, each for as long as its node is ready. */
class NodeStreams {
  readonly #context: ClusterEventsContext
  readonly #following: Following
  readonly #streams = new Map<string, AbortController>()
  /** Where to go on, by node. */
  readonly #since = new Map<string, string>()
  #begun = false

  constructor(context: ClusterEventsContext, following: Following) {
    this.#context = context
    this.#following = following
  }

  follow(ready: readonly Node[]): void {
    const wanted = new Map(ready.map((node) => [node.id, node]))
    for (const [id, stream] of this.#streams) {
      if (wanted.has(id)) continue
      stream.abort()
      this.#streams.delete(id)
    }
    for (const [id, node] of wanted) {
      if (this.#streams.has(id)) continue
      if (!this.#since.has(id))
        this.#since.set(id, this.#begun ? unixTime(this.#context.clock.wallMs()) : this.#following.since)
      const stream = new AbortController()
      this.#streams.set(id, stream)
      void this.#keep(node, stream.signal)
    }
    this.#begun = true
  }

  close(): void {
    for (const stream of this.#streams.values()) stream.abort()
    this.#streams.clear()
  }

  async #keep(node: Node, signal: AbortSignal): Promise<void> {
    const { clock, isManager } = this.#context
    while (!signal.aborted) {
      await this.#listen(node, signal).catch(() => {}) // whatever it was: it is asked again
      if (!isManager()) this.#following.end()
      await sleep(clock, AGAIN_MS, signal)
    }
  }

  async #listen(node: Node, signal: AbortSignal): Promise<void> {
    const { engines, clock } = this.#context
    const { target, write } = this.#following
    const since = this.#since.get(node.id) ?? ''
    const { path } = nodeQuery(NOBODY, target, LOCAL, { since, until: '' })
    const engine = engines.of(node)
    const outgoing = engine.request({ method: 'GET', path, headers: { host: 'docker' } })
    const stop = () => outgoing.destroy()
    signal.addEventListener('abort', stop, { once: true })
    try {
      const incoming = await opened(engine, outgoing)
      if (incoming.statusCode !== 200) return
      if (since === '') this.#since.set(node.id, unixTime(clock.wallMs()))
      await new Promise<void>((resolve) => {
        const pass = (lines: string) => {
          for (const line of linesOf(lines)) {
            if (signal.aborted) return
            this.#since.set(node.id, after(line))
            write(withNode(line, node))
          }
        }
        passLines(incoming, (lines) => Promise.resolve(lines), pass, resolve)
      })
    } finally {
      signal.removeEventListener('abort', stop)
      outgoing.destroy()
    }
  }
}

const NOBODY = { list: () => [] }

function isNode({ objectKind }: StoreEvent): boolean {
  return objectKind === 'node'
}

function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line.trim() !== '')
}

/** Where it says what else there is: numbers in the line are too large to be read and written again. */
function withNode(line: string, node: Node): string {
  const attribute = `${JSON.stringify(NODE_LABEL)}:${JSON.stringify(nameOf(node))}`
  return line
    .replace('"Attributes":{}', () => `"Attributes":{${attribute}}`)
    .replace(/"Attributes":\{(?=")(?!"io\.swarmctl\.node":)/, () => `"Attributes":{${attribute},`)
}

const NANOS = 1_000_000_000n

function unixTime(wallMs: number): string {
  return `${Math.floor(wallMs / 1000)}.${String(Math.floor(wallMs) % 1000).padStart(3, '0')}000000`
}

/** The moment behind an event. */
function after(line: string): string {
  const time = timeOf(line) + 1n
  return `${time / NANOS}.${String(time % NANOS).padStart(9, '0')}`
}

// GET /events: the engine's stream and the cluster's events in one, under one set of filters and times.

import type { ClientRequest, IncomingMessage } from 'node:http'
import { refusal } from '../../api/validation/refusal.ts'
import { sleep } from '../../lib/clock.ts'
import { type ClusterEvent, encodeEvent, matchesEvent } from '../../manager/control/events.ts'
import { type Filters, parseFilters } from '../../manager/control/filters.ts'
import { type Call, parameter, sendText } from './call.ts'
import { engineSearch } from './container-routes.ts'
import type { Engine } from './engine.ts'
import { asObject, asText, parseJson } from './engine-json.ts'
import type { EventHub } from './event-hub.ts'
import { namesOf } from './network-names.ts'
import { shownEvent } from './network-view.ts'
import type { ServerContext } from './server-context.ts'

/** A client that reads no more is dropped rather than buffered for. */
export const MAX_BUFFERED_BYTES = 4 * 1024 * 1024
const MAX_LINE_CHARACTERS = 1024 * 1024

/** Milliseconds since 1970 of a Unix time with an optional fraction; undefined where none is given. */
export function parseUnixTime(value: string, what: string): number | undefined {
  if (value === '') return undefined
  if (!/^-?\d{1,12}(?:\.\d{1,20})?$/.test(value)) {
    throw refusal(`invalid value for '${what}': invalid timestamp ${JSON.stringify(value)}`)
  }
  return Number(value) * 1000
}

interface Span {
  readonly sinceMs: number | undefined
  readonly untilMs: number | undefined
}

/** @throws {CodedError} INVALID_PARAMETER */
export function eventSpan(query: URLSearchParams): Span {
  const [since, until] = [query.get('since') ?? '', query.get('until') ?? '']
  const span = { sinceMs: parseUnixTime(since, 'since'), untilMs: parseUnixTime(until, 'until') }
  if (span.sinceMs !== undefined && span.untilMs !== undefined && span.untilMs < span.sinceMs) {
    throw refusal(`\`since\` time (${since}) cannot be after \`until\` time (${until})`)
  }
  return span
}

export async function streamEvents(server: ServerContext, call: Call): Promise<void> {
  const { engine, parts, events: hub, clock } = server
  const filters = parseFilters(parameter(call, 'filters'))
  const span = eventSpan(call.query)
  hub.refresh()
  const path = `${await engine.versionedPath(call.version, '/events')}${await engineSearch(parts, call)}`
  if (span.untilMs !== undefined && span.untilMs < clock.wallMs()) await past(server, call, path, filters, span)
  else await live(server, call, path, filters, span)
}

export function recorded(hub: EventHub, filters: Filters, { sinceMs, untilMs }: Span): readonly ClusterEvent[] {
  if (sinceMs === undefined && untilMs === undefined) return []
  return hub.history.filter(
    (event) =>
      (sinceMs === undefined || event.wallMs >= sinceMs) &&
      (untilMs === undefined || event.wallMs <= untilMs) &&
      matchesEvent(filters, event),
  )
}

/** Nanoseconds since 1970, of an event's line. */
export function timeOf(line: string): bigint {
  return BigInt(/"timeNano":(\d+)/.exec(line)?.[1] ?? 0)
}

export function inOrder(lines: readonly string[]): readonly string[] {
  return lines
    .map((line) => ({ line, time: timeOf(line) }))
    .sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
    .map(({ line }) => line)
}

/** Both records in one order. */
async function past(server: ServerContext, call: Call, path: string, filters: Filters, span: Span): Promise<void> {
  const { engine, events: hub } = server
  const answer = await engine.get(path)
  if (answer.status !== 200) {
    sendText(call, answer.status, 'application/json', answer.body)
    return
  }
  const shown = await shownLines(
    server,
    answer.body.split('\n').filter((line) => line.trim() !== ''),
  )
  const own = recorded(hub, filters, span).map((event) => encodeEvent(event).trimEnd())
  const lines = inOrder([...shown, ...own])
  sendText(call, 200, 'application/json', lines.map((line) => `${line}\n`).join(''))
}

async function live(server: ServerContext, call: Call, path: string, filters: Filters, span: Span): Promise<void> {
  const { engine, parts, events: hub, clock } = server
  const { response } = call
  await parts.list() // what a network was can't be asked any more once it is gone
  const outgoing = engine.request({ method: 'GET', path, headers: { host: 'docker' } })
  const incoming = await opened(engine, outgoing)
  if (incoming.statusCode !== 200) {
    response.writeHead(incoming.statusCode ?? 502, { 'Content-Type': 'application/json' })
    incoming.pipe(response)
    return
  }
  response.writeHead(200, { 'Content-Type': 'application/json' })
  response.flushHeaders()
  const write = (text: string) => {
    if (response.writableLength > MAX_BUFFERED_BYTES) response.destroy()
    else if (!response.writableEnded) response.write(text)
  }
  for (const event of recorded(hub, filters, span)) write(encodeEvent(event))
  const stop = hub.subscribe((event) => {
    if (matchesEvent(filters, event)) write(encodeEvent(event))
  })
  const ended = new AbortController()
  passLines(
    incoming,
    (lines) => shownLines(server, lines),
    write,
    () => ended.abort(),
  )
  call.signal.addEventListener('abort', () => ended.abort(), { once: true })
  try {
    if (span.untilMs === undefined) await aborted(ended.signal)
    else await sleep(clock, Math.max(0, span.untilMs - clock.wallMs()), ended.signal)
  } finally {
    stop()
    outgoing.destroy()
    response.end()
  }
}

export function opened(engine: Engine, outgoing: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    outgoing.on('response', resolve)
    outgoing.on('error', (error) => reject(engine.unreachable(error)))
    outgoing.end()
  })
}

export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** The engine's events with the cluster's networks in them, without those that are nobody's business. */
async function shownLines(server: ServerContext, lines: readonly string[]): Promise<readonly string[]> {
  const concerned = lines.map((line) => (OURS.test(line) ? asObject(parseJson(line)) : undefined))
  const ids = concerned.flatMap((event) => (event?.Type === 'network' ? [asText(asObject(event.Actor).ID)] : []))
  const names = await namesOf(server, ids)
  return lines.flatMap((line, at) => {
    const event = concerned[at]
    if (event === undefined) return [line]
    const shown = shownEvent(event, names)
    return shown === undefined ? [] : [shown === event ? line : JSON.stringify(shown)]
  })
}

/** Of a network, or of a container with labels of ours. */
const OURS = /"Type":"network"|"io\.swarmctl\./

/** Whole lines only, so that two streams never mix within one; in their order. */
export function passLines(
  incoming: IncomingMessage,
  show: (lines: readonly string[]) => Promise<readonly string[]>,
  write: (lines: string) => void,
  onEnd: () => void,
): void {
  let rest = ''
  let passed: Promise<void> = Promise.resolve()
  const pass = async (lines: readonly string[]) => {
    const shown = await show(lines)
    if (shown.length > 0) write(`${shown.join('\n')}\n`)
  }
  incoming.setEncoding('utf8')
  incoming.on('data', (chunk: string) => {
    rest += chunk
    const end = rest.lastIndexOf('\n')
    if (end >= 0) {
      const lines = rest.slice(0, end).split('\n')
      rest = rest.slice(end + 1)
      // The engine does not tell what a network is: then the client has to ask again.
      passed = passed.then(() => pass(lines)).catch(onEnd)
    } else if (rest.length > MAX_LINE_CHARACTERS) incoming.destroy()
  })
  incoming.on('error', onEnd)
  incoming.on('close', () => void passed.then(onEnd))
}

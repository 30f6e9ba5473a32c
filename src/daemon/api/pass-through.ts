// Everything that is not the cluster's goes to the local engine: requests and responses as streams in both directions,
// re-versioned into its range; and connections that leave HTTP behind (attach, exec, sessions) byte by byte.

import { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import { httpStatus } from '../../api/error-status.ts'
import { errorMessage } from '../../lib/errors.ts'
import { acceptedMinor, parseTarget } from './api-version.ts'
import { readBody } from './call.ts'
import type { Engine } from './engine.ts'

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'expect',
  'te',
])

/** Headers that mean something beyond one connection. */
export function endToEndHeaders(headers: IncomingHttpHeaders): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined && !HOP_BY_HOP.has(name)) kept[name] = value
  }
  return kept
}

const SMALL_BODY_BYTES = 256 * 1024

/**
 * A small body goes out in one piece with the request's head: an engine that refuses the head stops reading, and a write
 * that fails then would hide its answer.
 */
async function readSmallBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const length = Number(request.headers['content-length'] ?? Number.NaN)
  return length <= SMALL_BODY_BYTES ? readBody(request) : undefined
}

/**
 * Answers with the engine's response to the same request. Resolves when both directions have ended.
 * @param body what was already read of the request; undefined: nothing, stream it
 */
export async function passThrough(
  engine: Engine,
  request: IncomingMessage,
  response: ServerResponse,
  body?: Buffer,
): Promise<void> {
  const { minor, path, search } = parseTarget(request.url ?? '/')
  const versioned = await engine.versionedPath(acceptedMinor(minor), path)
  const whole = body ?? (await readSmallBody(request))
  if (response.destroyed) return // its end is not told again
  await new Promise<void>((resolve, reject) => {
    const headers = endToEndHeaders(request.headers)
    const chunked = request.headers['transfer-encoding'] !== undefined
    const outgoing = engine.request({
      method: request.method ?? 'GET',
      path: `${versioned}${search}`,
      headers: chunked && whole === undefined ? { ...headers, 'transfer-encoding': 'chunked' } : headers,
    })
    outgoing.on('error', (error) => {
      if (response.destroyed) resolve()
      else if (response.headersSent) {
        response.destroy()
        resolve()
      } else reject(engine.unreachable(error))
    })
    outgoing.on('response', (incoming) => {
      try {
        response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage, endToEndHeaders(incoming.headers))
      } catch (error) {
        // Another node's may be anything, and Node's parser takes more than it writes.
        response.statusMessage = ''
        outgoing.destroy(error as Error)
        return
      }
      // Streams like /events say nothing for long: the client must see at once that they are open.
      response.flushHeaders()
      incoming.on('error', () => response.destroy())
      incoming.pipe(response)
    })
    response.on('close', () => {
      outgoing.destroy()
      resolve()
    })
    if (whole !== undefined) outgoing.end(whole)
    else request.pipe(outgoing)
  })
}

/** The request's head as it came, with another path, and such that the engine closes unless it takes the stream over. */
function headBytes(request: IncomingMessage, path: string): string {
  const lines = [`${request.method} ${path} HTTP/1.1`]
  const raw = request.rawHeaders
  let hasConnection = false
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? ''
    const isConnection = name.toLowerCase() === 'connection'
    hasConnection ||= isConnection
    lines.push(`${name}: ${raw[at + 1]}${isConnection ? ', close' : ''}`)
  }
  if (!hasConnection) lines.push('Connection: close')
  return `${lines.join('\r\n')}\r\n\r\n`
}

/**
 * Splices a client's connection and a new one to the engine. Each side may end its half alone: `docker exec -i` sends the
 * end of its input and still reads the output. When one side is gone altogether, the other is closed once it is flushed.
 */
function splice(client: Duplex, engine: Duplex): void {
  client.pipe(engine)
  engine.pipe(client)
  for (const [side, other] of [
    [client, engine],
    [engine, client],
  ] as const) {
    side.on('error', () => other.destroy())
    side.on('close', () => other.end(() => other.destroy()))
  }
}

/** `Upgrade: tcp` and others (h2c of a build session): the engine answers on the same connection and takes it over. */
export async function passUpgrade(
  engine: Engine,
  request: IncomingMessage,
  client: Duplex,
  head: Buffer,
): Promise<void> {
  const { minor, path, search } = parseTarget(request.url ?? '/')
  const versioned = await engine.versionedPath(acceptedMinor(minor), path)
  await passRaw(
    engine,
    client,
    Buffer.concat([Buffer.from(headBytes(request, `${versioned}${search}`), 'latin1'), head]),
    request,
  )
}

/**
 * @param request read for its body, where the HTTP parser gives it there instead of leaving it on the connection
 * @throws {CodedError} ENGINE_UNREACHABLE
 */
export async function passRaw(
  engine: Engine,
  client: Duplex,
  firstBytes: Buffer,
  request?: IncomingMessage,
): Promise<void> {
  let broken = false
  client.on('error', () => {
    broken = true
  })
  const upstream = await engine.connect()
  if (broken || client.destroyed) {
    upstream.destroy()
    return
  }
  upstream.write(firstBytes)
  request?.on('data', (chunk: Buffer) => upstream.write(chunk))
  splice(client, upstream)
}

/** An error as an HTTP response, on a connection that has no ServerResponse (any more). */
export function refuseRaw(client: Duplex, error: unknown): void {
  const status = httpStatus(error)
  const message = `${JSON.stringify({ message: errorMessage(error) })}\n`
  client.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(message)}\r\nConnection: close\r\n\r\n${message}`,
  )
}

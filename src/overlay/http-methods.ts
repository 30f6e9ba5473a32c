// HTTP as Docker's plugins speak it: POST /Object.Method with a JSON body, answered with JSON, errors as { Err }. Our own calls come
// the same way, on a socket of their own.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Answer, Method } from './driver/network-driver.ts'

export interface MethodServerOptions {
  /** By `Object.Method`; a signal that aborts when the caller goes away is given to each. */
  readonly methods: Readonly<Record<string, Method>>
  readonly bodyBytesMax: number
  readonly log: Log
}

const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json'

export function createMethodServer(options: MethodServerOptions): Server {
  const server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 }, (request, response) => {
    void respond(options, request, response)
  })
  server.on('clientError', (_, socket) => socket.destroy())
  return server
}

async function respond(
  options: MethodServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const name = (request.url ?? '').slice(1)
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  try {
    const method = Object.hasOwn(options.methods, name) ? options.methods[name] : undefined
    if (!method) throw new CodedError('NO_METHOD', `swarmd-net has no ${name}`)
    const body = await readBody(request, options.bodyBytesMax)
    const parsed: unknown = body === '' ? {} : JSON.parse(body)
    const answer = await method(typeof parsed === 'object' && parsed !== null ? (parsed as Answer) : {}, gone.signal)
    options.log.debug({ method: name }, 'answered')
    send(response, 200, answer)
  } catch (error) {
    if (gone.signal.aborted) return
    const code = errorCode(error)
    const coded = error instanceof CodedError
    const expected = coded || error instanceof SyntaxError
    options.log.warn({ method: name, code, reason: expected ? errorMessage(error) : stackOf(error) }, 'a call failed')
    const answer = { Err: errorMessage(error), Code: code ?? '', Retryable: coded && error.retryable }
    send(response, code === 'NO_METHOD' ? 404 : 500, answer)
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function send(response: ServerResponse, status: number, answer: Answer): void {
  const body = JSON.stringify(answer)
  response.writeHead(status, { 'Content-Type': CONTENT_TYPE, 'Content-Length': Buffer.byteLength(body) })
  response.end(body)
}

async function readBody(request: IncomingMessage, bytesMax: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > bytesMax) throw new CodedError('TOO_LARGE', `a request has at most ${bytesMax} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

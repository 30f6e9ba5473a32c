// One request under way: what was asked, and the ways to answer it.

import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { httpStatus } from '../../api/error-status.ts'
import { type Decoder, decodeBody } from '../../api/validation/decode.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { type Clock, sleep } from '../../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../../lib/errors.ts'
import type { Removal } from '../../manager/control/context.ts'
import type { Target } from './api-version.ts'

export interface Call extends Target {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly method: string
  /** the version to answer in */
  readonly version: number
  /** `{id}` of the route, decoded */
  readonly id: string
  /** read in full; empty for routes that stream */
  readonly body: Buffer
  /** aborts when the client goes away */
  readonly signal: AbortSignal
  /** it came from another manager, which took us for the leader */
  readonly forwarded: boolean
  /** of what the request creates; chosen by the manager that has the client */
  readonly objectId: string
  /** of what the request removes, over all attempts */
  readonly removal: Removal
}

/** Secrets and configs are at most 1,000 KiB, in base64; everything else is far smaller. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024

/** The id for what a forwarded request creates. */
export const OBJECT_ID_HEADER = 'x-swarmd-object-id'

/** The id of what an earlier attempt of a forwarded request was to remove; with RETRY_HEADER, what this attempt was. */
export const REMOVAL_HEADER = 'x-swarmd-removal'

/** Tells a manager that forwarded to us to look for the leader again; nothing was done. */
export const RETRY_HEADER = 'x-swarmd-retry'

/** What is too large is still read up to here: a client that is cut off while it writes does not see the answer. */
const MAX_DRAINED_BYTES = 64 * 1024 * 1024

/** @throws {CodedError} BODY_TOO_LARGE */
export function readBody(request: IncomingMessage): Promise<Buffer> {
  const { headers } = request
  if ((headers['content-length'] ?? '0') === '0' && headers['transfer-encoding'] === undefined) {
    return Promise.resolve(NO_BODY)
  }
  // By events: iterating over the request costs three times as much, and most bodies are one chunk.
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const tooLarge = () =>
      new CodedError('BODY_TOO_LARGE', `request body too large: at most ${MAX_BODY_BYTES} bytes are taken`)
    request.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= MAX_BODY_BYTES) chunks.push(chunk)
      if (size <= MAX_DRAINED_BYTES) return
      reject(tooLarge())
      request.destroy()
    })
    request.on('end', () => {
      if (size > MAX_BODY_BYTES) reject(tooLarge())
      else resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
    })
    request.on('error', reject)
    request.on('close', () => reject(new Error('the client went away before its request was complete')))
  })
}

const NO_BODY = Buffer.alloc(0)

/** @throws {CodedError} INVALID_JSON naming the place, INVALID_PARAMETER */
export function decodeJson<T>(call: Call, decoder: Decoder<T>): T {
  const type = call.request.headers['content-type']
  if (call.body.length > 0) {
    const essence = (type ?? '').split(';')[0]?.trim().toLowerCase()
    if (essence !== 'application/json') {
      throw refusal(`unsupported Content-Type header (${type ?? ''}): must be 'application/json'`)
    }
  }
  return decodeBody(decoder, call.body.toString('utf8'))
}

export function parameter(call: Call, name: string): string {
  return call.query.get(name) ?? ''
}

/** As dockerd reads flags: everything but nothing, `0`, `no`, `false` and `none` is true. */
export function flagParameter(call: Call, name: string): boolean {
  return !['', '0', 'no', 'false', 'none'].includes(parameter(call, name).trim().toLowerCase())
}

/** A strict boolean, as Go's strconv reads it. Docker adds strconv's own words for listings and inspections only. */
export function booleanParameter(call: Call, name: string): boolean {
  const value = parameter(call, name)
  if (['', '0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true
  const detail = call.method === 'GET' ? `: strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax` : ''
  throw refusal(`invalid value for ${name}: ${value}${detail}`)
}

/** @param what as Docker names it: "service" */
export function versionParameter(call: Call, what: string): number {
  const value = parameter(call, 'version')
  if (!/^\d{1,15}$/.test(value)) {
    // Docker has less to say of secrets and configs.
    const detail = ` '${value}': strconv.ParseUint: parsing ${JSON.stringify(value)}: invalid syntax`
    throw refusal(`invalid ${what} version${what === 'secret' || what === 'config' ? '' : detail}`)
  }
  return Number(value)
}

export function sendText(call: Pick<Call, 'response'>, status: number, type: string, text: string): void {
  const body = Buffer.from(text, 'utf8')
  call.response.writeHead(status, { 'Content-Type': type, 'Content-Length': body.length })
  call.response.end(body)
}

/** @param json already encoded */
export function sendJsonText(call: Pick<Call, 'response'>, status: number, json: string): void {
  sendText(call, status, 'application/json', `${json}\n`)
}

export function sendJson(call: Pick<Call, 'response'>, status: number, value: unknown): void {
  sendJsonText(call, status, JSON.stringify(value))
}

export function sendEmpty(call: Pick<Call, 'response'>, status: number): void {
  call.response.writeHead(status, status === 204 ? {} : { 'Content-Length': 0 })
  call.response.end()
}

const SLICE_MS = 8
const CHUNK_CHARACTERS = 64 * 1024
/** A list up to this size is written without a look at how fast the client takes it: one wait for it, not one a chunk. */
const HELD_BYTES = 8 * 1024 * 1024

/** A JSON array of encoded items, made and written in slices, so that thousands of them never hold the thread for long. */
export async function sendList(call: Call, clock: Clock, items: Iterable<string>): Promise<void> {
  const { response } = call
  const held: Buffer[] = []
  let heldBytes = 0
  let chunk = '['
  let first = true
  let sliceStartMs = clock.nowMs()
  for (const item of items) {
    chunk += first ? item : `,${item}`
    first = false
    if (clock.nowMs() - sliceStartMs > SLICE_MS) {
      await sleep(clock, 0)
      sliceStartMs = clock.nowMs()
    }
    if (chunk.length < CHUNK_CHARACTERS) continue
    const bytes = Buffer.from(chunk)
    chunk = ''
    held.push(bytes)
    heldBytes += bytes.length
    if (heldBytes <= HELD_BYTES) continue
    if (!response.headersSent) response.writeHead(200, LIST_HEADERS)
    for (const each of held.splice(0)) {
      await writeChunk(call, each)
      if (call.signal.aborted) return
    }
  }
  held.push(Buffer.from(`${chunk}]\n`))
  if (!response.headersSent) {
    const length = held.reduce((sum, { length: bytes }) => sum + bytes, 0)
    response.writeHead(200, { ...LIST_HEADERS, 'Content-Length': length })
  }
  for (const each of held) response.write(each)
  response.end()
}

const LIST_HEADERS = { 'Content-Type': 'application/json' } as const

/** Writes and waits until the client has taken it in; returns also when the client is gone. */
export async function writeChunk(call: Pick<Call, 'response' | 'signal'>, chunk: string | Uint8Array): Promise<void> {
  if (call.signal.aborted || call.response.write(chunk)) return
  try {
    await once(call.response, 'drain', { signal: call.signal })
  } catch (error) {
    if (!call.signal.aborted) throw error
  }
}

/**
 * A request that may be made twice: it only reads, or it is known which object it creates or removes.
 */
export function isRepeatable(call: Pick<Call, 'method' | 'path' | 'removal'>): boolean {
  if (call.method === 'DELETE') return call.removal.id !== undefined
  return call.method === 'GET' || (call.method === 'POST' && call.path.endsWith('/create'))
}

/** Codes that say: not applied, ask the leader (which may be another by now) again. */
export function asksForRetry(error: unknown): boolean {
  return ['NOT_LEADER', 'NO_LEADER', 'PROPOSAL_DROPPED', 'RAFT_NOT_RUNNING'].includes(errorCode(error) ?? '')
}

export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  if (asksForRetry(error)) response.setHeader(RETRY_HEADER, '1')
  sendJson({ response }, httpStatus(error), { message: errorMessage(error) })
}

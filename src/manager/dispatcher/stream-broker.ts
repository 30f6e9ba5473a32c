// Streams from a worker to this manager: the worker is asked over its session, dials `/bulk`, and sends against credit.

import { DISPATCHER_PROTOCOL_VERSION, STREAM_CREDIT_BYTES, type StreamFrame } from '../../api/dispatcher.ts'
import { Tunnel } from '../../api/tunnel.ts'
import type { Clock } from '../../lib/clock.ts'
import { decode, encode } from '../../lib/codec.ts'
import type { Connection } from '../../lib/connection.ts'
import { CodedError, errorCode } from '../../lib/errors.ts'
import type { Random } from '../../lib/random.ts'

const OPEN_TIMEOUT_MS = 10_000

interface Receiver {
  receive(frame: StreamFrame): void
  lost(): void
}

/** Chunks between the connection and the one who iterates over them. */
class Pipe implements Receiver {
  readonly #chunks: Uint8Array[] = []
  #wake: (() => void) | undefined
  #end: { readonly error: Error | undefined } | undefined

  receive(frame: StreamFrame): void {
    if (frame.kind === 'data') {
      this.#chunks.push(frame.data)
      this.#wake?.()
    } else if (frame.kind === 'end') this.end(undefined)
    else if (frame.kind === 'error') this.end(new CodedError(frame.code, frame.message))
  }

  lost(): void {
    this.end(new CodedError('STREAM_LOST', 'the connection to the node was lost'))
  }

  end(error: Error | undefined): void {
    this.#end ??= { error }
    this.#wake?.()
  }

  /** The next chunk; undefined at the end. @throws what ended it */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift()
      if (chunk) return chunk
      if (this.#end?.error) throw this.#end.error
      if (this.#end) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }
}

interface Pending {
  readonly nodeId: string
  readonly connected: (connection: Connection) => Receiver
}

function send(connection: Connection, frame: StreamFrame): void {
  connection.send(encode([DISPATCHER_PROTOCOL_VERSION, frame]))
}

/** What the worker sent last is read when it has closed already: it needs no credit then. */
function grant(connection: Connection, bytes: number): void {
  try {
    send(connection, { kind: 'credit', bytes })
  } catch (error) {
    if (errorCode(error) !== 'CONNECTION_CLOSED') throw error
  }
}

function parse(bytes: Uint8Array): StreamFrame {
  const frame = decode(bytes)
  const body: unknown = Array.isArray(frame) && frame[0] === DISPATCHER_PROTOCOL_VERSION ? frame[1] : undefined
  if (typeof body !== 'object' || body === null || !('kind' in body)) {
    throw new CodedError('MALFORMED', 'malformed stream frame')
  }
  return body as StreamFrame
}

export class StreamBroker {
  readonly #clock: Clock
  readonly #random: Random
  readonly #pending = new Map<string, Pending>()

  constructor(options: { readonly clock: Clock; readonly random: Random }) {
    this.#clock = options.clock
    this.#random = options.random
  }

  /** Takes a connection to `/bulk`; its first frame says which stream it is. */
  accept(connection: Connection): void {
    let receiver: Receiver | undefined
    connection.listen({
      onMessage: (bytes) => {
        try {
          const frame = parse(bytes)
          if (receiver) receiver.receive(frame)
          else if (frame.kind === 'open') receiver = this.#claim(frame.streamId, connection).connected(connection)
          else throw new CodedError('MALFORMED', 'a stream begins with open')
        } catch {
          connection.close(4004, 'malformed stream frame')
        }
      },
      onClose: () => receiver?.lost(),
    })
  }

  /**
   * Asks the node for a stream through `request` and yields its data. Ends when the worker ends it or `signal` aborts.
   * @throws {CodedError} STREAM_TIMEOUT, STREAM_LOST, or the code that the worker gave
   */
  async *open(nodeId: string, ask: (streamId: string) => void, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const streamId = this.#random.id()
    const pipe = new Pipe()
    let connection: Connection | undefined
    const connected = (opened: Connection): Receiver => {
      timeout.cancel()
      connection = opened
      send(opened, { kind: 'credit', bytes: STREAM_CREDIT_BYTES })
      return pipe
    }
    const timeout = this.#clock.setTimer(OPEN_TIMEOUT_MS, () => pipe.end(notOpened(nodeId)))
    const abort = (): void => pipe.end(undefined)
    signal.addEventListener('abort', abort, { once: true })
    this.#pending.set(streamId, { nodeId, connected })
    try {
      if (signal.aborted) return
      ask(streamId)
      for (let chunk = await pipe.next(); chunk; chunk = await pipe.next()) {
        yield chunk
        if (connection) grant(connection, chunk.byteLength)
      }
    } finally {
      timeout.cancel()
      signal.removeEventListener('abort', abort)
      this.#pending.delete(streamId)
      connection?.close()
    }
  }

  /**
   * As `open`, for bytes in both directions.
   * @param ask may take a while; what it rejects with is the answer
   */
  async tunnel(nodeId: string, ask: (streamId: string) => Promise<void>): Promise<Tunnel> {
    const streamId = this.#random.id()
    try {
      return await new Promise<Tunnel>((resolve, reject) => {
        const timeout = this.#clock.setTimer(OPEN_TIMEOUT_MS, () => reject(notOpened(nodeId)))
        const connected = (connection: Connection): Receiver => {
          timeout.cancel()
          const tunnel = new Tunnel({ send: (frame) => send(connection, frame), close: () => connection.close() })
          resolve(tunnel)
          return tunnel
        }
        this.#pending.set(streamId, { nodeId, connected })
        ask(streamId).catch((error: unknown) => {
          timeout.cancel()
          reject(error instanceof Error ? error : new Error(String(error)))
        })
      })
    } finally {
      this.#pending.delete(streamId)
    }
  }

  #claim(streamId: string, connection: Connection): Pending {
    const pending = this.#pending.get(streamId)
    if (pending?.nodeId !== connection.peer?.nodeId || !pending) {
      throw new CodedError('STREAM_UNKNOWN', 'nobody waits for this stream')
    }
    this.#pending.delete(streamId)
    return pending
  }
}

function notOpened(nodeId: string): CodedError {
  return new CodedError('STREAM_TIMEOUT', `node ${nodeId} did not open the stream`, { retryable: true })
}

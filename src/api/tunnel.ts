// A byte stream in both directions over the frames of a `/bulk` connection. Each end sends only what the other has granted, so a slow
// reader stops its writer, fills nobody's memory and holds up no other stream.

import { Duplex } from 'node:stream'
import { CodedError, errorCode } from '../lib/errors.ts'
import type { StreamFrame } from './dispatcher.ts'

const FRAME_BYTES_MAX = 64 * 1024
/** What may be under way in one direction: more than a stream of lines needs, for files that are copied. */
export const TUNNEL_CREDIT_BYTES = 1024 * 1024
/** What waits on either side while other things happen in the process. With Node's 16 KiB a file comes half as fast. */
const AHEAD_BYTES = 256 * 1024
/** What was read is granted again in such parts: a grant for each read would be a message back for each message. */
const GRANT_BYTES = TUNNEL_CREDIT_BYTES / 4

export interface TunnelConnection {
  /** @throws {CodedError} CONNECTION_CLOSED */
  send(frame: StreamFrame): void
  /** What was sent still arrives. */
  close(): void
}

/** Either half may end alone. Grants its first credit when it is made. */
export class Tunnel extends Duplex {
  readonly #connection: TunnelConnection
  #creditBytes = 0
  /** Read from the network, and not yet granted again. */
  #takenBytes = 0
  #waiting: { rest: Buffer; readonly done: (error?: Error | null) => void } | undefined

  constructor(connection: TunnelConnection) {
    super({ allowHalfOpen: true, highWaterMark: AHEAD_BYTES })
    this.#connection = connection
    // It may end before whoever asked for it has it in hand; they see that it is destroyed.
    this.on('error', () => {})
    this.#takenBytes = TUNNEL_CREDIT_BYTES
    this.#grant()
  }

  /** To be called with each frame of the connection, in order. */
  receive(frame: StreamFrame): void {
    if (frame.kind === 'credit') {
      this.#creditBytes += frame.bytes
      this.#pump()
    } else if (frame.kind === 'data') {
      this.#takenBytes += frame.data.byteLength
      this.push(frame.data)
    } else if (frame.kind === 'end') this.push(null)
    else if (frame.kind === 'error') this.destroy(new CodedError(frame.code, frame.message))
  }

  /** The connection has ended. */
  lost(): void {
    if (this.readableEnded && this.writableFinished) return
    this.destroy(new CodedError('STREAM_LOST', 'the connection to the node was lost'))
  }

  override _read(): void {
    this.#grant()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#waiting = { rest: chunk, done }
    this.#pump()
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'utf8', done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#try({ kind: 'end' })
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.done(error ?? new CodedError('STREAM_LOST', 'the stream was closed'))
    this.#connection.close()
    done(error)
  }

  #grant(): void {
    if (this.#takenBytes < GRANT_BYTES) return
    const bytes = this.#takenBytes
    this.#takenBytes = 0
    this.#try({ kind: 'credit', bytes })
  }

  #pump(): void {
    const waiting = this.#waiting
    while (waiting && waiting.rest.length > 0 && this.#creditBytes > 0) {
      const data = waiting.rest.subarray(0, Math.min(FRAME_BYTES_MAX, this.#creditBytes))
      waiting.rest = waiting.rest.subarray(data.length)
      this.#creditBytes -= data.length
      if (!this.#try({ kind: 'data', data })) return
    }
    if (!waiting || waiting.rest.length > 0) return
    this.#waiting = undefined
    waiting.done()
  }

  /** False where the connection has gone: `lost` tells, once what came before has been read. */
  #try(frame: StreamFrame): boolean {
    try {
      this.#connection.send(frame)
      return true
    } catch (error) {
      if (errorCode(error) !== 'CONNECTION_CLOSED') throw error
      return false
    }
  }
}
